"""Where two detectors agree on one picture and where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_iou
from helmlite.data.roles import Class
from helmlite.detections import Detections


@dataclass(frozen=True)
class Agreement:
    """Indices into two lists of detections.

    same:       (left, right) pairs of one class that overlap
    other_class: (left, right) pairs that overlap, but are of different classes
    only_left, only_right: what has no partner
    """

    same: tuple[tuple[int, int], ...]
    other_class: tuple[tuple[int, int], ...]
    only_left: tuple[int, ...]
    only_right: tuple[int, ...]

    @property
    def is_full(self) -> bool:
        return not (self.other_class or self.only_left or self.only_right)


def compare(
    left: Detections,
    right: Detections,
    left_classes: Sequence[Class],
    right_classes: Sequence[Class],
    iou_threshold: float = 0.5,
) -> Agreement:
    """The two detectors' boxes paired one to one, the largest overlap first, within a class before across classes.

    Two classes are the same where their roles are, or, without roles, their names.
    """
    overlap = box_iou(left.boxes_xyxy, right.boxes_xyxy)
    left_keys = np.array([_key(left_classes[label]) for label in left.labels], dtype=object)
    right_keys = np.array([_key(right_classes[label]) for label in right.labels], dtype=object)
    of_one_class = left_keys[:, None] == right_keys[None, :]
    same = _pairs(np.where(of_one_class, overlap, 0), iou_threshold)
    used_left, used_right = {pair[0] for pair in same}, {pair[1] for pair in same}
    rest = overlap.copy()
    rest[list(used_left)] = 0
    rest[:, list(used_right)] = 0
    other_class = _pairs(rest, iou_threshold)
    used_left |= {pair[0] for pair in other_class}
    used_right |= {pair[1] for pair in other_class}
    return Agreement(
        same,
        other_class,
        tuple(index for index in range(len(left)) if index not in used_left),
        tuple(index for index in range(len(right)) if index not in used_right),
    )


def _pairs(overlap: NDArray[np.float32], threshold: float) -> tuple[tuple[int, int], ...]:
    """One-to-one pairs of rows and columns, the largest overlap first, none below the threshold."""
    found: list[tuple[int, int]] = []
    rows, columns = np.nonzero(overlap >= threshold)
    best_first = np.argsort(-overlap[rows, columns], kind="stable")
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    for row, column in zip(rows[best_first].tolist(), columns[best_first].tolist()):
        if row not in used_rows and column not in used_columns:
            found.append((row, column))
            used_rows.add(row)
            used_columns.add(column)
    return tuple(found)


def _key(item: Class) -> str:
    return f"role {item.role}" if item.role else f"name {item.name}"
