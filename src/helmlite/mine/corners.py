"""Boxes as people draw them, made upright and cut at the picture's edge: polygons, ellipses, turned boxes."""

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


def around_ellipse(centre: tuple[float, float], radii: tuple[float, float], degrees: float) -> Box:
    """The upright box around an ellipse that was turned clockwise (y points down) about its centre.

    >>> around_ellipse((5, 5), (4, 2), 90)
    (3.0, 1.0, 7.0, 9.0)
    """
    cosine, sine = _direction(degrees)
    across = math.hypot(radii[0] * cosine, radii[1] * sine)
    down = math.hypot(radii[0] * sine, radii[1] * cosine)
    return centre[0] - across, centre[1] - down, centre[0] + across, centre[1] + down


def within(box_xyxy: Box, size: tuple[int, int]) -> Box | None:
    """What of a box lies in a picture of this width and height, its corners in order; None where nothing does.

    >>> within((30, -2, 10, 8), (20, 10))
    (10.0, 0.0, 20.0, 8.0)
    """
    (left, right), (top, bottom) = sorted(box_xyxy[0::2]), sorted(box_xyxy[1::2])
    width, height = size
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    return (float(left), float(top), float(right), float(bottom)) if left < right and top < bottom else None


def turned(box_xyxy: Box, degrees: float, pivot: tuple[float, float] | None = None) -> Box:
    """The upright box around one that was turned clockwise (y points down) about a pivot, by default its centre.

    >>> turned((0, 0, 4, 2), 90)
    (1.0, -1.0, 3.0, 3.0)
    """
    if degrees % 360 == 0:
        return box_xyxy
    left, top, right, bottom = box_xyxy
    x, y = pivot or ((left + right) / 2, (top + bottom) / 2)
    cosine, sine = _direction(degrees)
    corners = [(a - x, b - y) for a in (left, right) for b in (top, bottom)]
    return box_around([x + a * cosine - b * sine for a, b in corners], [y + a * sine + b * cosine for a, b in corners])


def _direction(degrees: float) -> tuple[float, float]:
    """Cosine and sine, exact at right angles."""
    return round(math.cos(math.radians(degrees)), 12), round(math.sin(math.radians(degrees)), 12)
