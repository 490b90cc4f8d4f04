"""What happened at each head and each alarm, on scenes small enough to be judged by eye, and against TIDE's counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from helmlite.data.roles import Class, with_roles
from helmlite.evaluate.accuracy import coco_evaluation
from helmlite.evaluate.diagnosis.error_kinds import head_groups, sort_out

A, B, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (70, 70, 80, 80)
NEAR_A, HALF_A = (6, 0, 16, 10), (0, 0, 10, 5)  # IoU 0.25 and 0.5 with A
HALF = (0.5, 0.5)


@pytest.fixture
def sorted_out(sample, found, predictions, dataset):  # type: ignore[no-untyped-def]
    def run(heads, labels, reported, thresholds=HALF):  # type: ignore[no-untyped-def]
        boxes, scores, reported_labels = zip(*reported, strict=True) if reported else ((), (), ())
        side = predictions(found(boxes, scores, reported_labels))
        return sort_out(side, dataset(sample(heads, labels)), thresholds)

    return run


@pytest.mark.parametrize(
    ("reported", "kind", "score"),
    [
        ([], "not seen", None),
        ([(A, 0.9, 1)], "found", None),
        ([(HALF_A, 0.9, 1)], "found", None),
        ([(A, 0.9, 0)], "other class", 0.9),
        ([(A, 0.4, 0)], "not seen", None),
        ([(NEAR_A, 0.8, 1)], "badly placed", 0.8),
        ([(NEAR_A, 0.4, 1)], "not seen", None),
        ([(A, 0.3, 1)], "below the threshold", None),
        ([(A, 0.3, 1), (A, 0.6, 0), (NEAR_A, 0.9, 1)], "other class", 0.6),  # the worst is named
        ([(FAR, 0.9, 1)], "not seen", None),
    ],
)
def test_kinds_of_misses(sorted_out, reported, kind, score) -> None:  # type: ignore[no-untyped-def]
    head = sorted_out([A], [1], reported).heads[0]
    assert head.kind == kind
    assert head.on_it_score == (None if score is None else pytest.approx(score))


def test_a_score_below_the_threshold_is_kept(sorted_out) -> None:  # type: ignore[no-untyped-def]
    first, second = sorted_out([A, B], [1, 1], [(A, 0.3, 1)]).heads
    assert first.found_score == pytest.approx(0.3)
    assert second.found_score is None


@pytest.mark.parametrize(
    ("reported", "kinds"),
    [
        ([(A, 0.9, 1)], []),
        ([(A, 0.9, 1), (HALF_A, 0.6, 1)], ["duplicate"]),
        ([(A, 0.6, 0)], ["other class"]),
        ([(NEAR_A, 0.6, 1)], ["badly placed"]),
        ([(NEAR_A, 0.6, 0)], ["other class and badly placed"]),
        ([(FAR, 0.6, 1)], ["background"]),
        ([(FAR, 0.4, 1)], []),
        ([(A, 0.9, 1), (FAR, 0.95, 1)], ["look-alike"]),
        ([(A, 0.9, 1), (FAR, 0.9, 1)], ["background"]),  # as sure as the true one, not surer
        ([(A, 0.9, 1), (FAR, 0.95, 0)], ["background"]),  # no true detection of its class to be surer than
    ],
)
def test_kinds_of_alarms(sorted_out, reported, kinds) -> None:  # type: ignore[no-untyped-def]
    assert [item.kind for item in sorted_out([A], [1], reported).alarms] == kinds


def test_a_helmet_on_a_bare_head_is_worse_than_a_box_that_lies_badly(sorted_out) -> None:  # type: ignore[no-untyped-def]
    """The box is on A, which is bare, and near a helmet beside it: TIDE would call it badly placed."""
    alarms = sorted_out([A, NEAR_A], [1, 0], [(A, 0.9, 0)]).alarms
    assert [(item.kind, item.on_it_label) for item in alarms] == [("other class", 1)]


def test_each_class_has_its_own_threshold(sorted_out) -> None:  # type: ignore[no-untyped-def]
    outcomes = sorted_out([A, B], [0, 1], [(A, 0.4, 0), (B, 0.4, 1)], thresholds=(0.3, 0.5))
    assert [item.kind for item in outcomes.heads] == ["found", "below the threshold"]


def test_classes_of_one_role_are_one(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    classes = (Class("driver", "no_helmet"), Class("helmet", "helmet"), Class("passenger", "no_helmet"), Class("bike"))
    assert head_groups(classes) == ((1,), (0, 2))
    assert head_groups(with_roles(["dog", "cat"])) == ((0,), (1,))
    data = replace(dataset(sample([A, B], [0, 3])), classes=classes)
    outcomes = sort_out(predictions(found([A, B], [0.9, 0.9], [2, 3])), data, (0.5,) * 4)
    assert [item.kind for item in outcomes.heads] == ["found"]
    assert outcomes.alarms == ()  # a bike is no head, and no alarm


def test_a_labelled_look_alike_is_named(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    classes = (*with_roles(["helmet", "no_helmet"]), Class("cap"))
    data = replace(dataset(sample([A, FAR], [1, 2])), classes=classes)
    side = predictions(found([FAR], [0.6], [0]))
    assert sort_out(side, data, (0.5,) * 3).alarms[0].kind == "background"
    alarm = sort_out(side, data, (0.5,) * 3, look_alikes=("cap",)).alarms[0]
    assert (alarm.kind, alarm.on_it_label) == ("look-alike", 2)
    with pytest.raises(ValueError, match=r"No class is called 'scarf'\. The classes are helmet, no_helmet, cap\."):
        sort_out(side, data, (0.5,) * 3, look_alikes=("scarf",))
    with pytest.raises(ValueError, match="'helmet' is a head itself"):
        sort_out(side, data, (0.5,) * 3, look_alikes=("helmet",))


def test_thresholds_fit_the_classes(sorted_out) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"1 thresholds do not fit 2 classes \(helmet, no_helmet\)"):
        sorted_out([A], [1], [], thresholds=(0.5,))


def test_no_pictures_no_outcomes(predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    outcomes = sort_out(predictions(), dataset(), HALF)
    assert (outcomes.heads, outcomes.alarms) == ((), ())


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_tides(random_set, seed: int) -> None:  # type: ignore[no-untyped-def]
    """Without thresholds, and with TIDE's order for boxes on one class and near another, hotcoco counts the same."""
    data, drawn = random_set(seed, digits=6)
    with_extent = [found[(found.boxes_xyxy[:, 2:] > found.boxes_xyxy[:, :2]).all(axis=1)] for found in drawn.detections]
    side = replace(drawn, detections=tuple(with_extent))  # noise turns some inside out, which hotcoco leaves out
    tide = coco_evaluation(side, data).tide_errors(pos_thr=0.5, bg_thr=0.1)["counts"]
    counts = Counter(item.kind for item in sort_out(side, data, (0.0, 0.0)).alarms)
    assert counts["background"] + counts["look-alike"] == tide["Bkg"]
    assert counts["other class and badly placed"] == tide["Both"]
    on_heads = counts["duplicate"] + counts["other class"] + counts["badly placed"]
    assert on_heads == tide["Dupe"] + tide["Cls"] + tide["Loc"]
    assert tide["Bkg"] > 20
    assert on_heads > 5
