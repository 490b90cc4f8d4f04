"""How far a file is from what it should give, boxes and scores apart: one average hides which of them suffered.

Parity     a file against the same weights in PyTorch: is the export right?
Fidelity   a model against another of which it is a copy in lower precision: what did the precision cost?
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from helmlite.boxes import box_iou
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import Predictions

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
    matched:     share of them that this model reports as well: same class, IoU of at least 0.5, score of at least 0.25
    box_iou:     mean overlap of all pairs, those included whose score fell below that;  None where there are none
    score_error: mean absolute difference of their scores
    score_shift: mean difference, negative where scores fell, over the pairs whose two scores average at least 0.25: of
                 boxes that one side chose by its own score, mere noise lowers the other side's (regression to the mean)
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
        text = f"against {self.against}: {100 * self.matched:.1f} % of {self.boxes} boxes reported again"
        if self.box_iou is None or self.score_error is None:
            return text
        text += f", boxes overlap by {self.box_iou:.3f} on average, scores are {self.score_error:.3f} apart"
        return text if self.score_shift is None else f"{text} ({self.score_shift:+.3f} on average)"


def measure_fidelity(against: str, reference: Predictions, found: Predictions) -> Fidelity:
    """How far `found` is from `reference`, over the pictures that both could read.

    Both hold detections down to low scores, so that how far a score fell is known also where it fell below 0.25.
    """
    theirs = dict(zip(found.indices, found.detections, strict=True))
    boxes, again = 0, 0
    overlaps: list[float] = []
    differences: list[float] = []
    shifts: list[float] = []
    for index, detections in zip(reference.indices, reference.detections, strict=True):
        if index not in theirs:
            continue
        boxes += len(detections.above(REPORTED_SCORE))
        for overlap, score, other_score in _pairs(detections, theirs[index]):
            if score >= REPORTED_SCORE:
                overlaps.append(overlap)
                differences.append(abs(other_score - score))
                again += other_score >= REPORTED_SCORE
            if (score + other_score) / 2 >= REPORTED_SCORE:
                shifts.append(other_score - score)
    if not overlaps:
        return Fidelity(against, boxes, 0.0 if boxes else None, None, None, None)
    return Fidelity(
        against=against,
        boxes=boxes,
        matched=again / boxes,
        box_iou=float(np.mean(overlaps)),
        score_error=float(np.mean(differences)),
        score_shift=float(np.mean(shifts)) if shifts else None,
    )


def _pairs(detections: Detections, other: Detections) -> Iterator[tuple[float, float, float]]:
    """(overlap, score, other's score) of each box and the best-scored free one that covers it, best first.

    By score and not by overlap, since among a model's faint boxes there is always one that fits a little better.
    """
    fits = box_iou(detections.boxes_xyxy, other.boxes_xyxy)
    fits[detections.labels[:, None] != other.labels[None, :]] = 0
    used: set[int] = set()
    for row in np.argsort(-detections.scores, kind="stable").tolist():
        partners = [int(column) for column in np.flatnonzero(fits[row] >= _PARTNER_IOU) if column not in used]
        if partners:
            best = max(partners, key=lambda column: float(other.scores[column]))
            used.add(best)
            yield float(fits[row, best]), float(detections.scores[row]), float(other.scores[best])
