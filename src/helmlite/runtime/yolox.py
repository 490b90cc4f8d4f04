"""Networks of YOLOX (Ge 2021, arXiv 2107.08430), whose input and output are not like those of the others here.

Input: the picture as OpenCV reads it, BGR in [0, 255], in the upper left corner of a grey square.  Output: a row for
each cell, finest scale first, row by row, with logits that cell and stride decode, objectness, and a score per class:

    centre = ((x, y) + cell) * stride      width, height = exp(w, h) * stride        score = objectness * class

Objectness and classes are probabilities already.  `tools/export_onnx.py` leaves the boxes as logits, unless it is told
to decode them (`--decode_in_inference`): the shape of the output is the same, so that one of the two must be declared,
and what cannot be so is refused when boxes come.  Weights that YOLOX calls legacy (RGB, normalized) are read wrongly.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import xywh_to_xyxy
from helmlite.detections import Image
from helmlite.runtime.manifest import Preprocessing
from helmlite.runtime.preprocess import PAD_VALUE, Placement

Array = NDArray[np.float32]

YOLOX_PREPROCESSING = Preprocessing("letterbox, upper left", PAD_VALUE, "BGR", 1.0)
_SCALES = ((8, 16, 32), (8, 16, 32, 64))  # the second: its networks with a P6
_LARGEST_LOGIT = 20.0  # of a width or height: e^20 strides are wider than any picture


def yolox_input(image: Image, input_size: int) -> tuple[Array, Placement]:
    """What the network gets: (1, 3, input_size, input_size) float32 BGR in [0, 255], and where the picture lies.

    image: (H, W, 3) uint8 RGB
    """
    height, width = image.shape[:2]
    scale = min(input_size / height, input_size / width)
    new_width, new_height = max(int(width * scale), 1), max(int(height * scale), 1)  # cut off, as YOLOX does
    if (new_width, new_height) != (width, height):
        image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    square = np.full((input_size, input_size, 3), PAD_VALUE, dtype=np.uint8)
    square[:new_height, :new_width] = image[:, :, ::-1]
    planes = np.ascontiguousarray(square.transpose(2, 0, 1)[None], dtype=np.float32)
    return planes, Placement(scale, 0, 0, width, height)


def yolox_strides(cells: int | None, input_size: int) -> tuple[int, ...] | None:
    """The strides of a network with so many cells; the usual ones where the graph does not say, None where none fit.

    >>> yolox_strides(84, 64), yolox_strides(85, 64), yolox_strides(100, 64)
    ((8, 16, 32), (8, 16, 32, 64), None)
    """
    if cells is None:
        return _SCALES[0]
    return next((item for item in _SCALES if sum((input_size // s) ** 2 for s in item) == cells), None)


def decode_yolox(rows: Array, input_size: int, strides: tuple[int, ...], is_decoded: bool) -> tuple[Array, Array]:
    """Boxes and scores of one picture.

    rows: (cells, 5 + C);  is_decoded: whether the graph has decoded the boxes itself
    -> boxes (cells, 4) xyxy in network pixels, scores (cells, C)
    Raises ValueError where the rows are of another number of cells, or cannot be what was declared.
    """
    boxes, sides = rows[:, :4].astype(np.float32), rows[:, 2:4]
    if is_decoded:
        if (sides < 0).any():
            raise ValueError("Boxes of negative width come, which are logits: declare it with --layout yolox.")
    else:
        if (sides > _LARGEST_LOGIT).any():
            raise ValueError("Boxes come that are decoded already: declare it with --layout yolox-decoded.")
        cell, stride = _cells(input_size, strides)
        if len(cell) != len(rows):
            raise ValueError(f"{len(rows)} cells come; strides {strides} at {input_size} pixels have {len(cell)}.")
        boxes[:, :2] = (boxes[:, :2] + cell) * stride
        boxes[:, 2:] = np.exp(boxes[:, 2:]) * stride
    return xywh_to_xyxy(boxes), (rows[:, 4:5] * rows[:, 5:]).astype(np.float32)


def _cells(input_size: int, strides: tuple[int, ...]) -> tuple[Array, Array]:
    """Column and row of each cell (cells, 2), and its stride (cells, 1)."""
    cells, by_cell = [], []
    for stride in strides:
        side = input_size // stride
        row, column = np.divmod(np.arange(side * side), side)
        cells.append(np.stack([column, row], axis=1))
        by_cell.append(np.full((side * side, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(by_cell).astype(np.float32)
