"""Training pictures: mosaic, affine, colour and flip, each a function of its own random generator.

A picture is warped once, straight into the network's square, whatever it goes through: a mosaic of four costs four
small warps, and no more than one interpolation blurs a head.

Coordinates are those of boxes: 0 is the left edge of the first pixel and W the right edge of the last one.  OpenCV
counts from pixel centres, half a pixel further in; `warped` accounts for it, so that a mirrored box lies exactly on
its mirrored head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_areas, clip_boxes
from helmlite.detections import Image
from helmlite.runtime.preprocess import PAD_VALUE

Matrix = NDArray[np.float64]  # (3, 3), picture coordinates -> network pixels

_SMALLEST_SIDE = 2.0  # network pixels: below it nothing is left to see
_SMALLEST_SHARE = 0.2  # of a box that must stay inside the picture
_MOSAIC_CENTRE = (0.2, 0.8)  # where the four pictures meet, in parts of the input's side


@dataclass(frozen=True)
class Augmentation:
    """How strongly training pictures are changed.

    mosaic:    share of pictures that become a mosaic of four
    scale:     zoom in [1 - scale, 1 + scale]
    translate: shift in parts of the input's side, in each direction
    rotate:    degrees, in each direction
    hue, saturation, value: largest relative change
    flip:      share of pictures mirrored left to right
    mixup:     share of pictures blended with another one (Zhang 2018, arXiv 1710.09412)
    """

    mosaic: float = 1.0
    scale: float = 0.4
    translate: float = 0.1
    rotate: float = 3.0
    hue: float = 0.015
    saturation: float = 0.6
    value: float = 0.4
    flip: float = 0.5
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            limit = 180.0 if item.name == "rotate" else 1.0
            value = getattr(self, item.name)
            if not 0 <= value <= limit or (item.name == "scale" and value >= 1):
                raise ValueError(f"Augmentation: {item.name} must lie between 0 and {limit:g}; got {value}.")


NO_AUGMENTATION = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class LabelledPicture:
    """A picture in memory.

    image: (H, W, 3) uint8 RGB; boxes_xyxy: (N, 4) in its pixels; labels: (N,)
    scores: (N,) what a stored teacher gave a box that it found, 0 for a labelled box; None where all are labelled
    is_labelled: False where nobody has looked for objects; pictures of the two kinds are never joined
    """

    image: Image
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32] | None = None
    is_labelled: bool = True

    def every_score(self) -> NDArray[np.float32]:
        """`scores`, or as many zeros."""
        return np.zeros(len(self.labels), np.float32) if self.scores is None else self.scores


def augmented(
    pictures: Sequence[LabelledPicture], input_size: int, settings: Augmentation, random: np.random.Generator
) -> LabelledPicture:
    """One training picture of `input_size` pixels made from one picture, or a mosaic made from four."""
    is_mosaic = len(pictures) == 4
    placements = mosaic_places(pictures, input_size, random) if is_mosaic else [centred(pictures[0], input_size)]
    change = random_affine(input_size, settings, random)
    if random.random() < settings.flip:
        change = mirror(input_size) @ change
    made = warped(pictures, [change @ placement for placement in placements], input_size)
    return replace(made, image=recoloured(made.image, settings, random))


def mixed(first: LabelledPicture, second: LabelledPicture, random: np.random.Generator) -> LabelledPicture:
    """Two pictures of one size blended about half and half, with the objects of both."""
    share = float(random.beta(32.0, 32.0))
    return LabelledPicture(
        cv2.addWeighted(first.image, share, second.image, 1 - share, 0),
        np.concatenate([first.boxes_xyxy, second.boxes_xyxy]),
        np.concatenate([first.labels, second.labels]),
        joined_scores([first.every_score(), second.every_score()]),
        first.is_labelled,
    )


def warped(pictures: Sequence[LabelledPicture], matrices: Sequence[Matrix], input_size: int) -> LabelledPicture:
    """Each picture moved by its matrix onto one grey square of `input_size` pixels, with the boxes that are left."""
    canvas = np.full((input_size, input_size, 3), PAD_VALUE, dtype=np.uint8)
    boxes, labels, scores = [], [], []
    for picture, matrix in zip(pictures, matrices):
        cv2.warpAffine(
            picture.image,
            (_shift(-0.5) @ matrix @ _shift(0.5))[:2],
            (input_size, input_size),
            dst=canvas,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
        moved, kept = moved_boxes(picture.boxes_xyxy, matrix, input_size)
        boxes.append(moved)
        labels.append(picture.labels[kept])
        scores.append(picture.every_score()[kept])
    return LabelledPicture(
        canvas, np.concatenate(boxes), np.concatenate(labels), joined_scores(scores), pictures[0].is_labelled
    )


def joined_scores(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """The scores of several pictures' boxes side by side; None where no box is a teacher's."""
    scores = np.concatenate(parts)
    return scores if scores.any() else None


def moved_boxes(
    boxes_xyxy: NDArray[np.float32], matrix: Matrix, input_size: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The boxes after `matrix`, cut at the border, and which of the boxes are left.  (N, 4) -> (M, 4), (N,).

    A turned box is drawn around the ellipse that filled the box, not around its corners, which would grow a round
    head by a tenth at six degrees (Kalra 2021, arXiv 2109.13488).
    A box goes when less than a fifth of it stays in the picture or a side falls below 2 pixels.
    """
    boxes = boxes_xyxy.reshape(-1, 4).astype(np.float64)
    linear = matrix[:2, :2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 @ linear.T + matrix[:2, 2]
    halves = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ (linear**2).T)
    whole = np.concatenate([centres - halves, centres + halves], axis=1).astype(np.float32)
    inside = clip_boxes(whole, input_size, input_size)
    sides = inside[:, 2:] - inside[:, :2]
    enough = box_areas(inside) >= _SMALLEST_SHARE * box_areas(whole)
    kept: NDArray[np.bool_] = (sides >= _SMALLEST_SIDE).all(axis=1) & enough
    return inside[kept], kept


def centred(picture: LabelledPicture, input_size: int) -> Matrix:
    """Places a picture as the letterbox does: scaled to fit, in the middle."""
    height, width = picture.image.shape[:2]
    scale = input_size / max(height, width)
    return _placed(scale, (input_size - width * scale) / 2, (input_size - height * scale) / 2)


def mosaic_places(pictures: Sequence[LabelledPicture], input_size: int, random: np.random.Generator) -> list[Matrix]:
    """Places four pictures, each scaled to fit the square, with one corner at a common point inside it.

    A head keeps the size that it has in the letterbox, and of each picture a part is seen.
    """
    centre_x, centre_y = random.uniform(*_MOSAIC_CENTRE, size=2) * input_size
    placements = []
    for index, picture in enumerate(pictures):
        height, width = picture.image.shape[:2]
        scale = input_size / max(height, width)
        left = centre_x - width * scale if index % 2 == 0 else centre_x
        top = centre_y - height * scale if index < 2 else centre_y
        placements.append(_placed(scale, left, top))
    return placements


def random_affine(input_size: int, settings: Augmentation, random: np.random.Generator) -> Matrix:
    """Zoom and turn about the centre, then a shift."""
    zoom = random.uniform(1 - settings.scale, 1 + settings.scale)
    angle = np.deg2rad(random.uniform(-settings.rotate, settings.rotate))
    shift = random.uniform(-settings.translate, settings.translate, size=2) * input_size
    cos, sin, half = zoom * np.cos(angle), zoom * np.sin(angle), input_size / 2
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    return _placed(1.0, half + shift[0], half + shift[1]) @ turn @ _placed(1.0, -half, -half)


def mirror(input_size: int) -> Matrix:
    """Left and right exchanged: x -> input_size - x."""
    return np.array([[-1.0, 0, input_size], [0, 1, 0], [0, 0, 1]])


def recoloured(image: Image, settings: Augmentation, random: np.random.Generator) -> Image:
    """Hue, saturation and brightness each multiplied by a random factor near 1."""
    gains = 1 + random.uniform(-1, 1, size=3) * (settings.hue, settings.saturation, settings.value)
    if (gains == 1).all():
        return image
    steps = np.arange(256, dtype=np.float64)
    tables = [(steps * gains[0]) % 180, np.clip(steps * gains[1], 0, 255), np.clip(steps * gains[2], 0, 255)]
    planes = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    changed = [cv2.LUT(plane, table.astype(np.uint8)) for plane, table in zip(planes, tables)]
    return cv2.cvtColor(cv2.merge(changed), cv2.COLOR_HSV2RGB)


def _placed(scale: float, left: float, top: float) -> Matrix:
    return np.array([[scale, 0, left], [0, scale, top], [0, 0, 1.0]])


def _shift(distance: float) -> Matrix:
    return _placed(1.0, distance, distance)
