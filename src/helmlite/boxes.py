"""Boxes as plain arrays: formats, overlap and non-maximum suppression (numpy only).

`xyxy` is left, top, right, bottom; `xywh` is centre x, centre y, width, height.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def xywh_to_xyxy(boxes_xywh: Array) -> Array:
    """The same boxes as corners.  (N, 4) centre format -> (N, 4) xyxy."""
    half = boxes_xywh[:, 2:] / 2
    return np.concatenate([boxes_xywh[:, :2] - half, boxes_xywh[:, :2] + half], axis=1)


def xyxy_to_xywh(boxes_xyxy: Array) -> Array:
    """The same boxes as centres and sizes.  (N, 4) xyxy -> (N, 4) centre format."""
    size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return np.concatenate([boxes_xyxy[:, :2] + size / 2, size], axis=1)


def clip_boxes(boxes_xyxy: Array, width: float, height: float) -> Array:
    """Boxes cut at the borders of an image of `width` x `height` pixels.  (N, 4) -> (N, 4)."""
    limits = np.array([width, height, width, height], dtype=boxes_xyxy.dtype)
    return np.clip(boxes_xyxy, 0, limits)


def box_areas(boxes_xyxy: Array) -> Array:
    """Area of each box in square pixels; 0 where a box has no extent.  (N, 4) -> (N,)."""
    size = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
    return size[:, 0] * size[:, 1]


def box_iou(first_xyxy: Array, second_xyxy: Array) -> Array:
    """Intersection over union of every pair.  (N, 4), (M, 4) -> (N, M), each in [0, 1].

    >>> box_iou(np.array([[0., 0., 2., 2.]]), np.array([[1., 0., 3., 2.]]))
    array([[0.33333333]])
    """
    top_left = np.maximum(first_xyxy[:, None, :2], second_xyxy[None, :, :2])  # (N, M, 2)
    bottom_right = np.minimum(first_xyxy[:, None, 2:], second_xyxy[None, :, 2:])
    size = np.clip(bottom_right - top_left, 0, None)
    intersection = size[..., 0] * size[..., 1]
    union = box_areas(first_xyxy)[:, None] + box_areas(second_xyxy)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def nms(boxes_xyxy: Array, scores: Array, labels: NDArray[np.int64], iou_threshold: float) -> NDArray[np.int64]:
    """Indices of the boxes kept by greedy non-maximum suppression within each class, best score first.

    A box goes when it overlaps a better one of its own class by more than `iou_threshold`.
    Equal scores keep their input order, so that two runtimes with equal outputs keep the same boxes.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best = int(order[0])
        kept.append(best)
        rest = order[1:]
        if rest.size == 0:
            break
        overlap = box_iou(boxes_xyxy[best : best + 1], boxes_xyxy[rest])[0]
        order = rest[(overlap <= iou_threshold) | (labels[rest] != labels[best])]
    return np.array(kept, dtype=np.int64)
