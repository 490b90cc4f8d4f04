"""TIDE's errors: one planted at a time, its cost worked by hand.

AP50 is the mean over 101 recall points: one of two heads found without an alarm reaches 51 of them.
"""

from __future__ import annotations

from typing import Any

import pytest

from helmlite.evaluate.accuracy import coco_evaluation, measure_accuracy
from helmlite.evaluate.diagnosis.tide import KINDS, TideErrors, tide_errors

A, B, FAR = (0, 0, 20, 20), (100, 0, 120, 20), (200, 200, 220, 220)
BESIDE_A, BESIDE_B = (10, 0, 30, 20), (110, 0, 130, 20)  # IoU 1/3
HELMET, BARE = 0, 1


@pytest.fixture
def errors_of(sample, found, predictions, dataset):  # type: ignore[no-untyped-def]
    """(boxes, labels) of the truth and (boxes, scores, labels) of the detections in one picture -> TideErrors."""

    def build(truth: tuple[Any, Any], detected: tuple[Any, Any, Any]) -> TideErrors:
        return tide_errors(coco_evaluation(predictions(found(*detected)), dataset(sample(*truth))))

    return build


@pytest.mark.parametrize(
    ("kind", "detected", "ap50", "points"),
    [
        # the better box on B calls it a helmet: nothing bare is found, and the helmets have an alarm on top
        ("Cls", ([A, B], [0.9, 0.95], [HELMET, HELMET]), (0.5 + 0) / 2, 75),
        ("Loc", ([A, BESIDE_B], [0.9, 0.8], [HELMET, BARE]), (1 + 0) / 2, 50),
        ("Both", ([A, B, BESIDE_B], [0.9, 0.8, 0.95], [HELMET, BARE, HELMET]), (0.5 + 1) / 2, 25),
        ("Bkg", ([A, B, FAR], [0.9, 0.8, 0.95], [HELMET, BARE, BARE]), (1 + 0.5) / 2, 25),
        ("Miss", ([A], [0.9], [HELMET]), (1 + 0) / 2, 50),
    ],
)
def test_one_planted_error_is_the_only_one(errors_of, kind, detected, ap50, points) -> None:  # type: ignore[no-untyped-def]
    errors = errors_of(([A, B], [HELMET, BARE]), detected)
    assert errors.ap50 == pytest.approx(ap50)
    assert {item.kind: item.count for item in errors.kinds} == {name: int(name == kind) for name in KINDS}
    costs = {item.kind: item.loss_points for item in errors.kinds}
    assert costs == pytest.approx({name: points if name == kind else 0 for name in KINDS})


def test_a_second_box_on_a_head_stands_before_the_next_head(errors_of) -> None:  # type: ignore[no-untyped-def]
    """Two of three detections are right when the second head is found: 50 recall points at 2/3 instead of 1."""
    errors = errors_of(([A, B], [BARE, BARE]), ([A, A, B], [0.9, 0.8, 0.7], [BARE, BARE, BARE]))
    assert {item.kind: item.count for item in errors.kinds if item.count} == {"Dupe": 1}
    assert errors.of("Dupe").loss_points == pytest.approx(100 * 50 / 101 / 3)
    assert errors.false_alarms_loss_points == pytest.approx(100 * 50 / 101 / 3)
    assert errors.missed_loss_points == pytest.approx(0)


def test_the_oracles_take_all_alarms_and_all_unmatched_heads(errors_of) -> None:  # type: ignore[no-untyped-def]
    """Of two heads one is found, below an alarm: 51 points at 1/2.  B is nearly found, so that it is no Miss."""
    errors = errors_of(([A, B], [BARE, BARE]), ([FAR, A, BESIDE_B], [0.9, 0.8, 0.7], [BARE, BARE, BARE]))
    assert errors.ap50 == pytest.approx(51 / 101 / 2)
    assert errors.false_alarms_loss_points == pytest.approx(100 * 51 / 101 / 2)
    assert errors.missed_loss_points == pytest.approx(100 * (1 / 2 - 51 / 101 / 2))
    assert errors.of("Miss").count == 0


def test_a_box_beside_a_head_that_is_found_explains_no_other(errors_of) -> None:  # type: ignore[no-untyped-def]
    errors = errors_of(([A, B], [BARE, BARE]), ([A, BESIDE_A], [0.9, 0.8], [BARE, BARE]))
    assert (errors.of("Loc").count, errors.of("Loc").loss_points) == (1, pytest.approx(0))
    assert errors.of("Miss").loss_points == pytest.approx(100 * 50 / 101)


def test_a_class_that_is_missed_whole_has_its_cost(errors_of) -> None:  # type: ignore[no-untyped-def]
    """Its only detection is on background, or on a head of the other class; hotcoco alone would say 0."""
    for elsewhere in (FAR, A):
        errors = errors_of(([A, B], [HELMET, BARE]), ([A, elsewhere], [0.9, 0.8], [HELMET, BARE]))
        assert (errors.of("Miss").count, errors.of("Miss").loss_points) == (1, pytest.approx(50))
        assert errors.missed_loss_points == pytest.approx(50)
    nearly = errors_of(([A, B], [HELMET, BARE]), ([A, BESIDE_B], [0.9, 0.8], [HELMET, BARE]))
    assert (nearly.of("Miss").loss_points, nearly.missed_loss_points) == (pytest.approx(0), pytest.approx(50))
    nothing = errors_of(([A, B], [HELMET, BARE]), ([], [], []))
    assert (nothing.of("Miss").count, nothing.of("Miss").loss_points) == (2, pytest.approx(100))


def test_asking_twice_gives_the_same(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    evaluation = coco_evaluation(predictions(found([A], [0.9], [HELMET])), dataset(sample([A, B], [HELMET, BARE])))
    assert tide_errors(evaluation) == tide_errors(evaluation)


def test_nothing_labelled_has_counts_and_no_cost(errors_of) -> None:  # type: ignore[no-untyped-def]
    errors = errors_of(([], []), ([A], [0.9], [BARE]))
    assert (errors.ap50, errors.false_alarms_loss_points, errors.missed_loss_points) == (None, None, None)
    assert (errors.of("Bkg").count, errors.of("Bkg").loss_points) == (1, None)


def test_an_unknown_kind_is_an_error(errors_of) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(KeyError, match="Blur"):
        errors_of(([A], [BARE]), ([A], [0.9], [BARE])).of("Blur")


def test_every_detection_is_right_or_has_a_kind(random_set) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(4, noise=1.0)
    evaluation = coco_evaluation(predictions, data)
    errors = tide_errors(evaluation)
    cells = [cell for cell in evaluation.eval_imgs if cell is not None and cell["aRng"][0] == 0]
    right = sum(sum(cell["dtMatched"][0]) for cell in cells if cell["aRng"][1] > 1e6)
    assert right > 50
    wrong = sum(item.count for item in errors.kinds if item.kind != "Miss")
    assert wrong == sum(len(item) for item in predictions.detections) - right
    assert errors.ap50 == pytest.approx(measure_accuracy(predictions, data).map50)
