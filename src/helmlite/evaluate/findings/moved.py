"""Boxes that lie beside those of the baseline: a letterbox undone wrongly, a stride or a corner off by one.

For each box that the baseline shows, the candidate's box of the same head is looked up, and how far its centre lies
to the right and down.  It fires where the 99 % interval of the median distance, in parts of the box's side (the root of
its area), lies wholly beyond HARMLESS in either direction.  A box moved by s of its side along one axis keeps
an overlap of (1 - s) / (1 + s): at the harmless 2 % that is 0.96, which no threshold of COCO can see.
Which of the two is off, their distances from the labelled boxes tell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.findings.chance import Draws, Unsaid
from helmlite.evaluate.findings.pairs import BoxPairs, Side, labelled_pairs, shown_pairs
from helmlite.evaluate.statistics.intervals import Interval

FAMILY = "moved"
FEWEST_PAIRS = 20
HARMLESS = 0.02  # of the side of a box


@dataclass(frozen=True)
class MovedBoxes:
    """Where the candidate's boxes lie beside the baseline's: medians over pairs, in pixels of the original picture.

    right_px, down_px:           to the right and down; negative for left and up
    right_px_ci99, down_px_ci99: 99 % intervals of them, over the choice of pictures
    side_px:                     median side of the baseline's boxes (root of the area)
    before_off_px, after_off_px: how far baseline and candidate lie from the labelled boxes (right, down); None
                                 where too few are found
    """

    pairs: int
    right_px: float
    down_px: float
    right_px_ci99: Interval
    down_px_ci99: Interval
    side_px: float
    before_off_px: tuple[float, float] | None
    after_off_px: tuple[float, float] | None


def find_moved_boxes(
    before: Side, after: Side, dataset: Dataset, draws: Draws
) -> tuple[MovedBoxes | None, list[Unsaid]]:
    """How the candidate's boxes are moved, None where they are not."""
    pairs = shown_pairs(before, after)
    if len(pairs.pictures) < FEWEST_PAIRS or not draws.enough(pairs.pictures):
        return None, [Unsaid(FAMILY, None, len(pairs.pictures), FEWEST_PAIRS)]
    offsets, sides = _offsets(pairs), _sides(pairs)
    parts = [draws.median_interval(offsets[:, axis] / sides, pairs.pictures) for axis in (0, 1)]
    if not any(low > HARMLESS or high < -HARMLESS for low, high in parts):
        return None, []
    right, down = np.median(offsets, axis=0)
    moved = MovedBoxes(
        pairs=len(pairs.pictures),
        right_px=float(right),
        down_px=float(down),
        right_px_ci99=draws.median_interval(offsets[:, 0], pairs.pictures),
        down_px_ci99=draws.median_interval(offsets[:, 1], pairs.pictures),
        side_px=float(np.median(sides)),
        before_off_px=_off_labels(before, dataset),
        after_off_px=_off_labels(after, dataset),
    )
    return moved, []


def moved_back(predictions: Predictions, moved: MovedBoxes) -> Predictions:
    """The candidate's boxes where they belong: a move costs small heads most, which is no blindness."""
    by = np.array([moved.right_px, moved.down_px] * 2, dtype=np.float32)
    put = (replace(found, boxes_xyxy=found.boxes_xyxy - by) for found in predictions.detections)
    return replace(predictions, detections=tuple(put))


def _off_labels(side: Side, dataset: Dataset) -> tuple[float, float] | None:
    pairs = labelled_pairs(side, dataset)
    if len(pairs.pictures) < FEWEST_PAIRS:
        return None
    right, down = np.median(_offsets(pairs), axis=0)
    return float(right), float(down)


def _offsets(pairs: BoxPairs) -> NDArray[np.float64]:
    """From the first box's centre to the second's.  (P, 2)"""
    moved = pairs.second_xyxy - pairs.first_xyxy
    return np.asarray((moved[:, :2] + moved[:, 2:]) / 2)


def _sides(pairs: BoxPairs) -> NDArray[np.float64]:
    extent = np.clip(pairs.first_xyxy[:, 2:] - pairs.first_xyxy[:, :2], 1e-6, None)
    return np.asarray(np.sqrt(extent.prod(axis=1)))
