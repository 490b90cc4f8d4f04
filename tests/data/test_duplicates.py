from __future__ import annotations

import cv2
import numpy as np
import pytest

from helmlite.data.duplicates import components, find_duplicates, fingerprint
from helmlite.detections import Image


def street(seed: int, width: int = 320, height: int = 240) -> Image:
    """A picture of random coarse shapes: every seed another place."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    image: Image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return image


def with_vehicle(background: Image, left: int, top: int, size: int = 30) -> Image:
    """The picture with a square of the grey that stands out most."""
    image = background.copy()
    place = image[top : top + size, left : left + size]
    place[:] = 0 if place.mean() > 128 else 255
    return image


def pairs_of(images: list[Image]) -> list[list[int]]:
    found: list[list[int]] = find_duplicates([fingerprint(image) for image in images]).pairs.tolist()
    return found


def test_different_pictures_are_not_alike() -> None:
    assert pairs_of([street(seed) for seed in range(120)]) == []


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one_have_no_pairs(count: int) -> None:
    found = find_duplicates([fingerprint(street(0))] * count)
    assert found.pairs.shape == (0, 2) and found.scenes == ()


def test_copies_survive_recompression_scaling_brightness_and_mirroring() -> None:
    whole = street(1)
    recompressed = cv2.imdecode(cv2.imencode(".jpg", whole, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR)
    smaller = cv2.resize(whole, (160, 130), interpolation=cv2.INTER_AREA)
    darker = (whole * 0.6 + 10).astype(np.uint8)
    mirrored = whole[:, ::-1].copy()
    assert pairs_of([whole, street(2), recompressed]) == [[0, 2]]
    assert pairs_of([smaller, street(2), whole]) == [[0, 2]]
    assert pairs_of([whole, darker]) == [[0, 1]]
    assert pairs_of([street(3), whole, mirrored]) == [[1, 2]]


def test_pictures_of_one_grey_are_not_called_copies() -> None:
    night = np.zeros((60, 80, 3), np.uint8)
    noise = np.random.default_rng(0).integers(0, 2, (60, 80, 3)).astype(np.uint8)
    assert pairs_of([night, night + 3, noise]) == []


def test_a_fixed_camera_is_a_scene_and_only_equal_moments_are_copies() -> None:
    background = street(5)
    rng = np.random.default_rng(0)
    moments = [with_vehicle(background, int(rng.integers(0, 270)), int(rng.integers(0, 190))) for _ in range(20)]
    again = np.clip(moments[4].astype(int) + rng.integers(-3, 4, moments[4].shape), 0, 255).astype(np.uint8)
    found = find_duplicates([fingerprint(image) for image in [*moments, again, street(6)]])
    assert [4, 20] in found.pairs.tolist()
    assert len(found.pairs) <= 2  # by chance two vehicles may stand in one place
    assert len(found.scenes) == 1
    assert set(found.scenes[0].tolist()) >= set(range(20))
    assert 21 not in found.scenes[0]


def test_many_pictures_are_compared_in_blocks() -> None:
    images = [street(seed, 40, 30) for seed in range(700)]
    assert pairs_of([*images, images[3], images[699]]) == [[3, 700], [699, 701]]


def test_components_follow_chains() -> None:
    pairs = np.array([[3, 4], [1, 2], [2, 3], [7, 6]])
    assert components(8, pairs).tolist() == [0, 1, 1, 1, 1, 5, 6, 6]
    assert components(3, np.zeros((0, 2), np.int64)).tolist() == [0, 1, 2]
    chain = np.stack([np.arange(999), np.arange(1, 1000)], axis=1)
    assert set(components(1000, np.random.default_rng(0).permutation(chain)).tolist()) == {0}
