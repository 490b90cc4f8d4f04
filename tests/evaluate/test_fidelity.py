"""What precision cost, by hand: boxes and scores apart."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.detections import Detections, no_detections
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.fidelity import measure_fidelity


def _found(*rows: tuple[list[float], float, int]) -> Detections:
    boxes, scores, labels = zip(*rows)
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels, np.int64))


def _of(*pictures: Detections) -> Predictions:
    return Predictions(pictures, tuple(range(len(pictures))))


def test_boxes_and_scores_apart() -> None:
    """Two of three reported boxes are reported again: one at IoU 0.8 and 0.3 lower, one as it was and 0.1 higher."""
    reference = _of(
        _found(([0, 0, 10, 10], 0.9, 0), ([20, 0, 30, 10], 0.5, 1), ([50, 50, 60, 60], 0.1, 0)),
        _found(([0, 0, 10, 10], 0.4, 1)),
    )
    found = _of(
        _found(([0, 0, 10, 8], 0.6, 0), ([20, 0, 30, 10], 0.6, 1)),
        _found(([0, 0, 10, 10], 0.4, 0)),  # the other class
    )
    fidelity = measure_fidelity("float", reference, found)
    assert (fidelity.against, fidelity.boxes) == ("float", 3)
    assert fidelity.matched == pytest.approx(2 / 3)
    assert fidelity.box_iou == pytest.approx(0.9)
    assert fidelity.score_error == pytest.approx(0.2)
    assert fidelity.score_shift == pytest.approx(-0.1)
    assert fidelity.in_words() == (
        "against float: 66.7 % of 3 boxes reported again, boxes overlap by 0.900 on average, scores are 0.200 apart "
        "(-0.100 on average)"
    )


def test_a_box_whose_score_fell_is_lost_and_its_shift_is_known() -> None:
    faint = _of(_found(([0, 0, 10, 10], 0.05, 0)))
    fidelity = measure_fidelity("float", _of(_found(([0, 0, 10, 10], 0.9, 0))), faint)
    assert fidelity.matched == 0.0
    assert fidelity.box_iou == 1.0
    assert fidelity.score_shift == pytest.approx(-0.85)


def test_a_faint_box_that_fits_better_is_not_the_partner() -> None:
    found = _of(_found(([0, 0, 10, 9], 0.8, 0), ([0, 0, 10, 10], 0.01, 0)))
    fidelity = measure_fidelity("float", _of(_found(([0, 0, 10, 10], 0.9, 0))), found)
    assert fidelity.score_shift == pytest.approx(-0.1)
    assert fidelity.box_iou == pytest.approx(0.9)


def test_noise_alone_is_no_shift() -> None:
    """Scores around 0.25, each seen twice with noise: of boxes chosen by the first look the second is lower."""
    random = np.random.default_rng(0)
    truth = random.uniform(0.05, 0.6, 2000)
    looks = [np.clip(truth + random.normal(0, 0.1, 2000), 0.01, 0.99) for _ in range(2)]
    reference, found = (_of(*(_found(([0, 0, 10, 10], score, 0)) for score in look)) for look in looks)
    chosen = looks[0] >= 0.25
    assert (looks[1] - looks[0])[chosen].mean() < -0.01
    shift = measure_fidelity("float", reference, found).score_shift
    assert shift == pytest.approx(0, abs=4 * 0.1 * np.sqrt(2 / 1000))


def test_a_shift_is_unknown_where_both_scores_are_faint() -> None:
    fidelity = measure_fidelity("float", _of(_found(([0, 0, 10, 10], 0.3, 0))), _of(_found(([0, 0, 10, 10], 0.05, 0))))
    assert fidelity.score_error == pytest.approx(0.25)
    assert fidelity.score_shift is None
    assert fidelity.in_words().endswith("scores are 0.250 apart")


def test_nothing_to_compare_is_unknown_and_all_lost_is_nothing_found() -> None:
    some = _of(_found(([0, 0, 10, 10], 0.9, 0)))
    none = _of(no_detections())
    assert measure_fidelity("float", none, some).matched is None
    lost = measure_fidelity("float", some, none)
    assert (lost.matched, lost.box_iou) == (0.0, None)
    assert lost.in_words() == "against float: 0.0 % of 1 boxes reported again"


def test_only_pictures_that_both_could_read() -> None:
    box = _found(([0, 0, 10, 10], 0.9, 0))
    assert measure_fidelity("float", Predictions((box, box), (0, 2)), Predictions((box,), (2,))).boxes == 1
