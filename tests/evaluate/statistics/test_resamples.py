"""When an interval is shown, and that heads of one picture are no independent draws."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.detections import no_detections
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.errors import match_class
from helmlite.evaluate.statistics.resamples import FEWEST_HEADS, FEWEST_PICTURES, resamples_of

BOXES = [(50.0 * n, 0.0, 50.0 * n + 40, 40.0) for n in range(20)]


@pytest.fixture
def crowd(sample, found, dataset):  # type: ignore[no-untyped-def]
    """100 pictures, `heads` bare heads in each of the first `shown` ones, all found."""

    def build(heads: int, shown: int, group_of=lambda number: None):  # type: ignore[no-untyped-def]
        counts = [heads if number < shown else 0 for number in range(100)]
        samples = [sample(BOXES[:n], [1] * n, str(at), group_of(at)) for at, n in enumerate(counts)]
        detections = tuple(found(BOXES[:n], [0.9] * n, [1] * n) if n else no_detections() for n in counts)
        return dataset(*samples), Predictions(detections, tuple(range(100)))

    return build


def test_the_first_row_is_the_data_set_itself(crowd) -> None:  # type: ignore[no-untyped-def]
    data, predictions = crowd(1, 60)
    draws = resamples_of(predictions, data, resamples=50)
    matches = match_class(predictions, data, (1,))
    assert draws.weights.shape == (51, 100) and (draws.weights[0] == 1).all()
    assert draws.map(predictions, data)[0] == pytest.approx(1.0)
    assert draws.recall(matches, 0.9).tolist() == [1.0] * 51
    assert draws.recall(matches, 0.91).tolist() == [0.0] * 51
    assert draws.interval(np.arange(51.0)) == (2.225, 48.775), "percentiles of 1 to 50, the value itself left out"


def test_an_interval_needs_independent_pictures(crowd) -> None:  # type: ignore[no-untyped-def]
    for scenes, is_shown in ((FEWEST_PICTURES, True), (FEWEST_PICTURES - 1, False)):
        data, predictions = crowd(1, 60, lambda number, scenes=scenes: str(number % scenes))
        draws = resamples_of(predictions, data, resamples=50)
        assert draws.units == scenes
        assert (draws.interval(np.arange(51.0)) is not None) is is_shown


def test_an_interval_of_heads_needs_heads_in_enough_pictures(crowd) -> None:  # type: ignore[no-untyped-def]
    for heads, shown, reason in (
        (2, 20, ""),
        (15, 3, "45 heads in 3 independent pictures (at least 40 in 20)"),
        (1, FEWEST_HEADS - 1, "39 heads in 39 independent pictures (at least 40 in 20)"),
    ):
        data, predictions = crowd(heads, shown)
        draws, matches = resamples_of(predictions, data, resamples=50), match_class(predictions, data, (1,))
        assert draws.too_few_heads(matches) == reason
        assert (draws.head_interval(draws.recall(matches, 0.5), matches) is None) is bool(reason)


def test_heads_of_one_scene_count_once(crowd) -> None:  # type: ignore[no-untyped-def]
    data, predictions = crowd(2, 24, lambda number: "gate" if number < 6 else None)
    draws, matches = resamples_of(predictions, data, resamples=10), match_class(predictions, data, (1,))
    assert draws.too_few_heads(matches) == "48 heads in 19 independent pictures (at least 40 in 20)"
