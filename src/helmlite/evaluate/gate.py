"""The gate: whether a compressed detector is proved to be no worse than the baseline by more than a margin.

Non-inferiority by paired bootstrap: pictures are drawn with replacement (scenes where the data set names them), the
loss of the candidate is computed on the same draw for both, and the 2.5 and 97.5 percentiles of a thousand draws are
its 95 % interval.  Simulated pictures whose true loss is known say what that is worth (docs/gate.md): plain
percentiles hold the truth more often than basic, bias-corrected and BCa ones, and on too few pictures or bare heads
(statistics/resamples.py) none can be trusted, so that nothing passes.  A bootstrap draws only what the pictures hold:
where few heads changed, or nothing did, the interval is not narrower than so few changes allow (statistics/paired.py).

    passed      the upper end of the interval is at most the margin
    failed      the lower end is above it
    undecided   anything else: these pictures cannot tell

Two losses have margins of their own: mAP50-95, and the recall of the `no_helmet` role at equal false alarms.  Each
class and each size is watched as well, so that a good average cannot hide a dead class: a class fails where even the
lower end of its loss is above a wider margin.  The worst verdict wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.data.roles import labels_of_role
from helmlite.evaluate.accuracy import SIZES, Predictions
from helmlite.evaluate.errors import HeadChanges, Matches, alarm_level, compare_heads, match_class, threshold_for_alarms
from helmlite.evaluate.statistics.intervals import Floats
from helmlite.evaluate.statistics.paired import count_that_resolves
from helmlite.evaluate.statistics.resamples import (
    FEWEST_PICTURES,
    ChangedHeads,
    Resamples,
    is_unchanged,
    resamples_of,
)
from helmlite.evaluate.statistics.resampling import (
    MatchRecords,
    Weights,
    average_precision,
    check_pairing,
    match_records,
    mean_average_precision,
    recalls_at_alarms,
)
from helmlite.evaluate.thresholds import DEFAULT_THRESHOLD

PASSED, UNDECIDED, FAILED, NOT_JUDGED = "passed", "undecided", "failed", "not judged"
_WORST_FIRST = (FAILED, UNDECIDED, PASSED)
FEWEST_SHOWING = 10  # pictures that show a class or a size, to watch it; such a check cannot pass, only fail
CLASS_MARGIN_POINTS = 10.0  # a class may lose this much beyond the margin of the mean ...
CLASS_MARGIN_SHARE = 0.5  # ... but never, provably, half of what it had
_NORMAL_95, _NORMAL_POWER_80 = 1.959964, 0.841621
_ROUNDING = 1e-9
_MOST_PICTURES = 1_000_000


@dataclass(frozen=True)
class GateCheck:
    """One loss against one margin.

    baseline, candidate: the measure itself in [0, 1];  loss_points: 100 * (baseline - candidate), negative for a gain
    loss_ci95: its interval in points;  margin_points: what it was held against
    pictures_to_decide: how many pictures like these would decide; None where it is decided or where no number would
    says: one sentence that goes with the verdict
    """

    name: str
    verdict: str
    says: str
    baseline: float | None = None
    candidate: float | None = None
    loss_points: float | None = None
    loss_ci95: tuple[float, float] | None = None
    margin_points: float | None = None
    pictures_to_decide: int | None = None


@dataclass(frozen=True)
class GateVerdict:
    """What the gate says, and what it stands on.

    verdict: passed, undecided or failed: the worst of the checks
    heads:   heads of the no_helmet role lost and won at equal false alarms; None without that role
    units:   independent draws: pictures, or scenes where the data set names them
    says:    the two main checks, and every other one that did not pass, each in a sentence
    """

    verdict: str
    checks: tuple[GateCheck, ...]
    heads: HeadChanges | None
    split: str
    pictures: int
    units: int
    resamples: int
    seed: int
    says: tuple[str, ...]

    def check(self, name: str) -> GateCheck | None:
        """The check of this name: `mAP50-95`, `recall of no_helmet`, `class NAME`, `size NAME`."""
        return next((item for item in self.checks if item.name == name), None)


@dataclass(frozen=True)
class OperatingPoint:
    """Score thresholds of the no_helmet class at which two detectors raise equally many false alarms on `val`.

    alarms_per_100: false alarms for every 100 pictures that either may have
    """

    baseline_threshold: float
    candidate_threshold: float
    alarms_per_100: float


def judge(
    baseline: Predictions,
    candidate: Predictions,
    dataset: Dataset,
    max_drop_points: float = 1.0,
    max_recall_drop_points: float = 2.0,
    seed: int = 0,
    resamples: int = 1000,
) -> GateVerdict:
    """The verdict on `candidate` from the predictions of both on the same pictures of the tuning split.

    Raises ValueError for a negative margin, and where the two did not see the same pictures.
    """
    _check_margin("--max-drop", max_drop_points)
    _check_margin("--max-recall-drop", max_recall_drop_points)
    check_pairing(baseline, candidate)
    records = match_records(baseline, dataset), match_records(candidate, dataset)
    judged = _Judge(resamples_of(baseline, dataset, seed, resamples))

    losses = mean_average_precision(records[0], judged.weights), mean_average_precision(records[1], judged.weights)
    checks = [judged.check("mAP50-95", *losses, max_drop_points)]
    recall_check, heads = _recall_check(baseline, candidate, dataset, judged, max_recall_drop_points)
    checks.append(recall_check)
    checks += _class_checks(records, dataset, judged, max_drop_points)
    checks += _size_checks(records, judged, max_drop_points)
    verdicts = [item.verdict for item in checks]
    verdict = next((item for item in _WORST_FIRST if item in verdicts), UNDECIDED)
    says = tuple(f"{item.verdict}: {item.says}" for item in checks if item in checks[:2] or item.verdict != PASSED)
    units = judged.resamples.units
    return GateVerdict(verdict, tuple(checks), heads, dataset.split, judged.pictures, units, resamples, seed, says)


def operating_point(baseline: Matches, candidate: Matches) -> OperatingPoint:
    """Where both are compared: at one number of false alarms on these pictures (`alarm_level`), each with the threshold
    that gives it, so that neither is asked at a point that only happens to suit it."""
    level = alarm_level(baseline, candidate)
    if level is None:
        return OperatingPoint(DEFAULT_THRESHOLD, DEFAULT_THRESHOLD, baseline.alarms_per_100(DEFAULT_THRESHOLD))
    return OperatingPoint(threshold_for_alarms(baseline, level), threshold_for_alarms(candidate, level), level)


def changes_at(
    point: OperatingPoint, baseline: Predictions, candidate: Predictions, dataset: Dataset, role: str = "no_helmet"
) -> HeadChanges | None:
    """Heads lost and won on any split at thresholds that were chosen on `val`; None without such a class."""
    labels = labels_of_role(dataset.classes, role)
    if not labels:
        return None
    check_pairing(baseline, candidate)
    matches = match_class(baseline, dataset, labels), match_class(candidate, dataset, labels)
    return compare_heads(*matches, baseline, point.baseline_threshold, point.candidate_threshold)


@dataclass(frozen=True)
class _Judge:
    """What every check shares."""

    resamples: Resamples

    @property
    def weights(self) -> Weights:
        return self.resamples.weights

    @property
    def pictures(self) -> int:
        return self.weights.shape[1]

    def check(
        self, name: str, before: Floats, after: Floats, margin: float, heads: tuple[Matches, ChangedHeads] | None = None
    ) -> GateCheck:
        """before, after: (1 + B,) the measure on the data set itself and on each resample; NaN where unknown.

        heads: of which the measure is the recall, and how many of them changed
        """
        if np.isnan(before[0]) or np.isnan(after[0]):
            return GateCheck(
                name, NOT_JUDGED, f"{name}: unknown, nothing of it is labelled here.", margin_points=margin
            )
        losses = 100 * (before - after)
        interval = (
            self.resamples.loss_interval(losses)
            if heads is None
            else self.resamples.recall_loss_interval(losses, *heads)
        )
        found = GateCheck(
            name, UNDECIDED, "", float(before[0]), float(after[0]), float(losses[0]), interval, margin_points=margin
        )
        if interval is None:
            reason = f"{self.resamples.units} independent pictures (at least {FEWEST_PICTURES})"
            says = f"{name}: {told_in_words(found.loss_points, None)}; no interval can be trusted on {reason}."
            return replace(found, says=says)
        verdict = verdict_of(interval, margin)
        needed = None
        if verdict == UNDECIDED:
            needed = self._needed(losses, margin, heads)
        return replace(
            found, verdict=verdict, pictures_to_decide=needed, says=_says(found, verdict, needed, self.pictures)
        )

    def _needed(self, losses: Floats, margin: float, heads: tuple[Matches, ChangedHeads] | None) -> int | None:
        """How many pictures like these would decide; None where no practicable number would."""
        needed = pictures_to_decide(losses, margin, self.pictures)
        has_changed = not is_unchanged(losses) if heads is None else heads[1].any
        if needed is None or has_changed:
            return needed
        draws = self.resamples.units if heads is None else self.resamples.draws_among(heads[0].head_pictures)
        return max(needed, math.ceil(count_that_resolves(margin / 100) * self.pictures / draws))


def verdict_of(loss_ci95: tuple[float, float], margin_points: float) -> str:
    """passed, failed or undecided for an interval of the loss against a margin, all in points.

    >>> verdict_of((-0.2, 0.8), 1.0), verdict_of((1.2, 3.0), 1.0), verdict_of((0.5, 1.5), 1.0)
    ('passed', 'failed', 'undecided')
    """
    low, high = loss_ci95
    if high <= margin_points + _ROUNDING:
        return PASSED
    return FAILED if low > margin_points + _ROUNDING else UNDECIDED


def pictures_to_decide(losses: Floats, margin_points: float, pictures: int) -> int | None:
    """How many pictures like these would decide, four times out of five, if the loss stays what it is.

    The standard error shrinks with the square root of the number of pictures, and the loss of those pictures will
    itself be off by one: n' = n ((1.96 + 0.84) s / |margin - loss|)^2, the sample size for a power of 80 %.
    losses: (1 + B,), the first the loss itself.  None where the loss lies so close to the margin that it would take
    more than a million.  How often a set was decided after so many pictures: docs/gate.md.
    """
    distance = abs(margin_points - float(losses[0]))
    reach = (_NORMAL_95 + _NORMAL_POWER_80) * float(np.nanstd(losses[1:]))
    if distance == 0 or pictures * (reach / distance) ** 2 > _MOST_PICTURES:
        return None
    return max(math.ceil(pictures * (reach / distance) ** 2), pictures + 1)


def change_in_words(loss_points: float | None) -> str:
    """`1.30 points lost`, `0.40 points gained`, `unchanged` or `unknown`: a gain is never called a negative loss."""
    if loss_points is None:
        return "unknown"
    if abs(loss_points) < 0.005:
        return "unchanged"
    return f"{abs(loss_points):.2f} points {'lost' if loss_points > 0 else 'gained'}"


def told_in_words(loss_points: float | None, loss_ci95: tuple[float, float] | None) -> str:
    """As `change_in_words` where the interval leaves 0 out; else what was measured, which may be chance.

    >>> told_in_words(1.3, (0.2, 2.4)), told_in_words(1.3, (-0.5, 3.1)), told_in_words(-0.4, None)
    ('1.30 points lost', 'measured 1.30 points lower', 'measured 0.40 points higher')
    """
    is_told = loss_ci95 is not None and (loss_ci95[0] > 0 or loss_ci95[1] < 0)
    if is_told or loss_points is None or abs(loss_points) < 0.005:
        return change_in_words(loss_points)
    return f"measured {abs(loss_points):.2f} points {'lower' if loss_points > 0 else 'higher'}"


def interval_in_words(loss_ci95: tuple[float, float]) -> str:
    """`a loss between 0.10 and 2.40`, `between a gain of 0.30 and a loss of 1.20`, `a gain between 1.00 and 2.00`."""
    low, high = loss_ci95
    if low >= 0:
        return f"a loss between {low:.2f} and {high:.2f}"
    if high <= 0:
        return f"a gain between {abs(high):.2f} and {-low:.2f}"
    return f"between a gain of {-low:.2f} and a loss of {high:.2f}"


def _says(check: GateCheck, verdict: str, needed: int | None, pictures: int) -> str:
    assert check.loss_ci95 is not None
    text = (
        f"{check.name}: {told_in_words(check.loss_points, check.loss_ci95)} "
        f"(95 % interval: {interval_in_words(check.loss_ci95)}; allowed {check.margin_points:.3g})"
    )
    if verdict != UNDECIDED:
        return f"{text}."
    if needed is None:
        return f"{text}; the loss lies on the margin, so that no practicable number of pictures would decide."
    return f"{text}; {pictures} pictures cannot tell, about {needed} would if the loss stays what it is."


def _recall_check(
    baseline: Predictions, candidate: Predictions, dataset: Dataset, judged: _Judge, margin: float
) -> tuple[GateCheck, HeadChanges | None]:
    name = "recall of no_helmet"
    labels = labels_of_role(dataset.classes, "no_helmet")
    if not labels:
        names = ", ".join(item.name for item in dataset.classes)
        says = (
            f"{name}: cannot be said, no class has the role no_helmet (the classes are {names}; "
            "--role no_helmet=NAME gives one the role)."
        )
        return GateCheck(name, NOT_JUDGED, says, margin_points=margin), None
    before, after = match_class(baseline, dataset, labels), match_class(candidate, dataset, labels)
    point = operating_point(before, after)
    heads = compare_heads(before, after, baseline, point.baseline_threshold, point.candidate_threshold)
    recalls = [recalls_at_alarms(side, point.alarms_per_100, judged.weights) for side in (before, after)]
    changed = ChangedHeads(len(heads.newly_missed), len(heads.newly_found))
    check = judged.check(name, recalls[0], recalls[1], margin, (before, changed))
    if check.verdict == NOT_JUDGED:  # a role of which nothing is labelled leaves the main promise unproved
        return replace(check, verdict=UNDECIDED, says=f"{name}: no bare head is labelled here."), heads
    if too_few := judged.resamples.too_few_heads(before):
        says = f"{name}: {heads.in_words()}; no interval can be trusted on {too_few}."
        return replace(check, verdict=UNDECIDED, loss_ci95=None, pictures_to_decide=None, says=says), heads
    says = f"{check.says} {heads.in_words().capitalize()}, at {point.alarms_per_100:.1f} false alarms per 100 pictures."
    return replace(check, says=says), heads


def _class_checks(
    records: tuple[MatchRecords, MatchRecords], dataset: Dataset, judged: _Judge, max_drop: float
) -> list[GateCheck]:
    checks = []
    for label, item in enumerate(dataset.classes):
        pair = [side.by_class[label]["all"] for side in records]
        measures = [average_precision(record, judged.weights) for record in pair]
        checks.append(_watch(f"class {item.name}", measures, pair[0].heads, judged, max_drop))
    return checks


def _size_checks(records: tuple[MatchRecords, MatchRecords], judged: _Judge, max_drop: float) -> list[GateCheck]:
    checks = []
    for size in SIZES:
        boxes = np.sum([areas[size].heads for areas in records[0].by_class], axis=0)
        measures = [mean_average_precision(side, judged.weights, size) for side in records]
        checks.append(_watch(f"size {size}", measures, boxes, judged, max_drop))
    return checks


def _watch(
    name: str, measures: Sequence[Floats], boxes: NDArray[np.int64], judged: _Judge, max_drop: float
) -> GateCheck:
    """A check that can only fail: it passes unless the loss is provably above the wide margin.

    boxes: (N,) of it in each picture.  Those of one picture are lost together, so that one bad picture is not a proof.
    """
    pictures = judged.resamples.draws_among(np.flatnonzero(boxes))
    if pictures < FEWEST_SHOWING:
        says = (
            f"{name}: {int(boxes.sum())} boxes in {pictures} independent pictures are too few to judge (at least "
            f"{FEWEST_SHOWING} pictures)."
        )
        return GateCheck(name, NOT_JUDGED, says)
    margin = min(max_drop + CLASS_MARGIN_POINTS, 100 * CLASS_MARGIN_SHARE * float(measures[0][0]))
    check = judged.check(name, measures[0], measures[1], margin)
    if check.verdict == UNDECIDED and check.loss_ci95 is not None:
        says = (
            f"{name}: {told_in_words(check.loss_points, check.loss_ci95)} (95 % interval: "
            f"{interval_in_words(check.loss_ci95)}); not provably above {margin:.1f}."
        )
        return replace(check, verdict=PASSED, pictures_to_decide=None, says=says)
    return check


def _check_margin(option: str, points: float) -> None:
    if not points >= 0:
        raise ValueError(f"{option} is a loss in points and cannot be negative; got {points:g}.")
