"""Which class is taken for which, and what is missed or invented, as a device shows it.

Detections below the threshold of their class are gone before anything is matched.  The rest take their turn from the
best score down, whatever their class, and each takes the free labelled box that it overlaps most, at IoU 0.5 or more.
So a head under two boxes of two classes goes to the better score, and the other box counts as an invention.
"""

from __future__ import annotations

from dataclasses import dataclass

from helmlite.evaluate.accuracy import Evaluation
from helmlite.evaluate.errors import MATCH_IOU


@dataclass(frozen=True)
class ConfusionMatrix:
    """Heads by what they are and by what they are shown as.

    classes: names of the K classes; row and column K are background
    counts:  (K + 1, K + 1), rows = truth, columns = shown.  The last column is what is missed, the last row what is
             invented; nobody counts background that is left alone, so that the last cell is 0.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def shares(self) -> tuple[tuple[float | None, ...], ...]:
        """Each row in parts of its sum, in [0, 1]; None in a row of which there is nothing.  (K + 1, K + 1)"""
        return tuple(tuple(cell / sum(row) if sum(row) else None for cell in row) for row in self.counts)


def confusion_matrix(shown: Evaluation) -> ConfusionMatrix:
    """Truth against what is shown.

    shown: `accuracy.coco_evaluation` of what is above a device's thresholds (`thresholds.above_thresholds`)
    """
    every = max(len(shown.coco_dt.get_ann_ids()), 1)  # a device shows all; COCO would stop at 100 a picture
    found = shown.confusion_matrix(iou_thr=MATCH_IOU, max_det=every)
    return ConfusionMatrix(
        tuple(found["cat_names"]), tuple(tuple(int(cell) for cell in row) for row in found["matrix"])
    )
