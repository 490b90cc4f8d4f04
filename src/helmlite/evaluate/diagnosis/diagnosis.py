"""What kind of errors a detector makes, from its detections alone: one value that a report can draw.

Two views stand side by side.  Average precision, calibration and the curves see every detection, down to the lowest
score.  The confusion matrix, the recall by height and `shown_errors` see what a device shows, at its own thresholds.
Of the second kind are faults that average precision cannot see, such as scores that have all become lower.

Two diagnoses of the same pictures are compared field by field; whether a difference is more than chance says the gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import Predictions, coco_evaluation
from helmlite.evaluate.diagnosis.confidence import Calibration, measure_calibration
from helmlite.evaluate.diagnosis.confusion import ConfusionMatrix, confusion_matrix
from helmlite.evaluate.diagnosis.curves import (
    PrecisionRecallCurve,
    ThresholdCurve,
    precision_recall_curve,
    threshold_curve,
)
from helmlite.evaluate.diagnosis.heights import HeightBand, accuracy_by_height
from helmlite.evaluate.diagnosis.tide import TideErrors, tide_errors
from helmlite.evaluate.errors import match_class
from helmlite.evaluate.thresholds import above_thresholds


@dataclass(frozen=True)
class ClassDiagnosis:
    """One class.  boxes: labelled;  threshold: of the device;  both curves None where nothing of it is labelled."""

    name: str
    role: str | None
    boxes: int
    threshold: float
    recall: float | None
    calibration: Calibration
    precision_recall: PrecisionRecallCurve | None
    by_threshold: ThresholdCurve | None


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong, and how much of it.

    errors:       TIDE over every detection;  shown_errors: over what a device shows
    confusion:    of what a device shows
    calibration:  of every detection, all classes together
    by_height:    bands of head height in pixels of the original picture
    """

    split: str
    pictures: int
    errors: TideErrors
    shown_errors: TideErrors
    confusion: ConfusionMatrix
    calibration: Calibration
    by_height: tuple[HeightBand, ...]
    per_class: tuple[ClassDiagnosis, ...]


def diagnose(predictions: Predictions, dataset: Dataset, thresholds: Sequence[float]) -> Diagnosis:
    """The errors of a detector on the pictures that it saw.

    thresholds: from which score on a device shows each class, for instance a manifest's `thresholds.by_class`
    Raises ValueError where their number is not that of the classes, or a detection has a label without a class.
    """
    if len(thresholds) != len(dataset.classes):
        raise ValueError(
            f"One threshold for each class is needed: the data set has {len(dataset.classes)} classes "
            f"({', '.join(item.name for item in dataset.classes)}), and {len(thresholds)} thresholds were given."
        )
    evaluation = coco_evaluation(predictions, dataset)
    evaluation.accumulate()
    shown = above_thresholds(predictions, thresholds)
    shown_evaluation = coco_evaluation(shown, dataset)
    matches = [match_class(predictions, dataset, (label,)) for label in range(len(dataset.classes))]
    per_class = tuple(
        ClassDiagnosis(
            name=item.name,
            role=item.role,
            boxes=of_class.head_count,
            threshold=float(threshold),
            recall=of_class.recall_at(threshold),
            calibration=measure_calibration(evaluation, label),
            precision_recall=precision_recall_curve(evaluation, label),
            by_threshold=threshold_curve(of_class),
        )
        for label, (item, threshold, of_class) in enumerate(zip(dataset.classes, thresholds, matches, strict=True))
    )
    return Diagnosis(
        split=dataset.split,
        pictures=len(predictions),
        errors=tide_errors(evaluation),
        shown_errors=tide_errors(shown_evaluation),
        confusion=confusion_matrix(shown_evaluation),
        calibration=measure_calibration(evaluation),
        by_height=accuracy_by_height(predictions, dataset, thresholds, matches),
        per_class=per_class,
    )
