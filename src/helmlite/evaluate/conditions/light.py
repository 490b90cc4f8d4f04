"""Too little light, and light in the wrong place.

Night   light falls by stops (halvings) before the camera sees it, so in linear light, and what is left is counted in
        electrons: variance = signal / full well + read noise^2 (Foi et al. 2008, "Practical Poissonian-Gaussian noise
        modeling and fitting for single-image raw-data", section II); Hendrycks & Dietterich 2019 call it shot noise
Glare   a lamp's light spreads in lens and haze about as 1 / r^2 and is added to all else: Spencer et al. 1995,
        "Physically-Based Glare Effects for Digital Images", section 3
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from helmlite.detections import Image
from helmlite.evaluate.conditions.grain import normal_grain, rounded

GAMMA = 2.2
FULL_WELL = 1500.0  # electrons at white: a small sensor, short exposed
READ_NOISE = 0.0008  # of white
LAMP_COLOUR = (255.0, 246.0, 228.0)
_LAMP = 2.0  # times white in its middle


def at_night(image: Image, level: float, boxes_xyxy: NDArray[np.float32], random: np.random.Generator) -> Image:
    """A picture that got 2^-level of its light, with the noise of the few electrons that are left.

    Grey 120 becomes 47 after 3 stops and 18 after 6.
    """
    table = ((np.arange(256) / 255) ** GAMMA / 2**level).astype(np.float32)
    light = table[image]
    noise = normal_grain(image, random) * np.sqrt(light / FULL_WELL + READ_NOISE**2).astype(np.float32)
    return rounded(255 * np.clip(light + noise, 0, 1) ** np.float32(1 / GAMMA))


def glaring(image: Image, level: float, boxes_xyxy: NDArray[np.float32], random: np.random.Generator) -> Image:
    """A lamp shines into the camera: all white up to `level` of the shorter side around it.

    At three times that distance a fifth of white is added, at ten times 2 %.  It stands anywhere but near the edges
    and in the lower part.
    """
    height, width = image.shape[:2]
    x, y = random.uniform(0.15, 0.85) * width, random.uniform(0.1, 0.6) * height
    across = (np.arange(width, dtype=np.float32) + 0.5 - np.float32(x)) ** 2
    down = (np.arange(height, dtype=np.float32) + 0.5 - np.float32(y)) ** 2
    radius = max(level * min(height, width), 0.5 + level)
    veil = np.float32(_LAMP) / (1 + (across[None] + down[:, None]) / np.float32(radius**2))
    return rounded(image + veil[..., None] * np.array(LAMP_COLOUR, dtype=np.float32))
