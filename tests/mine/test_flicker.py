"""Heads that are there before and after but not in between.  All thresholds are 0.5, so that a score is a surety."""

from __future__ import annotations

import pytest

from helmlite.data.roles import with_roles
from helmlite.detections import Detections, no_detections
from helmlite.mine.flicker import Flicker, flickers
from helmlite.mine.seen import Watcher, as_seen
from written_data import Box, make_found

CLASSES = with_roles(["helmet", "no_helmet"])
BEFORE: Box = (0, 0, 10, 10)
AFTER: Box = (4, 0, 14, 10)  # IoU 6 / 14
MIDDLE: Box = (2, 0, 12, 10)


def around(between: Detections, before: Detections | None = None, after: Detections | None = None) -> list[Flicker]:
    watcher = Watcher("a", lambda image: no_detections(), CLASSES, (0.5, 0.5))
    before = make_found([BEFORE], [0.9], [1]) if before is None else before
    after = make_found([AFTER], [0.8], [1]) if after is None else after
    frames = [as_seen(item, watcher, CLASSES) for item in (before, between, after)]
    return flickers(*frames, "a", CLASSES)


def test_a_head_that_is_lost_is_expected_half_way() -> None:
    (found,) = around(no_detections())
    assert found.spot.box_xyxy == MIDDLE
    assert (found.spot.worth, found.label, found.is_lost) == (pytest.approx(0.8), 1, True)
    assert found.spot.says == "no_helmet before and after, lost in between, for a"


def test_what_is_left_of_it_makes_it_worth_less() -> None:
    (found,) = around(make_found([MIDDLE], [0.3], [1]))
    assert (found.spot.worth, found.is_lost) == (pytest.approx(0.5), True)


def test_another_class_in_between() -> None:
    (found,) = around(make_found([MIDDLE], [0.6], [0]))
    assert (found.spot.worth, found.is_lost) == (pytest.approx(0.6), False)
    assert found.spot.says == "no_helmet before and after, helmet in between, for a"


@pytest.mark.parametrize(
    ("between", "before", "after"),
    [
        (make_found([MIDDLE], [0.5], [1]), None, None),  # still there
        (no_detections(), no_detections(), None),  # comes
        (no_detections(), None, no_detections()),  # goes
        (no_detections(), None, make_found([(40, 0, 50, 10)], [0.8], [1])),  # two heads
        (no_detections(), None, make_found([AFTER], [0.8], [0])),  # of which nobody knows what it is
        (no_detections(), make_found([BEFORE], [0.4], [1]), None),  # not reported before
    ],
)
def test_what_is_no_flicker(between: Detections, before: Detections | None, after: Detections | None) -> None:
    assert around(between, before, after) == []
