"""What camera and line do to a picture: exposure, compression, amplifier, few pixels.

All four are in Hendrycks & Dietterich 2019 (motion blur, JPEG, Gaussian noise, pixelate); qualities 25, 15 and 7 are
their severities 1, 3 and 5, deviations 20, 31 and 46 of 255 their 1, 2 and 3.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.detections import Image
from helmlite.evaluate.conditions.grain import normal_grain, rounded

_SMALLEST_BLURRED = 300  # pixels: smaller pictures are blurred as if they had these, as a shift by 0.6 pixels is none
_SMALLEST_COARSENED = 427  # pixels: smaller pictures lose the share of their pixels that one of these would


def blurred_by_motion(
    image: Image, level: float, boxes_xyxy: NDArray[np.float32], random: np.random.Generator
) -> Image:
    """Motion during the exposure by `level` of the longer side, within 30° of level.

    For something that crosses the picture in one second, 1 % is an exposure of 1/100 s, 4 % of 1/25 s.
    """
    length = max(round(level * max(*image.shape[:2], _SMALLEST_BLURRED)), 3)
    path = _level_line(length, random.uniform(-30, 30))
    return np.asarray(cv2.filter2D(image, -1, path, borderType=cv2.BORDER_REPLICATE), dtype=np.uint8)


def compressed(image: Image, level: float, boxes_xyxy: NDArray[np.float32], random: np.random.Generator) -> Image:
    """JPEG at quality `level`, at the picture's own size, as a thin line sends it."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(level)]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
    return np.asarray(cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def noisy(image: Image, level: float, boxes_xyxy: NDArray[np.float32], random: np.random.Generator) -> Image:
    """Gaussian noise of standard deviation `level` of 255 in each channel."""
    return rounded(image + np.float32(level) * normal_grain(image, random))


def coarse(image: Image, level: float, boxes_xyxy: NDArray[np.float32], random: np.random.Generator) -> Image:
    """Only `level` pixels along the longer side, enlarged again to the size it had.

    Of a picture below 427 pixels about 3/4 (at 320), 1/2 (224) or 1/3 (144) of the pixels along a side are kept.
    """
    height, width = image.shape[:2]
    kept = level / max(height, width, _SMALLEST_COARSENED)
    small = cv2.resize(image, (max(round(width * kept), 1), max(round(height * kept), 1)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _level_line(length: int, angle_degrees: float) -> NDArray[np.float32]:
    """Weights that add up to 1 along a line of this length through the middle of a square of odd side."""
    reach = (length - 1) / 2
    middle = math.ceil(reach)
    steps = np.linspace(-reach, reach, 4 * length)
    across = middle + steps * math.cos(math.radians(angle_degrees))
    down = middle + steps * math.sin(math.radians(angle_degrees))
    weights = np.zeros((2 * middle + 2, 2 * middle + 2), dtype=np.float32)
    left, top = np.floor(across).astype(int), np.floor(down).astype(int)
    for row, column, share in (  # each step's weight goes to the four pixels around it
        (top, left, (1 - across + left) * (1 - down + top)),
        (top, left + 1, (across - left) * (1 - down + top)),
        (top + 1, left, (1 - across + left) * (down - top)),
        (top + 1, left + 1, (across - left) * (down - top)),
    ):
        np.add.at(weights, (row, column), share.astype(np.float32))
    return weights[:-1, :-1] / weights[:-1, :-1].sum()
