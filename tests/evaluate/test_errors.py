"""Heads found, missed and invented, on scenes small enough to be counted by eye."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.evaluate.errors import (
    NEVER_FOUND,
    Head,
    Matches,
    alarm_level,
    compare_heads,
    match_class,
    match_picture,
    midpoint_above,
    threshold_for_alarms,
)

A, B, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (70, 70, 80, 80)


def _matches(found: list[float], alarms: list[float], pictures: int = 10) -> Matches:
    places = np.zeros(len(found), np.int64)
    numbers = np.arange(len(found))
    return Matches(np.array(found), places, numbers, np.array(alarms), np.zeros(len(alarms), np.int64), pictures)


def test_each_head_is_taken_once_and_the_rest_are_alarms(found) -> None:  # type: ignore[no-untyped-def]
    heads = np.array([A, B], dtype=np.float32)
    detections = found([A, A, FAR, B], [0.6, 0.9, 0.8, 0.3], [1, 1, 1, 1])
    scores, alarms = match_picture(detections, heads)
    assert scores == pytest.approx([0.9, 0.3])
    assert sorted(alarms) == pytest.approx([0.6, 0.8])  # the second box on A, and the one on nothing


def test_a_detection_takes_the_head_that_it_overlaps_most(found) -> None:  # type: ignore[no-untyped-def]
    heads = np.array([(0, 0, 10, 10), (2, 0, 12, 10)], dtype=np.float32)
    scores, alarms = match_picture(found([(2, 0, 12, 10)], [0.5], [1]), heads)
    assert scores.tolist() == [NEVER_FOUND, pytest.approx(0.5)]
    assert len(alarms) == 0


def test_overlap_of_exactly_one_half_is_enough(found) -> None:  # type: ignore[no-untyped-def]
    heads = np.array([(0, 0, 10, 10)], dtype=np.float32)
    assert match_picture(found([(0, 0, 5, 10)], [0.5], [1]), heads)[0].tolist() == [0.5]
    assert match_picture(found([(0, 0, 4.9, 10)], [0.5], [1]), heads)[0].tolist() == [NEVER_FOUND]


def test_other_classes_neither_find_nor_alarm(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    data = dataset(sample([A, B], [1, 0]), sample([], []))
    matches = match_class(predictions(found([A, B], [0.9, 0.8], [0, 0]), found([FAR], [0.7], [1])), data, labels=(1,))
    assert matches.recall_at(0.0) == 0.0
    assert (matches.head_count, matches.picture_count) == (1, 2)
    assert matches.alarms_per_100(0.5) == 50.0
    assert matches.alarms_at(0.71) == 0


def test_no_heads_and_no_pictures(predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    matches = match_class(predictions(), dataset(), labels=(1,))
    assert matches.recall_at(0.5) is None
    assert matches.alarms_per_100(0.5) == 0.0


def test_the_threshold_lies_between_the_silenced_alarm_and_what_stays() -> None:
    matches = _matches([0.9, 0.5, 0.25, 0.1], [0.8, 0.3, 0.2], pictures=100)
    assert threshold_for_alarms(matches, 0.0) == pytest.approx(0.85)  # above 0.8, below 0.9
    assert threshold_for_alarms(matches, 1.0) == pytest.approx(0.4)  # 0.3 is silent, 0.5 stays
    assert threshold_for_alarms(matches, 2.0) == pytest.approx(0.225)
    assert threshold_for_alarms(matches, 3.0) == pytest.approx(0.05)  # nothing is won below the lowest found
    for allowed in (0, 1, 2, 3):
        assert matches.alarms_at(threshold_for_alarms(matches, allowed)) == allowed


def test_the_level_of_two_detectors_suits_both() -> None:
    """F1 on 4 heads at 0, 1 and 2 alarms: 2/5, 8/9 and 4/5 of the first, 6/7, 3/4 and 2/3 of the second."""
    first = _matches([0.95, 0.8, 0.75, 0.7], [0.9, 0.5], pictures=50)
    second = _matches([0.9, 0.8, 0.75, NEVER_FOUND], [0.7, 0.4], pictures=50)
    assert alarm_level(first, first) == 2.0
    assert alarm_level(second, second) == 0.0
    assert alarm_level(first, second) == alarm_level(second, first) == 2.0
    never = _matches([NEVER_FOUND], [0.9])
    assert alarm_level(never, never) is None


def test_a_loud_candidate_is_not_allowed_its_alarms() -> None:
    baseline = _matches([0.9] * 20, [], pictures=20)
    loud = _matches([0.5] * 20, [0.99] * 20, pictures=20)
    assert alarm_level(baseline, loud) == 0.0


def test_equal_alarms_fall_silent_together() -> None:
    matches = _matches([0.9, 0.5], [0.5, 0.5], pictures=100)
    threshold = threshold_for_alarms(matches, 1.0)
    assert matches.alarms_at(threshold) == 0
    assert matches.recall_at(threshold) == 0.5


def test_just_above_the_highest_score() -> None:
    assert 0.5 < midpoint_above(0.5, np.array([0.1, 0.5])) < 0.5000001


def test_between_two_scores_that_a_device_can_just_tell_apart() -> None:
    """The middle of two adjacent float32 is rounded to one of them, half of the times to the alarm itself."""
    for step in range(8):
        alarm = np.float32(0.5) + np.float32(step * 2.0**-24)
        head = np.nextafter(alarm, np.float32(1))
        matches = _matches([float(head)], [float(alarm)])
        threshold = threshold_for_alarms(matches, 0.0)
        assert (matches.alarms_at(threshold), matches.recall_at(threshold)) == (0, 1.0)


def test_lost_and_won_heads_are_named(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    data = dataset(sample([], []), sample([A, B, FAR], [1, 0, 1]), sample([B], [1]))
    before = predictions(found([], [], []), found([A, FAR], [0.9, 0.8], [1, 1]), found([B], [0.2], [1]))
    after = predictions(found([FAR], [0.6], [1]), found([FAR], [0.7], [1]), found([B], [0.65], [1]))
    matches = match_class(before, data, (1,)), match_class(after, data, (1,))
    changes = compare_heads(*matches, before, baseline_threshold=0.5, candidate_threshold=0.62)
    assert changes.newly_missed == (Head(1, 0),)
    assert changes.newly_found == (Head(2, 0),)
    assert (changes.found_by_baseline, changes.found_by_candidate, changes.heads) == (2, 2, 3)
    assert (changes.baseline_false_alarms, changes.candidate_false_alarms) == (0, 0)
    assert changes.in_words() == "1 of 3 bare heads newly missed, 1 newly found"
    assert changes.baseline_recall == pytest.approx(2 / 3)


def test_no_bare_head_is_said_in_words(sample, predictions, found, dataset) -> None:  # type: ignore[no-untyped-def]
    data, nothing = dataset(sample([], [])), predictions(found([], [], []))
    matches = match_class(nothing, data, (1,))
    changes = compare_heads(matches, matches, nothing, 0.5, 0.5)
    assert changes.in_words() == "no bare head is labelled here"
    assert changes.candidate_recall is None
