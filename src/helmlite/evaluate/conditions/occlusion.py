"""Something stands in front of each labelled box: a post, a mirror, the next rider.

The patch comes from one of the four sides and hides a stated share of the box, as the levels of Wang et al. 2020,
"Robust Object Detection under Occlusion with Context-Aware CompositionalNets", section 4, are stated (20 to 40 %,
40 to 60 %).  The box stays as it was labelled, hidden part included, so that the cost counts what a detector must
guess.  A patch sticks out of its box, lest its edges give the box away.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from helmlite.detections import Image

OVERHANG = 0.15  # of the box's side
DARKEST, BRIGHTEST = 30, 200
_SIDES = 4


def occluded(image: Image, level: float, boxes_xyxy: NDArray[np.float32], random: np.random.Generator) -> Image:
    """Hides at least a share `level` of each labelled box behind an evenly grey patch.

    The share is of the part of the box that lies in the picture.  It is more than `level` by rounding up to whole
    pixels, and where the patch of another box reaches over.  What is not labelled is hidden by chance only.
    """
    hidden = image.copy()
    for box in boxes_xyxy.astype(float).tolist():
        side, grey = int(random.integers(_SIDES)), int(random.integers(DARKEST, BRIGHTEST + 1))
        left, top, right, bottom = _patch(box, level, side, image.shape[1], image.shape[0])
        hidden[top:bottom, left:right] = grey
    return hidden


def _patch(box: list[float], share: float, side: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in whole pixels, within the picture; nothing for a box that lies outside."""
    left, right = min(max(box[0], 0), width), min(max(box[2], 0), width)
    top, bottom = min(max(box[1], 0), height), min(max(box[3], 0), height)
    if right <= left or bottom <= top:
        return 0, 0, 0, 0
    wide, high = right - left, bottom - top
    first_x, last_x, first_y, last_y = (
        (left, left + share * wide, top, bottom),
        (right - share * wide, right, top, bottom),
        (left, right, top, top + share * high),
        (left, right, bottom - share * high, bottom),
    )[side]
    out_x, out_y = OVERHANG * wide, OVERHANG * high
    if side != 1:
        first_x -= out_x
    if side != 0:
        last_x += out_x
    if side != 3:
        first_y -= out_y
    if side != 2:
        last_y += out_y
    return (
        max(math.floor(first_x), 0),
        max(math.floor(first_y), 0),
        min(math.ceil(last_x), width),
        min(math.ceil(last_y), height),
    )
