"""What happened at each missed head and each false alarm, as far as boxes and classes tell.

The kinds of false alarms and their limits are TIDE's (Bolya et al. 2020, "TIDE: A General Toolbox for Identifying
Object Detection Errors", section 2.2): IoU 0.5 is on a head, IoU below 0.1 is background.  Where a box lies on a head
of another class and near one of its own, TIDE calls it badly placed; here it is of another class, since a helmet
reported on a bare head is the worst error that there is.  Each class has its own threshold, and classes of one role
are one class: what TIDE's counts in hotcoco cannot be asked for, and they do not say which box is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_iou
from helmlite.data.dataset import Dataset
from helmlite.data.roles import Class, labels_of_role
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.errors import BACKGROUND_IOU, MATCH_IOU, Head, pair_picture

FOUND = "found"
OTHER_CLASS = "other class"  # of a missed head: another class is reported on it; of an alarm: it is on such a head
BADLY_PLACED = "badly placed"  # right class, IoU 0.1 to 0.5
BELOW_THRESHOLD = "below the threshold"  # right class and place, score too low
NOT_SEEN = "not seen"
DUPLICATE = "duplicate"  # a second box on a head that is found
BOTH_WRONG = "other class and badly placed"
LOOK_ALIKE = "look-alike"
BACKGROUND = "background"

MISS_KINDS = (OTHER_CLASS, BADLY_PLACED, BELOW_THRESHOLD, NOT_SEEN)
ALARM_KINDS = (DUPLICATE, OTHER_CLASS, BADLY_PLACED, BOTH_WRONG, LOOK_ALIKE, BACKGROUND)

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class HeadOutcome:
    """What happened at one labelled head.

    kind:        `found`, or one of MISS_KINDS
    found_score: of the detection of its class that fits it (IoU 0.5), whatever the threshold; None where none does
    on_it_label, on_it_score: the detection that makes the kind: the one of another class, the badly placed one
    """

    head: Head
    box_xyxy: tuple[float, float, float, float]
    label: int
    kind: str
    found_score: float | None = None
    on_it_label: int | None = None
    on_it_score: float | None = None


@dataclass(frozen=True)
class AlarmOutcome:
    """One false alarm.

    picture:     index in the data set
    kind:        one of ALARM_KINDS
    on_it_label: class of the labelled box that it lies on; None on background and where nothing tells
    """

    picture: int
    box_xyxy: tuple[float, float, float, float]
    label: int
    score: float
    kind: str
    on_it_label: int | None = None


@dataclass(frozen=True)
class Outcomes:
    """Every labelled head and every false alarm over a data set, in its order."""

    heads: tuple[HeadOutcome, ...]
    alarms: tuple[AlarmOutcome, ...]


def head_groups(classes: Sequence[Class]) -> Groups:
    """Which classes are heads, and which of them mean the same: one group of labels for each of helmet and no_helmet.

    Where no class has either role, each class is a group of its own.
    """
    groups = tuple(labels for role in ("helmet", "no_helmet") if (labels := labels_of_role(classes, role)))
    return groups or tuple((label,) for label in range(len(classes)))


def sort_out(
    predictions: Predictions, dataset: Dataset, thresholds: Sequence[float], look_alikes: Sequence[str] = ()
) -> Outcomes:
    """What happened at every labelled head, and what every false alarm is.  No picture is read.

    thresholds:  one score for each class of the data set; a detection counts from it on
    look_alikes: classes of the data set that are no heads but look like them (a cap, a scarf); an alarm on such a
                 box is a look-alike of that name.  Without them it cannot be told what misled a detector: an alarm is
                 then a look-alike where its score is above the median of the true detections of its class.

    Raises ValueError for another number of thresholds than classes, and for a name that is no class or is a head.
    """
    groups = head_groups(dataset.classes)
    check_thresholds(thresholds, dataset)
    alike_labels = _labels_named(look_alikes, dataset, groups)
    limits = np.asarray(thresholds, dtype=np.float32)  # as a device compares them with its scores
    heads: list[HeadOutcome] = []
    alarms: list[AlarmOutcome] = []
    for index, found in zip(predictions.indices, predictions.detections, strict=True):
        sample = dataset[index]
        picture = _Picture(index, found, found.scores >= limits[found.labels], sample.boxes_xyxy, sample.labels, groups)
        heads += picture.heads()
        alarms += picture.alarms(alike_labels)
    return Outcomes(tuple(heads), _look_alikes(alarms, heads, groups))


def check_thresholds(thresholds: Sequence[float], dataset: Dataset) -> None:
    """Raises ValueError where there is not one threshold for each class of the data set."""
    if len(thresholds) != len(dataset.classes):
        names = ", ".join(item.name for item in dataset.classes)
        raise ValueError(f"{len(thresholds)} thresholds do not fit {len(dataset.classes)} classes ({names}).")


def group_of(label: int, groups: Groups) -> tuple[int, ...]:
    """All labels that mean the same as this one."""
    return next((group for group in groups if label in group), (label,))


class _Picture:
    """One picture's labelled heads and the detections of heads that count, matched group by group."""

    def __init__(
        self,
        index: int,
        found: Detections,
        counts: NDArray[np.bool_],
        boxes_xyxy: NDArray[np.float32],
        labels: NDArray[np.int64],
        groups: Groups,
    ) -> None:
        self.index, self.found, self.boxes, self.labels, self.groups = index, found, boxes_xyxy, labels, groups
        self.overlap = box_iou(found.boxes_xyxy.astype(np.float64), boxes_xyxy.astype(np.float64))  # (N, G)
        self.taken_by = self._pair(counts)  # (G,) among the detections that count
        self.best_fit = self._pair(np.ones(len(found), dtype=bool))  # (G,) among all
        of_heads = np.isin(found.labels, [label for group in groups for label in group])
        is_free = ~np.isin(np.arange(len(found)), self.taken_by)
        self.alarm_indices = np.flatnonzero(counts & of_heads & is_free)

    def heads(self) -> list[HeadOutcome]:
        of_heads = [label for group in self.groups for label in group]
        return [self._head(int(number)) for number in np.flatnonzero(np.isin(self.labels, of_heads))]

    def alarms(self, alike_labels: Sequence[int]) -> list[AlarmOutcome]:
        return [self._alarm(int(number), alike_labels) for number in self.alarm_indices]

    def _pair(self, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
        taken_by = np.full(len(self.boxes), -1, dtype=np.int64)
        for group in self.groups:
            chosen = np.flatnonzero(allowed & np.isin(self.found.labels, group))
            boxes = np.flatnonzero(np.isin(self.labels, group))
            pairs = pair_picture(self.found[chosen], self.boxes[boxes])
            taken_by[boxes[pairs >= 0]] = chosen[pairs[pairs >= 0]]
        return taken_by

    def _head(self, number: int) -> HeadOutcome:
        label = int(self.labels[number])
        same = np.isin(self.found.labels[self.alarm_indices], group_of(label, self.groups))
        overlap = self.overlap[self.alarm_indices, number]
        kind, on_it = NOT_SEEN, -1
        if self.taken_by[number] >= 0:
            kind = FOUND
        elif (others := self.alarm_indices[~same & (overlap >= MATCH_IOU)]).size:
            kind, on_it = OTHER_CLASS, self._loudest(others)
        elif (near := self.alarm_indices[same & (overlap >= BACKGROUND_IOU)]).size:
            kind, on_it = BADLY_PLACED, self._loudest(near)
        elif self.best_fit[number] >= 0:
            kind = BELOW_THRESHOLD
        fit = self.taken_by[number] if kind == FOUND else self.best_fit[number]
        return HeadOutcome(
            head=Head(self.index, number),
            box_xyxy=_plain_box(self.boxes[number]),
            label=label,
            kind=kind,
            found_score=float(self.found.scores[fit]) if fit >= 0 else None,
            on_it_label=int(self.found.labels[on_it]) if on_it >= 0 else None,
            on_it_score=float(self.found.scores[on_it]) if on_it >= 0 else None,
        )

    def _loudest(self, detections: NDArray[np.int64]) -> int:
        return int(detections[self.found.scores[detections].argmax()])

    def _alarm(self, number: int, alike_labels: Sequence[int]) -> AlarmOutcome:
        label = int(self.found.labels[number])
        group = group_of(label, self.groups)
        other_labels = [item for other in self.groups if other != group for item in other]
        own, other, alike = (self._most_covered(number, labels) for labels in (group, other_labels, alike_labels))
        kind, on_it = BACKGROUND, None
        if own[0] >= MATCH_IOU:
            kind, on_it = DUPLICATE, own[1]
        elif other[0] >= MATCH_IOU:
            kind, on_it = OTHER_CLASS, other[1]
        elif own[0] >= BACKGROUND_IOU:
            kind, on_it = BADLY_PLACED, own[1]
        elif other[0] >= BACKGROUND_IOU:
            kind, on_it = BOTH_WRONG, other[1]
        elif alike[0] >= BACKGROUND_IOU:
            kind, on_it = LOOK_ALIKE, alike[1]
        box, score = _plain_box(self.found.boxes_xyxy[number]), float(self.found.scores[number])
        return AlarmOutcome(self.index, box, label, score, kind, on_it)

    def _most_covered(self, detection: int, labels: Sequence[int]) -> tuple[float, int | None]:
        """Highest IoU with a labelled box of these classes, and the class of that box."""
        boxes = np.flatnonzero(np.isin(self.labels, labels))
        if not boxes.size:
            return 0.0, None
        best = boxes[self.overlap[detection, boxes].argmax()]
        return float(self.overlap[detection, best]), int(self.labels[best])


def _look_alikes(
    alarms: Sequence[AlarmOutcome], heads: Sequence[HeadOutcome], groups: Groups
) -> tuple[AlarmOutcome, ...]:
    """Alarms on background become look-alikes where they are surer than half of the true detections of their class."""
    median_of = {}
    for group in groups:
        scores = [item.found_score for item in heads if item.kind == FOUND and item.label in group]
        median_of[group] = float(np.median(np.array(scores, dtype=np.float64))) if scores else np.inf
    return tuple(
        replace(alarm, kind=LOOK_ALIKE)
        if alarm.kind == BACKGROUND and alarm.score > median_of[group_of(alarm.label, groups)]
        else alarm
        for alarm in alarms
    )


def _labels_named(names: Sequence[str], dataset: Dataset, groups: Groups) -> tuple[int, ...]:
    known = {item.name: label for label, item in enumerate(dataset.classes)}
    heads = {label for group in groups for label in group}
    for name in names:
        if name not in known:
            raise ValueError(f"No class is called '{name}'. The classes are {', '.join(known)}.")
        if known[name] in heads:
            raise ValueError(f"'{name}' is a head itself, so it cannot be what looks like one.")
    return tuple(known[name] for name in names)


def _plain_box(box: NDArray[np.float32]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in box)
    return left, top, right, bottom
