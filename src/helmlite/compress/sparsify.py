"""Sparsity: single weights become zero and stay so.  Nothing gets smaller or faster by itself.

    sparsity = 0.5      the smallest weights go, wherever they are            (Han 2015, arXiv 1506.02626)
    pattern = "2:4"     of each four neighbours along the input channels the two largest stay
                        (Zhou 2021, arXiv 2102.04010; Mishra 2021, arXiv 2104.08378)

The shapes stay as they are, so the file is as large and every runtime as slow as before; zeros shrink a compressed
download (download_size.py), and 2:4 is a form that some GPUs have kernels for.  Channels that are gone for good are
`Prune`'s work.  At once, or gradually while the detector trains: after t of T steps

    s(t) = s (1 - (1 - t / T)^3)        (Zhu and Gupta 2017, arXiv 1710.01878, equation 1)

much goes early, while there is plenty, and little late.  The masks go on through `distill` and `quantize`.

Branches that are only added up (YOLOv9's RepConv) stay whole: every file holds them merged into one kernel, in which
the zeros of one branch meet the weights of the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from helmlite.compress.download_size import download_size
from helmlite.compress.edits.mask_weights import MaskWeights, masks_of, weight_at
from helmlite.compress.edits.merge_parallel import parallel_paths
from helmlite.compress.kernels.magnitude_mask import n_of_m_mask, smallest_go, sparsity
from helmlite.compress.order import check_follows
from helmlite.compress.paths import check_path_list, check_paths, is_below
from helmlite.compress.technique import Context
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.device import training_device
from helmlite.detector.families import family_of
from helmlite.detector.fit import FitSettings, fit
from helmlite.detector.fit_state import EpochPlan
from helmlite.detector.objective import TaskObjective
from helmlite.detector.trace import trace

SCOPES = ("global", "layer")
SCHEDULES = ("one_shot", "gradual")
_TRACED_SIZE = 64  # pixels; which convolutions run does not depend on it
_BATCH = 8


@dataclass(frozen=True)
class Sparsify:
    """Sets the smallest weights of the convolutions to zero, and keeps them there.

    sparsity: share of the weights that go, in (0, 1); or
    pattern:  "N:M", as "2:4": of each M neighbours along the input channels N stay
    scope:    of `sparsity`: "global" (the smallest of all layers together) or "layer" (the share of each)
    schedule: "one_shot", or "gradual": over a training of `minutes` or `epochs` on the detection loss
    only:     paths; convolutions at or below them.  () means all that run, but for the two ends
    keep_ends: the convolutions that read the picture or give the maps stay whole (where `only` does not name any)
    images:   pictures for BatchNorm's statistics, measured again after "one_shot"; 0 leaves them
    ramp:     of "gradual": share of the training until all are gone that will go; the rest heals
    every:    of "gradual": steps between two choices
    learning_rate, batch_size: of "gradual"
    """

    name: ClassVar[str] = "sparsify"
    sparsity: float | None = None
    pattern: str | None = None
    scope: str = "global"
    schedule: str = "one_shot"
    minutes: float | None = None
    epochs: int | None = None
    only: tuple[str, ...] = ()
    keep_ends: bool = True
    images: int = 128
    ramp: float = 0.7
    every: int = 20
    learning_rate: float = 1e-3
    batch_size: int = 16

    def __post_init__(self) -> None:
        if (self.sparsity is None) == (self.pattern is None):
            raise ValueError("sparsify: give sparsity or pattern, one of them.")
        if self.sparsity is not None and not 0 < self.sparsity < 1:
            raise ValueError(f"sparsify: sparsity must lie between 0 and 1 (both excluded); got {self.sparsity}.")
        if self.pattern is not None:
            kept_and_block(self.pattern)
        if self.scope not in SCOPES:
            raise ValueError(f"sparsify: unknown scope '{self.scope}'; known are {', '.join(SCOPES)}.")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"sparsify: unknown schedule '{self.schedule}'; known are {', '.join(SCHEDULES)}.")
        is_timed = self.minutes is not None or self.epochs is not None
        if is_timed != (self.schedule == "gradual"):
            raise ValueError('sparsify: schedule "gradual" needs minutes or epochs, "one_shot" has neither.')
        if not 0 < self.ramp <= 1 or self.every < 1 or self.images < 0:
            raise ValueError("sparsify: ramp must lie in (0, 1], every be at least 1, images at least 0.")
        check_path_list(self.name, "only", self.only)
        try:
            self._fit_settings(input_size=64, device="auto")  # says what else is wrong before any work is done
        except ValueError as error:
            raise ValueError(f"sparsify: {error}") from error

    @property
    def final_sparsity(self) -> float:
        """Share of the masked weights that are zero in the end."""
        if self.sparsity is not None:
            return self.sparsity
        kept, of = kept_and_block(str(self.pattern))
        return 1 - kept / of

    def stand_in(self) -> Sparsify:
        """The same zeros' number without training."""
        return replace(self, schedule="one_shot", minutes=None, epochs=None)

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with masks.

        Raises ValueError where no convolution can be masked, or one that `only` names cannot; TechniqueOrderError
        after quantization, clustering and other masks.
        """
        check_follows(self.name, detector)
        paths, left_out = self._chosen(detector, context)
        before = download_size(detector.network)
        edit = MaskWeights(paths)
        changed = detector.copy()
        edit.redo(changed.network)
        sparse = detector.edited(edit, changed.network)
        if self.schedule == "gradual":
            sparse = self._trained(sparse, context)
            masks_of(sparse.network).zero(sparse.network)  # the running mean forgets what went late only by and by
        else:
            put_masks(sparse.network, self, self.final_sparsity)
            self._measure_norms(sparse, context)
        self._tell(sparse, left_out, before.packed_bytes, context)
        return sparse

    def _chosen(self, detector: Detector, context: Context) -> tuple[tuple[str, ...], int]:
        """Paths of the convolutions to mask, and how many are left out since their inputs do not divide."""
        network, merging = detector.network, parallel_paths(detector)
        check_paths(self.name, "only", network, self.only)
        found = maskable_paths(network, self.keep_ends and not self.only)
        wanted = tuple(path for path in found if not self.only or is_below(path, self.only))
        paths = tuple(path for path in wanted if path not in merging)
        for path in self.only:
            if path in merging:
                raise ValueError(f"sparsify: '{path}' is a branch that is merged with another one; it must stay whole.")
        if len(paths) < len(wanted):
            context.log(f"sparsify: {len(wanted) - len(paths)} branches that are merged later stay whole")
        if not paths:
            where = f" below {', '.join(self.only)}" if self.only else ""
            raise ValueError(f"sparsify: the detector has no convolution{where} that can be masked.")
        if self.pattern is None:
            return paths, 0
        _, of = kept_and_block(self.pattern)
        odd = [path for path in paths if _weight(network, path).shape[1] % of]
        for path in odd:
            if path in self.only:
                inputs = _weight(network, path).shape[1]
                raise ValueError(
                    f"sparsify: '{path}' cannot be {self.pattern}: {of} does not divide its {inputs} input channels."
                )
        fitting = tuple(path for path in paths if path not in odd)
        if not fitting:
            raise ValueError(f"sparsify: no convolution has a number of input channels that {of} divides.")
        return fitting, len(odd)

    def _trained(self, detector: Detector, context: Context) -> Detector:
        def make_objective(trained: Detector, network: nn.Module, plan: EpochPlan) -> GradualMasks:
            return GradualMasks(self, trained, network, plan)

        return fit(
            detector,
            make_objective,
            context.data,
            self._fit_settings(context.input_size, context.device),
            context.seed,
            context.workspace,
            context.log,
            context.deadline,
        )

    def _fit_settings(self, input_size: int, device: str) -> FitSettings:
        return FitSettings(
            input_size,
            self.epochs,
            self.minutes,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            device=device,
        )

    def _measure_norms(self, detector: Detector, context: Context) -> None:
        if self.images:
            network = detector.network.to(training_device(context.device))
            batches = plain_batches(context.data, context.input_size, self.images, _BATCH, context.seed)
            reestimate_batchnorm(family_of(detector), network, batches)
            network.to("cpu")

    def _tell(self, detector: Detector, left_out: int, packed_before: int, context: Context) -> None:
        network, paths = detector.network, masks_of(detector.network).paths
        size = download_size(network)
        empty = sum(not bool(_weight(network, path).any()) for path in paths)
        context.log(
            f"sparsify: {sparsity(network):.1%} of the convolutions' weights are zero, in {len(paths)} layers"
            + (f"; {left_out} left out, whose input channels do not divide" if left_out else "")
            + (f"; {empty} have no weight left" if empty else "")
        )
        context.log(
            f"sparsify: {size.plain_bytes / 1e6:.2f} MB of weights as before, and every runtime takes as long unless "
            f"measured otherwise; packed with zlib {packed_before / 1e6:.2f} MB became {size.packed_bytes / 1e6:.2f} MB"
        )


class GradualMasks:
    """The detection loss, while more and more weights become zero.  The masks are in the network, and saved with it."""

    def __init__(self, settings: Sparsify, detector: Detector, network: nn.Module, plan: EpochPlan) -> None:
        self._settings = settings
        self._task = TaskObjective(detector, network, plan)
        self._ramp_steps = max(math.ceil(settings.ramp * plan.epochs * plan.steps_per_epoch), 1)

    def identity(self) -> Mapping[str, Any]:
        return {"objective": "gradual_masks", **asdict(self._settings)}

    def parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        loss, parts = self._task.loss(network, batch, step)
        return loss, {**parts, "sparsity": sparsity(network)}

    def after_step(self, network: nn.Module, step: int) -> None:
        """Chooses anew where it is time, before the running mean sees the weights."""
        done = step + 1
        if done <= self._ramp_steps and (done % self._settings.every == 0 or done == self._ramp_steps):
            share = cubic_sparsity(done, self._ramp_steps, self._settings.final_sparsity)
            put_masks(network, self._settings, share)

    def epoch_ended(self) -> None:
        self._task.epoch_ended()

    def state_dict(self) -> dict[str, Tensor]:
        return self._task.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._task.load_state_dict(state)


def cubic_sparsity(done: int, steps: int, final: float) -> float:
    """Share of zeros after `done` of `steps` steps.

    >>> [cubic_sparsity(done, 4, 0.8) for done in (0, 2, 4)]
    [0.0, 0.7000000000000001, 0.8]
    """
    return final * (1 - (1 - min(done / steps, 1.0)) ** 3)


def put_masks(network: nn.Module, settings: Sparsify, share: float) -> None:
    """Chooses the masks by the weights' present sizes and sets what goes to zero, in place.

    share: of the masked weights; a pattern takes the whole number of each block that is nearest to it
    """
    masks = masks_of(network)
    paths = [path for path in masks.paths if weight_at(network, path) is not None]
    weights = [_weight(network, path) for path in paths]
    masks.put(dict(zip(paths, _masks(weights, settings, share))))
    masks.zero(network)


def _masks(weights: Sequence[Tensor], settings: Sparsify, share: float) -> Sequence[Tensor]:
    if settings.pattern is not None:
        _, of = kept_and_block(settings.pattern)
        return [n_of_m_mask(weight, of - round(share * of), of) for weight in weights]
    if settings.scope == "global":
        return smallest_go(weights, share)
    return [smallest_go([weight], share)[0] for weight in weights]


def maskable_paths(network: nn.Module, keep_ends: bool) -> tuple[str, ...]:
    """The convolutions that run for a picture and can be trained, in order; a weight that several share once.

    keep_ends: without those that read the picture or whose output is a map.  Branches that only training runs are not
    among them.
    """
    graph = trace(network, _TRACED_SIZE)
    images = 0  # the number of the network's input
    paths: dict[int, str] = {}
    for op in graph.ops:
        is_end = images in op.inputs or bool(set(op.outputs) & set(graph.results))
        if op.kind != "conv2d" or (keep_ends and is_end):
            continue
        conv = network.get_submodule(op.module)
        if isinstance(conv, nn.Conv2d) and isinstance(conv.weight, nn.Parameter) and conv.weight.requires_grad:
            paths.setdefault(id(conv.weight), op.module)
    return tuple(paths.values())


def kept_and_block(pattern: str) -> tuple[int, int]:
    """N and M of "N:M".  Raises ValueError for anything else."""
    kept, _, of = pattern.partition(":")
    if not (kept.isdecimal() and of.isdecimal() and 0 < int(kept) < int(of)):
        raise ValueError(f'sparsify: pattern is "N:M" with N of M weights kept, such as "2:4"; got "{pattern}".')
    return int(kept), int(of)


def _weight(network: nn.Module, path: str) -> Tensor:
    weight = weight_at(network, path)
    assert weight is not None
    return weight
