"""Pictures made worse: each condition does what it says, more of it at each severity, and the same everywhere."""

from __future__ import annotations

import subprocess
import sys
from zlib import crc32

import cv2
import numpy as np
import pytest

from helmlite.evaluate.conditions import CONDITIONS, SEVERITIES, worsened
from helmlite.evaluate.conditions.camera import blurred_by_motion, coarse, compressed, noisy
from helmlite.evaluate.conditions.grain import FINEST, cell_side, normal_grain
from helmlite.evaluate.conditions.light import at_night, glaring
from helmlite.evaluate.conditions.occlusion import occluded
from helmlite.evaluate.conditions.weather import FAR_M, FOG_LIGHT, NEAR_M, foggy, rainy

GREY = np.full((240, 320, 3), 120, dtype=np.uint8)
BOXES = np.array([(20, 30, 80, 110), (200.5, 40.2, 260.9, 99.7), (300, 200, 340, 260)], dtype=np.float32)
NO_BOXES = np.zeros((0, 4), dtype=np.float32)


def _random() -> np.random.Generator:
    return np.random.default_rng(3)


def _photo(height: int = 240, width: int = 320) -> np.ndarray:
    """Smooth areas, edges and fine texture."""
    random = np.random.default_rng(5)
    coarse_part = cv2.resize(random.integers(30, 226, (6, 8, 3), dtype=np.uint8), (width, height))
    return cv2.add(coarse_part, random.integers(0, 30, (height, width, 3), dtype=np.uint8))


def _luma(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)


def _fineness(image: np.ndarray) -> float:
    return float(np.abs(cv2.Laplacian(_luma(image), cv2.CV_64F)).mean())


def _contrast(image: np.ndarray) -> float:
    return float(_luma(image).std())


MEASURES = {  # condition: (measure, +1 where it grows with the severity, -1 where it falls)
    "fog": (lambda image, before: _contrast(image), -1),
    "night": (lambda image, before: float(_luma(image).mean()), -1),
    "glare": (lambda image, before: float((image == 255).all(axis=2).mean()), 1),
    "motion blur": (lambda image, before: _fineness(image), -1),
    "JPEG": (lambda image, before: float(np.abs(image.astype(float) - before).mean()), 1),
    "noise": (lambda image, before: float((image.astype(float) - before).std()), 1),
    "low resolution": (lambda image, before: _fineness(image), -1),
    "occlusion": (lambda image, before: float((image != before).any(axis=2).mean()), 1),
}


@pytest.mark.parametrize("condition", MEASURES)
def test_a_severer_condition_is_more_of_the_same(condition: str) -> None:
    measure, direction = MEASURES[condition]
    photo = _photo()
    values = [measure(worsened(photo, BOXES, condition, severity, "a.jpg"), photo) for severity in SEVERITIES]
    before = measure(photo, photo)
    assert (np.diff([before, *values]) * direction > 0).all()


def test_rain_grows_over_what_is_grey() -> None:
    """On a photo streaks and veil pull contrast both ways; on grey only the streaks are seen."""
    spreads = [_contrast(worsened(GREY, NO_BOXES, "rain", severity, "a.jpg")) for severity in SEVERITIES]
    assert (np.diff([0, *spreads]) > 0).all()


def test_rain_covers_the_share_it_states_in_upright_streaks() -> None:
    wet = _luma(rainy(GREY, 0.12, NO_BOXES, _random()))
    veil = round(0.88 * 120 + 0.12 * 150)
    assert wet.min() == veil
    assert (wet > veil + 2).mean() == pytest.approx(0.12, abs=0.04)
    assert np.abs(np.diff(wet, axis=1)).mean() > 2 * np.abs(np.diff(wet, axis=0)).mean()


def test_fog_is_koschmieders_law() -> None:
    """Without patches a row at depth d keeps exp(-ln 20 d / V) of its distance to the fog's light."""

    class _Even(np.random.Generator):
        def standard_normal(self, size=None, dtype=np.float64, out=None):  # type: ignore[no-untyped-def]
            return np.zeros(size, dtype)

    found = foggy(GREY, FAR_M, NO_BOXES, _Even(np.random.PCG64()))
    top, bottom = float(found[0, 0, 0]), float(found[-1, 0, 0])
    assert top == pytest.approx(FOG_LIGHT - 0.05 * (FOG_LIGHT - 120), abs=1)  # 5 % of its contrast at the visibility
    assert bottom == pytest.approx(FOG_LIGHT - 20 ** (-NEAR_M / FAR_M) * (FOG_LIGHT - 120), abs=1)
    patchy = foggy(GREY, FAR_M, NO_BOXES, _random())
    assert patchy[120].std() > 1


@pytest.mark.parametrize(("stops", "level"), [(3, 47), (6, 18)])
def test_night_takes_stops_of_light(stops: float, level: float) -> None:
    """120 in linear light is 0.19 of white; an eighth of that is 47 grey levels, 1/64 is 18."""
    dark = at_night(GREY, stops, NO_BOXES, _random()).astype(float)
    assert dark.mean() == pytest.approx(level, abs=1)
    assert dark.std() > 1


def test_glare_is_added_and_white_within_its_radius() -> None:
    bright = glaring(GREY, 0.1, NO_BOXES, _random())
    assert (bright >= GREY).all()
    white = (bright[..., 2] == 255).sum()  # blue, of which the lamp has least
    radius = np.sqrt(white / np.pi) / 240
    assert 0.1 <= radius < 0.25  # 1/10 on black; a little more on grey, which needs less light to be white
    on_black = glaring(np.zeros_like(GREY), 0.1, NO_BOXES, _random())
    assert np.sqrt((on_black[..., 0] == 255).sum() / np.pi) / 240 == pytest.approx(0.1, rel=0.05)


def test_motion_blurs_along_and_not_across() -> None:
    """Upright edges are smeared over 2 % of the width, those that lie are within 30° of the motion and stay sharper."""
    upright, lying = GREY.copy(), GREY.copy()
    upright[:, 160:], lying[120:] = 240, 240
    smeared = [_luma(blurred_by_motion(image, 0.02, NO_BOXES, np.random.default_rng(8))) for image in (upright, lying)]
    steps = np.abs(np.diff(smeared[0][120])).max(), np.abs(np.diff(smeared[1][:, 160])).max()
    assert steps[0] < steps[1]
    assert steps[0] == pytest.approx(120 / 6, rel=0.25)  # 6 pixels share the step of 120
    assert smeared[0].mean() == pytest.approx(180, abs=0.5)  # no light is lost


def test_jpeg_leaves_blocks_of_eight() -> None:
    found = _luma(compressed(_photo(), 7, NO_BOXES, _random()))
    steps = np.abs(np.diff(found, axis=1)).mean(axis=0)
    at_borders = steps[7::8].mean()
    assert at_borders > 1.5 * np.delete(steps, np.arange(7, len(steps), 8)).mean()


def test_noise_has_the_deviation_it_states() -> None:
    assert noisy(GREY, 20, NO_BOXES, _random()).astype(float).std() == pytest.approx(20, rel=0.02)


def test_noise_outlives_the_detectors_own_shrinking() -> None:
    """A picture four times as large has grains four times as large: shrunk to 640 pixels, as much is left."""
    large = noisy(np.full((1440, 2560, 3), 120, np.uint8), 20, NO_BOXES, _random())
    small = cv2.resize(large, (640, 360), interpolation=cv2.INTER_AREA)
    assert small.astype(float).std() == pytest.approx(20, rel=0.02)
    assert cell_side(1440, 2560) == 4
    assert normal_grain(np.zeros((3, FINEST + 1, 3), np.uint8), _random()).shape == (3, FINEST + 1, 3)


def test_low_resolution_keeps_the_mean_of_what_becomes_one_pixel() -> None:
    """432 pixels become 144: stripes of one bright pixel in three are an even (120 + 120 + 200) / 3."""
    stripes = np.full((240, 432, 3), 120, dtype=np.uint8)
    stripes[:, ::3] = 200
    assert np.unique(coarse(stripes, 144, NO_BOXES, _random())).tolist() == [147]
    assert len(np.unique(coarse(stripes, 320, NO_BOXES, _random()))) > 1


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_each_box_is_hidden_by_the_stated_share(share: float) -> None:
    """Of 60 x 80 pixels, of a box between pixels, and of what lies in the picture of one that sticks out."""
    for seed in range(8):  # every side gets its turn
        for box in BOXES:
            blank = np.zeros((240, 320, 3), dtype=np.uint8)
            hidden = occluded(blank, share, box[None], np.random.default_rng(seed))[..., 0] > 0
            left, top, right, bottom = np.clip(box, 0, [320, 240, 320, 240])
            inside = hidden[int(np.ceil(top)) : int(bottom), int(np.ceil(left)) : int(right)]
            assert share - 0.02 <= inside.mean() <= share + 0.08
            assert hidden.sum() > inside.sum()  # it sticks out, so that its edge is not the box's


def test_nothing_labelled_is_nothing_hidden() -> None:
    outside = np.array([(400, 10, 500, 90), (10, 10, 10, 40)], dtype=np.float32)
    assert (occluded(GREY, 0.6, NO_BOXES, _random()) == GREY).all()
    assert (occluded(GREY, 0.6, outside, _random()) == GREY).all()


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 2), (33, 47), (241, 319), (900, 1500)])
def test_any_picture_keeps_shape_and_type_and_is_not_touched(condition: str, shape: tuple[int, int]) -> None:
    image = _photo(*shape)
    before = image.copy()
    boxes = np.array([(0, 0, shape[1] / 2, shape[0] / 2)], dtype=np.float32)
    for severity in SEVERITIES if max(shape) < 400 else (2,):
        changed = worsened(image, boxes, condition, severity, "a.jpg")
        assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
        if min(shape) > 30:
            assert (changed != image).any()
    assert (image == before).all()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_picture_without_colour_gets_none_but_from_noise_and_lamp(condition: str) -> None:
    grey = cv2.cvtColor(cv2.cvtColor(_photo(), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    changed = worsened(grey, BOXES, condition, 2, "a.jpg").astype(int)
    has_colour = bool((np.abs(changed - changed[..., :1]) > 2).any())
    assert has_colour == (condition in ("night", "glare", "noise"))


_PROGRAM = """
import sys, zlib, numpy as np
from helmlite.evaluate.conditions import CONDITIONS, worsened
image = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)
boxes = np.array([(5, 5, 25, 30)], np.float32)
names = list(CONDITIONS) if sys.argv[1] == "forth" else list(CONDITIONS)[::-1]
sums = {name: zlib.crc32(worsened(image, boxes, name, 2, "b.jpg", 7).tobytes()) for name in names}
print([sums[name] for name in CONDITIONS])
"""


def test_the_same_in_another_process_and_another_order() -> None:
    image = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    boxes = np.array([(5, 5, 25, 30)], np.float32)
    here = [crc32(worsened(image, boxes, name, 2, "b.jpg", 7).tobytes()) for name in CONDITIONS]
    for way in ("forth", "back"):
        told = subprocess.run([sys.executable, "-c", _PROGRAM, way], capture_output=True, text=True, check=True).stdout
        assert told.strip() == str(here)


def test_chance_follows_seed_and_name() -> None:
    first, again, named, seeded = (
        worsened(GREY, NO_BOXES, "noise", 1, name, seed)
        for name, seed in (("a.jpg", 0), ("a.jpg", 0), ("b.jpg", 0), ("a.jpg", 1))
    )
    assert (first == again).all()
    assert (first != named).any()
    assert (first != seeded).any()


def test_a_severer_rain_has_the_same_drops_and_more() -> None:
    mild, severe = (_luma(worsened(GREY, NO_BOXES, "rain", severity, "a.jpg")) for severity in (1, 3))
    on_mild, on_severe = mild > mild.min() + 2, severe > severe.min() + 2
    assert (on_severe[on_mild]).mean() > 0.99


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown condition 'snow'. Known: rain, fog"):
        worsened(GREY, NO_BOXES, "snow", 1, "a.jpg")
    with pytest.raises(ValueError, match="A severity is 1, 2 or 3; got 4"):
        worsened(GREY, NO_BOXES, "rain", 4, "a.jpg")
    assert all(len(item.levels) == len(item.says) == len(SEVERITIES) for item in CONDITIONS.values())
