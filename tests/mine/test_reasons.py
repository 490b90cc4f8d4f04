"""Why a picture is worth a look, spot by spot, worked by hand.  All thresholds are 0.5, so that a score is a surety."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.data.roles import with_roles
from helmlite.detections import Detections, no_detections
from helmlite.mine.reasons import disagreements, look_alikes, low_confidence, worth_together
from helmlite.mine.seen import Seen, Watcher, as_seen
from written_data import Box, make_found

CLASSES = with_roles(["helmet", "no_helmet", "rider"])
HERE: Box = (0, 0, 10, 10)
NEAR: Box = (1, 0, 11, 10)  # IoU 9 / 11 with HERE
AWAY: Box = (50, 50, 60, 60)


def seen(found: Detections) -> Seen:
    return as_seen(found, Watcher("x", lambda image: no_detections(), CLASSES, (0.5, 0.5, 0.5)), CLASSES)


def worths(first: Detections, second: Detections) -> list[float]:
    return [item.worth for item in disagreements(seen(first), seen(second), ("a", "b"), CLASSES)]


def test_a_head_that_only_one_reports_is_worth_how_much_surer_that_one_is() -> None:
    sure, silent = make_found([HERE], [0.9], [1]), no_detections()
    faint = make_found([NEAR], [0.3], [1])
    elsewhere = make_found([AWAY], [0.3], [1])
    assert worths(sure, silent) == pytest.approx([0.9])
    assert worths(silent, sure) == pytest.approx([0.9])
    assert worths(sure, faint) == pytest.approx([0.6])
    assert worths(sure, elsewhere) == pytest.approx([0.9])
    told = disagreements(seen(silent), seen(sure), ("a", "b"), CLASSES)[0]
    assert (told.reason, told.box_xyxy, told.says) == ("disagreement", HERE, "no_helmet for b only")


def test_another_class_is_worth_the_less_sure_of_both() -> None:
    first, second = make_found([HERE], [0.9], [0]), make_found([NEAR], [0.7], [1])
    spot = disagreements(seen(first), seen(second), ("a", "b"), CLASSES)[0]
    assert spot.worth == pytest.approx(0.7)
    assert spot.says == "helmet for a, no_helmet for b"


def test_agreement_is_worth_nothing_and_riders_do_not_count() -> None:
    assert worths(make_found([HERE], [0.9], [0]), make_found([NEAR], [0.6], [0])) == []
    assert worths(make_found([HERE], [0.9], [2]), no_detections()) == []
    assert worths(no_detections(), no_detections()) == []


@pytest.mark.parametrize(
    ("score", "worth"), [(0.5, 1.0), (0.45, 0.8), (0.6, 0.6), (0.75, None), (0.25, None), (0.9, None), (0.1, None)]
)
def test_low_confidence_is_highest_at_the_threshold(score: float, worth: float | None) -> None:
    found = [item.worth for item in low_confidence(seen(make_found([HERE], [score], [1])), "a", CLASSES)]
    assert found == ([] if worth is None else pytest.approx([worth], abs=1e-6))


def test_only_the_best_score_of_a_spot_counts() -> None:
    both = seen(make_found([HERE, NEAR, AWAY], [0.95, 0.5, 0.4], [0, 1, 1]))
    assert [(item.box_xyxy, round(item.worth, 3)) for item in low_confidence(both, "a", CLASSES)] == [(AWAY, 0.6)]
    assert low_confidence(seen(no_detections()), "a", CLASSES) == []


def test_a_head_of_middling_surety_that_nobody_carries_may_be_something_else() -> None:
    heads = seen(make_found([HERE, AWAY, (80, 0, 90, 10)], [0.9, 0.7, 0.6], [0, 1, 0]))
    carrier = np.array([[45, 40, 65, 90]], np.float32)  # around AWAY
    assert [(item.box_xyxy[0], round(item.worth, 3)) for item in look_alikes(heads, carrier, "a", CLASSES)] == [
        (80, 0.6)
    ]
    nobody = look_alikes(heads, np.zeros((0, 4), np.float32), "a", CLASSES)
    assert [round(item.worth, 3) for item in nobody] == [0.7, 0.6]  # the sure one is no look-alike
    assert nobody[0].says == "no_helmet for a, on no rider and no two-wheeler"


def test_spots_together() -> None:
    assert worth_together([]) == 0
    assert worth_together([0.3]) == pytest.approx(0.3)
    assert worth_together([0.5, 0.2]) == pytest.approx(0.6)
    assert worth_together([1.0, 0.2]) == 1
