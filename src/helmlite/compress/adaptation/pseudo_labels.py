"""What a teacher is sure enough of to be taken for a label, class by class, without looking at any label.

One threshold for all classes would starve the rarer or harder one, which here is the bare head.  So each class has its
own, by class-balanced self-training (CBST, Zou 2018, arXiv 1810.07911, section 3): the score that a given share of the
class's own detections reaches.

    t_c = the ceil(share * n_c)-th best of the n_c scores of class c that are at least `least_score`

From t_c on a box is a label: its score becomes 1.  Below t_c, down to `kept_score`, it is neither a label nor
background: it keeps its score, and a student that agrees with the teacher is not moved by it.  Lower still is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from helmlite.data.dataset import Dataset, Sample
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import Predictions


@dataclass(frozen=True)
class SureEnough:
    """The rule.

    share: of a class's detections that become labels;  least_score: that counts among them
    kept_score: from which on a box is kept as it is
    """

    share: float = 0.5
    least_score: float = 0.25
    kept_score: float = 0.05

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.kept_score <= self.least_score < 1):
            raise ValueError(
                "Pseudo-labels need share in (0, 1] and 0 < kept_score <= least_score < 1; got "
                f"{self.share:g}, {self.kept_score:g} and {self.least_score:g}."
            )


def sure_thresholds(predictions: Predictions, class_count: int, rule: SureEnough) -> tuple[float | None, ...]:
    """The score from which on a detection of each class is a label; None where nothing of it reaches `least_score`.

    >>> # class 0 with scores 0.9, 0.8, 0.6, 0.4 and a share of 0.5 -> 0.8;  with a share of 0.6 -> 0.6
    """
    labels = np.concatenate([np.zeros(0, np.int64), *(item.labels for item in predictions.detections)])
    scores = np.concatenate([np.zeros(0, np.float32), *(item.scores for item in predictions.detections)])
    found: list[float | None] = []
    for label in range(class_count):
        own = np.sort(scores[(labels == label) & (scores >= np.float32(rule.least_score))])[::-1]
        needed = int(np.ceil(rule.share * len(own) - 1e-9))
        found.append(float(own[needed - 1]) if len(own) else None)
    return tuple(found)


def as_taught(found: Detections, thresholds: Sequence[float | None], kept_score: float) -> Detections:
    """One picture's detections as a student is to see them: sure ones with a score of 1, others as they are."""
    limits = np.array([np.inf if item is None else item for item in thresholds], dtype=np.float32)
    kept = found.above(kept_score)
    is_sure = kept.scores >= limits[kept.labels]
    return Detections(kept.boxes_xyxy, np.where(is_sure, np.float32(1), kept.scores), kept.labels)


def count_sure(predictions: Predictions, thresholds: Sequence[float | None]) -> tuple[int, ...]:
    """How many labels each class gets."""
    counts = np.zeros(len(thresholds), dtype=np.int64)
    for found in predictions.detections:
        taught = as_taught(found, thresholds, 0.0)
        counts += np.bincount(taught.labels[taught.scores == 1], minlength=len(thresholds))
    return tuple(int(count) for count in counts)


def with_pseudo_labels(
    dataset: Dataset, predictions: Predictions, thresholds: Sequence[float | None], rule: SureEnough
) -> Dataset:
    """The pictures that a teacher saw, with what it teaches as `Sample.found`."""
    seen = dataset.subset(list(predictions.indices))
    load = seen.load
    taught = [as_taught(found, thresholds, rule.kept_score) for found in predictions.detections]

    def with_found(index: int) -> Sample:
        return replace(load(index), found=taught[index])

    return replace(seen, load=with_found)


def with_labels_as_found(dataset: Dataset) -> Dataset:
    """Labelled pictures among those with pseudo-labels: what is labelled is what a teacher would be sure of."""
    load = dataset.load

    def with_found(index: int) -> Sample:
        sample = load(index)
        sure = np.ones(len(sample.labels), dtype=np.float32)
        return replace(sample, found=Detections(sample.boxes_xyxy, sure, sample.labels))

    return replace(dataset, load=with_found)
