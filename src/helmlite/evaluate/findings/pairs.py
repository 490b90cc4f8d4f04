"""Heads and boxes of two detectors side by side: what every family of faults looks at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_iou
from helmlite.data.dataset import Dataset
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.diagnosis.heights import box_heights
from helmlite.evaluate.errors import Matches, match_class, pair_picture
from helmlite.evaluate.statistics.resampling import check_pairing

NEAR_IOU = 0.1  # a box that was moved by half its side still overlaps its old place by a third

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """One detector as it is shown.

    predictions: everything that it found
    thresholds:  from which score on a box of each class is shown
    matches:     of each class alone, at all thresholds
    """

    predictions: Predictions
    thresholds: tuple[float, ...]
    matches: tuple[Matches, ...]


@dataclass(frozen=True)
class Heads:
    """The labelled heads of some classes, and what became of them.  All arrays: (G,)

    pictures: position of each head's picture
    heights_px: pixels of the original picture, as high as the baseline's box on it, since labels are loose; as labelled
                where the baseline has none
    before, after: whether baseline and candidate find it, each at its own threshold (see `heads_of`)
    """

    pictures: Positions
    heights_px: NDArray[np.float64]
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]


@dataclass(frozen=True)
class BoxPairs:
    """Boxes of one detector, or labelled ones, and the box of another that belongs to each.  P pairs

    pictures: (P,) position of each pair's picture;  first_xyxy, second_xyxy: (P, 4) pixels of the original picture
    """

    pictures: Positions
    first_xyxy: NDArray[np.float64]
    second_xyxy: NDArray[np.float64]


def side_of(predictions: Predictions, dataset: Dataset, thresholds: Sequence[float]) -> Side:
    """A detector with its thresholds, matched with what is labelled.

    Raises ValueError where their number is not that of the classes.
    """
    if len(thresholds) != len(dataset.classes):
        raise ValueError(f"{len(dataset.classes)} classes need as many thresholds; got {len(thresholds)}.")
    matches = tuple(match_class(predictions, dataset, (label,)) for label in range(len(dataset.classes)))
    return Side(predictions, tuple(thresholds), matches)


def heads_of(
    before: Side, after: Side, dataset: Dataset, labels: Sequence[int], share_of_lower: float | None = None
) -> Heads:
    """The labelled heads of these classes.

    share_of_lower: the candidate counts as finding a head from this share of the lower threshold of the two on; None
                    for its own threshold
    Raises ValueError where the two did not see the same pictures.
    """
    check_pairing(before.predictions, after.predictions)
    parts = []
    for label in labels:
        own, other = after.thresholds[label], before.thresholds[label]
        limit = own if share_of_lower is None else share_of_lower * min(own, other)
        found = before.matches[label].found_at(other), after.matches[label].found_at(limit)
        parts.append((before.matches[label].head_pictures, _heights(before.predictions, dataset, label), *found))
    nothing = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool), np.zeros(0, bool)
    return Heads(*(np.concatenate(columns) for columns in zip(nothing, *parts, strict=True)))


def _heights(predictions: Predictions, dataset: Dataset, label: int) -> NDArray[np.float64]:
    """Of every labelled head of a class, in the order of its matches.  (G,)"""
    heights = [np.zeros(0)]
    for index, found in zip(predictions.indices, predictions.detections, strict=True):
        sample, own = dataset[index], found[found.labels == label]
        boxes = sample.boxes_xyxy[sample.labels == label]
        taken = pair_picture(own, boxes)
        rows = boxes.astype(np.float64)
        rows[taken >= 0] = own.boxes_xyxy[taken[taken >= 0]]
        heights.append(box_heights(rows))
    return np.concatenate(heights)


def shown_pairs(before: Side, after: Side) -> BoxPairs:
    """Every box that the first detector shows, with the second's box that belongs to it, where there is one."""
    shown = (_shown(found, before.thresholds) for found in before.predictions.detections)
    return _paired(shown, after.predictions.detections)


def labelled_pairs(side: Side, dataset: Dataset) -> BoxPairs:
    """Every labelled box with the detector's box that belongs to it, where there is one that is shown."""
    samples = (dataset[index] for index in side.predictions.indices)
    labelled = (Detections(item.boxes_xyxy, np.ones(len(item.labels), np.float32), item.labels) for item in samples)
    return _paired(labelled, [_shown(found, side.thresholds) for found in side.predictions.detections])


def partners(found: Detections, others: Detections) -> NDArray[np.int64]:
    """Index of the other box of the same class that belongs to each box, -1 where none overlaps by NEAR_IOU.  (N,)

    The best score takes its turn first, and takes the free box where overlap times score is highest: among a detector's
    many faint boxes there is always one that lies a little better than the one that was meant.
    """
    taken = np.full(len(found), -1, dtype=np.int64)
    if not len(found) or not len(others):
        return taken
    overlap = box_iou(found.boxes_xyxy.astype(np.float64), others.boxes_xyxy.astype(np.float64))  # (N, M)
    overlap[(found.labels[:, None] != others.labels[None, :]) | (overlap < NEAR_IOU)] = 0
    worth = overlap * others.scores
    for turn in np.argsort(-found.scores, kind="stable").tolist():
        best = int(worth[turn].argmax())
        if worth[turn, best] > 0:
            taken[turn] = best
            worth[:, best] = 0
    return taken


def _paired(first: Iterable[Detections], second: Iterable[Detections]) -> BoxPairs:
    pictures, boxes, others = [np.zeros(0, np.int64)], [np.zeros((0, 4))], [np.zeros((0, 4))]
    for position, (found, other) in enumerate(zip(first, second, strict=True)):
        taken = partners(found, other)
        kept = np.flatnonzero(taken >= 0)
        pictures.append(np.full(len(kept), position))
        boxes.append(found.boxes_xyxy[kept].astype(np.float64))
        others.append(other.boxes_xyxy[taken[kept]].astype(np.float64))
    return BoxPairs(np.concatenate(pictures), np.concatenate(boxes), np.concatenate(others))


def _shown(found: Detections, thresholds: Sequence[float]) -> Detections:
    return found[found.scores >= np.array(thresholds, dtype=np.float32)[found.labels]]
