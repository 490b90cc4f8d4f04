"""The one training loop.  What is trained for is an `Objective`; no technique has a loop of its own.

A run that was killed goes on exactly as it would have: the epoch plan is written down before the first step, random
numbers follow (seed, epoch, index), and after each epoch all tensors (weights, EMA, optimizer, objective) are
written to one safetensors file that replaces the one before.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from helmlite.data.dataset import Dataset
from helmlite.detector.augment import Augmentation
from helmlite.detector.detector import Batch, Detector, Log
from helmlite.detector.families import family_of
from helmlite.detector.loader import PictureCache, training_batches, without_mosaic

_MEASURED_STEPS = 3


class Objective(Protocol):
    """What training minimizes."""

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        """A scalar and its named parts."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the objective's own that are trained with the network (adapters), if any."""
        ...

    def after_step(self, network: nn.Module, step: int) -> None: ...

    def epoch_ended(self) -> None: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Exactly one of `epochs` and `minutes` is given; with `minutes` the loop measures its own speed and plans the
    epochs that fit.  learning_rate: the highest one, after `warmup_epochs`; it falls along a cosine to
    `final_lr_ratio` of it.  ema_decay: of the running mean of the weights, which is the result.
    bf16: None means where the processor has it.  close_mosaic: share of the epochs, at the end, without mosaic.
    """

    input_size: int
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    warmup_epochs: float = 1.0
    final_lr_ratio: float = 0.02
    ema_decay: float = 0.998
    clip_gradient: float = 10.0
    close_mosaic: float = 0.15
    bf16: bool | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    cache_bytes: int = 4 * 2**30

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("Training needs either epochs or minutes, not both.")
        if (self.epochs is not None and self.epochs < 1) or (self.minutes is not None and self.minutes <= 0):
            raise ValueError(f"Training needs at least one epoch or some minutes; got {self.epochs or self.minutes}.")
        if self.batch_size < 1 or self.learning_rate <= 0 or self.input_size < 32:
            raise ValueError("Training needs batch_size >= 1, learning_rate > 0 and input_size >= 32.")


class TaskObjective:
    """The family's own detection loss and nothing else."""

    def __init__(self, detector: Detector, network: nn.Module, epochs: int) -> None:
        self._family = family_of(detector)
        self._task = self._family.task_loss(detector.architecture, network, epochs)

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        return self._task(self._family.training_maps(network, batch.images), batch)

    def parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def after_step(self, network: nn.Module, step: int) -> None:
        """Nothing to do."""

    def epoch_ended(self) -> None:
        self._task.epoch_ended()

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to restore."""


class MakeObjective(Protocol):
    """Builds the objective for the network that is being trained and the number of epochs planned."""

    def __call__(self, detector: Detector, network: nn.Module, epochs: int) -> Objective: ...


def fit(
    detector: Detector,
    make_objective: MakeObjective,
    dataset: Dataset,
    settings: FitSettings,
    seed: int,
    workspace: Path,
    log: Log,
) -> Detector:
    """The detector with trained weights (their running mean); `detector` itself stays untouched.

    Goes on from `workspace` where an earlier call with the same inputs was stopped.
    Raises ValueError where the workspace belongs to another run, and where the loss stops being a number.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    pictures = PictureCache(dataset, settings.input_size, settings.cache_bytes)
    if len(pictures) == 0:
        raise ValueError("There is no picture to train on.")
    plan = _plan(detector, make_objective, pictures, settings, seed, workspace, log)
    network = copy.deepcopy(detector.network)
    run = _Run(network, make_objective(detector, network, plan.epochs), plan, settings)
    first_epoch = run.restore(workspace)
    if first_epoch:
        log(f"fit: goes on after epoch {first_epoch} of {plan.epochs}")
    for epoch in range(first_epoch, plan.epochs):
        started = time.monotonic()
        closing = epoch >= plan.epochs - round(plan.epochs * settings.close_mosaic)
        changes = without_mosaic(settings.augmentation) if closing else settings.augmentation
        parts = run.one_epoch(
            training_batches(pictures, settings.input_size, settings.batch_size, changes, seed, epoch)
        )
        run.save(workspace, epoch + 1)
        seconds = time.monotonic() - started
        _note(workspace, epoch + 1, parts, run.learning_rate, seconds)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in parts.items())
        log(f"fit: epoch {epoch + 1} of {plan.epochs}, {shown}, {seconds:.0f} s")
    return replace(detector, network=run.averaged())


def has_bf16() -> bool:
    """Whether this processor computes in BF16, so that training in it is faster."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in probes)


@dataclass(frozen=True)
class EpochPlan:
    """Decided before the first step and never again."""

    epochs: int
    steps_per_epoch: int
    seconds_per_step: float
    fingerprint: str


class _Run:
    """Everything that changes while training."""

    def __init__(self, network: nn.Module, objective: Objective, plan: EpochPlan, settings: FitSettings) -> None:
        self._network, self._objective, self._plan, self._settings = network, objective, plan, settings
        self._mean = copy.deepcopy(network).eval()
        self._bf16 = has_bf16() if settings.bf16 is None else settings.bf16
        self._trained = [p for p in (*network.parameters(), *objective.parameters()) if p.requires_grad]
        self._optimizer = torch.optim.AdamW(_groups(self._trained, settings.weight_decay), lr=settings.learning_rate)
        self._step = 0
        self.learning_rate = 0.0

    def one_epoch(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Trains on these batches; gives the mean of each part of the loss."""
        self._network.train()
        totals: dict[str, float] = {}
        count = 0
        for batch in batches:
            parts = self.one_step(batch)
            count += 1
            for name, value in parts.items():
                totals[name] = totals.get(name, 0.0) + value
        self._objective.epoch_ended()
        return {name: total / count for name, total in totals.items()}

    def one_step(self, batch: Batch) -> dict[str, float]:
        self.learning_rate = self._rate()
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
            loss, parts = self._objective.loss(self._network, batch, self._step)
        if not math.isfinite(float(loss)):
            raise ValueError(
                f"Training broke down: the loss is {float(loss)} at step {self._step}. Lower learning_rate."
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._trained, self._settings.clip_gradient)
        self._optimizer.step()
        self._objective.after_step(self._network, self._step)
        self._step += 1
        self._average()
        return {"loss": float(loss), **parts}

    def averaged(self) -> nn.Module:
        """The network with the running mean of the weights, in evaluation mode."""
        return self._mean

    def save(self, workspace: Path, epoch: int) -> None:
        """Writes everything into one file, which replaces the one before only when it is complete."""
        tensors = {
            **{f"network.{name}": tensor for name, tensor in self._network.state_dict().items()},
            **{f"mean.{name}": tensor for name, tensor in self._mean.state_dict().items()},
            **{f"objective.{name}": tensor for name, tensor in self._objective.state_dict().items()},
        }
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()})
        about = {"epoch": str(epoch), "step": str(self._step), "fingerprint": self._plan.fingerprint}
        temporary = workspace / "state.safetensors.part"
        save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, temporary, about)
        os.replace(temporary, workspace / "state.safetensors")

    def restore(self, workspace: Path) -> int:
        """Takes up the state of an earlier run; gives the number of epochs that it had finished."""
        path = workspace / "state.safetensors"
        if not path.is_file():
            return 0
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["fingerprint"] != self._plan.fingerprint:
            raise ValueError(f"{path}: belongs to a training with other data, settings or weights; use another folder.")
        self._network.load_state_dict(_below("network.", tensors))
        self._mean.load_state_dict(_below("mean.", tensors))
        self._objective.load_state_dict(_below("objective.", tensors))
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below("optimizer.", tensors).items():
            index, _, key = name.partition(".")
            states.setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": states})
        self._step = int(about["step"])
        for _ in range(int(about["epoch"])):
            self._objective.epoch_ended()
        return int(about["epoch"])

    def _rate(self) -> float:
        """Linear warm-up, then a cosine."""
        warmup = max(round(self._settings.warmup_epochs * self._plan.steps_per_epoch), 1)
        total = max(self._plan.epochs * self._plan.steps_per_epoch, warmup + 1)
        if self._step < warmup:
            return self._settings.learning_rate * (self._step + 1) / warmup
        progress = (self._step - warmup) / (total - warmup)
        low = self._settings.final_lr_ratio
        return self._settings.learning_rate * (low + (1 - low) * (1 + math.cos(math.pi * progress)) / 2)

    def _average(self) -> None:
        """mean <- d * mean + (1 - d) * weights, with d growing from 0 so that the first steps are forgotten."""
        decay = self._settings.ema_decay * (1 - math.exp(-self._step / 50))
        with torch.no_grad():
            current = self._network.state_dict()
            for name, mean in self._mean.state_dict().items():
                if mean.is_floating_point():
                    mean.lerp_(current[name], 1 - decay)
                else:
                    mean.copy_(current[name])


def _plan(
    detector: Detector,
    make_objective: MakeObjective,
    pictures: PictureCache,
    settings: FitSettings,
    seed: int,
    workspace: Path,
    log: Log,
) -> EpochPlan:
    """The plan in the workspace, or a new one that is written there."""
    path = workspace / "plan.json"
    fingerprint = _fingerprint(detector, pictures, settings, seed)
    if path.is_file():
        plan = EpochPlan(**json.loads(path.read_text(encoding="utf-8")))
        if plan.fingerprint != fingerprint:
            raise ValueError(f"{workspace}: belongs to a training with other data, settings or weights.")
        return plan
    steps = math.ceil(len(pictures) / settings.batch_size)
    seconds = _seconds_per_step(detector, make_objective, pictures, settings, seed)
    epochs = settings.epochs or max(int((settings.minutes or 0) * 60 / (seconds * steps)), 1)
    plan = EpochPlan(epochs, steps, seconds, fingerprint)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(asdict(plan)), encoding="utf-8")
    os.replace(temporary, path)
    minutes = epochs * steps * seconds / 60
    log(f"fit: {epochs} epochs of {steps} steps planned, {seconds:.2f} s a step, {minutes:.0f} min")
    return plan


def _seconds_per_step(
    detector: Detector, make_objective: MakeObjective, pictures: PictureCache, settings: FitSettings, seed: int
) -> float:
    """Median time of a few real steps on a copy that is thrown away."""
    network = copy.deepcopy(detector.network).train()
    trial = _Run(network, make_objective(detector, network, 1), EpochPlan(1, 1, 0.0, ""), settings)
    times = []
    batches = training_batches(pictures, settings.input_size, settings.batch_size, settings.augmentation, seed, 0)
    for index, batch in enumerate(batches):
        started = time.perf_counter()
        trial.one_step(batch)
        times.append(time.perf_counter() - started)
        if index == _MEASURED_STEPS:
            break
    return sorted(times[1:] or times)[len(times[1:] or times) // 2]


def _fingerprint(detector: Detector, pictures: PictureCache, settings: FitSettings, seed: int) -> str:
    """Changes with the weights, the settings, the seed, or the number of pictures."""
    total = sum(float(p.detach().double().abs().sum()) for p in detector.network.parameters())
    stated = {**asdict(settings), "seed": seed, "pictures": len(pictures), "weights": f"{total:.9e}"}
    return json.dumps(stated, sort_keys=True)


def _groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for kernels, none for biases and BatchNorm."""
    kernels = [item for item in parameters if item.ndim > 1]
    others = [item for item in parameters if item.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _note(workspace: Path, epoch: int, parts: Mapping[str, float], learning_rate: float, seconds: float) -> None:
    line = {"epoch": epoch, **{name: round(value, 5) for name, value in parts.items()}}
    line |= {"learning_rate": learning_rate, "seconds": round(seconds, 1)}
    with (workspace / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
