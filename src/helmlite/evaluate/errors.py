"""What a detector misses and what it invents, head by head, at thresholds that are fair to both sides.

Matching is greedy at IoU 0.5 within one class: detections take their turn from the best score down, and each takes
the free labelled box that it overlaps most.  A detection that finds none free is a *false alarm*, a second box on
the same head too.  Because a lower score never takes a box from a higher one, one pass gives the answer for every
threshold: each labelled box is found down to the score of the detection that took it.

Two detectors are compared at the same number of false alarms per 100 pictures, so that lowering a threshold buys
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_iou
from helmlite.data.dataset import Dataset
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import Predictions

MATCH_IOU = 0.5
BACKGROUND_IOU = 0.1  # below it a box is on no head at all
NEVER_FOUND = -np.inf


@dataclass(frozen=True)
class Matches:
    """Every detection and every labelled box of one class over a data set, matched once for all thresholds.

    found_scores:   (G,) score of the detection that took each labelled box, -inf where none did
    head_pictures:  (G,) position of the box's picture among the evaluated pictures
    head_boxes:     (G,) index of the box within its picture
    alarm_scores:   (A,) scores of the detections that took no labelled box
    alarm_pictures: (A,) position of their pictures
    picture_count:  pictures evaluated, those without a box of this class included
    """

    found_scores: NDArray[np.float64]
    head_pictures: NDArray[np.int64]
    head_boxes: NDArray[np.int64]
    alarm_scores: NDArray[np.float64]
    alarm_pictures: NDArray[np.int64]
    picture_count: int

    @property
    def head_count(self) -> int:
        return len(self.found_scores)

    def found_at(self, threshold: float) -> NDArray[np.bool_]:
        """Which labelled boxes are found when only scores of at least `threshold` count.  (G,)"""
        return self.found_scores >= as_score(threshold)

    def recall_at(self, threshold: float) -> float | None:
        """Share of the labelled boxes that is found, or None where there are none."""
        return float(self.found_at(threshold).mean()) if self.head_count else None

    def alarms_at(self, threshold: float) -> int:
        """False alarms at this threshold."""
        return int((self.alarm_scores >= as_score(threshold)).sum())

    def alarms_per_100(self, threshold: float) -> float:
        """False alarms for every 100 pictures."""
        return 100 * self.alarms_at(threshold) / max(self.picture_count, 1)


@dataclass(frozen=True)
class Head:
    """One labelled box: index of its picture in the data set, and of the box in that picture."""

    picture: int
    box: int


@dataclass(frozen=True)
class HeadChanges:
    """The same labelled heads seen by two detectors, each at its own threshold.

    newly_missed: found by the baseline, missed by the candidate; newly_found: the other way round
    """

    heads: int
    pictures: int
    found_by_baseline: int
    found_by_candidate: int
    newly_missed: tuple[Head, ...]
    newly_found: tuple[Head, ...]
    baseline_threshold: float
    candidate_threshold: float
    baseline_false_alarms: int
    candidate_false_alarms: int

    @property
    def baseline_recall(self) -> float | None:
        return self.found_by_baseline / self.heads if self.heads else None

    @property
    def candidate_recall(self) -> float | None:
        return self.found_by_candidate / self.heads if self.heads else None

    def in_words(self) -> str:
        """`2 of 54 bare heads newly missed, 1 newly found`."""
        if not self.heads:
            return "no bare head is labelled here"
        return f"{len(self.newly_missed)} of {self.heads} bare heads newly missed, {len(self.newly_found)} newly found"


def as_score(threshold: float) -> float:
    """The threshold as a device compares it with its scores, which are float32: 0.7 is a score of 0.69999999 too."""
    return float(np.float32(threshold))


def match_class(predictions: Predictions, dataset: Dataset, labels: Sequence[int]) -> Matches:
    """Greedy matching at IoU 0.5 of these classes' detections to their labelled boxes, over all evaluated pictures.

    labels: the classes of one role; which of them a head has does not matter
    """
    found, head_pictures, head_boxes, alarms, alarm_pictures = [], [], [], [], []
    for position, (index, detections) in enumerate(zip(predictions.indices, predictions.detections, strict=True)):
        sample = dataset[index]
        boxes = np.flatnonzero(_is_one_of(sample.labels, labels))
        scores, alarm = match_picture(detections[_is_one_of(detections.labels, labels)], sample.boxes_xyxy[boxes])
        found.append(scores)
        head_pictures.append(np.full(len(boxes), position))
        head_boxes.append(boxes)
        alarms.append(alarm)
        alarm_pictures.append(np.full(len(alarm), position))
    return Matches(
        _scores(found),
        _numbers(head_pictures),
        _numbers(head_boxes),
        _scores(alarms),
        _numbers(alarm_pictures),
        len(predictions.detections),
    )


def match_picture(
    detections: Detections, boxes_xyxy: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One picture, one class: the score at which each labelled box is found (-inf: never), and the alarms' scores.

    boxes_xyxy: (G, 4) -> (G,) and (A,)
    """
    taken_by = pair_picture(detections, boxes_xyxy)
    scores = detections.scores.astype(np.float64)
    found = np.where(taken_by >= 0, scores[taken_by] if len(scores) else NEVER_FOUND, NEVER_FOUND)
    order = np.argsort(-detections.scores, kind="stable")
    return found, scores[order[~np.isin(order, taken_by)]]


def pair_picture(detections: Detections, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.int64]:
    """One picture, one class: index of the detection that takes each labelled box, -1 where none does.

    boxes_xyxy: (G, 4) -> (G,)
    """
    order = np.argsort(-detections.scores, kind="stable")
    taken_by = np.full(len(boxes_xyxy), -1, dtype=np.int64)
    if not len(order) or not len(boxes_xyxy):
        return taken_by
    overlap = box_iou(detections.boxes_xyxy[order].astype(np.float64), boxes_xyxy.astype(np.float64))  # (N, G)
    for turn in np.flatnonzero(overlap.max(axis=1) >= MATCH_IOU):
        free = np.where(taken_by < 0, overlap[turn], -1.0)
        if free.max() >= MATCH_IOU:
            taken_by[int(free.argmax())] = order[turn]
    return taken_by


def alarm_level(baseline: Matches, *candidates: Matches) -> float | None:
    """False alarms for every 100 pictures at which detectors are compared: what suits all, near the baseline's.

    It is where the sum of their F1 is highest, between half and twice the number of alarms at the baseline's own best
    F1 (and two more, where that is few).  At the baseline's own best F1 itself it would stand just above a false alarm
    and the candidate anywhere: of two equally good detectors the second seems to lose 1 to 5 points of recall on 76
    to 400 pictures.  Without the bounds, a candidate with many loud alarms would be allowed them.

    Of equal levels the lowest is taken.  A baseline that never finds a labelled box has no best of its own; then it is
    near that of the others.  None where nobody ever finds one.
    """
    sides = (baseline, *candidates)
    levels = np.arange(max(len(side.alarm_scores) for side in sides) + 1)
    alone = _f1_at(baseline, levels)
    own = int((alone if alone.any() else np.sum([_f1_at(side, levels) for side in sides], axis=0)).argmax())
    levels = np.arange(own // 2, 2 * own + 3)
    together = np.sum([_f1_at(side, levels) for side in sides], axis=0)
    if not together.any():
        return None
    return 100 * int(levels[together.argmax()]) / max(baseline.picture_count, 1)


def _f1_at(matches: Matches, levels: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 = 2 * found / (labelled + found + false alarms) with at most so many false alarms.  (K,) -> (K,)"""
    silent = np.append(np.sort(matches.alarm_scores)[::-1], NEVER_FOUND)  # by level, the loudest that is silenced
    loudest = silent[np.minimum(levels, len(matches.alarm_scores))]
    scores, alarms = np.sort(matches.found_scores), np.sort(matches.alarm_scores)
    found = len(scores) - np.searchsorted(scores, loudest, side="right")
    rung = len(alarms) - np.searchsorted(alarms, loudest, side="right")
    return np.asarray(2 * found / np.maximum(matches.head_count + found + rung, 1))


def threshold_for_alarms(matches: Matches, allowed_per_100: float) -> float:
    """The lowest threshold with at most `allowed_per_100` false alarms for every 100 pictures.

    It lies halfway between the first alarm that must be silent and the next higher score, so that a difference in
    the last digit between two runtimes does not move a detection across it.  Where every detection may stay it is
    half of the lowest score at which a labelled box is found, since nothing is won below.
    """
    allowed = int(np.floor(allowed_per_100 * matches.picture_count / 100 + 1e-9))
    alarms = np.sort(matches.alarm_scores)[::-1]
    if len(alarms) <= allowed:
        found = matches.found_scores[np.isfinite(matches.found_scores)]
        return float(found.min()) / 2 if found.size else 0.0
    silent = float(alarms[allowed])
    scores = np.concatenate([alarms, matches.found_scores])
    return midpoint_above(silent, scores)


def midpoint_above(score: float, scores: NDArray[np.float64]) -> float:
    """Halfway between `score` and the next higher of `scores`; the next float32 above it where it is the highest."""
    higher = scores[scores > score]
    if not higher.size:
        return float(np.nextafter(np.float32(score), np.float32(np.inf)))
    nearest = float(higher.min())
    middle = (score + nearest) / 2
    return middle if score < as_score(middle) <= nearest else nearest


def compare_heads(
    baseline: Matches,
    candidate: Matches,
    predictions: Predictions,
    baseline_threshold: float,
    candidate_threshold: float,
) -> HeadChanges:
    """Which heads were lost and won, paired by labelled head.  Both matches are of the same pictures and class.

    predictions: of either detector; they say which picture of the data set each position is
    """
    before, after = baseline.found_at(baseline_threshold), candidate.found_at(candidate_threshold)

    def heads(chosen: NDArray[np.bool_]) -> tuple[Head, ...]:
        pairs = zip(baseline.head_pictures[chosen], baseline.head_boxes[chosen], strict=True)
        return tuple(Head(predictions.indices[int(picture)], int(box)) for picture, box in pairs)

    return HeadChanges(
        heads=baseline.head_count,
        pictures=baseline.picture_count,
        found_by_baseline=int(before.sum()),
        found_by_candidate=int(after.sum()),
        newly_missed=heads(before & ~after),
        newly_found=heads(after & ~before),
        baseline_threshold=baseline_threshold,
        candidate_threshold=candidate_threshold,
        baseline_false_alarms=baseline.alarms_at(baseline_threshold),
        candidate_false_alarms=candidate.alarms_at(candidate_threshold),
    )


def _is_one_of(labels: NDArray[np.int64], wanted: Sequence[int]) -> NDArray[np.bool_]:
    """np.isin for a handful of labels in a picture, of which numpy's own takes ten times as long."""
    return np.asarray((labels[:, None] == np.array(wanted, dtype=np.int64)).any(axis=1))


def _scores(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.zeros(0)


def _numbers(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)
