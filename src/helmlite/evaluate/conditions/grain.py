"""Random fields as fine as a detector can see.

A detector shrinks a large picture before it looks.  Noise for each pixel of 12 megapixels would be averaged away by
that, and the condition would be none.  So a field has at most `FINEST` cells along the longer side, one for each pixel
of smaller pictures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from helmlite.detections import Image

FINEST = 640

Field = NDArray[np.float32]


def cell_side(height: int, width: int) -> int:
    """Pixels along the side of one cell: 1 up to 640 pixels, 2 up to 1280.

    >>> cell_side(480, 640), cell_side(1280, 720), cell_side(2160, 3840)
    (1, 2, 6)
    """
    return -(-max(height, width) // FINEST)


def normal_grain(image: Image, random: np.random.Generator) -> Field:
    """Standard normal values for a picture, equal within a cell.  (H, W, 3)"""
    height, width = image.shape[:2]
    side = cell_side(height, width)
    cells = random.standard_normal((-(-height // side), -(-width // side), 3), dtype=np.float32)
    return cells if side == 1 else cells.repeat(side, axis=0)[:height].repeat(side, axis=1)[:, :width]


def rounded(values: NDArray[np.floating]) -> Image:
    """Grey levels cut off at 0 and 255, as a camera does."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
