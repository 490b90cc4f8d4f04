"""Pictures that can be told apart, importable as `numbered_pictures`."""

from __future__ import annotations

import cv2
import numpy as np

from helmlite.detections import Image


def patchy(number: int, size: tuple[int, int] = (64, 48)) -> Image:
    """A picture like no other, whose first red value is its number."""
    random = np.random.default_rng(number)
    image = cv2.resize(random.integers(0, 255, (6, 8, 3), dtype=np.uint8), size, interpolation=cv2.INTER_NEAREST)
    image[0, 0, 0] = number
    return image
