"""Which class is taken for which: matrices small enough to be counted by eye."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.evaluate.accuracy import coco_evaluation
from helmlite.evaluate.diagnosis.confusion import confusion_matrix
from helmlite.evaluate.thresholds import above_thresholds

A, B, C, FAR = (0, 0, 20, 20), (100, 0, 120, 20), (50, 50, 70, 70), (200, 200, 220, 220)


def test_rows_are_truth_and_columns_what_is_shown(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    """A helmet found, one bare head found, one called a helmet, one missed; a helmet where there is nothing."""
    data = dataset(sample([A, B, C], [0, 1, 1]), sample([A], [1]))
    shown = predictions(found([A, B, C, FAR], [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 0]), found([], [], []))
    matrix = confusion_matrix(coco_evaluation(shown, data))
    assert matrix.classes == ("helmet", "no_helmet")
    assert matrix.counts == ((1, 0, 0), (1, 1, 1), (1, 0, 0))
    assert matrix.shares() == ((1, 0, 0), (pytest.approx(1 / 3),) * 3, (1, 0, 0))


def test_a_head_under_two_boxes_goes_to_the_better_score(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    data = dataset(sample([A], [1]))
    matrix = confusion_matrix(coco_evaluation(predictions(found([A, A], [0.9, 0.8], [0, 1])), data))
    assert matrix.counts == ((0, 0, 0), (1, 0, 0), (0, 1, 0))


def test_each_class_has_its_own_threshold(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    """At 0.5 for both, the bare head of A is shown as a helmet; at 0.95 for helmets as what it is."""
    data = dataset(sample([A, B], [1, 1]))
    all_found = predictions(found([A, A, B], [0.9, 0.8, 0.4], [0, 1, 1]))
    for thresholds, bare in (((0.5, 0.5), (1, 0, 1)), ((0.95, 0.5), (0, 1, 1)), ((0.95, 0.4), (0, 2, 0))):
        shown = above_thresholds(all_found, thresholds)
        assert confusion_matrix(coco_evaluation(shown, data)).counts[1] == bare


def test_a_score_on_the_threshold_is_shown_as_the_device_shows_it(found, predictions) -> None:  # type: ignore[no-untyped-def]
    shown = above_thresholds(predictions(found([A, B], [0.9, 0.89], [0, 0])), (0.9, 0.5))  # 0.9 in float32 is less
    assert shown.detections[0].scores.tolist() == [pytest.approx(0.9)]


def test_a_label_without_a_threshold_is_refused(found, predictions) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="label 2, but 2 thresholds were given"):
        above_thresholds(predictions(found([A], [0.9], [2])), (0.5, 0.5))


def test_no_detection_and_no_picture(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    missed = confusion_matrix(coco_evaluation(predictions(found([], [], [])), dataset(sample([A], [1]))))
    assert missed.counts == ((0, 0, 0), (0, 0, 1), (0, 0, 0))
    assert missed.shares() == ((None,) * 3, (0, 0, 1), (None,) * 3)
    assert np.array(confusion_matrix(coco_evaluation(predictions(), dataset())).counts).sum() == 0


def test_more_than_a_hundred_boxes_in_a_picture_all_count(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    boxes = [(30 * place, 0, 30 * place + 20, 20) for place in range(130)]
    shown = predictions(found(boxes, [0.9] * 130, [0] * 130))
    matrix = confusion_matrix(coco_evaluation(shown, dataset(sample(boxes, [0] * 130))))
    assert matrix.counts[0] == (130, 0, 0)
