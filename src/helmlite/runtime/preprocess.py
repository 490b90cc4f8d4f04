"""Letterbox: the one way in which a picture becomes a network's input, in training, evaluation and at the edge.

Only a foreign YOLOX file gets its own (yolox.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import clip_boxes
from helmlite.detections import Image

MOST_PIXELS = 4096  # side of the square input
PAD_VALUE = 114  # grey of the border, as YOLO detectors are trained with


def check_input_size(size: int, option: str = "--input-size") -> int:
    """The size itself.  Raises ValueError unless it is a multiple of 32, the coarsest stride of every detector here."""
    if not 32 <= size <= MOST_PIXELS or size % 32:
        raise ValueError(f"{option} must be a multiple of 32, from 32 to {MOST_PIXELS}; got {size}.")
    return size


@dataclass(frozen=True)
class Placement:
    """Where a picture lies inside the network's square input.

    scale: network pixels per picture pixel; left, top: border in network pixels; width, height: of the picture
    """

    scale: float
    left: int
    top: int
    width: int
    height: int

    def to_picture(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes in network pixels -> pixels of the original picture, cut at its borders.  (N, 4) -> (N, 4)."""
        border = np.array([self.left, self.top, self.left, self.top], dtype=np.float32)
        return clip_boxes((boxes_xyxy - border) / np.float32(self.scale), self.width, self.height)

    def to_network(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes in picture pixels -> pixels of the network's input.  (N, 4) -> (N, 4)."""
        border = np.array([self.left, self.top, self.left, self.top], dtype=np.float32)
        return boxes_xyxy * np.float32(self.scale) + border


def letterbox(image: Image, input_size: int) -> tuple[Image, Placement]:
    """The picture scaled to fit a square of `input_size` pixels, centred on grey.

    image: (H, W, 3) uint8 -> (input_size, input_size, 3) uint8.  Small pictures are scaled up.
    """
    height, width = image.shape[:2]
    scale = min(input_size / height, input_size / width)
    new_width, new_height = max(round(width * scale), 1), max(round(height * scale), 1)
    if (new_width, new_height) != (width, height):
        image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    left, top = (input_size - new_width) // 2, (input_size - new_height) // 2
    square = np.full((input_size, input_size, 3), PAD_VALUE, dtype=np.uint8)
    square[top : top + new_height, left : left + new_width] = image
    return square, Placement(scale, left, top, width, height)


def network_input(image: Image, input_size: int) -> tuple[NDArray[np.float32], Placement]:
    """What the network gets: (1, 3, input_size, input_size) float32 RGB in [0, 1], and where the picture lies."""
    square, placement = letterbox(image, input_size)
    planes = np.ascontiguousarray(square.transpose(2, 0, 1)[None], dtype=np.float32)
    planes /= np.float32(255)
    return planes, placement
