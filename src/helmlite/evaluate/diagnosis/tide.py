"""What kind of mistake costs how much: the six errors of TIDE, counted by hotcoco.

Every false alarm has one of five kinds, by its overlap with the labelled boxes, and every labelled box that nothing
explains is missed.  A kind costs what AP50 would gain were all of its errors mended, one kind at a time, so that the
costs do not add up.  Below IoU 0.1 a detection looks at background; from 0.5 on it can take a box.

Source: Bolya, Foley, Hays, Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
section 2.

One thing is ours.  Missed boxes are mended by taking them out of the labels.  Of a class that is missed as a whole
nothing is left, and 0 of 0 counts as 0 in hotcoco: the worst fault of all would cost nothing.  Here such a class
counts as mended, with AP50 of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from helmlite.evaluate.accuracy import Evaluation

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1

KINDS = {
    "Cls": "right place, wrong class",
    "Loc": "right class, badly placed (IoU 0.1 to 0.5)",
    "Both": "wrong class and badly placed",
    "Dupe": "a second box on a head that a better one has found",
    "Bkg": "on background",
    "Miss": "a labelled head that no detection found or nearly found",
}  # hotcoco's names, in the paper's order


@dataclass(frozen=True)
class TideError:
    """One kind of error.

    kind:        a key of KINDS
    count:       detections of this kind; labelled boxes for "Miss"
    loss_points: points of AP50 that it costs (the paper's dAP); None where nothing is labelled
    """

    kind: str
    count: int
    loss_points: float | None


@dataclass(frozen=True)
class TideErrors:
    """All six kinds, in the order of KINDS, and the two oracles.

    ap50:                     what it all counts against; None where nothing is labelled
    false_alarms_loss_points: AP50 that all false alarms cost together (the paper's FP): without them precision is 1
    missed_loss_points:       AP50 that all boxes without a match cost together (FN), badly placed or not
    """

    ap50: float | None
    kinds: tuple[TideError, ...]
    false_alarms_loss_points: float | None
    missed_loss_points: float | None

    def of(self, kind: str) -> TideError:
        """The error of this kind.  Raises KeyError for a kind that TIDE has not."""
        return {item.kind: item for item in self.kinds}[kind]


def tide_errors(evaluation: Evaluation) -> TideErrors:
    """The kinds of error in a matched evaluation (`accuracy.coco_evaluation`), over its classes and pictures."""
    found = _tide(evaluation)
    evaluation.accumulate()
    recall = np.asarray(evaluation.eval["recall"])[0, :, 0, -1]  # at IoU 0.5, of each class; -1: nothing is labelled
    classes = int((recall > -1).sum())
    if not classes:
        return TideErrors(None, tuple(TideError(kind, int(found["counts"][kind]), None) for kind in KINDS), None, None)
    never_found = np.flatnonzero(recall == 0)
    missed_whole = sum(_is_missed_whole(evaluation, int(label)) for label in never_found)
    points = {kind: 100 * float(delta) for kind, delta in found["delta_ap"].items()}
    points["Miss"] += 100 * missed_whole / classes
    points["FN"] += 100 * len(never_found) / classes
    return TideErrors(
        ap50=float(found["ap_base"]),
        kinds=tuple(TideError(kind, int(found["counts"][kind]), points[kind]) for kind in KINDS),
        false_alarms_loss_points=points["FP"],
        missed_loss_points=points["FN"],
    )


def _tide(evaluation: Evaluation) -> dict[str, Any]:
    errors: dict[str, Any] = evaluation.tide_errors(pos_thr=FOREGROUND_IOU, bg_thr=BACKGROUND_IOU)
    return errors


def _is_missed_whole(evaluation: Evaluation, label: int) -> bool:
    """Whether every box of a class is a "Miss" and none of them nearly found.

    hotcoco counts all classes together.  Boxes of the others, too large for any range, are matched and not counted.
    """
    from hotcoco import COCOeval

    truth = evaluation.coco_gt  # a copy: the evaluation keeps its own
    boxes = set(truth.get_ann_ids(cat_ids=[label + 1]))
    others = [box for box in truth.get_ann_ids() if box not in boxes]
    truth.update_anns(ids=others, area=np.full(len(others), np.finfo(np.float64).max))
    alone = COCOeval(truth, evaluation.coco_dt, "bbox")
    alone.params.max_dets, alone.params.area_rng = evaluation.params.max_dets, evaluation.params.area_rng
    alone.params.iou_thrs = [FOREGROUND_IOU]
    alone.evaluate()
    return int(_tide(alone)["counts"]["Miss"]) == len(boxes)
