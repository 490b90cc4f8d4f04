"""What one detector reports in one picture, in the classes of the set that is to be labelled.

Scores of two detectors mean different things, and so do scores of two classes.  What can be compared is how sure each
is *by its own threshold* t:

    surety(s) = s / (2 t)                        below the threshold     0 at a score of 0, 1/2 at the threshold
                1/2 + (s - t) / (2 (1 - t))      from the threshold on   1 at a score of 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from helmlite.data.load import class_mapping
from helmlite.data.roles import Class
from helmlite.detections import Detections, Image, Predictor
from helmlite.evaluate.diagnosis.error_kinds import head_groups

CARRIER_ROLES = ("rider", "two_wheeler")
_NO_BOXES = np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class Watcher:
    """One detector as mining asks it.

    name:       as it is shown;  thresholds: a score for each of its classes, from which on it reports
    predict:    low scores included, as evaluation wants it
    """

    name: str
    predict: Predictor = field(repr=False)
    classes: tuple[Class, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.thresholds) != len(self.classes) or not all(0 <= item <= 1 for item in self.thresholds):
            raise ValueError(
                f"{self.name}: mining needs a threshold from 0 to 1 for each of the {len(self.classes)} classes; "
                f"got {', '.join(f'{item:g}' for item in self.thresholds) or 'none'}."
            )

    @property
    def knows_carriers(self) -> bool:
        """Whether it reports riders or two-wheelers: then it can be said that a head has none."""
        return any(item.role in CARRIER_ROLES for item in self.classes)


@dataclass(frozen=True)
class Seen:
    """What a detector reports in one picture.

    found:    best score first, labels in the classes of the set, what it has no class for left out
    sureties: (N,) of each detection, in [0, 1], 1/2 at the threshold
    is_head:  (N,) whether it is a head, with or without a helmet
    carriers_xyxy: (R, 4) where heads of riders may be: reported riders, and two-wheelers with as much above them
    """

    found: Detections
    sureties: NDArray[np.float64]
    is_head: NDArray[np.bool_]
    carriers_xyxy: NDArray[np.float32] = field(default_factory=lambda: _NO_BOXES)

    def chosen(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Seen:
        """Only these detections."""
        return Seen(self.found[index], self.sureties[index], self.is_head[index], self.carriers_xyxy)

    def reported(self) -> Seen:
        """What lies at or above the thresholds."""
        return self.chosen(self.sureties >= 0.5)

    def heads(self) -> Seen:
        """Heads only."""
        return self.chosen(self.is_head)


def surety(scores: NDArray[np.floating], thresholds: NDArray[np.floating]) -> NDArray[np.float64]:
    """How sure each score is by its own threshold, in [0, 1].  (N,), (N,) -> (N,)

    >>> surety(np.array([0.1, 0.2, 0.6, 1.0]), np.array([0.2, 0.2, 0.2, 0.2])).tolist()
    [0.25, 0.5, 0.75, 1.0]
    """
    s, t = scores.astype(np.float64), thresholds.astype(np.float64)
    below = s / np.maximum(2 * t, 1e-12)
    above = 0.5 + (s - t) / np.maximum(2 * (1 - t), 1e-12)
    return np.where(s >= t, np.minimum(above, 1.0), below)


def look(watcher: Watcher, image: Image, classes: Sequence[Class]) -> Seen:
    """What this detector reports in a picture, in these classes.  They meet by role, then by name."""
    return as_seen(watcher.predict(image), watcher, classes)


def known_labels(watcher: Watcher, classes: Sequence[Class]) -> tuple[int, ...]:
    """Which of these classes a detector has a word for."""
    return tuple(sorted(set(class_mapping(watcher.classes, classes).values())))


def as_seen(found: Detections, watcher: Watcher, classes: Sequence[Class]) -> Seen:
    """Detections in a detector's own classes, in those of the set; what it has no class for is left out."""
    index_of = class_mapping(watcher.classes, classes)
    sureties = surety(found.scores, np.array(watcher.thresholds, np.float32)[found.labels])
    kept = np.array([int(label) in index_of for label in found.labels], dtype=bool)
    labels = np.array([index_of[int(label)] for label in found.labels[kept]], dtype=np.int64)
    heads = [label for group in head_groups(classes) for label in group]
    mapped = Detections(found.boxes_xyxy[kept], found.scores[kept], labels)
    return Seen(mapped, sureties[kept], np.isin(labels, heads), _carriers(found[sureties >= 0.5], watcher))


def _carriers(reported: Detections, watcher: Watcher) -> NDArray[np.float32]:
    roles = np.array([watcher.classes[label].role or "" for label in reported.labels], dtype=object)
    boxes = reported.boxes_xyxy.copy()
    on_wheels = roles == "two_wheeler"
    boxes[on_wheels, 1] -= boxes[on_wheels, 3] - boxes[on_wheels, 1]  # whoever rides it sits above it
    return boxes[np.isin(roles.astype(str), CARRIER_ROLES)]
