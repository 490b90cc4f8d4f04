"""How far a file is from what it should give, boxes and scores apart: one average hides which of them suffered.

Parity     a file against the same weights in PyTorch: is the export right?
Fidelity   a model against another of which it is a copy in lower precision: what did the precision cost?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helmlite.boxes import box_iou
from helmlite.data.roles import Class
from helmlite.evaluate.accuracy import Predictions
from helmlite.runtime.agreement import compare

REPORTED_SCORE = 0.25
_PARTNER_IOU = 0.5


@dataclass(frozen=True)
class Parity:
    """How far an artifact is from PyTorch.

    pictures:       compared
    box_pixels:     largest difference of a coordinate of any cell's box, network pixels; box_mean_pixels: the mean
    box_relative:   the largest, relative to the side of the network's input
    score:          largest difference of any cell's score; score_mean: the mean
    boxes:          reported by PyTorch (score above 0.25, after suppression)
    matched:        share of them with a partner of the same class at IoU 0.95 in the artifact's; 1 where there are none
    """

    pictures: int
    box_pixels: float
    box_mean_pixels: float
    box_relative: float
    score: float
    score_mean: float
    boxes: int
    matched: float


@dataclass(frozen=True)
class Fidelity:
    """What a model makes of the boxes that another reports.

    against:     name of the other;  boxes: that it reports (score of at least 0.25)
    matched:     share of them that this model also finds, same class, IoU of at least 0.5, at whatever score
    box_iou:     mean overlap of those pairs;  None where there are none
    score_error: mean absolute difference of their scores;  score_shift: mean difference, negative where scores fell
    """

    against: str
    boxes: int
    matched: float | None
    box_iou: float | None
    score_error: float | None
    score_shift: float | None

    def in_words(self) -> str:
        """One line, in which boxes and scores are apart."""
        if self.matched is None:
            return f"against {self.against}: it reports no box to compare with"
        text = f"against {self.against}: {100 * self.matched:.1f} % of {self.boxes} boxes found again"
        if self.box_iou is None or self.score_error is None or self.score_shift is None:
            return text
        return (
            f"{text}, boxes overlap by {self.box_iou:.3f} on average, scores are {self.score_error:.3f} apart "
            f"({self.score_shift:+.3f} on average)"
        )


def measure_fidelity(against: str, reference: Predictions, found: Predictions, classes: Sequence[Class]) -> Fidelity:
    """How far `found` is from `reference`, over the pictures that both could read.

    Both hold detections down to low scores, so that a score that fell below 0.25 is a shift and not a lost box.
    """
    theirs = dict(zip(found.indices, found.detections, strict=True))
    boxes, overlaps, differences = 0, [], []
    for index, detections in zip(reference.indices, reference.detections, strict=True):
        if index not in theirs:
            continue
        reported, other = detections.above(REPORTED_SCORE), theirs[index]
        boxes += len(reported)
        pairs = compare(reported, other, classes, classes, _PARTNER_IOU).same
        if pairs:
            left, right = (np.array(side) for side in zip(*pairs))
            overlaps += [box_iou(reported.boxes_xyxy[left], other.boxes_xyxy[right]).diagonal()]
            differences += [other.scores[right] - reported.scores[left]]
    if not overlaps:
        return Fidelity(against, boxes, 0.0 if boxes else None, None, None, None)
    overlap, difference = np.concatenate(overlaps), np.concatenate(differences)
    return Fidelity(
        against=against,
        boxes=boxes,
        matched=len(overlap) / boxes,
        box_iou=float(overlap.mean()),
        score_error=float(np.abs(difference).mean()),
        score_shift=float(difference.mean()),
    )
