"""Boxes as people draw them, made upright: polygons, and boxes that were turned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class NamedBox:
    """One labelled box.  box_xyxy: pixels of the picture"""

    class_name: str
    box_xyxy: Box


def box_around(across: Sequence[float], down: Sequence[float]) -> Box:
    """The upright box around these points.  Raises ValueError for none."""
    return min(across), min(down), max(across), max(down)


def turned(box_xyxy: Box, degrees: float, pivot: tuple[float, float] | None = None) -> Box:
    """The upright box around one that was turned clockwise (y points down) about a pivot, by default its centre.

    >>> turned((0, 0, 4, 2), 90)
    (1.0, -1.0, 3.0, 3.0)
    """
    if degrees % 360 == 0:
        return box_xyxy
    left, top, right, bottom = box_xyxy
    x, y = pivot or ((left + right) / 2, (top + bottom) / 2)
    cosine, sine = round(math.cos(math.radians(degrees)), 12), round(math.sin(math.radians(degrees)), 12)
    corners = [(a - x, b - y) for a in (left, right) for b in (top, bottom)]
    return box_around([x + a * cosine - b * sine for a, b in corners], [y + a * sine + b * cosine for a, b in corners])
