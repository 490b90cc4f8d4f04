"""What is wrong with the boxes of one picture: outside it, without area, doubled, of two minds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_areas, box_iou, clip_boxes
from helmlite.data.findings import Finding, finding
from helmlite.data.labels import Labels
from helmlite.data.roles import Class

_EDGE_TOLERANCE_PX = 1.5  # rounding, and sets that count VOC's pixels from 0
_OUTSIDE_SHARE = 0.5  # a box of which less than this lies in the picture is outside
_SMALLEST_SIDE_PX = 0.5
_SAME_IOU = 0.9
_CONTRADICTION = {"helmet", "no_helmet"}


def box_findings(
    image_path: Path, labels: Labels, size: tuple[int, int] | None, classes: tuple[Class, ...]
) -> Iterator[Finding]:
    """Findings about these boxes; without the picture's size only what needs none."""
    file = labels.file or image_path
    if size is not None:
        if labels.stated_size not in (None, size):
            message = f"it says that {image_path.name} is {_by(labels.stated_size)}; the picture is {_by(size)}"
            yield finding("size-differs", file, message)
        for index, message in _misplaced(labels.in_pixels(size), size):
            kind = "box-outside" if message.startswith("outside") else "box-over-edge"
            yield finding(kind, file, f"{image_path.name}: {message}", _line(labels, index))
    boxes = labels.in_pixels(size or (1, 1))
    sides = boxes[:, 2:] - boxes[:, :2]
    for index in np.flatnonzero((sides < _SMALLEST_SIDE_PX).any(axis=1)).tolist():
        message = f"{image_path.name}: box of {sides[index][0]:.1f} x {sides[index][1]:.1f} px"
        yield finding("box-without-area", file, message, _line(labels, index))
    yield from _doubled(image_path, labels, boxes, classes)


def _misplaced(boxes: NDArray[np.float64], size: tuple[int, int]) -> Iterator[tuple[int, str]]:
    inside = clip_boxes(boxes, *size)  # type: ignore[arg-type]
    over = np.abs(boxes - inside).max(axis=1, initial=0)
    areas, areas_inside = box_areas(boxes), box_areas(inside)  # type: ignore[arg-type]
    for index in np.flatnonzero(over > _EDGE_TOLERANCE_PX):
        left, top, right, bottom = (round(float(value), 1) for value in boxes[index])
        is_outside = areas_inside[index] < _OUTSIDE_SHARE * max(areas[index], 1e-9)
        where = "outside" if is_outside else "over the edge of"
        yield int(index), f"{where} the picture ({_by(size)}): x {left:g} to {right:g}, y {top:g} to {bottom:g}"


def _doubled(
    image_path: Path, labels: Labels, boxes: NDArray[np.float64], classes: tuple[Class, ...]
) -> Iterator[Finding]:
    overlap = np.triu(box_iou(boxes, boxes), k=1)  # type: ignore[arg-type]
    for first, second in np.argwhere(overlap > _SAME_IOU).tolist():
        one, other = (classes[int(labels.labels[index])] for index in (first, second))
        again = f"line {labels.lines[first]}" if labels.lines[first] else "an earlier box"
        if one == other:
            kind, message = "doubled-box", f"{image_path.name}: the same box of '{other.name}' as in {again}"
        elif {one.role, other.role} == _CONTRADICTION:
            kind = "contradicting-boxes"
            message = f"{image_path.name}: '{other.name}' here, '{one.name}' in {again}, on the same head"
        else:
            continue  # a rider and a person may well share a box
        yield finding(kind, labels.file or image_path, message, _line(labels, second))


def _line(labels: Labels, index: int) -> int | None:
    return int(labels.lines[index]) or None


def _by(size: tuple[int, int] | None) -> str:
    return f"{size[0]} x {size[1]}" if size else "unknown"
