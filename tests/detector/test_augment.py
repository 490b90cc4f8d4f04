"""Augmented pictures keep their labels: every number here is worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.detector.augment import (
    NO_AUGMENTATION,
    Augmentation,
    LabelledPicture,
    augmented,
    centred,
    mirror,
    mixed,
    mosaic_places,
    moved_boxes,
    random_affine,
    recoloured,
    warped,
)
from helmlite.runtime.preprocess import PAD_VALUE, letterbox


def picture_with(boxes: list[list[float]], width: int = 64, height: int = 64, colour: int = 0) -> LabelledPicture:
    """A plain picture with a white rectangle for each box."""
    image = np.full((height, width, 3), colour, dtype=np.uint8)
    for left, top, right, bottom in boxes:
        image[int(top) : int(bottom), int(left) : int(right)] = 255
    labels = np.arange(len(boxes), dtype=np.int64)
    return LabelledPicture(image, np.array(boxes, dtype=np.float32).reshape(-1, 4), labels)


def seen_box(image: np.ndarray, threshold: int = 190) -> list[int]:
    """The rectangle around everything white."""
    rows, columns = np.nonzero(image[:, :, 0] > threshold)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


def test_mirror_moves_box_and_pixels_alike():
    made = warped([picture_with([[10, 20, 18, 40]])], [mirror(64)], 64)
    # x -> 64 - x: left edge 64 - 18 = 46, right edge 64 - 10 = 54
    assert made.boxes_xyxy.tolist() == [[46, 20, 54, 40]]
    assert seen_box(made.image) == [46, 20, 54, 40]


def test_mirror_twice_is_the_same_picture():
    picture = LabelledPicture(
        np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8),
        np.array([[1, 2, 20, 30]], dtype=np.float32),
        np.zeros(1, np.int64),
    )
    twice = warped([warped([picture], [mirror(32)], 32)], [mirror(32)], 32)
    assert np.array_equal(twice.image, picture.image)
    assert np.allclose(twice.boxes_xyxy, picture.boxes_xyxy)


def test_zoom_by_two_about_the_centre():
    zoom = np.array([[2.0, 0, -32], [0, 2, -32], [0, 0, 1]])  # 64-pixel square, centre 32 stays
    made = warped([picture_with([[28, 20, 36, 32]])], [zoom], 64)
    assert made.boxes_xyxy.tolist() == [[24, 8, 40, 32]]
    assert seen_box(made.image) == [24, 8, 40, 32]


def test_quarter_turn_exchanges_width_and_height():
    # (x, y) -> (64 - y, x): the box x 10..20, y 30..34 becomes x 30..34, y 10..20
    turn = np.array([[0.0, -1, 64], [1, 0, 0], [0, 0, 1]])
    made = warped([picture_with([[10, 30, 20, 34]])], [turn], 64)
    assert np.allclose(made.boxes_xyxy, [[30, 10, 34, 20]])
    assert seen_box(made.image) == [30, 10, 34, 20]


def test_turned_square_keeps_its_side():
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    back = np.array([[1.0, 0, 50], [0, 1, 50], [0, 0, 1]])
    forth = np.array([[1.0, 0, -50], [0, 1, -50], [0, 0, 1]])
    moved, kept = moved_boxes(np.array([[40, 40, 60, 60]], np.float32), back @ turn @ forth, 100)
    assert kept.tolist() == [True]
    assert np.allclose(moved, [[40, 40, 60, 60]], atol=1e-4)  # around the round head, not around the corners


def test_boxes_are_cut_at_the_border_and_leftovers_go():
    right = np.array([[1.0, 0, 30], [0, 1, 0], [0, 0, 1]])
    boxes = np.array([[0, 0, 20, 20], [24, 0, 44, 20], [31, 0, 51, 20], [40, 0, 50, 20]], dtype=np.float32)
    moved, kept = moved_boxes(boxes, right, 64)
    # 30..50 whole; 54..74 has half of itself inside; 61..81 only 3 of 20; 70..80 nothing
    assert kept.tolist() == [True, True, False, False]
    assert moved.tolist() == [[30, 0, 50, 20], [54, 0, 64, 20]]


def test_boxes_thinner_than_two_pixels_go():
    half = np.diag([0.5, 0.5, 1.0])
    _, kept = moved_boxes(np.array([[0, 0, 3, 40], [0, 0, 4, 40], [5, 5, 5, 9]], np.float32), half, 64)
    assert kept.tolist() == [False, True, False]


def test_no_boxes_stay_no_boxes():
    moved, kept = moved_boxes(np.zeros((0, 4), np.float32), mirror(64), 64)
    assert moved.shape == (0, 4)
    assert kept.shape == (0,)


def test_without_augmentation_it_is_the_letterbox():
    image = np.random.default_rng(1).integers(0, 256, (30, 60, 3), dtype=np.uint8)
    picture = LabelledPicture(image, np.array([[6, 3, 30, 27]], np.float32), np.zeros(1, np.int64))
    made = augmented([picture], 60, NO_AUGMENTATION, np.random.default_rng(0))
    square, placement = letterbox(image, 60)
    assert np.array_equal(made.image, square)
    assert np.allclose(made.boxes_xyxy, placement.to_network(picture.boxes_xyxy))


def test_letterbox_of_a_picture_that_is_scaled_up():
    picture = picture_with([[8, 4, 16, 12]], width=32, height=16)
    made = warped([picture], [centred(picture, 64)], 64)
    assert made.boxes_xyxy.tolist() == [[16, 24, 32, 40]]  # twice as large, 16 pixels of grey above
    assert made.image[0, 0].tolist() == [PAD_VALUE] * 3


def test_mosaic_puts_four_pictures_around_one_point():
    pictures = [picture_with([[30, 30, 34, 34]], colour=colour) for colour in (0, 40, 80, 120)]
    random = np.random.default_rng(3)
    places = mosaic_places(pictures, 64, random)
    centre_x, centre_y = np.random.default_rng(3).uniform(0.2, 0.8, size=2) * 64
    corner_of = [(64, 64), (0, 64), (64, 0), (0, 0)]  # of each picture, the corner that lies at the common point
    for place, corner in zip(places, corner_of):
        assert np.allclose(place @ [*corner, 1], [centre_x, centre_y, 1])
    made = warped(pictures, places, 64)
    x, y = round(centre_x), round(centre_y)
    colours = [made.image[y - 3, x - 3, 0], made.image[y - 3, x + 3, 0]]
    colours += [made.image[y + 3, x - 3, 0], made.image[y + 3, x + 3, 0]]
    assert colours == [0, 40, 80, 120]


def test_mosaic_boxes_lie_on_their_heads():
    pictures = [picture_with([[20, 20, 40, 40]], colour=colour) for colour in (0, 20, 40, 60)]
    checked = 0
    for seed in range(30):
        made = augmented(
            pictures, 128, Augmentation(rotate=0, hue=0, saturation=0, value=0), np.random.default_rng(seed)
        )
        assert made.boxes_xyxy.min(initial=0) >= 0
        assert made.boxes_xyxy.max(initial=0) <= 128
        for left, top, right, bottom in made.boxes_xyxy:
            inside = made.image[int(np.ceil(top)) : int(bottom), int(np.ceil(left)) : int(right), 0]
            if inside.size:
                assert np.median(inside) == 255
                checked += 1
    assert checked > 30


def test_random_affine_keeps_to_its_limits():
    settings = Augmentation(scale=0.4, translate=0.1, rotate=10)
    for seed in range(50):
        matrix = random_affine(100, settings, np.random.default_rng(seed))
        zoom = np.sqrt(np.linalg.det(matrix[:2, :2]))
        angle = np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0]))
        shift = (matrix @ [50, 50, 1])[:2] - 50
        assert 0.6 <= zoom <= 1.4
        assert abs(angle) <= 10
        assert np.abs(shift).max() <= 10


def test_same_generator_same_picture_and_other_generator_another():
    picture = picture_with([[10, 10, 30, 30]], colour=60)
    first, again, other = (augmented([picture], 64, Augmentation(), np.random.default_rng(s)) for s in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.boxes_xyxy, again.boxes_xyxy)
    assert not np.array_equal(first.image, other.image)


def test_value_jitter_changes_brightness_only():
    grey = np.full((4, 4, 3), 100, dtype=np.uint8)
    made = recoloured(grey, Augmentation(hue=0, saturation=0, value=0.5), np.random.default_rng(0))
    gain = 1 + np.random.default_rng(0).uniform(-1, 1, size=3)[2] * 0.5
    assert made.tolist() == np.full((4, 4, 3), int(100 * gain)).tolist()


def test_mixed_pictures_have_both_labels():
    one, two = picture_with([[0, 0, 10, 10]], colour=0), picture_with([[20, 20, 40, 40], [0, 0, 5, 5]], colour=200)
    made = mixed(one, two, np.random.default_rng(0))
    assert made.boxes_xyxy.shape == (3, 4)
    assert made.labels.tolist() == [0, 0, 1]
    assert 0 < made.image[60, 60, 0] < 200


@pytest.mark.parametrize("wrong", [{"mosaic": 1.5}, {"scale": 1.0}, {"rotate": -1}, {"flip": -0.1}])
def test_impossible_strengths_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)
