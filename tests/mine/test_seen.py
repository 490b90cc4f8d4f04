"""How sure a score is by its threshold, and what a detector reports in the classes of another."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.data.roles import with_roles
from helmlite.detections import no_detections
from helmlite.mine.seen import Watcher, as_seen, surety
from written_data import make_found

SET = with_roles(["helmet", "no_helmet"])


def test_surety_is_half_at_the_threshold_whatever_that_is() -> None:
    scores, thresholds = np.array([0.25, 0.6, 0.3, 0.8]), np.array([0.25, 0.6, 0.6, 0.6])
    assert surety(scores, thresholds) == pytest.approx([0.5, 0.5, 0.25, 0.75])


def test_thresholds_of_nothing_and_of_everything() -> None:
    assert surety(np.array([0.0, 0.5, 1.0]), np.zeros(3)) == pytest.approx([0.5, 0.75, 1.0])
    assert surety(np.array([0.5, 1.0]), np.ones(2)).tolist() == [0.25, 0.5]


def test_classes_meet_by_role_and_what_the_set_does_not_know_is_left_out() -> None:
    classes = with_roles(
        ["bare", "safe", "dog", "bike"], {"bare": "no_helmet", "safe": "helmet", "bike": "two_wheeler"}
    )
    watcher = Watcher("b", lambda image: no_detections(), classes, (0.2, 0.4, 0.5, 0.5))
    boxes = [(0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 40, 80, 60)]
    seen = as_seen(make_found(boxes, [0.6, 0.4, 0.9, 0.7], [0, 1, 2, 3]), watcher, SET)
    assert seen.found.labels.tolist() == [1, 0]
    assert seen.sureties == pytest.approx([0.75, 0.5])
    assert seen.is_head.tolist() == [True, True]
    assert seen.carriers_xyxy.tolist() == [[60, 20, 80, 60]]  # the bike, and as much above it


def test_a_rider_below_the_threshold_carries_nothing() -> None:
    watcher = Watcher("a", lambda image: no_detections(), with_roles(["helmet", "rider"]), (0.5, 0.5))
    found = make_found([(0, 0, 10, 20), (30, 0, 40, 20)], [0.9, 0.4], [1, 1])
    assert as_seen(found, watcher, watcher.classes).carriers_xyxy.tolist() == [[0, 0, 10, 20]]
    assert as_seen(no_detections(), watcher, watcher.classes).carriers_xyxy.shape == (0, 4)


@pytest.mark.parametrize("thresholds", [(0.5,), (0.5, 1.5), (0.5, float("nan"))])
def test_thresholds_that_do_not_fit_are_refused(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="a: mining needs a threshold from 0 to 1 for each of the 2 classes"):
        Watcher("a", lambda image: no_detections(), SET, thresholds)
