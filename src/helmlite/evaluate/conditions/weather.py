"""Rain and fog: what is in the air between camera and head.

Fog    Koschmieder's law, as in Narasimhan & Nayar 2002, "Vision and the Atmosphere", section 3:
       I = J t + A (1 - t),  t = exp(-ln(20) d / V):  what is V metres away keeps 5 % of its contrast
Rain   drops that fall during the exposure are streaks, brighter than what is behind them since a drop gathers light
       from the whole sky (Garg & Nayar 2007, "Vision and Rain", section 4); made as oriented noise, which is how
       Hendrycks & Dietterich 2019 make snow; and the veil of the drops that are too far away to be seen one by one
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.detections import Image
from helmlite.evaluate.conditions.grain import Field, cell_side, rounded

NEAR_M, FAR_M = 8.0, 60.0  # taken for the lower and the upper edge, since one picture does not tell its depth
FOG_LIGHT = 215.0  # of 255: fog by day
PATCHINESS = 0.2
RAIN_LIGHT, STREAK_OPACITY = 200.0, 0.55
VEIL_LIGHT = 150.0
_STREAK_LENGTH = 0.06  # of the height
_CONTRAST_LEFT = math.log(20)


def rainy(image: Image, level: float, boxes_xyxy: NDArray[np.float32], random: np.random.Generator) -> Image:
    """Bright streaks over a share `level` of the picture, all slanting alike by up to 20°, behind them as dense a veil.

    A streak is 6 % of the height long and hides up to 55 % of what is behind it.
    """
    height, width = image.shape[:2]
    veiled = image * np.float32(1 - level) + np.float32(level * VEIL_LIGHT)
    streaks = _streaks(height, width, level, random)[..., None] * np.float32(STREAK_OPACITY)
    return rounded(veiled + (RAIN_LIGHT - veiled) * streaks)


def foggy(image: Image, level: float, boxes_xyxy: NDArray[np.float32], random: np.random.Generator) -> Image:
    """Fog of a visibility of `level` metres, denser and thinner by about a fifth from place to place.

    The lower edge of the picture is taken to be 8 m away, the upper 60 m, and equal steps between to be equal ratios.
    """
    height, width = image.shape[:2]
    upward = 1 - (np.arange(height, dtype=np.float32) + 0.5) / height
    depth_m = NEAR_M * (FAR_M / NEAR_M) ** upward  # (H,)
    patches = cv2.resize(
        random.standard_normal((4, 5), dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    passed = np.exp(-_CONTRAST_LEFT / level * depth_m[:, None] * np.exp(np.float32(PATCHINESS) * patches))[..., None]
    return rounded(FOG_LIGHT + (image - np.float32(FOG_LIGHT)) * passed.astype(np.float32))


def _streaks(height: int, width: int, share: float, random: np.random.Generator) -> Field:
    """(H, W) in [0, 1], above 0 in about this share of it; the drops of a smaller share are among those of a larger."""
    side = cell_side(height, width)
    rows, columns = -(-height // side), -(-width // side)
    streak = _upright_line(max(round(_STREAK_LENGTH * rows), 3), random.uniform(-20, 20))
    margin = len(streak) // 2  # drops that reach in from outside
    shape = (rows + 2 * margin, columns + 2 * margin)
    chance, strength = random.random(shape, dtype=np.float32), random.random(shape, dtype=np.float32)
    falls_here = 1 - (1 - share) ** (1 / np.count_nonzero(streak))
    drops = np.where(chance < falls_here, 0.3 + 0.7 * strength, 0).astype(np.float32)
    seen = cv2.dilate(drops, streak)[margin : margin + rows, margin : margin + columns]
    return np.asarray(cv2.resize(seen, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _upright_line(length: int, slant_degrees: float) -> NDArray[np.uint8]:
    """A square of odd side with ones on a line through its middle, so many degrees from upright."""
    middle = length // 2
    square = np.zeros((2 * middle + 1, 2 * middle + 1), dtype=np.uint8)
    aside = round(middle * math.tan(math.radians(slant_degrees)))
    cv2.line(square, (middle - aside, 0), (middle + aside, 2 * middle), 1)
    return square
