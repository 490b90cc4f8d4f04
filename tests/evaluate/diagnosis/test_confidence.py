"""Calibration of scores, worked by hand from a handful of detections."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.evaluate.accuracy import coco_evaluation
from helmlite.evaluate.diagnosis.confidence import measure_calibration
from helmlite.evaluate.errors import match_class

A, B, FAR, FARTHER = (0, 0, 20, 20), (100, 0, 120, 20), (200, 200, 220, 220), (300, 300, 320, 320)


def test_bins_and_ece_by_hand(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    """Helmets: 0.9375 and 0.96875 of which one is right; bare: 0.25, wrong, and 1, right.

    |0.953125 - 1/2| for two helmets: 0.453125.  |0.25 - 0| and |1 - 1| for one each: 0.125.  All: the last bin holds
    three with a mean of 0.96875 of which 2/3 are right, and 0.25 is alone: (3 * 0.302083 + 0.25) / 4.
    """
    data = dataset(sample([A, B], [0, 1]))
    seen = predictions(found([A, FAR, FARTHER, B], [0.9375, 0.96875, 0.25, 1.0], [0, 0, 1, 1]))
    evaluation = coco_evaluation(seen, data)
    helmet, bare, both = (measure_calibration(evaluation, label) for label in (0, 1, None))
    assert helmet.ece == pytest.approx(0.453125)
    assert bare.ece == pytest.approx(0.125)
    assert both.ece == pytest.approx((3 * (0.96875 - 2 / 3) + 0.25) / 4)
    last = helmet.bins[-1]
    assert (last.low, last.high, last.detections) == (pytest.approx(0.9), pytest.approx(1.0), 2)
    assert (last.mean_score, last.precision) == (pytest.approx(0.953125), 0.5)
    assert [item.detections for item in bare.bins] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert (bare.bins[0].mean_score, bare.bins[0].precision) == (None, None)  # empty, not 0


def test_a_missed_head_changes_nothing(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    seen = predictions(found([A], [0.75], [1]))
    one, two = dataset(sample([A], [1])), dataset(sample([A, B], [1, 1]))
    assert measure_calibration(coco_evaluation(seen, one)) == measure_calibration(coco_evaluation(seen, two))


def test_a_class_without_detections_is_unknown(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    evaluation = coco_evaluation(predictions(found([A], [0.75], [0])), dataset(sample([A, B], [0, 1])))
    assert measure_calibration(evaluation, 0).ece == pytest.approx(0.25)
    none = measure_calibration(evaluation, 1)
    assert (none.detections, none.ece, len(none.bins)) == (0, None, 10)
    nothing = coco_evaluation(predictions(), dataset())
    assert measure_calibration(nothing).ece is None


def test_one_class_after_another_leaves_the_evaluation_as_it_was(random_set) -> None:  # type: ignore[no-untyped-def]
    """And each class has the bins that our own matching gives, where no two scores are equal."""
    data, predictions = random_set(2, noise=0.5, digits=6)
    evaluation = coco_evaluation(predictions, data)
    before = measure_calibration(evaluation)
    per_class = [measure_calibration(evaluation, label) for label in (0, 1)]
    assert measure_calibration(evaluation) == before
    assert before.detections == sum(item.detections for item in per_class) > 200
    for label, measured in enumerate(per_class):
        matches = match_class(predictions, data, (label,))
        right = matches.found_scores[np.isfinite(matches.found_scores)]
        edges = np.linspace(0, 1, 11)
        hits, misses = (np.histogram(scores, edges)[0] for scores in (right, matches.alarm_scores))
        assert [item.detections for item in measured.bins] == (hits + misses).tolist()
        assert [item.precision for item in measured.bins if item.detections] == pytest.approx(
            [hit / (hit + miss) for hit, miss in zip(hits, misses, strict=True) if hit + miss]
        )
