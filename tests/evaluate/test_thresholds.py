"""Thresholds by best F1, by recall and by false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.evaluate.errors import NEVER_FOUND, Matches
from helmlite.evaluate.thresholds import (
    BEST_F1,
    ThresholdRule,
    best_f1_threshold,
    choose_thresholds,
    parse_rule,
    recall_threshold,
    threshold_by,
)


def _matches(found: list[float], alarms: list[float]) -> Matches:
    places = np.zeros(len(found), np.int64)
    numbers = np.arange(len(found))
    return Matches(np.array(found), places, numbers, np.array(alarms), np.zeros(len(alarms), np.int64), 10)


@pytest.mark.parametrize(
    ("found", "alarms", "threshold", "f1"),
    [
        ([0.9, 0.6], [0.4], 0.5, 1.0),  # both found, the alarm silent
        ([0.9, 0.6], [0.7], 0.3, 0.8),  # two found and one alarm: 4 / 5, against 2 / 3 at 0.9 alone
        ([0.9, NEVER_FOUND], [], 0.45, 2 / 3),
        ([0.5], [0.5], 0.25, 2 / 3),  # a head and an alarm at one score stand and fall together
        ([0.3, 0.9], [0.8, 0.7, 0.6, 0.5], 0.85, 2 / 3),  # not worth four alarms
    ],
)
def test_best_f1_by_hand(found: list[float], alarms: list[float], threshold: float, f1: float) -> None:
    best = best_f1_threshold(_matches(found, alarms))
    assert best is not None
    assert best == pytest.approx((threshold, f1))


def test_nothing_found_has_no_best() -> None:
    assert best_f1_threshold(_matches([NEVER_FOUND], [0.9])) is None
    assert best_f1_threshold(_matches([], [0.9])) is None


def test_every_class_gets_one_and_the_rule_is_said(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    data = dataset(sample([(0, 0, 9, 9)], [1]), split="val")
    chosen = choose_thresholds(predictions(found([(0, 0, 9, 9)], [0.8], [1])), data)
    assert chosen.by_class == (0.25, pytest.approx(0.4))
    assert chosen.rule == (
        "best F1 of each class at IoU 0.5 on 1 pictures of the val split; helmet: 0.25, as nothing of it is labelled "
        "or found there"
    )


@pytest.mark.parametrize(
    ("found", "share", "threshold"),
    [
        ([0.9, 0.6], 0.5, 0.75),  # the box at 0.9 is enough; the next score is 0.6
        ([0.9, 0.6, NEVER_FOUND], 0.51, 0.5),  # two of three are needed; the alarm at 0.4 comes next
        ([0.9, 0.6, NEVER_FOUND], 0.67, None),  # the third is never found
    ],
)
def test_recall_by_hand(found: list[float], share: float, threshold: float | None) -> None:
    assert recall_threshold(_matches(found, [0.4]), share) == (None if threshold is None else pytest.approx(threshold))


def test_recall_down_to_the_last_score() -> None:
    assert recall_threshold(_matches([0.9, 0.6], []), 1.0) == pytest.approx(0.3)
    assert recall_threshold(_matches([], [0.9]), 0.5) is None


def test_alarms_by_hand() -> None:
    matches = _matches([0.9, 0.3], [0.8, 0.5, 0.4])  # on 10 pictures
    assert threshold_by(ThresholdRule("alarms", 0), matches) == pytest.approx(0.85)
    assert threshold_by(ThresholdRule("alarms", 10), matches) == pytest.approx(0.65)
    assert threshold_by(ThresholdRule("alarms", 5), matches) == pytest.approx(0.85)  # half an alarm is none
    assert threshold_by(ThresholdRule("alarms", 99), matches) == pytest.approx(0.15)  # nothing is won below
    assert threshold_by(ThresholdRule("alarms", 5), _matches([NEVER_FOUND], [0.8])) is None


def test_rules_as_they_are_written() -> None:
    assert parse_rule("f1") == BEST_F1
    assert parse_rule("recall=0.9") == ThresholdRule("recall", 0.9)
    assert parse_rule("alarms=5").in_words() == "at most 5 false alarms of each class for every 100 pictures"
    assert [str(parse_rule(text)) for text in ("f1", "recall=0.90", "alarms=5")] == ["f1", "recall=0.9", "alarms=5"]
    for text in ("", "f1=1", "recall", "recall=", "recall=high", "recall=0", "recall=1.1", "alarms=-1", "alarms=nan",
                 "alarms=inf", "precision=0.9"):  # fmt: skip
        with pytest.raises(ValueError, match=r"rules are f1, recall=SHARE|share of boxes|False alarms"):
            parse_rule(text)


def test_a_rule_that_cannot_be_kept_is_said(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    boxes = [(0, 0, 9, 9), (20, 20, 40, 40)]
    data = dataset(sample(boxes, [1, 1]), split="val")
    seen = predictions(found([(0, 0, 9, 9)], [0.8], [1]))
    chosen = choose_thresholds(seen, data, ThresholdRule("recall", 0.9))
    assert chosen.by_class == (0.25, pytest.approx(0.4))
    assert "no_helmet: not so many are found at any score, so that every score counts" in chosen.rule
    assert choose_thresholds(seen, data, ThresholdRule("recall", 0.5)).rule.startswith("recall of at least 50 %")
