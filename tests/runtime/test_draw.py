from __future__ import annotations

import numpy as np
import pytest

from helmlite.data.roles import Class, with_roles
from helmlite.detections import Detections, no_detections
from helmlite.runtime import draw
from helmlite.runtime.draw import Panel, annotate, class_colour, side_by_side, written_name

CLASSES = (*with_roles(["戴头盔", "未戴头盔"]), Class("花"), Class("dog"))
GREY = np.full((480, 640, 3), 90, dtype=np.uint8)


def found(boxes: list[list[float]], labels: list[int]) -> Detections:
    scores = np.linspace(0.9, 0.5, len(labels)).astype(np.float32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(labels, np.int64))


def test_a_box_is_drawn_in_its_roles_colour_and_the_picture_stays_untouched() -> None:
    picture = GREY.copy()
    drawn = annotate(picture, found([[100, 200, 300, 400]], [1]), CLASSES)
    np.testing.assert_array_equal(picture, GREY)
    assert tuple(drawn[300, 100]) == class_colour(CLASSES, 1) == (225, 45, 45)  # left edge, half way down
    assert tuple(drawn[300, 200]) == (90, 90, 90)  # inside
    assert tuple(drawn[450, 600]) == (90, 90, 90)  # elsewhere
    assert drawn.shape == picture.shape


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    np.testing.assert_array_equal(annotate(GREY, no_detections(), CLASSES), GREY)


def test_captions_stay_inside_at_every_border() -> None:
    boxes = [[0, 0, 5, 5], [635, 0, 640, 5], [0, 475, 5, 480], [635, 475, 640, 480]]
    drawn = annotate(GREY, found(boxes, [0, 1, 2, 3]), CLASSES, show_scores=True)
    for row, column in ((3, 20), (3, 620), (465, 20), (465, 620)):  # each caption's ground covers the corner beside it
        assert tuple(drawn[row, column]) != (90, 90, 90)


def test_scores_are_shown_only_on_request() -> None:
    one = found([[100, 200, 300, 400]], [3])
    assert not np.array_equal(annotate(GREY, one, CLASSES), annotate(GREY, one, CLASSES, show_scores=True))


def test_tiny_pictures_can_be_drawn_into() -> None:
    drawn = annotate(np.zeros((2, 3, 3), np.uint8), found([[0, 0, 2, 2]], [0]), CLASSES)
    assert drawn.shape == (2, 3, 3)


def test_names_that_opencv_cannot_write_become_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "_UNICODE_FONT", False)
    assert [written_name(CLASSES, label) for label in range(4)] == ["helmet", "no_helmet", "class 2", "dog"]
    assert not draw.can_write("未戴头盔")
    drawn = annotate(GREY, found([[100, 200, 300, 400]], [1]), CLASSES)
    assert tuple(drawn[300, 100]) == (225, 45, 45)
    monkeypatch.setattr(draw, "_UNICODE_FONT", True)
    assert written_name(CLASSES, 1) == "未戴头盔"


def test_side_by_side_marks_what_only_one_found_and_what_they_call_differently() -> None:
    left = Panel("large", found([[100, 200, 200, 300], [400, 200, 500, 300]], [0, 1]), CLASSES, 340.0)
    right = Panel("small", found([[100, 200, 200, 300]], [1]), CLASSES, 22.0)
    both, agreement = side_by_side(GREY, left, right)
    assert both.shape == (32 + 480 + 32, 640 + 4 + 640, 3)
    assert agreement.other_class == ((0, 0),)
    assert agreement.only_left == (1,)
    yellow, magenta = (255, 200, 0), (255, 0, 220)
    left_half, right_half = both[32:-32, :640], both[32:-32, 644:]
    assert (left_half == yellow).all(axis=2).sum() > 50
    assert (left_half == magenta).all(axis=2).sum() > 50
    assert (right_half == yellow).all(axis=2).sum() == 0
    assert (right_half == magenta).all(axis=2).sum() > 50


def test_side_by_side_without_a_difference_has_no_marks() -> None:
    panel = Panel("one", found([[100, 200, 200, 300]], [0]), CLASSES, 10.0)
    both, agreement = side_by_side(GREY, panel, panel)
    assert agreement.is_full
    body = both[32:-32]
    assert not (body == (255, 200, 0)).all(axis=2).any()
    np.testing.assert_array_equal(body[:, :640], body[:, 644:])


@pytest.mark.parametrize(
    ("size", "width"), [((90, 160), 480), ((1080, 1920), 960), ((480, 640), 640), ((3, 2000), 960)]
)
def test_panels_are_scaled_to_be_readable(size: tuple[int, int], width: int) -> None:
    picture = np.zeros((*size, 3), dtype=np.uint8)
    panel = Panel("a name that is far too long for the bar above the picture " * 3, no_detections(), CLASSES, 1.0)
    both, _ = side_by_side(picture, panel, panel)
    assert both.shape[1] == 2 * width + 4
