"""Whether a score says how often a detection is right: reliability bins and the expected calibration error.

A detection is right where it takes a labelled box of its class at IoU 0.5, as COCO matches.  Of all detections with
scores near 0.8 a calibrated detector has 80 % right.  ECE is the mean distance between the two, over bins of equal
width, weighted by how many detections they hold.

A missed box has no score and counts nowhere here: a detector that finds one head in ten and is right about each is
perfectly calibrated.  What is missed stands in the recall, in TIDE's "Miss" and in the confusion matrix.  And since
all detections count, down to the lowest score that the detector gives, the many faint ones that are rightly doubted
make ECE small; the bins say how many there are.

Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helmlite.evaluate.accuracy import Evaluation
from helmlite.evaluate.errors import MATCH_IOU

BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Detections with scores in [low, high), the last bin with 1 too.

    mean_score: what they claim;  precision: the share that is right.  Both None where there are none.
    """

    low: float
    high: float
    detections: int
    mean_score: float | None
    precision: float | None


@dataclass(frozen=True)
class Calibration:
    """How far scores are from what they claim.

    ece:  expected calibration error in [0, 1]; None without detections
    bins: ten of equal width
    """

    detections: int
    ece: float | None
    bins: tuple[ReliabilityBin, ...]


def measure_calibration(evaluation: Evaluation, label: int | None = None) -> Calibration:
    """Calibration of one class, or of all detections together, from `accuracy.coco_evaluation`.

    At most 100 detections of a class count in a picture, as everywhere in COCO.
    """
    if label is not None:
        evaluation = _of_class(evaluation, label)
    found = evaluation.calibration(n_bins=BINS, iou_threshold=MATCH_IOU)
    count = int(found["num_detections"])
    return Calibration(count, float(found["ece"]) if count else None, tuple(_bin(item) for item in found["bins"]))


def _of_class(evaluation: Evaluation, label: int) -> Evaluation:
    from hotcoco import COCOeval

    one = COCOeval(evaluation.coco_gt, evaluation.coco_dt, "bbox")  # hotcoco gives the bins of all classes only
    one.params.max_dets, one.params.area_rng = evaluation.params.max_dets, evaluation.params.area_rng
    one.params.cat_ids, one.params.iou_thrs = [label + 1], [MATCH_IOU]
    one.evaluate()
    return one


def _bin(values: dict[str, Any]) -> ReliabilityBin:
    count = int(values["count"])
    return ReliabilityBin(
        float(values["bin_lower"]),
        float(values["bin_upper"]),
        count,
        float(values["avg_confidence"]) if count else None,
        float(values["avg_accuracy"]) if count else None,
    )
