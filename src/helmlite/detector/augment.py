"""Training pictures: mosaic, affine, colour and flip, each a function of its own random generator.

A picture is warped once, straight into the network's square, whatever it goes through; so a mosaic of four costs
four small warps, and no more than one interpolation blurs a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_areas, clip_boxes
from helmlite.detections import Image
from helmlite.runtime.preprocess import PAD_VALUE

Matrix = NDArray[np.float64]  # (3, 3), source pixels -> network pixels


@dataclass(frozen=True)
class Augmentation:
    """How strongly training pictures are changed.

    mosaic:    share of pictures that become a mosaic of four
    scale:     zoom in [1 - scale, 1 + scale]
    translate: shift in parts of the input's side, in each direction
    rotate:    degrees, in each direction
    hue, saturation, value: largest relative change
    flip:      share of pictures mirrored left to right
    """

    mosaic: float = 1.0
    scale: float = 0.4
    translate: float = 0.1
    rotate: float = 3.0
    hue: float = 0.015
    saturation: float = 0.6
    value: float = 0.4
    flip: float = 0.5


@dataclass(frozen=True)
class LabelledPicture:
    """A picture in memory.  boxes_xyxy: (N, 4) in its pixels; labels: (N,)."""

    image: Image
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]


def augmented(
    pictures: Sequence[LabelledPicture], input_size: int, settings: Augmentation, random: np.random.Generator
) -> LabelledPicture:
    """One training picture of `input_size` pixels made from one picture, or a mosaic from four."""
    placements = _mosaic(pictures, input_size, random) if len(pictures) == 4 else [_centred(pictures[0], input_size)]
    change = _random_affine(input_size, settings, random)
    if random.random() < settings.flip:
        change = np.array([[-1.0, 0, input_size], [0, 1, 0], [0, 0, 1]]) @ change
    canvas = np.full((input_size, input_size, 3), PAD_VALUE, dtype=np.uint8)
    boxes, labels = [], []
    for picture, placement in zip(pictures, placements):
        matrix = change @ placement
        cv2.warpAffine(
            picture.image,
            matrix[:2],
            (input_size, input_size),
            dst=canvas,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
        moved, kept = moved_boxes(picture.boxes_xyxy, matrix, input_size)
        boxes.append(moved)
        labels.append(picture.labels[kept])
    return LabelledPicture(_recoloured(canvas, settings, random), np.concatenate(boxes), np.concatenate(labels))


def letterboxed(picture: LabelledPicture, input_size: int) -> LabelledPicture:
    """The picture as evaluation sees it, without any change."""
    return augmented(
        [picture],
        input_size,
        Augmentation(0, 0, 0, 0, 0, 0, 0, 0),
        np.random.default_rng(0),
    )


def moved_boxes(
    boxes_xyxy: NDArray[np.float32], matrix: Matrix, input_size: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes around the moved corners, cut at the border, and which of the boxes are left.

    A box goes when less than a fifth of it stays in the picture or a side falls below 2 pixels.
    """
    if len(boxes_xyxy) == 0:
        return boxes_xyxy.reshape(0, 4), np.zeros(0, dtype=bool)
    corners = boxes_xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)  # (N, 4 corners, xy)
    points = corners @ matrix[:2, :2].T + matrix[:2, 2]
    whole = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1).astype(np.float32)
    inside = clip_boxes(whole, input_size, input_size)
    sides = inside[:, 2:] - inside[:, :2]
    kept = (sides.min(axis=1) >= 2) & (box_areas(inside) >= 0.2 * np.maximum(box_areas(whole), 1e-9))
    return inside[kept], kept


def _fit_scale(picture: LabelledPicture, side: float) -> float:
    height, width = picture.image.shape[:2]
    return side / max(height, width)


def _centred(picture: LabelledPicture, input_size: int) -> Matrix:
    scale = _fit_scale(picture, input_size)
    height, width = picture.image.shape[:2]
    left, top = (input_size - width * scale) / 2, (input_size - height * scale) / 2
    return np.array([[scale, 0, left], [0, scale, top], [0, 0, 1.0]])


def _mosaic(pictures: Sequence[LabelledPicture], input_size: int, random: np.random.Generator) -> list[Matrix]:
    """Places four pictures around one point, so that the square shows parts of all of them."""
    centre_x, centre_y = random.uniform(0.3, 0.7, size=2) * input_size
    placements = []
    for index, picture in enumerate(pictures):
        scale = _fit_scale(picture, input_size) * random.uniform(0.5, 1.0)
        height, width = (side * scale for side in picture.image.shape[:2])
        left = centre_x - width if index % 2 == 0 else centre_x
        top = centre_y - height if index < 2 else centre_y
        placements.append(np.array([[scale, 0, left], [0, scale, top], [0, 0, 1.0]]))
    return placements


def _random_affine(input_size: int, settings: Augmentation, random: np.random.Generator) -> Matrix:
    """Zoom and turn about the centre, then shift."""
    zoom = random.uniform(1 - settings.scale, 1 + settings.scale)
    angle = np.deg2rad(random.uniform(-settings.rotate, settings.rotate))
    shift_x, shift_y = random.uniform(-settings.translate, settings.translate, size=2) * input_size
    cos, sin, half = zoom * np.cos(angle), zoom * np.sin(angle), input_size / 2
    return np.array(
        [
            [cos, -sin, half - cos * half + sin * half + shift_x],
            [sin, cos, half - sin * half - cos * half + shift_y],
            [0, 0, 1.0],
        ]
    )


def _recoloured(image: Image, settings: Augmentation, random: np.random.Generator) -> Image:
    gains = 1 + random.uniform(-1, 1, size=3) * (settings.hue, settings.saturation, settings.value)
    if np.allclose(gains, 1):
        return image
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    steps = np.arange(256, dtype=np.float64)
    tables = [(steps * gains[0]) % 180, np.clip(steps * gains[1], 0, 255), np.clip(steps * gains[2], 0, 255)]
    planes = [cv2.LUT(plane, table.astype(np.uint8)) for plane, table in zip((hue, saturation, value), tables)]
    return cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HSV2RGB)
