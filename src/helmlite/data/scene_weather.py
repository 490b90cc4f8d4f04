"""Day, night and rain for drawn scenes: the sky, the light on things, and what the air and the camera do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.data.scene_canvas import Colour, Points, SunLight
from helmlite.data.scene_street import Street

WEATHERS = ("day", "night", "rain")
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Air:
    """Weather and time of day as it looks.

    sky: colours at the top and at the horizon; sun: how things are lit; tint: factor on red, green, blue
    ambient: light that is everywhere at night, None by day; rain: drops for a thousand pixels; noise: grey levels
    """

    weather: str
    sky: tuple[Colour, Colour]
    sun: SunLight
    tint: tuple[float, float, float]
    ambient: tuple[float, float, float] | None
    rain: float
    noise: float
    blur: float


@dataclass(frozen=True)
class Glow:
    """A light in the picture.  x, y, reach: pixels; ground_y: where it shines on the road, None if nowhere;
    halo: whether the light itself is seen"""

    x: float
    y: float
    reach: float
    colour: Colour
    strength: float
    ground_y: float | None = None
    halo: bool = True


def random_air(random: np.random.Generator, weather: str) -> Air:
    """Air of this weather.  Raises ValueError for an unknown one."""
    if weather == "day":
        sunny = random.random() < 0.65
        side = float(random.choice([-1.0, 1.0]))
        shadow = (-side * random.uniform(0.2, 0.7), random.uniform(-0.5, 0.6)) if sunny else (0.0, 0.0)
        sky = ((96, 150, 214), (208, 224, 236)) if sunny else ((176, 186, 198), (214, 218, 222))
        warmth, light = random.uniform(-0.05, 0.07), random.uniform(0.88, 1.08)
        tint = (light * (1 + warmth), light, light * (1 - warmth))
        return Air(
            weather, sky, SunLight(side, shadow, 0.62), tint, None, 0.0, random.uniform(1.5, 5), random.uniform(0, 0.7)
        )
    if weather == "night":
        level = random.uniform(0.27, 0.42)
        ambient = (level * 0.85, level * 0.92, level * 1.2)
        rain = random.uniform(0.6, 1.4) if random.random() < 0.15 else 0.0
        sun = SunLight(-1.0, (0.0, 0.0), 0.6)
        sky = ((34, 42, 66), (78, 82, 104))
        return Air(weather, sky, sun, (1.0, 1.0, 1.0), ambient, rain, random.uniform(3, 9), random.uniform(0.2, 0.9))
    if weather == "rain":
        light = random.uniform(0.70, 0.92)
        tint = (light * 0.95, light * 0.99, light * 1.05)
        sun = SunLight(-1.0, (0.0, 0.0), 0.72)
        sky = ((140, 150, 160), (188, 194, 200))
        return Air(
            weather, sky, sun, tint, None, random.uniform(0.8, 2.4), random.uniform(2, 6), random.uniform(0.3, 0.9)
        )
    raise ValueError(f"Unknown weather '{weather}'. Drawn scenes know {', '.join(WEATHERS)}.")


def weathered(image: Picture, street: Street, air: Air, glows: Sequence[Glow], random: np.random.Generator) -> Picture:
    """The finished picture (H, W, 3) uint8 from the plainly lit one."""
    bare = equal_pixels(image, street.image)  # where no figure stands
    if air.rain > 0:
        image = _wet(image, street, bare)
    if air.ambient is not None:
        image = _at_night(image, street, air, glows, bare)
    else:
        tint = np.array([[list(air.tint)]], dtype=np.float32)
        table = np.clip(np.arange(256, dtype=np.float32)[:, None, None] * tint, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table.reshape(1, 256, 3))
        if air.rain > 0:
            image = _greyer(image, 0.45)
            image = _with_glare(image, [glow for glow in glows if glow.strength > 0.5], 0.5)
    if air.rain > 0:
        image = _with_drops(image, air.rain, random)
    if air.blur > 0.35:
        image = cv2.GaussianBlur(image, (3, 3), air.blur)
    return _grainy(image, air.noise, random)


def equal_pixels(first: Picture, second: Picture) -> Picture:
    """(H, W) uint8: 255 where two pictures (H, W, 3) are the same."""
    return cv2.inRange(cv2.absdiff(first, second), (0, 0, 0), (0, 0, 0))


def _at_night(image: Picture, street: Street, air: Air, glows: Sequence[Glow], bare: Picture) -> Picture:
    """Everything gets the light that reaches it: a light map of a quarter of the size, since light is smooth."""
    height, width = image.shape[:2]
    assert air.ambient is not None
    light = np.empty((height // 4 + 1, width // 4 + 1, 3), np.float32)
    light[:] = air.ambient
    for glow in glows:
        _add_spot(light, glow.x / 4, glow.y / 4, glow.reach * 2.2 / 4, 1.0, glow, 0.85 * glow.strength)
        if glow.ground_y is not None:
            _add_spot(light, glow.x / 4, glow.ground_y / 4, glow.reach * 3.0 / 4, 0.4, glow, 0.9 * glow.strength)
    light = 1.25 * (1 - np.exp(-light / 1.25))  # the camera's exposure: light on light saturates
    full = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)
    shining = cv2.merge([street.windows] * 3)
    windows = cv2.multiply(shining, np.array([1.0, 0.82, 0.52, 0.0]), scale=0.9)
    lit = cv2.multiply(image, full, dtype=cv2.CV_8U)
    cv2.copyTo(cv2.add(lit, windows), bare, lit)
    return _with_glare(lit, glows, 1.0)


def _add_spot(
    light: NDArray[np.float32], x: float, y: float, reach: float, flat: float, glow: Glow, strength: float
) -> None:
    """Adds a round (or flat) spot that fades out at `reach`, in pixels of `light`."""
    left, right = max(int(x - reach), 0), min(int(x + reach) + 1, light.shape[1])
    top, bottom = max(int(y - reach * flat), 0), min(int(y + reach * flat) + 1, light.shape[0])
    if right <= left or bottom <= top or reach < 0.5:
        return
    dx = (np.arange(left, right, dtype=np.float32) - x) / reach
    dy = (np.arange(top, bottom, dtype=np.float32) - y) / (reach * flat)
    falloff = np.clip(1 - dx[None] ** 2 - dy[:, None] ** 2, 0, None) ** 2 * strength
    light[top:bottom, left:right] += falloff[..., None] * (np.array(glow.colour, np.float32) / 255)


def _with_glare(image: Picture, glows: Sequence[Glow], strength: float) -> Picture:
    """Adds the halo around each light that is seen."""
    height, width = image.shape[:2]
    halo = np.zeros((height // 2 + 1, width // 2 + 1, 3), np.float32)
    for glow in (item for item in glows if item.halo):
        _add_spot(halo, glow.x / 2, glow.y / 2, glow.reach * 0.5 / 2, 1.0, glow, 95 * glow.strength * strength)
        _add_spot(halo, glow.x / 2, glow.y / 2, glow.reach * 0.14 / 2, 1.0, glow, 230 * glow.strength * strength)
    small = np.clip(halo, 0, 255).astype(np.uint8)
    return cv2.add(image, cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def _wet(image: Picture, street: Street, bare: Picture) -> Picture:
    """A wet road mirrors what stands above it, smeared downwards."""
    height, width = image.shape[:2]
    horizon = int(street.camera.horizon_y)
    below = height - horizon
    above = image[max(horizon - below, 0) : horizon]
    mirrored = cv2.flip(cv2.resize(above, (width, below)), 0)
    mirrored = cv2.blur(mirrored, (5, 41))
    smear = cv2.blur(image[horizon:], (3, 61))
    wet = cv2.addWeighted(mirrored, 0.3, smear, 0.7, 0)
    ground = image[horizon:]
    share = (street.road[horizon:] * bare[horizon:] * (0.55 / 255))[..., None]
    mixed = ground + (wet.astype(np.float32) - ground) * share
    return np.concatenate([image[:horizon], mixed.astype(np.uint8)])


def _greyer(image: Picture, share: float) -> Picture:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, 1 - share, grey, share, 4)


def _with_drops(image: Picture, density: float, random: np.random.Generator) -> Picture:
    """Streaks of rain, all falling the same way."""
    height, width = image.shape[:2]
    count = int(density * height * width / 1000)
    starts = random.random((count, 2)) * (width, height)
    length = random.uniform(0.02, 0.06, size=count) * height
    slant = random.uniform(-0.3, 0.3)
    ends = starts + np.column_stack([length * slant, length])
    streaks = np.zeros((height, width), np.uint8)
    lines = np.rint(np.stack([starts, ends], 1)).astype(np.int32)
    cv2.polylines(streaks, list(lines), False, 50, 1, cv2.LINE_AA)
    return cv2.add(image, cv2.cvtColor(cv2.blur(streaks, (1, 3)), cv2.COLOR_GRAY2RGB))


def _grainy(image: Picture, noise: float, random: np.random.Generator) -> Picture:
    """Adds the sensor's noise, cut from one field so that it costs little."""
    height, width = image.shape[:2]
    top, left = random.integers(0, 256, size=2)
    field = _noise_field(height + 256, width + 256)[top : top + height, left : left + width]
    return cv2.addWeighted(image, 1.0, field, noise / 16, -128 * noise / 16)


@lru_cache(maxsize=4)
def _noise_field(height: int, width: int) -> Picture:
    """uint8 around 128 with a deviation of 16."""
    values = np.random.default_rng(11).normal(128, 16, (height, width, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def street_glows(street: Street) -> list[Glow]:
    """The light of the street lamps."""
    rows: Points = street.lamps
    return [Glow(x, y, 2.2 * s, (255, 214, 150), 0.8, y + 5.5 * s) for x, y, s in rows.tolist()]
