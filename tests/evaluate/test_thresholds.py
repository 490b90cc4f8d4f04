"""Thresholds by best F1."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.evaluate.errors import NEVER_FOUND, Matches
from helmlite.evaluate.thresholds import best_f1_threshold, choose_thresholds


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
