"""What can be measured of a box in a picture: how large, sharp and dark it is, how crowded, and whether it is cut off.

Sharpness is the variance of the Laplacian, the focus measure of Pech-Pacheco et al. 2000 ("Diatom autofocusing in
brightfield microscopy", LAPV in Pertuz et al. 2013, "Analysis of focus measure operators for shape-from-focus"),
divided by the variance of the crop itself, so that a pale head is not called blurred.  Crops are first shrunk to
`SHARPNESS_PIXELS`, since detail is fine or coarse against the head and not against the pixel; small ones stay as they
are.  Noise raises it: a grainy crop at night may pass for a sharp one.

Pictures are read one after another.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_iou
from helmlite.data.dataset import Dataset, UnreadableImageError
from helmlite.detections import Image
from helmlite.evaluate.errors import BACKGROUND_IOU

SHARPNESS_PIXELS = 32  # longer side at which sharpness is measured
FEWEST_PIXELS = 6  # of the shorter side: below, three neighbours in a row are no measure of sharpness
BORDER_PIXELS = 2.0  # a box that ends so close to the border is cut off by it; labels often keep one pixel away
NEAR_SIDES = 2.0  # another head is near when its centre is within so many of the box's own longer sides


@dataclass(frozen=True)
class BoxFacts:
    """One box in its picture.

    height_pixels: of the picture as it is stored
    sharpness:     see above, from 0 (blurred) to 64 (a checkerboard); None where the crop is too small, of one
                   colour, or could not be read
    luma, picture_luma: mean of the crop and of its whole picture, 0 (black) to 255 (Rec. 601); None where it could
                   not be read
    highest_iou:   with any other labelled head, in [0, 1]
    near_heads:    other labelled heads whose centre is within two of its own longer sides
    is_truncated:  it touches the picture's border; None where that could not be read
    """

    height_pixels: float
    sharpness: float | None
    luma: float | None
    picture_luma: float | None
    highest_iou: float
    near_heads: int
    is_truncated: bool | None


def measure_boxes(
    dataset: Dataset, picture: int, boxes_xyxy: NDArray[np.float32], heads_xyxy: NDArray[np.float32]
) -> tuple[BoxFacts, ...]:
    """The facts of these boxes of one picture, which is read once, and not at all where there are none.

    boxes_xyxy: (N, 4);  heads_xyxy: (G, 4) every labelled head of the picture.  The one that a box lies on (IoU 0.1 or
    more, the highest), and so a head itself, is not among its neighbours.
    """
    if not len(boxes_xyxy):
        return ()
    try:
        grey: NDArray[np.uint8] | None = luma_of(dataset[picture].read_image())
    except UnreadableImageError:  # it was readable when it was evaluated, so it went since
        grey = None
    picture_luma = None if grey is None else float(grey.mean())
    others = _others(boxes_xyxy, heads_xyxy)
    return tuple(_facts(box, other, grey, picture_luma) for box, other in zip(boxes_xyxy, others, strict=True))


def luma_of(image: Image) -> NDArray[np.uint8]:
    """Brightness as the eye weighs it, Rec. 601.  (H, W, 3) RGB -> (H, W)"""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def sharpness_of(grey: NDArray[np.uint8]) -> float | None:
    """Variance of the Laplacian over the variance of the crop, at most 32 pixels long.  (H, W); None: not to be told.

    A checkerboard of +-a has the most: all four neighbours are of the other colour, so (8a)^2 / a^2 = 64.
    """
    if min(grey.shape) < FEWEST_PIXELS:
        return None
    scale = SHARPNESS_PIXELS / max(grey.shape)
    if scale < 1:
        size = max(round(grey.shape[1] * scale), 3), max(round(grey.shape[0] * scale), 3)
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    contrast = float(grey.var())
    return float(cv2.Laplacian(grey, cv2.CV_64F).var()) / contrast if contrast > 0 else None


def _facts(
    box: NDArray[np.float32], others: NDArray[np.float32], grey: NDArray[np.uint8] | None, picture_luma: float | None
) -> BoxFacts:
    left, top, right, bottom = (float(value) for value in box)
    longest = max(right - left, bottom - top)
    centre = np.array([left + right, top + bottom]) / 2
    distances = np.hypot(*((others[:, :2] + others[:, 2:]) / 2 - centre).T)
    overlap = box_iou(box[None], others)
    sharpness = luma = is_truncated = None
    if grey is not None:
        crop = _crop(grey, box)
        sharpness, luma = sharpness_of(crop), float(crop.mean()) if crop.size else None
        height, width = grey.shape
        is_truncated = min(left, top, width - right, height - bottom) <= BORDER_PIXELS
    return BoxFacts(
        height_pixels=bottom - top,
        sharpness=sharpness,
        luma=luma,
        picture_luma=picture_luma,
        highest_iou=float(overlap.max()) if overlap.size else 0.0,
        near_heads=int((distances <= NEAR_SIDES * longest).sum()),
        is_truncated=is_truncated,
    )


def _others(boxes: NDArray[np.float32], heads: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """For each box the heads that it does not lie on.  A doubled label leaves one: two equal boxes are a crowd."""
    others = []
    for row in box_iou(boxes, heads):
        lies_on = [int(row.argmax())] if row.size and row.max() >= BACKGROUND_IOU else []
        others.append(np.delete(heads, lies_on, axis=0))
    return others


def _crop(grey: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    left, top = np.maximum(np.floor(box[:2]), 0).astype(int)
    right, bottom = np.maximum(np.ceil(box[2:]), 0).astype(int)
    return grey[top:bottom, left:right]
