from __future__ import annotations

import numpy as np

from helmlite.data.roles import Class, with_roles
from helmlite.detections import Detections, no_detections
from helmlite.runtime.agreement import Agreement, compare

CLASSES = with_roles(["helmet", "head"])


def found(boxes: list[list[float]], labels: list[int]) -> Detections:
    scores = np.linspace(0.9, 0.5, len(labels)).astype(np.float32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(labels, np.int64))


def test_the_four_ways_by_hand() -> None:
    left = found([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0, 1, 0])
    right = found([[0, 0, 10, 9], [20, 0, 30, 10], [60, 0, 70, 10]], [0, 0, 1])
    assert compare(left, right, CLASSES, CLASSES) == Agreement(((0, 0),), ((1, 1),), (2,), (2,))


def test_nothing_against_nothing_and_against_one() -> None:
    one = found([[0, 0, 10, 10]], [0])
    assert compare(no_detections(), no_detections(), CLASSES, CLASSES).is_full
    assert compare(one, no_detections(), CLASSES, CLASSES) == Agreement((), (), (0,), ())
    assert compare(no_detections(), one, CLASSES, CLASSES) == Agreement((), (), (), (0,))
    assert compare(one, one, CLASSES, CLASSES).is_full


def test_the_same_class_is_preferred_to_a_larger_overlap() -> None:
    left = found([[0, 0, 10, 10]], [0])
    right = found([[0, 0, 10, 10], [0, 0, 10, 8]], [1, 0])
    assert compare(left, right, CLASSES, CLASSES) == Agreement(((0, 1),), (), (), (0,))


def test_a_box_is_paired_once_with_the_largest_overlap() -> None:
    left = found([[0, 0, 10, 10]], [0])
    right = found([[0, 0, 10, 7], [0, 0, 10, 9]], [0, 0])
    assert compare(left, right, CLASSES, CLASSES) == Agreement(((0, 1),), (), (), (0,))


def test_roles_decide_across_languages_and_orders() -> None:
    left, right = found([[0, 0, 10, 10]], [1]), found([[0, 0, 10, 10]], [0])
    assert compare(left, right, CLASSES, with_roles(["未戴头盔", "戴头盔"])).is_full


def test_without_roles_names_decide() -> None:
    one = found([[0, 0, 10, 10]], [0])
    assert compare(one, one, [Class("dog")], [Class("dog")]).is_full
    assert compare(one, one, [Class("dog")], [Class("cat")]).other_class == ((0, 0),)


def test_overlap_below_the_threshold_is_no_pair() -> None:
    left, right = found([[0, 0, 10, 10]], [0]), found([[0, 0, 10, 4.9]], [0])
    assert compare(left, right, CLASSES, CLASSES) == Agreement((), (), (0,), (0,))
    assert compare(left, right, CLASSES, CLASSES, iou_threshold=0.4).is_full
