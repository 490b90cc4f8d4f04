"""Facts of boxes, on pictures whose pixels are known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.dataset import Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.evaluate.causes.box_facts import luma_of, measure_boxes, sharpness_of

CHECKERBOARD = np.indices((30, 30)).sum(axis=0) % 2 * 100 + 50
TEXTURE = np.random.default_rng(0).integers(0, 128, (30, 30)).astype(np.uint8)


def _measure(image: np.ndarray, boxes: list[tuple[float, ...]], heads: list[tuple[float, ...]], folder: Path):  # type: ignore[no-untyped-def,type-arg]
    path = folder / "a.png"
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    shaped = [np.array(item, np.float32).reshape(-1, 4) for item in (boxes, heads)]
    data = dataset_of([Sample(path, shaped[1], np.zeros(len(heads), np.int64))], with_roles(["helmet"]))
    return measure_boxes(data, 0, *shaped)


def test_a_checkerboard_is_the_sharpest() -> None:
    assert sharpness_of(CHECKERBOARD.astype(np.uint8)) == pytest.approx(64.0)


def test_blur_lowers_sharpness_and_contrast_does_not() -> None:
    sharp = sharpness_of(TEXTURE)
    assert sharp is not None
    blurred = sharpness_of(np.asarray(cv2.GaussianBlur(TEXTURE, (0, 0), 2), np.uint8))
    assert blurred is not None
    assert blurred < sharp / 10
    assert sharpness_of(TEXTURE * 2) == pytest.approx(sharp)
    assert sharpness_of(TEXTURE + 100) == pytest.approx(sharp)


def test_detail_is_measured_against_the_head_and_not_the_pixel() -> None:
    large = cv2.resize(TEXTURE, (300, 300), interpolation=cv2.INTER_CUBIC)
    small_sharpness, large_sharpness = sharpness_of(TEXTURE), sharpness_of(large)
    assert small_sharpness is not None
    assert large_sharpness is not None
    assert small_sharpness / 3 < large_sharpness < small_sharpness
    assert cv2.Laplacian(large, cv2.CV_64F).var() / large.var() < small_sharpness / 100  # measured in pixels


@pytest.mark.parametrize("grey", [np.full((20, 20), 9), np.zeros((5, 40)), np.zeros((0, 0))])
def test_sharpness_that_cannot_be_told_is_unknown(grey) -> None:  # type: ignore[no-untyped-def]
    assert sharpness_of(grey.astype(np.uint8)) is None


def test_luma_is_rec_601() -> None:
    assert luma_of(np.array([[(255, 0, 0), (0, 255, 0), (0, 0, 255)]], np.uint8)).tolist() == [[76, 150, 29]]


def test_darkness_of_the_crop_and_of_the_picture(tmp_path: Path) -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    image[20:40, 20:40] = 40
    facts = _measure(image, [(20, 20, 40, 40)], [(20, 20, 40, 40)], tmp_path)[0]
    assert (facts.luma, facts.height_pixels, facts.sharpness) == (40.0, 20.0, None)
    assert facts.picture_luma == pytest.approx(200 - 160 * 0.04)


def test_neighbours_are_the_other_heads(tmp_path: Path) -> None:
    a, half_over_a, near, far = (20, 20, 30, 30), (25, 20, 35, 30), (5, 20, 15, 30), (60, 60, 70, 70)
    facts = _measure(
        np.zeros((100, 100, 3), np.uint8), [a, far, (61, 60, 71, 70)], [a, half_over_a, near, far], tmp_path
    )
    assert facts[0].highest_iou == pytest.approx(1 / 3)
    assert [item.near_heads for item in facts] == [2, 0, 0]
    assert facts[1].highest_iou == facts[2].highest_iou == 0.0  # the third lies on `far`, which is no neighbour of it


def test_a_doubled_label_is_a_crowd(tmp_path: Path) -> None:
    a = (20, 20, 30, 30)
    assert _measure(np.zeros((50, 50, 3), np.uint8), [a], [a, a], tmp_path)[0].highest_iou == 1.0


@pytest.mark.parametrize(
    ("box", "cut"),
    [((3, 3, 20, 20), False), ((2, 10, 20, 20), True), ((10, 10, 20, 49), True), ((-5, 10, 20, 20), True)],
)
def test_cut_off_by_the_border(box, cut, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert _measure(np.zeros((50, 50, 3), np.uint8), [box], [box], tmp_path)[0].is_truncated is cut


def test_a_picture_that_went_away_leaves_pixels_unknown() -> None:
    data = dataset_of([Sample(Path("gone.jpg"), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))], ())
    facts = measure_boxes(data, 0, np.array([(1, 2, 11, 22)], np.float32), np.zeros((0, 4), np.float32))[0]
    assert (facts.sharpness, facts.luma, facts.picture_luma, facts.is_truncated) == (None, None, None, None)
    assert (facts.height_pixels, facts.highest_iou, facts.near_heads) == (20.0, 0.0, 0)
    assert measure_boxes(data, 0, np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32)) == ()
