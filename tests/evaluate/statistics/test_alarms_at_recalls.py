"""False alarms at a given recall, resample by resample, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.evaluate.errors import Matches
from helmlite.evaluate.statistics.resampling import alarms_at_recalls

# three pictures with a head each, found at 0.9, at 0.6 and never; alarms at 0.8 in the first and at 0.5 in the second
MATCHES = Matches(
    found_scores=np.array([0.6, 0.9, -np.inf]),
    head_pictures=np.array([1, 0, 2]),
    head_boxes=np.zeros(3, np.int64),
    alarm_scores=np.array([0.5, 0.8]),
    alarm_pictures=np.array([1, 0]),
    picture_count=3,
)


@pytest.mark.parametrize(
    ("weights", "recall", "expected"),
    [
        ([1, 1, 1], 1 / 3, 0.0),  # from 0.9 on
        ([1, 1, 1], 2 / 3, 100 / 3),  # from 0.6 on: the alarm at 0.8
        ([1, 1, 1], 1.0, np.nan),  # one is never found
        ([0, 3, 0], 1.0, 0.0),
        ([2, 1, 0], 0.5, 0.0),  # 0.9 finds two of three
        ([2, 1, 0], 1.0, 200 / 3),
        ([0, 0, 3], 0.1, np.nan),
    ],
)
def test_by_hand(weights: list[int], recall: float, expected: float) -> None:
    assert alarms_at_recalls(MATCHES, recall, np.array([weights])) == pytest.approx([expected], nan_ok=True)


def test_without_heads_and_without_alarms() -> None:
    nothing, none = np.zeros(0), np.zeros(0, np.int64)
    ones = np.ones((2, 3), np.int64)
    silent = Matches(MATCHES.found_scores, MATCHES.head_pictures, MATCHES.head_boxes, nothing, none, 3)
    assert alarms_at_recalls(silent, 0.5, ones).tolist() == [0.0, 0.0]
    headless = Matches(nothing, none, none, MATCHES.alarm_scores, MATCHES.alarm_pictures, 3)
    assert np.isnan(alarms_at_recalls(headless, 0.5, ones)).all()
