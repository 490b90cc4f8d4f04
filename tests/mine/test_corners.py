"""Upright boxes around what people draw."""

from __future__ import annotations

import pytest

from helmlite.mine.corners import box_around, turned


def test_a_quarter_turn_about_the_centre_and_about_a_corner() -> None:
    assert turned((10, 10, 30, 20), 90) == (15, 5, 25, 25)
    assert turned((10, 10, 30, 20), 90, (10, 10)) == (0, 10, 10, 30)  # y points down: clockwise
    assert turned((10, 10, 30, 20), 360) == turned((10, 10, 30, 20), 0) == (10, 10, 30, 20)


def test_an_eighth_turn_of_a_square() -> None:
    half = 2**0.5
    assert turned((-1, -1, 1, 1), 45) == pytest.approx((-half, -half, half, half))


def test_a_polygon() -> None:
    assert box_around([3, 1, 2], [5, 9, 4]) == (1, 4, 3, 9)
    with pytest.raises(ValueError, match="empty"):
        box_around([], [])
