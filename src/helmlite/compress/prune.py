"""Structured channel pruning: whole channels go, so that files shrink and every runtime gets faster.

    1. channel groups   which channels can only go together                      channel_groups.py
    2. importance       how much each unit of them matters                       importance.py
    3. ranking          how much of each bundle stays, until the target is met   ranking.py, sensitivity.py
                        (multiply-accumulates or latency: ledger.py)
    4. cut              `KeepChannels`, fully resolved                           cut_channels.py
    5. BatchNorm        statistics measured again
in several rounds, since a cut changes what matters.  Of n rounds, round t leaves

    iterative   ratio^(t / n): the same share of what is left in each
    gradual     1 - s_t with s_t = s_f * (1 - (1 - t / n)^3), s_f = 1 - ratio: most is cut while there is much to cut,
                and the network is trained between the cuts (Zhu and Gupta 2017, arXiv 1710.01878)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch

from helmlite.compress.channels.allotment import allotted_steps
from helmlite.compress.channels.channel_groups import Bundle, ChannelGroups, build_channel_groups
from helmlite.compress.channels.cut_channels import Choice, cut
from helmlite.compress.channels.importance import IMPORTANCES, Scores, scores_named
from helmlite.compress.channels.importance_gradient import FROM_GRADIENTS
from helmlite.compress.channels.ledger import Ledger, latency_ledger, macs_ledger
from helmlite.compress.channels.ranking import (
    allowed_steps,
    choose_units,
    global_steps,
    kept_units,
    smallest_steps,
    threshold_steps,
    uniform_steps,
)
from helmlite.compress.channels.sensitivity import (
    MEASURES,
    Curve,
    Measuring,
    affordable,
    measured_curves,
    noise_of,
    write_curves,
)
from helmlite.compress.checkpoint import is_checkpoint, load_checkpoint, save_checkpoint
from helmlite.compress.distill import Distill
from helmlite.compress.layer_times import LayerTimes, measured_once
from helmlite.compress.order import check_follows
from helmlite.compress.paths import check_path_list, is_below
from helmlite.compress.teaching.teacher import check_heads
from helmlite.compress.technique import Context
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.device import training_device
from helmlite.detector.families import family_of
from helmlite.detector.fit import dataset_sha256
from helmlite.detector.fit_state import detector_sha256, json_sha256
from helmlite.detector.macs import count_macs

__all__ = ["Choice", "Prune", "choose_units", "cut", "prune_by_scores", "smallest_steps"]

RANKINGS = ("global", "uniform", "sensitivity")
SCHEDULES = ("one_shot", "iterative", "gradual")
TEACHERS = ("original", "none")

_BATCH = 8
_ROUNDS = 4
_CORRECTIONS = 2  # further cuts where a latency was missed
_NEAR_ENOUGH = 1.02  # of the latency asked for, since two measurements of one network differ by as much


@dataclass(frozen=True)
class Prune:
    """Removes the channels that matter least for what they cost, until one of two targets is met.

    macs_ratio:    multiply-accumulates after / before, in (0, 1)
    latency_ratio: time on the target after / before, in (0, 1), as `Context.layer_clock` measures it (float network)
    importance:    what a unit matters, one of `IMPORTANCES`; "taylor" and "obd" need labels
    rounds:        cuts on the way, each after a new look at what matters and, for a latency, at what it costs;
                   None means 1 for "one_shot" and 4 for the others
    min_keep:      share of its channels that every group keeps at least
    images:        pictures of the train split for gradients and for BatchNorm statistics
    ranking:       "global": over all bundles at once what loses least importance for its cost goes first, or, where
                   importance only compares units (all but "taylor" and "obd"), what is least important
                   "uniform": every bundle keeps the same share
                   "sensitivity": the least loss in all by curves that are measured first, on the uncut detector
    schedule:      "one_shot", "iterative" or "gradual", which trains between the cuts
    keep:          paths of modules; the output channels of each and of all below it stay
    minutes, epochs, teacher, learning_rate, batch_size: of gradual's training, as in `Distill`; minutes and epochs are
                   divided over the gaps between the rounds, and the last cut is left to a `distill` step
    shares, measure, measure_images, measure_size: of sensitivity: shares that each bundle keeps at the measured
                   points, "loss" or "map", pictures, and side of the square input (None: the context's).  Where shares
                   or measure_images is None, a small detector is measured more closely than a large one (`affordable`)
    """

    name: ClassVar[str] = "prune"
    macs_ratio: float | None = None
    latency_ratio: float | None = None
    importance: str = "taylor"
    rounds: int | None = None
    min_keep: float = 0.1
    images: int = 128
    ranking: str = "global"
    schedule: str = "iterative"
    keep: tuple[str, ...] = ()
    minutes: float | None = None
    epochs: int | None = None
    teacher: str = "original"
    learning_rate: float | None = None
    batch_size: int = 16
    shares: tuple[float, ...] | None = None
    measure: str = "loss"
    measure_images: int | None = None
    measure_size: int | None = None

    def __post_init__(self) -> None:
        self._check_target()
        for setting, known in (
            ("importance", IMPORTANCES),
            ("ranking", RANKINGS),
            ("schedule", SCHEDULES),
            ("measure", MEASURES),
            ("teacher", TEACHERS),
        ):
            if getattr(self, setting) not in known:
                raise ValueError(f"prune: unknown {setting} '{getattr(self, setting)}'; known are {', '.join(known)}.")
        if self.cuts < 1 or self.images < 1 or not 0 < self.min_keep <= 1:
            raise ValueError("prune: rounds and images must be at least 1, min_keep in (0, 1].")
        check_path_list(self.name, "keep", self.keep)
        if self.batch_size < 1 or not (self.learning_rate is None or 0 < self.learning_rate < math.inf):
            raise ValueError(
                "prune: learning_rate must be above 0 and finite, batch_size at least 1; "
                f"got {self.learning_rate} and {self.batch_size}."
            )
        self._check_schedule()
        self._check_sensitivity()

    @property
    def cuts(self) -> int:
        """How many rounds there are."""
        return (1 if self.schedule == "one_shot" else _ROUNDS) if self.rounds is None else self.rounds

    @property
    def uses_val(self) -> bool:
        """Sensitivity is measured on the tuning pictures."""
        return self.ranking == "sensitivity"

    @property
    def measures_target(self) -> bool:
        """A latency is measured, and cannot be foretold without a clock."""
        return self.latency_ratio is not None

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with fewer channels.

        Raises TechniqueOrderError after quantization or BatchNorm folding, ValueError where the target cannot be
        reached, where `keep` names nothing, and where labels are needed and there are none.
        """
        check_follows(self.name, detector)
        if self.schedule == "gradual" and self.teacher == "original":
            check_heads(detector, context.original)
        start = self._start(detector, context)
        current = detector
        for step in range(1, self.cuts + 1):
            folder = self._round_folder(detector, step, context)
            current = _once(folder, "cut", partial(self._round, current, start, step, context))
            left = count_macs(current.network, context.input_size) / start.macs
            context.log(f"prune: round {step} of {self.cuts}, {left:.1%} of the multiply-accumulates left")
            if folder is not None and step < self.cuts:
                current = _once(folder, "trained", partial(self._trained, current, step, folder, context))
        current = current if self.latency_ratio is None else self._corrected(current, start, context)
        if start.curves:
            bundles = build_channel_groups(family_of(current), current.network).bundles
            write_curves(start.curves, [item.steps for item in bundles], start.measuring, context.workspace)
        return current

    def stand_in(self) -> Prune:
        """To the same target, without training and without a look at many pictures."""
        ranking = "global" if self.ranking == "sensitivity" else self.ranking
        return replace(self, importance="l2", ranking=ranking, schedule="one_shot", rounds=1, minutes=None, epochs=None)

    def left_after(self, step: int) -> float:
        """Share of the multiply-accumulates, or of the time, that a round leaves."""
        ratio = self.macs_ratio if self.macs_ratio is not None else self.latency_ratio
        assert ratio is not None
        if self.schedule == "gradual":
            return 1 - (1 - ratio) * (1 - (1 - step / self.cuts) ** 3)
        return float(ratio ** (step / self.cuts))

    def _check_target(self) -> None:
        stated = {"macs_ratio": self.macs_ratio, "latency_ratio": self.latency_ratio}
        given = {name: value for name, value in stated.items() if value is not None}
        if len(given) != 1:
            raise ValueError("prune: give macs_ratio or latency_ratio, one of them.")
        for name, value in given.items():
            if not 0 < value < 1:
                raise ValueError(f"prune: {name} must lie between 0 and 1 (both excluded); got {value}.")

    def _check_schedule(self) -> None:
        if self.schedule == "one_shot" and self.cuts != 1:
            raise ValueError(f"prune: schedule 'one_shot' has one round; got rounds = {self.rounds}.")
        if self.schedule != "gradual":
            if self.minutes is not None or self.epochs is not None:
                raise ValueError("prune: minutes and epochs are for schedule 'gradual', which trains between its cuts.")
            return
        if self.cuts < 2:
            raise ValueError("prune: schedule 'gradual' trains between its rounds and needs at least 2 of them.")
        if self.minutes is None and self.epochs is None:
            raise ValueError("prune: schedule 'gradual' trains between its rounds: give minutes or epochs.")
        if self.epochs is not None and self.epochs < self.cuts - 1:
            raise ValueError(
                f"prune: {self.epochs} epochs cannot be divided over the {self.cuts - 1} gaps between "
                f"{self.cuts} rounds; give at least {self.cuts - 1}."
            )
        self._distill(1)  # says what else is wrong before any work is done

    def _check_sensitivity(self) -> None:
        if self.shares is not None and not (self.shares and all(0 < share < 1 for share in self.shares)):
            raise ValueError(f"prune: shares must be numbers between 0 and 1 (both excluded); got {self.shares}.")
        if self.measure_images is not None and self.measure_images < 1:
            raise ValueError(f"prune: measure_images must be at least 1; got {self.measure_images}.")
        if self.measure_size is not None and (self.measure_size < 32 or self.measure_size % 32):
            raise ValueError(f"prune: measure_size must be a multiple of 32; got {self.measure_size}.")

    def _start(self, detector: Detector, context: Context) -> _Start:
        groups = build_channel_groups(family_of(detector), detector.network)
        floors = floors_with_kept(groups, detector, self.min_keep, self.keep)
        how = self._measuring(detector, len(groups.bundles), context)
        curves: tuple[Curve, ...] = ()
        if self.ranking == "sensitivity":
            levels = allowed_steps(groups, context.channel_multiple, floors)
            scores = self._scores(detector, groups, context)
            made_from = {"importance": self.importance, "images": self.images}
            curves = measured_curves(detector, groups, scores, levels, how, context, made_from)
        macs = count_macs(detector.network, context.input_size)
        whole = tuple(bundle.steps for bundle in groups.bundles)
        return _Start(detector, macs, whole, tuple(floors), curves, how)

    def _round(self, current: Detector, start: _Start, step: int, context: Context) -> Detector:
        ledger, target = self._ledger_and_target(start, current, step, context)
        return self._cut(current, start, ledger, target, context)

    def _cut(self, current: Detector, start: _Start, ledger: Ledger, target: float, context: Context) -> Detector:
        groups = build_channel_groups(family_of(current), current.network)
        scores = self._scores(current, groups, context)
        levels = allowed_steps(groups, context.channel_multiple, start.floors)
        if self.ranking == "uniform":
            steps = uniform_steps(groups, ledger, levels, start.whole, target)
        elif self.ranking == "sensitivity":
            noise = noise_of(start.curves)
            losses = [curve.at(allowed, noise) for curve, allowed in zip(start.curves, levels, strict=True)]
            steps = allotted_steps(losses, levels, ledger.for_bundles(groups.bundles), target, ledger.unit)
        elif self.importance in FROM_GRADIENTS:
            steps = global_steps(groups, scores, ledger, levels, target)
        else:
            steps = threshold_steps(groups, scores, ledger, levels, target)
        return self._with_new_statistics(cut(current, groups, kept_units(groups, scores, steps)), context)

    def _corrected(self, current: Detector, start: _Start, context: Context) -> Detector:
        """Cut further where the clock does not confirm what the ledger foretold."""
        for remaining in reversed(range(_CORRECTIONS + 1)):
            before, now = self._times(start.detector, current, context)
            context.log(f"prune: {now.total / before.total:.1%} of the time left, as measured in float")
            target = before.total * self.latency_ratio  # type: ignore[operator]
            if now.total <= target * _NEAR_ENOUGH or not remaining:
                break
            ledger = latency_ledger(current, context.input_size, now)
            current = self._cut(current, start, ledger, target, context)
        return current

    def _ledger_and_target(self, start: _Start, current: Detector, step: int, context: Context) -> tuple[Ledger, float]:
        """The present cost, and what may be left of it after this round."""
        if self.latency_ratio is not None:
            before, now = self._times(start.detector, current, context)
            return latency_ledger(current, context.input_size, now), before.total * self.left_after(step)
        return macs_ledger(current, context.input_size), start.macs * self.left_after(step)

    def _times(self, original: Detector, current: Detector, context: Context) -> tuple[LayerTimes, ...]:
        """Of both, in turn: only their ratio means anything on a machine that others use too."""
        if context.layer_clock is None:
            raise ValueError("prune: latency_ratio needs Context(layer_clock=...), which measures the target.")
        return measured_once(context.layer_clock, (original, current), context.input_size, context.workspace)

    def _trained(self, current: Detector, step: int, folder: Path, context: Context) -> Detector:
        """The detector after this gap's training.  A deadline is shared with the gaps that are still to come."""
        left = context.seconds_left()
        deadline = None if left is None else time.monotonic() + left / (self.cuts - step)
        here = replace(context, workspace=folder / "training", deadline=deadline)
        return self._distill(step).apply(current, here)

    def _distill(self, step: int) -> Distill:
        """The training after a round: its part of the minutes and epochs."""
        gaps = self.cuts - 1
        return Distill(
            minutes=None if self.minutes is None else self.minutes / gaps,
            epochs=None if self.epochs is None else self.epochs * step // gaps - self.epochs * (step - 1) // gaps,
            teacher=self.teacher,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
        )

    def _round_folder(self, detector: Detector, step: int, context: Context) -> Path | None:
        """Where a round of a schedule with training keeps its detectors, by all that they are made of."""
        if self.schedule != "gradual":
            return None
        made_from = {
            "settings": asdict(self),
            "detector": detector_sha256(detector),
            "data": dataset_sha256(context.data),
            "context": [context.seed, context.input_size, context.channel_multiple],
            "teacher": detector_sha256(context.original) if self.teacher == "original" else None,
            "val": context.val.sha256() if self.uses_val and context.val is not None else None,
        }
        return context.workspace / f"round-{step}-{json_sha256(made_from)[:12]}"

    def _with_new_statistics(self, pruned: Detector, context: Context) -> Detector:
        network = pruned.network.to(training_device(context.device)).to(memory_format=torch.channels_last)
        reestimate_batchnorm(family_of(pruned), network, self._batches(context))
        network.to("cpu").to(memory_format=torch.contiguous_format)
        return pruned

    def _scores(self, detector: Detector, groups: ChannelGroups, context: Context) -> Scores:
        device = training_device(context.device)
        return scores_named(self.importance, detector, groups, self._batches(context), context.seed, device)

    def _batches(self, context: Context) -> Iterator[Batch]:
        return plain_batches(context.data, context.input_size, self.images, _BATCH, context.seed)

    def _measuring(self, detector: Detector, bundles: int, context: Context) -> Measuring:
        size = context.input_size if self.measure_size is None else self.measure_size
        shares, images = affordable(count_macs(detector.network, size) * bundles)
        shares = shares if self.shares is None else self.shares
        images = images if self.measure_images is None else self.measure_images
        return Measuring(self.measure, shares, images, min(self.images, images), size)


@dataclass(frozen=True)
class _Start:
    """What is settled before the first cut.

    macs: of the detector; whole, floors: steps of each bundle, and those that stay; curves: of each, or (), and how
    they are measured
    """

    detector: Detector
    macs: int
    whole: tuple[int, ...]
    floors: tuple[int, ...]
    curves: tuple[Curve, ...]
    measuring: Measuring


def prune_by_scores(
    detector: Detector,
    groups: ChannelGroups,
    scores: Scores,
    macs_ratio: float,
    input_size: int,
    channel_multiple: int = 8,
    min_keep: float = 0.1,
    ranking: str = "global",
) -> Detector:
    """The detector cut at once by given scores (see `scores_named`), to at most `macs_ratio` of its cost.

    BatchNorm statistics are left as they are.  ranking: "global" or "uniform"
    Raises ValueError for a ratio outside (0, 1), another ranking, and a ratio that cannot be reached.
    """
    if not 0 < macs_ratio < 1:
        raise ValueError(f"prune: macs_ratio must lie between 0 and 1 (both excluded); got {macs_ratio}.")
    if ranking not in ("global", "uniform"):
        raise ValueError(f"prune: scores alone rank 'global' or 'uniform'; got '{ranking}'.")
    ledger = macs_ledger(detector, input_size)
    target = macs_ratio * ledger.left
    levels = allowed_steps(groups, channel_multiple, smallest_steps(groups, min_keep))
    if ranking == "uniform":
        steps = uniform_steps(groups, ledger, levels, [bundle.steps for bundle in groups.bundles], target)
    else:
        steps = global_steps(groups, scores, ledger, levels, target)
    return cut(detector, groups, kept_units(groups, scores, steps))


def floors_with_kept(groups: ChannelGroups, detector: Detector, min_keep: float, keep: Sequence[str]) -> list[int]:
    """For each bundle the steps that stay at least: all of those that a path in `keep` protects.

    Raises ValueError for a path that the detector does not have.
    """
    paths = {path for path, _ in detector.network.named_modules()}
    for path in keep:
        if path not in paths:
            raise ValueError(f"prune: keep names '{path}', which the detector does not have.")
    return [
        bundle.steps if _makes(bundle, keep) else floor
        for bundle, floor in zip(groups.bundles, smallest_steps(groups, min_keep), strict=True)
    ]


def _makes(bundle: Bundle, keep: Sequence[str]) -> bool:
    """Whether some of the bundle's channels come out of a module in `keep` or below one."""
    makers = {member.path for group in bundle.groups for member in group.units[0] if member.role == "out"}
    return any(is_below(maker, keep) for maker in makers)


def _once(folder: Path | None, name: str, make: Callable[[], Detector]) -> Detector:
    """What `make` gives, or what it gave when it was first asked and `folder` kept it."""
    if folder is None:
        return make()
    place = folder / name
    if not is_checkpoint(place):
        save_checkpoint(make(), place, {"technique": Prune.name, "part": name})
    return load_checkpoint(place)
