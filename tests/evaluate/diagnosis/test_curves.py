"""Curves: every point by hand, and thinned without losing the extremes."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.evaluate.accuracy import coco_evaluation, measure_accuracy
from helmlite.evaluate.diagnosis.curves import precision_recall_curve, threshold_curve
from helmlite.evaluate.errors import NEVER_FOUND, Matches, match_class
from helmlite.evaluate.thresholds import best_f1_threshold


def _matches(found: list[float], alarms: list[float]) -> Matches:
    places = np.zeros(len(found), np.int64)
    numbers = np.arange(len(found))
    return Matches(np.array(found), places, numbers, np.array(alarms), np.zeros(len(alarms), np.int64), 10)


def test_every_threshold_by_hand() -> None:
    curve = threshold_curve(_matches([0.9, 0.5, NEVER_FOUND], [0.7, 0.5]))
    assert curve is not None
    assert curve.thresholds == (0.5, 0.7, 0.9)
    assert curve.precision == pytest.approx((2 / 4, 1 / 2, 1))
    assert curve.recall == pytest.approx((2 / 3, 1 / 3, 1 / 3))
    assert curve.f1 == pytest.approx((4 / 7, 2 / 5, 1 / 2))
    assert (curve.best_f1, curve.best_threshold) == (pytest.approx(4 / 7), pytest.approx(0.25))


def test_nothing_labelled_and_nothing_found() -> None:
    assert threshold_curve(_matches([], [0.9])) is None
    alarms = threshold_curve(_matches([NEVER_FOUND], [0.9, 0.8]))
    assert alarms is not None
    assert (alarms.f1, alarms.best_f1, alarms.best_threshold) == ((0, 0), None, None)
    silent = threshold_curve(_matches([NEVER_FOUND], []))
    assert silent is not None
    assert (silent.thresholds, silent.f1, silent.best_f1) == ((), (), None)


@pytest.mark.parametrize("most_points", [3, 50, 200])
def test_thinning_keeps_the_ends_and_the_peak(most_points: int) -> None:
    """Ten thousand faint alarms, one loud one, and a peak in a place that no even step meets."""
    random = np.random.default_rng(0)
    found = random.uniform(0.512, 0.5121, 400)
    matches = _matches(found.tolist(), [*random.uniform(0, 0.01, 10_000), 0.99])
    full = threshold_curve(matches, most_points=100_000)
    thin = threshold_curve(matches, most_points)
    assert full is not None
    assert thin is not None
    assert len(full.thresholds) > 10_000
    assert 3 <= len(thin.thresholds) <= most_points
    assert (thin.thresholds[0], thin.thresholds[-1]) == (full.thresholds[0], full.thresholds[-1])
    assert max(thin.f1) == max(full.f1) == thin.best_f1
    assert (max(thin.recall), max(thin.precision)) == (max(full.recall), max(full.precision))
    points = set(zip(full.thresholds, full.precision, full.recall, full.f1, strict=True))
    assert set(zip(thin.thresholds, thin.precision, thin.recall, thin.f1, strict=True)) <= points
    assert list(thin.thresholds) == sorted(set(thin.thresholds))


def test_two_points_are_too_few() -> None:
    with pytest.raises(ValueError, match="at least 3 points"):
        threshold_curve(_matches([0.5], []), most_points=2)


def test_precision_over_recall_has_ap50_for_its_mean(random_set) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(5, noise=1.0)
    evaluation = coco_evaluation(predictions, data)
    evaluation.accumulate()
    for label, item in enumerate(measure_accuracy(predictions, data).per_class):
        curve = precision_recall_curve(evaluation, label)
        assert curve is not None
        assert curve.recall == pytest.approx(np.linspace(0, 1, 101))
        assert np.mean(curve.precision) == pytest.approx(item.ap50)
        assert 0 < np.mean(curve.precision) < 1
        peak = threshold_curve(match_class(predictions, data, (label,)))
        assert peak is not None
        assert (peak.best_threshold, peak.best_f1) == best_f1_threshold(match_class(predictions, data, (label,)))


def test_a_class_without_labels_has_no_curve(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    box = (0, 0, 20, 20)
    evaluation = coco_evaluation(predictions(found([box], [0.9], [1])), dataset(sample([box], [0])))
    evaluation.accumulate()
    assert precision_recall_curve(evaluation, 1) is None
    missed = precision_recall_curve(evaluation, 0)
    assert missed is not None
    assert set(missed.precision) == {0.0}
