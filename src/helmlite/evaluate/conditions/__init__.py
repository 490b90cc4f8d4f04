"""Nine ways in which a roadside picture gets worse, each in three strengths, the same in every process.

weather.py    rain, fog
light.py      night, glare
camera.py     motion blur, JPEG, noise, low resolution
occlusion.py  something in front of each labelled box
grain.py      random fields as fine as a detector can see

The choice of conditions follows Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", section 3, and Michaelis et al. 2019, "Benchmarking Robustness in Object Detection:
Autonomous Driving when Winter is Coming"; what a camera at a road sees besides is added.  They are stand-ins for bad
pictures, not a forecast.  No box moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from helmlite.detections import Image
from helmlite.evaluate.conditions.camera import blurred_by_motion, coarse, compressed, noisy
from helmlite.evaluate.conditions.light import at_night, glaring
from helmlite.evaluate.conditions.occlusion import occluded
from helmlite.evaluate.conditions.weather import foggy, rainy

Change = Callable[[Image, float, NDArray[np.float32], np.random.Generator], Image]
SEVERITIES = (1, 2, 3)


@dataclass(frozen=True)
class Condition:
    """One way of getting worse.

    change: (picture, level, its labelled boxes (N, 4), random numbers) -> a new picture of the same shape
    levels: what `change` is given at severity 1, 2 and 3
    says:   what each of these is, in words
    """

    change: Change
    levels: tuple[float, float, float]
    says: tuple[str, str, str]


CONDITIONS: Mapping[str, Condition] = {
    "rain": Condition(
        rainy, (0.05, 0.12, 0.25), ("streaks over 5 % of it", "streaks over 12 % of it", "streaks over 25 % of it")
    ),
    "fog": Condition(foggy, (200, 100, 50), ("visibility 200 m", "visibility 100 m", "visibility 50 m")),
    "night": Condition(
        at_night, (3, 4.5, 6), ("3 stops less light (1/8)", "4.5 stops less (1/23)", "6 stops less (1/64)")
    ),
    "glare": Condition(
        glaring,
        (0.04, 0.08, 0.14),
        ("white to 4 % of the shorter side", "white to 8 % of the shorter side", "white to 14 % of the shorter side"),
    ),
    "motion blur": Condition(
        blurred_by_motion, (0.01, 0.02, 0.04), ("1 % of the longer side", "2 % of the longer side", "4 % of it")
    ),
    "JPEG": Condition(compressed, (25, 15, 7), ("quality 25", "quality 15", "quality 7")),
    "noise": Condition(noisy, (20, 31, 46), ("deviation 20 of 255", "deviation 31 of 255", "deviation 46 of 255")),
    "low resolution": Condition(coarse, (320, 224, 144), ("320 pixels on the longer side", "224 pixels", "144 pixels")),
    "occlusion": Condition(occluded, (0.2, 0.4, 0.6), ("20 % of each box", "40 % of each box", "60 % of each box")),
}


def worsened(
    image: Image, boxes_xyxy: NDArray[np.float32], condition: str, severity: int, picture: str, seed: int = 0
) -> Image:
    """The picture (H, W, 3) RGB uint8 under a condition of `CONDITIONS`; the one given is not changed.

    picture: its name.  What is drawn by chance follows from seed, name and condition alone, so that it is the same in
    any process, in any order, and at each severity: a severer rain has the same drops and more.

    Raises ValueError for an unknown condition or severity.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"Unknown condition '{condition}'. Known: {', '.join(CONDITIONS)}.")
    if severity not in SEVERITIES:
        raise ValueError(f"A severity is 1, 2 or 3; got {severity}.")
    chosen = CONDITIONS[condition]
    random = np.random.default_rng([seed, crc32(condition.encode()), crc32(picture.encode())])
    return chosen.change(image, chosen.levels[severity - 1], boxes_xyxy, random)
