"""The one training loop.  What is trained for is an `Objective`; no technique has a loop of its own.

A run that was killed goes on exactly as it would have, bit by bit with the same number of threads: the plan of
epochs is written down before the first step, random numbers follow (seed, epoch, index), and after each epoch all
tensors (weights, running mean, optimizer, objective) replace those of the epoch before (fit_state.py).
"""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from helmlite.data.dataset import Dataset
from helmlite.detector.augment import Augmentation
from helmlite.detector.detector import Batch, Detector, Log
from helmlite.detector.device import has_bf16, training_device
from helmlite.detector.ema import RunningMean, every_tensor
from helmlite.detector.fit_state import (
    EpochPlan,
    FitState,
    below,
    detector_sha256,
    json_sha256,
    load_optimizer,
    optimizer_tensors,
    read_plan,
    read_state,
    write_plan,
    write_state,
)
from helmlite.detector.loader import PictureCache, batch_count, epoch_length, training_batches, without_mosaic
from helmlite.detector.objective import MakeObjective, Objective, TaskObjective

OPTIMIZERS = ("adamw", "sgd")

_MEASURED_STEPS = 6
_MEASURED_SECONDS = 30.0
_RESERVE = 0.95  # share of the time that is planned for: the machine may have other work later
_LONGEST_WARMUP = 0.25  # of all steps
_LONGEST_CLOSE = 1 / 3  # of all epochs
_MOMENTUM = 0.9
_MOST_MINUTES = 366 * 24 * 60

Evaluate = Callable[[Detector], float]  # higher is better


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    epochs, minutes: at least one is given; where both are, the shorter one counts.  With minutes (or a deadline) the
             loop measures its own speed and plans the epochs that fit, at least one
    learning_rate: the highest, after `warmup_epochs`; it falls along a cosine to `final_lr_ratio` of it
    weight_decay: of kernels; biases and BatchNorm have none
    ema_decay: of the running mean of the weights, which is the result (ema.py)
    clip_gradient: largest L2 norm of all gradients together
    close_mosaic_epochs: the last ones, on single pictures; at most a third of all
    bf16:    forward passes in BF16; None means where the processor computes in it
    freeze_norms: BatchNorm keeps its statistics
    evaluate_every: epochs between calls of `evaluate`, of which the best is kept; 0 means never
    cache_bytes: memory for decoded pictures
    unlabelled_share: of each batch that are pictures without labels, where the data has some
    repeat_threshold: pictures of classes that less than this share of the pictures show come more often, the others
             less often (repeat_factors.py); 0 shows each picture once in an epoch
    device:  "auto" (a GPU where there is one), "cpu" or "cuda"
    """

    input_size: int
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 16
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    warmup_epochs: float = 1.0
    final_lr_ratio: float = 0.02
    ema_decay: float = 0.998
    clip_gradient: float = 10.0
    close_mosaic_epochs: int = 5
    bf16: bool | None = None
    freeze_norms: bool = False
    evaluate_every: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    cache_bytes: int = 2 * 2**30
    device: str = "auto"
    unlabelled_share: float = 0.0
    repeat_threshold: float = 0.0

    def __post_init__(self) -> None:
        if (self.epochs is not None and self.epochs < 1) or (
            self.minutes is not None and not 0 < self.minutes <= _MOST_MINUTES
        ):
            raise ValueError(
                "Training needs at least 1 epoch or some minutes, at most those of a year; "
                f"got {self.epochs} epochs, {self.minutes} minutes."
            )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"Unknown optimizer '{self.optimizer}'; known are {', '.join(OPTIMIZERS)}.")
        is_rate = 0 < self.learning_rate < math.inf  # written so that nan is none; the same below
        if self.batch_size < 1 or not is_rate or self.input_size < 32 or self.input_size % 32:
            raise ValueError(
                "Training needs batch_size >= 1, a finite learning_rate > 0 and input_size a multiple of 32; "
                f"got {self.batch_size}, {self.learning_rate} and {self.input_size}."
            )
        if not (0 <= self.ema_decay < 1 and 0 <= self.final_lr_ratio <= 1 and self.clip_gradient > 0):
            raise ValueError("Training needs ema_decay in [0, 1), final_lr_ratio in [0, 1] and clip_gradient > 0.")
        counts = (self.weight_decay, self.warmup_epochs, self.close_mosaic_epochs, self.evaluate_every)
        if not all(0 <= count < math.inf for count in counts):
            raise ValueError(
                "weight_decay, warmup_epochs, close_mosaic_epochs and evaluate_every cannot be negative and must be "
                f"finite; got {', '.join(f'{count:g}' for count in counts)}."
            )
        if not 0 <= self.unlabelled_share < 1:
            raise ValueError(f"unlabelled_share must be at least 0 and below 1; got {self.unlabelled_share:g}.")
        if not 0 <= self.repeat_threshold <= 1:
            raise ValueError(f"repeat_threshold is a share of the pictures, 0 to 1; got {self.repeat_threshold:g}.")


def finetune(
    detector: Detector,
    dataset: Dataset,
    settings: FitSettings,
    seed: int,
    workspace: Path,
    log: Log = print,
    deadline: float | None = None,
) -> Detector:
    """The detector trained further on its own detection loss, without a teacher and without an edit.  See `fit`."""
    return fit(detector, TaskObjective, dataset, settings, seed, workspace, log, deadline)


def fit(
    detector: Detector,
    make_objective: MakeObjective,
    dataset: Dataset,
    settings: FitSettings,
    seed: int,
    workspace: Path,
    log: Log,
    deadline: float | None = None,
    evaluate: Evaluate | None = None,
) -> Detector:
    """The detector with trained weights (their running mean); `detector` itself stays untouched.

    Goes on from `workspace` where an earlier call with the same inputs was stopped.  `deadline` is a
    `time.monotonic()` value that the plan keeps to; a plan that was already made is kept whatever it says.
    With `evaluate` the best of the evaluated epochs is given; the time that it takes comes on top of the plan.
    Raises ValueError where the workspace belongs to another run and where the loss stops being a number, OSError
    where the workspace cannot be written.
    """
    started = time.monotonic()
    _check(detector, settings, seed, evaluate, deadline)
    device = training_device(settings.device)
    workspace.mkdir(parents=True, exist_ok=True)
    classes = len(detector.classes)
    pictures = PictureCache(dataset, settings.input_size, classes, settings.cache_bytes, log, settings.repeat_threshold)
    ends = None if settings.minutes is None else started + 60 * settings.minutes
    with torch.random.fork_rng(devices=[]):
        made_from = {
            "settings": json_sha256({**asdict(settings), "cache_bytes": None, "device": None}),  # no matter of what
            "data set": dataset_sha256(dataset),
            "detector": detector_sha256(detector),
            "objective": json_sha256(_trial_objective(detector, make_objective, settings).identity()),
            "seed": str(seed),
        }
        plan = read_plan(workspace, made_from)
        if plan is None:
            limits = [item for item in (ends, deadline) if item is not None]
            plan = _make_plan(detector, make_objective, pictures, settings, seed, workspace, limits, made_from)
            log(_told(plan))
        elif plan.threads != torch.get_num_threads():
            log(
                f"training began with {plan.threads} threads and goes on with {torch.get_num_threads()}: "
                "the last bits of the result will differ"
            )
        if plan.device != device.type:
            log(
                f"training began on {plan.device} and goes on on {device.type}: the last bits of the result will differ"
            )
        run = _Run(detector, make_objective, plan, settings, seed)
        run.restore(workspace, log)
        while run.epoch < plan.epochs:
            run.one_epoch(pictures, log, workspace, evaluate)
    return replace(detector, network=run.result())


class _Run:
    """Everything that changes while training."""

    def __init__(
        self, detector: Detector, make_objective: MakeObjective, plan: EpochPlan, settings: FitSettings, seed: int
    ) -> None:
        self._detector, self._plan, self._settings, self._seed = detector, plan, settings, seed
        # Channels last: measured 15 to 40 % faster on CPUs for every family.
        self._device = training_device(settings.device)
        self._network = copy.deepcopy(detector.network).to(self._device).to(memory_format=torch.channels_last)
        self._objective = make_objective(detector, self._network, plan)
        self._trained = [
            item for item in (*self._network.parameters(), *self._objective.parameters()) if item.requires_grad
        ]
        self._optimizer = _optimizer(self._trained, settings)
        self._mean = RunningMean(self._network, settings.ema_decay)
        self._best: dict[str, Tensor] = {}
        self._best_score: float | None = None
        self._history: list[Mapping[str, float]] = []
        self._step = 0
        self.epoch = 0

    def one_epoch(self, pictures: PictureCache, log: Log, workspace: Path, evaluate: Evaluate | None) -> None:
        """Trains on every picture once, evaluates where it is time, and writes everything down."""
        started = time.monotonic()
        settings = self._settings
        closed = min(settings.close_mosaic_epochs, int(self._plan.epochs * _LONGEST_CLOSE))
        is_closing = self.epoch >= self._plan.epochs - closed
        changes = without_mosaic(settings.augmentation) if is_closing else settings.augmentation
        batches = training_batches(
            pictures,
            settings.input_size,
            settings.batch_size,
            changes,
            self._seed,
            self.epoch,
            settings.unlabelled_share,
        )
        parts = self.steps(batches)
        self._objective.epoch_ended()
        self.epoch += 1
        record = {"epoch": self.epoch, **parts, "learning_rate": self._rate(self._step - 1)}
        every = settings.evaluate_every
        if evaluate is not None and every and (self.epoch % every == 0 or self.epoch == self._plan.epochs):
            record["score"] = self._evaluated(evaluate)
        record["seconds"] = round(time.monotonic() - started, 1)
        self._history.append(record)
        self.save(workspace)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in record.items() if name != "epoch")
        log(f"epoch {self.epoch} of {self._plan.epochs}: {shown}")

    def steps(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Trains on these batches; gives the mean of the loss and of each of its parts."""
        self.train_mode()
        totals: dict[str, float] = {}
        count = 0
        for batch in batches:
            for name, value in self.one_step(batch).items():
                totals[name] = totals.get(name, 0.0) + value
            count += 1
        return {name: total / count for name, total in totals.items()}

    def train_mode(self) -> None:
        self._network.train()
        if self._settings.freeze_norms:
            for module in self._network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def one_step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimizer; gives the loss and its parts."""
        # A layer that draws random numbers (dropout) draws the same ones after a restart.
        torch.manual_seed(int(np.random.SeedSequence((self._seed, self._step)).generate_state(1)[0]))
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(self._step)
        loss, parts = self._objective.loss(self._network, batch.to(self._device), self._step)
        value = float(loss.detach())
        self._optimizer.zero_grad(set_to_none=True)
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call]
            value = value if math.isfinite(self._clipped()) else math.nan
        if not math.isfinite(value):
            raise ValueError(
                f"Training broke down: the loss or its gradient is not a number at step {self._step} "
                f"(epoch {self.epoch + 1}; {parts}). Lower learning_rate, or try bf16 = false."
            )
        self._optimizer.step()
        self._objective.after_step(self._network, self._step)
        self._mean.update(self._network, self._step)
        self._step += 1
        return {"loss": value, **parts}

    def result(self) -> nn.Module:
        """The running mean of the weights after the best or last epoch, in evaluation mode."""
        if self._best:
            _copy_into(self._mean.network, self._best)
        return self._mean.network.eval().to("cpu").to(memory_format=torch.contiguous_format)

    def save(self, workspace: Path) -> None:
        """Writes everything into one file, which replaces the one before only when it is complete."""
        tensors = {f"network.{name}": tensor for name, tensor in every_tensor(self._network)}
        tensors |= {f"mean.{name}": tensor for name, tensor in every_tensor(self._mean.network)}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        tensors |= {f"objective.{name}": tensor for name, tensor in self._objective.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self._optimizer).items()}
        state = FitState(self.epoch, self._step, tuple(self._history), self._best_score, tensors)
        write_state(workspace, state, self._plan.made_from)

    def restore(self, workspace: Path, log: Log) -> None:
        """Takes up the state of an earlier call, if there is one."""
        state = read_state(workspace, self._plan.made_from)
        if state is None:
            return
        _copy_into(self._network, below("network.", state.tensors))
        _copy_into(self._mean.network, below("mean.", state.tensors))
        self._objective.load_state_dict(below("objective.", state.tensors))
        load_optimizer(self._optimizer, below("optimizer.", state.tensors))
        self._best, self._best_score = below("best.", state.tensors), state.best_score
        self._history, self._step, self.epoch = list(state.history), state.step, state.epoch
        log(f"training goes on after epoch {self.epoch} of {self._plan.epochs}")

    def _evaluated(self, evaluate: Evaluate) -> float:
        score = evaluate(replace(self._detector, network=self._mean.network))
        self._mean.network.eval()
        if self._best_score is None or score > self._best_score:
            self._best_score = score
            self._best = {name: tensor.detach().clone() for name, tensor in every_tensor(self._mean.network)}
        return score

    def _clipped(self) -> float:
        """Norm of all gradients before they are cut to `clip_gradient`."""
        return float(nn.utils.clip_grad_norm_(self._trained, self._settings.clip_gradient))

    def _rate(self, step: int) -> float:
        total = self._plan.epochs * self._plan.steps_per_epoch
        warmup = min(self._settings.warmup_epochs * self._plan.steps_per_epoch, total * _LONGEST_WARMUP)
        return self._settings.learning_rate * rate_factor(step, total, round(warmup), self._settings.final_lr_ratio)


def rate_factor(step: int, total: int, warmup: int, final: float) -> float:
    """Learning rate of a step (from 0) in parts of the highest: a line up for `warmup` steps, a cosine to `final`.

    >>> [round(rate_factor(step, 6, 2, 0.0), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.25, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(total - 1 - warmup, 1)
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def dataset_sha256(dataset: Dataset) -> str:
    """Hash of the pictures and labels that training uses; a missing file counts as empty."""
    try:
        return dataset.sha256()
    except OSError:
        readable = [index for index, path in enumerate(dataset.image_paths) if path.is_file()]
        return dataset.subset(readable).sha256()


def _check(
    detector: Detector, settings: FitSettings, seed: int, evaluate: Evaluate | None, deadline: float | None
) -> None:
    if seed < 0:
        raise ValueError(f"The seed must be 0 or more; got {seed}.")
    if settings.epochs is None and settings.minutes is None and deadline is None:
        raise ValueError("Training needs epochs, minutes or a deadline: nothing says when to stop.")
    if not any(item.requires_grad for item in detector.network.parameters()):
        raise ValueError("This detector has no trainable parameter: all of them are frozen.")
    if evaluate is not None and not settings.evaluate_every:
        raise ValueError("`evaluate` is given, but evaluate_every is 0: say after how many epochs to call it.")


def _trial_plan(settings: FitSettings, steps_per_epoch: int) -> EpochPlan:
    device = training_device(settings.device)
    bf16 = has_bf16(device) if settings.bf16 is None else settings.bf16
    threads = torch.get_num_threads()
    return EpochPlan(settings.epochs or 1, steps_per_epoch, bf16, threads, 0.0, 0.0, {}, device.type)


def _trial_objective(detector: Detector, make_objective: MakeObjective, settings: FitSettings) -> Objective:
    return make_objective(detector, copy.deepcopy(detector.network), _trial_plan(settings, 1))


def _make_plan(
    detector: Detector,
    make_objective: MakeObjective,
    pictures: PictureCache,
    settings: FitSettings,
    seed: int,
    workspace: Path,
    limits: list[float],
    made_from: Mapping[str, str],
) -> EpochPlan:
    """Decides the number of epochs and writes the plan down.  limits: `time.monotonic()` values to keep to."""
    length = epoch_length(pictures, settings.unlabelled_share)
    plan = _trial_plan(settings, batch_count(length, settings.batch_size))
    if limits:
        step, rest = _measured(
            _Run(detector, make_objective, plan, settings, seed), pictures, settings, seed, workspace
        )
        epoch = step * plan.steps_per_epoch + rest
        fitting = max(int(_RESERVE * (min(limits) - time.monotonic()) / epoch), 1)
        epochs = fitting if settings.epochs is None else min(fitting, settings.epochs)
        plan = replace(plan, epochs=epochs, seconds_per_step=step, seconds_per_epoch=epoch)
    plan = replace(plan, made_from=dict(made_from))
    write_plan(workspace, plan)
    return plan


def _measured(
    trial: _Run, pictures: PictureCache, settings: FitSettings, seed: int, workspace: Path
) -> tuple[float, float]:
    """Seconds of one step (median of a few real ones) and of writing the state, on a run that is thrown away."""
    trial.train_mode()
    times: list[float] = []
    began = time.monotonic()
    while len(times) <= _MEASURED_STEPS and (len(times) < 2 or time.monotonic() - began < _MEASURED_SECONDS):
        batches = training_batches(
            pictures,
            settings.input_size,
            settings.batch_size,
            settings.augmentation,
            seed,
            len(times),
            settings.unlabelled_share,
        )
        before = time.monotonic()
        for batch in batches:
            trial.one_step(batch)
            now = time.monotonic()
            times.append(now - before)
            before = now
            if len(times) > _MEASURED_STEPS or (len(times) > 1 and now - began > _MEASURED_SECONDS):
                break
    before = time.monotonic()
    with tempfile.TemporaryDirectory(dir=workspace, prefix="measuring-") as folder:
        trial.save(Path(folder))
        return float(np.median(times[1:])), time.monotonic() - before


def _told(plan: EpochPlan) -> str:
    told = f"{plan.epochs} epochs of {plan.steps_per_epoch} steps planned, {'BF16' if plan.bf16 else 'float32'}"
    if plan.seconds_per_epoch:
        minutes = plan.epochs * plan.seconds_per_epoch / 60
        told += f", {plan.seconds_per_step:.2f} s a step as measured, {minutes:.0f} min in all"
    return told


def _optimizer(trained: list[nn.Parameter], settings: FitSettings) -> torch.optim.Optimizer:
    """Weight decay for kernels, none for biases, BatchNorm and other vectors and scalars."""
    groups = [
        {"params": [item for item in trained if item.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [item for item in trained if item.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=_MOMENTUM, nesterov=True)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _copy_into(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in every_tensor(network):
            tensor.copy_(tensors[name])
