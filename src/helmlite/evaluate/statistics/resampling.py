"""Average precision over thousands of resampled data sets, from one matching: what intervals are made of.

A bootstrap draws as many pictures as there are, with replacement, and asks for the accuracy again.  Matching does
not change by that, only how often each picture counts.  So hotcoco matches once, detections are sorted once, and a
resample is a vector of multiplicities: cumulative sums of weights give the precision at every true positive.
With all weights 1 the result is COCO's own number; a picture of weight 2 counts as two equal pictures (up to the order
of detections with exactly equal scores, which COCO leaves to the sort).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import IOU_THRESHOLDS, SIZES, Predictions, coco_evaluation
from helmlite.evaluate.errors import Matches
from helmlite.evaluate.statistics.intervals import Floats, percentile_interval

Cell = dict[str, Any]  # hotcoco's matches of one picture, class and range of sizes
Weights = NDArray[np.int64]  # (B, N): how often each of N pictures counts in each of B resamples

AREAS = ("all", *SIZES)
_RECALL_POINTS = np.linspace(0.0, 1.0, 101)
_CELLS_AT_ONCE = 60_000  # resamples x detections held in memory together: what fits the cache is twice as fast
EVERY_IOU = tuple(range(10))


@dataclass(frozen=True)
class MatchRecord:
    """One class in one range of sizes, matched.

    pictures:    (M,) position of each detection's picture; best score first, ties in the order of the pictures
    is_true:     (10, M) whether the detection takes a labelled box at each IoU threshold
    counts:      (10, M) False where COCO ignores the detection (it belongs to a box of another size)
    heads:       (N,) labelled boxes of this class and size in each picture
    """

    pictures: NDArray[np.int64]
    is_true: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    heads: NDArray[np.int64]


@dataclass(frozen=True)
class MatchRecords:
    """All classes and ranges of sizes: `by_class[label][area]` with area in AREAS."""

    by_class: tuple[dict[str, MatchRecord], ...]
    picture_count: int


def match_records(predictions: Predictions, dataset: Dataset) -> MatchRecords:
    """Matches once, by hotcoco, what every resample then counts."""
    count = len(predictions)
    evaluation = coco_evaluation(predictions, dataset)
    area_of = {tuple(limits): area for area, limits in zip(AREAS, evaluation.params.area_rng)}
    cells: dict[tuple[int, str], list[Cell | None]] = {
        (label, area): [None] * count for label in range(len(dataset.classes)) for area in AREAS
    }
    for cell in evaluation.eval_imgs:  # only pictures that show a class or were said to
        if cell is not None:
            area = area_of[tuple(cell["aRng"])]
            cells[int(cell["category_id"]) - 1, area][int(cell["image_id"]) - 1] = cell
    by_class = tuple({area: _record(cells[label, area]) for area in AREAS} for label in range(len(dataset.classes)))
    return MatchRecords(by_class, count)


def bootstrap_weights(groups: Sequence[str | None], resamples: int, seed: int) -> Weights:
    """Multiplicities of each picture in each resample.  (resamples, N)

    Pictures of one group (a scene, a video) are drawn together, since they are not independent; a picture without
    a group is drawn alone.
    """
    unit_of = np.array(unit_numbers(groups), dtype=np.int64)
    units = int(unit_of.max()) + 1 if len(unit_of) else 0
    drawn = np.random.default_rng(seed).integers(0, max(units, 1), size=(resamples, units))
    weights = np.zeros((resamples, units), dtype=np.int64)
    np.add.at(weights, (np.arange(resamples)[:, None], drawn), 1)
    return weights[:, unit_of]


def jackknife_weights(groups: Sequence[str | None]) -> Weights:
    """The data set without each of its independent draws in turn: ones, and zeros for one picture or one scene.  (U, N)

    >>> jackknife_weights(["gate", None, "gate"])
    array([[0, 1, 0],
           [1, 0, 1]])
    """
    unit_of = np.array(unit_numbers(groups), dtype=np.int64)
    return (unit_of[None, :] != np.arange(unit_count(groups))[:, None]).astype(np.int64)


def unit_numbers(groups: Sequence[str | None]) -> list[int]:
    """Which independent draw each picture belongs to.

    >>> unit_numbers(["gate", None, "gate", None])
    [0, 1, 0, 2]
    """
    numbers: dict[object, int] = {}
    return [
        numbers.setdefault(("picture", position) if group is None else ("group", group), len(numbers))
        for position, group in enumerate(groups)
    ]


def unit_count(groups: Sequence[str | None]) -> int:
    """How many independent draws the pictures make: each group is one, each picture without a group is one."""
    return len(set(unit_numbers(groups)))


def average_precision(record: MatchRecord, weights: Weights, ious: Sequence[int] = EVERY_IOU) -> Floats:
    """Mean AP over the IoU thresholds numbered `ious` in each resample; NaN where nothing is labelled.  (B,)"""
    return _in_blocks(lambda part: _average_precision(record, part, ious), weights, len(record.pictures))


def mean_average_precision(
    records: MatchRecords, weights: Weights, area: str = "all", ious: Sequence[int] = EVERY_IOU
) -> Floats:
    """COCO's mAP over the classes that are labelled in each resample; NaN where none is.  (B,)"""
    return mean_of_known([average_precision(areas[area], weights, ious) for areas in records.by_class])


def map_without_each(records: MatchRecords, groups: Sequence[str | None]) -> Floats:
    """mAP50-95 without each independent draw in turn.  (U,)

    What `mean_average_precision` gives with `jackknife_weights`, in a fraction of the time: to leave a picture out
    moves the counts at true positives by its own detections alone.
    """
    unit_of = np.array(unit_numbers(groups), dtype=np.int64)
    return mean_of_known([_precision_without_each(areas["all"], unit_of) for areas in records.by_class])


def shares_found(matches: Matches, threshold: float, weights: Weights) -> Floats:
    """Share of the labelled boxes that is found at this threshold in each resample; NaN without boxes.  (B,)"""
    found = weights @ np.bincount(matches.head_pictures[matches.found_at(threshold)], minlength=weights.shape[1])
    heads = weights @ np.bincount(matches.head_pictures, minlength=weights.shape[1])
    return np.where(heads > 0, found / np.maximum(heads, 1), np.nan)


def recalls_at_alarms(matches: Matches, alarms_per_100: float, weights: Weights) -> Floats:
    """Recall in each resample, with a threshold of its own for so many false alarms there; NaN without heads.  (B,)"""
    order = np.argsort(-matches.alarm_scores, kind="stable")
    scores = np.append(matches.alarm_scores[order], -np.inf)

    def recalls(part: Weights) -> Floats:
        allowed = np.floor(alarms_per_100 * part.sum(axis=1) / 100 + 0.5)  # (b,) k of N pictures stay k of N - 1
        alarms = np.cumsum(part[:, matches.alarm_pictures[order]], axis=1)  # (b, A) false alarms down to each score
        too_many = (alarms > allowed[:, None]).sum(axis=1)
        loudest_silenced = scores[len(order) - too_many]  # (b,); -inf where every alarm may stay
        of_head = part[:, matches.head_pictures]  # (b, G)
        heads = of_head.sum(axis=1)
        found = (of_head * (matches.found_scores[None, :] > loudest_silenced[:, None])).sum(axis=1)
        return np.where(heads > 0, found / np.maximum(heads, 1), np.nan)

    return _in_blocks(recalls, weights, len(order) + matches.head_count)


def alarms_at_recalls(matches: Matches, recall: float, weights: Weights) -> Floats:
    """False alarms for every 100 pictures in each resample, at the highest threshold that finds this share of the heads
    there; NaN where no threshold does, or there are no heads.  (B,)
    """
    best = np.argsort(-matches.found_scores, kind="stable")
    loudest = np.argsort(-matches.alarm_scores, kind="stable")
    scores = matches.found_scores[best]

    def alarms(part: Weights) -> Floats:
        found = np.cumsum(part[:, matches.head_pictures[best]], axis=1)  # (b, G) heads found down to each score
        heads = found[:, -1] if found.shape[1] else np.zeros(len(part))
        enough = (found >= recall * heads[:, None] - 1e-9) & np.isfinite(scores) & (heads[:, None] > 0)
        needed = enough.argmax(axis=1) if found.shape[1] else np.zeros(len(part), dtype=np.int64)
        rung = np.cumsum(part[:, matches.alarm_pictures[loudest]], axis=1)
        rung = np.concatenate([np.zeros((len(part), 1)), rung], axis=1)  # (b, A + 1) by how many scores may ring
        thresholds = np.append(scores, np.inf)[needed]
        places = np.searchsorted(-matches.alarm_scores[loudest], -thresholds, side="right")
        per_100 = 100 * rung[np.arange(len(part)), places] / np.maximum(part.sum(axis=1), 1)
        return np.where(enough.any(axis=1), per_100, np.nan)

    return _in_blocks(alarms, weights, len(loudest) + matches.head_count)


def map_ci95(
    predictions: Predictions, dataset: Dataset, resamples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of mAP50-95 in [0, 1] over the choice of pictures; None where it is unknown."""
    weights = _weights_for(predictions, dataset, resamples, seed)
    return percentile_interval(mean_average_precision(match_records(predictions, dataset), weights))


def map_loss_ci95(
    baseline: Predictions, candidate: Predictions, dataset: Dataset, resamples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of the points of mAP50-95 that `candidate` loses, paired by picture; negative for a gain."""
    check_pairing(baseline, candidate)
    weights = _weights_for(baseline, dataset, resamples, seed)
    before, after = (mean_average_precision(match_records(side, dataset), weights) for side in (baseline, candidate))
    return percentile_interval(100 * (before - after))


def check_pairing(baseline: Predictions, candidate: Predictions) -> None:
    """Raises ValueError where two detectors did not see the same pictures."""
    if baseline.indices != candidate.indices:
        common = len(set(baseline.indices) & set(candidate.indices))
        order = ", in another order" if common == len(baseline) == len(candidate) else ""
        raise ValueError(
            f"Baseline and candidate must be measured on the same pictures; they saw {len(baseline)} and "
            f"{len(candidate)}, {common} of them in common{order}."
        )


def mean_of_known(rows: Sequence[Floats]) -> Floats:
    """Column means over what is not NaN; NaN where a column knows nothing.  K rows of (B,) -> (B,)"""
    values = np.stack(rows)
    known = ~np.isnan(values)
    number = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _record(cells: Sequence[Cell | None]) -> MatchRecord:
    scores, pictures, is_true, counts = [], [], [], []
    heads = np.zeros(len(cells), dtype=np.int64)
    for position, cell in enumerate(cells):
        if cell is None:  # neither a label nor a detection of this class in the picture
            continue
        heads[position] = int((~np.asarray(cell["gtIgnore"], dtype=bool)).sum())
        of_cell = np.asarray(cell["dtScores"], dtype=np.float64)
        shape = (len(IOU_THRESHOLDS), len(of_cell))
        scores.append(of_cell)
        pictures.append(np.full(len(of_cell), position))
        is_true.append(np.asarray(cell["dtMatched"], dtype=bool).reshape(shape))
        counts.append(~np.asarray(cell["dtIgnore"], dtype=bool).reshape(shape))
    if not scores:
        nothing = np.zeros((len(IOU_THRESHOLDS), 0), dtype=bool)
        return MatchRecord(np.zeros(0, dtype=np.int64), nothing, nothing, heads)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return MatchRecord(
        np.concatenate(pictures)[order].astype(np.int64),
        np.concatenate(is_true, axis=1)[:, order],
        np.concatenate(counts, axis=1)[:, order],
        heads,
    )


def _in_blocks(measure: Callable[[Weights], Floats], weights: Weights, columns: int) -> Floats:
    """`measure` of so many resamples at a time as its arrays of so many columns leave in the cache.  (B, N) -> (B,)"""
    step = max(_CELLS_AT_ONCE // max(columns, 1), 1)
    parts = [measure(weights[at : at + step]) for at in range(0, len(weights), step)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _precision_without_each(record: MatchRecord, unit_of: NDArray[np.int64]) -> Floats:
    units = int(unit_of.max(initial=-1)) + 1
    heads_of = np.bincount(unit_of, record.heads, minlength=units).astype(np.int64)
    labelled = int(record.heads.sum()) - heads_of  # (U,)
    unit = unit_of[record.pictures]  # (M,)
    at_ious = []
    for iou in EVERY_IOU:
        counted = np.flatnonzero(record.counts[iou])
        at_true = np.flatnonzero(record.is_true[iou] & record.counts[iou])  # (K,)
        until = np.searchsorted(counted, at_true, side="right")  # (K,) detections counted down to each true positive
        first = np.searchsorted(at_true, counted)  # the true positive from which on each detection counts; K for none
        at_ious.append((until, _Owned(unit[counted], first), _Owned(unit[at_true], np.arange(len(at_true)))))
    step = max(_CELLS_AT_ONCE // max(int(record.is_true.sum(axis=1).max(initial=1)), 1), 1)
    total = np.zeros(units)
    for start in range(0, units, step):
        stop = min(start + step, units)
        reached = _points_reached(labelled[start:stop])
        for until, of_counted, of_true in at_ious:
            true = np.arange(1, len(until) + 1) - of_true.so_far(start, stop, len(until))
            seen = until - of_counted.so_far(start, stop, len(until))
            total[start:stop] += _area_under(true.astype(np.int32), seen.astype(np.int32), reached)
    return np.where(labelled > 0, total / len(EVERY_IOU), np.nan)


class _Owned:
    """Detections by the draw that they belong to.  units, places: (M,) its number, and the place it counts from"""

    def __init__(self, units: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        order = np.argsort(units, kind="stable")
        self._units, self._places = units[order], places[order]

    def so_far(self, start: int, stop: int, places: int) -> NDArray[np.int64]:
        """How many detections each of the draws start to stop has up to each place.  (stop - start, places)"""
        low, high = np.searchsorted(self._units, (start, stop))
        cells = (self._units[low:high] - start) * (places + 1) + self._places[low:high]
        counts = np.bincount(cells, minlength=(stop - start) * (places + 1)).reshape(stop - start, places + 1)
        return np.cumsum(counts[:, :places], axis=1)


def _average_precision(record: MatchRecord, weights: Weights, ious: Sequence[int]) -> Floats:
    labelled = weights @ record.heads  # (B,)
    reached = _points_reached(labelled)  # (B, L + 1)
    of_detection = weights.astype(np.int32)[:, record.pictures]  # (B, M)
    running: dict[bytes, NDArray[np.int32]] = {}  # counted detections so far; nearly always the same at every IoU
    total = np.zeros(len(weights))
    for iou in ious:
        counts = record.counts[iou]
        key = counts.tobytes()
        if key not in running:
            of_counted = of_detection if counts.all() else of_detection * counts
            running[key] = np.cumsum(of_counted, axis=1, dtype=np.int32)
        at_true = np.flatnonzero(record.is_true[iou] & counts)
        true = np.cumsum(of_detection[:, at_true], axis=1, dtype=np.int32)  # (B, K)
        total += _area_under(true, running[key][:, at_true], reached)
    return np.where(labelled > 0, total / len(ious), np.nan)


def _area_under(true: NDArray[np.int32], counted: NDArray[np.int32], reached: NDArray[np.int8]) -> Floats:
    """Mean over the recall points of the best precision at this or a higher recall; 0 where a recall is never reached.

    Precision only falls between true positives, so its running maximum from the right needs no other place, and each
    true positive answers for the recall points that it is the first to reach.
    true, counted: (B, K) at each true positive;  reached: (B, L + 1) recall points by number of heads found -> (B,)
    """
    rows, places = true.shape
    if places == 0:
        return np.zeros(rows)
    precision = true / np.maximum(counted, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    row_starts = np.arange(rows, dtype=np.int32)[:, None] * np.int32(reached.shape[1])
    so_far = np.take(reached.ravel(), true + row_starts)  # (B, K)
    total = envelope[:, 0] * so_far[:, 0]
    total += np.einsum("bk,bk->b", envelope[:, 1:], so_far[:, 1:] - so_far[:, :-1])
    return np.asarray(total / len(_RECALL_POINTS))


def _points_reached(labelled: NDArray[np.int64]) -> NDArray[np.int8]:
    """How many of the 101 recall points so many true positives reach.  (B,) -> (B, L + 1), L the most labelled"""
    needed = _counts_at_recall_points(labelled)
    rows, columns = len(labelled), int(labelled.max(initial=1)) + 1
    places = (needed + np.arange(rows)[:, None] * columns).ravel()
    first = np.bincount(places, minlength=rows * columns).reshape(rows, columns)
    return np.cumsum(first, axis=1, dtype=np.int8)


def _counts_at_recall_points(labelled: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fewest true positives whose recall, in floating point as COCO compares it, reaches each point.  (B, 101)"""
    heads = np.maximum(labelled, 1)[:, None]
    needed = np.ceil(_RECALL_POINTS * heads).astype(np.int64)
    needed -= (needed - 1) / heads >= _RECALL_POINTS
    needed += needed / heads < _RECALL_POINTS
    return np.maximum(needed, 0)


def _weights_for(predictions: Predictions, dataset: Dataset, resamples: int, seed: int) -> Weights:
    return bootstrap_weights([dataset[index].group for index in predictions.indices], resamples, seed)
