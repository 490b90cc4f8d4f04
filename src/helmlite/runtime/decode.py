"""From a network's outputs to boxes: the same arithmetic for PyTorch, ONNX Runtime, OpenVINO and any later runtime.

Anchor-free heads give, for each cell of each scale, class logits and four distances (left, top, right,
bottom) from the cell's centre in units of the scale's stride:

    x1 = (cx + 0.5 - left) * stride        x2 = (cx + 0.5 + right) * stride

With DFL (Li 2020, arXiv 2006.04388) a distance is the mean of a softmax over `reg_max` bins; with `reg_max` 1
the map holds the distance itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import nms
from helmlite.detections import Detections
from helmlite.runtime.preprocess import Placement

Array = NDArray[np.float32]


@dataclass(frozen=True)
class HeadLayout:
    """How a head's raw maps are to be read.

    strides:   pixels per cell, one for each scale, as the maps come
    reg_max:   bins of the box distribution; 1 where a map holds the distance itself
    needs_nms: False for one-to-one heads (YOLOv10, YOLO26), which give each object once
    """

    strides: tuple[int, ...]
    reg_max: int
    class_count: int
    needs_nms: bool = True

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "strides": list(self.strides)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> HeadLayout:
        return HeadLayout(**{**values, "strides": tuple(values["strides"])})


@dataclass(frozen=True)
class Selection:
    """Which of the decoded boxes are reported.  Evaluation takes them from `min_score` 0.001 on."""

    min_score: float = 0.001
    iou_threshold: float = 0.7
    max_detections: int = 300
    max_candidates: int = 30000


def decode_maps(maps: Sequence[Array], layout: HeadLayout) -> tuple[Array, Array]:
    """Boxes and scores of one image from its raw maps.

    maps: for each scale its box map (1, 4 * reg_max, H, W) and then its class map (1, C, H, W)
    -> boxes (N, 4) xyxy in network pixels, scores (N, C) in [0, 1]; N cells of all scales, row by row
    """
    all_boxes, all_scores = [], []
    for index, stride in enumerate(layout.strides):
        box_map, class_map = maps[2 * index][0], maps[2 * index + 1][0]
        height, width = class_map.shape[1:]
        distances = _distances(box_map.reshape(4, layout.reg_max, height * width))  # (4, H*W)
        cell_y, cell_x = np.mgrid[0:height, 0:width].reshape(2, -1).astype(np.float32) + np.float32(0.5)
        corners = [cell_x - distances[0], cell_y - distances[1], cell_x + distances[2], cell_y + distances[3]]
        all_boxes.append(np.stack(corners, axis=1) * np.float32(stride))
        all_scores.append(_sigmoid(class_map.reshape(layout.class_count, -1).T))
    return np.concatenate(all_boxes).astype(np.float32), np.concatenate(all_scores).astype(np.float32)


def select(boxes_xyxy: Array, scores: Array, layout: HeadLayout, selection: Selection) -> Detections:
    """The reported boxes of one image, in network pixels: thresholded, suppressed within each class, best first.

    boxes_xyxy: (N, 4); scores: (N, C).  A cell may give one box for each class above the threshold.
    """
    cell, label = np.nonzero(scores >= selection.min_score)
    score = scores[cell, label]
    best_first = np.argsort(-score, kind="stable")[: selection.max_candidates]
    found = Detections(boxes_xyxy[cell[best_first]], score[best_first], label[best_first].astype(np.int64))
    if layout.needs_nms:
        found = found[nms(found.boxes_xyxy, found.scores, found.labels, selection.iou_threshold)]
    return found[: selection.max_detections]


def place(found: Detections, placement: Placement) -> Detections:
    """The detections in pixels of the original picture."""
    return Detections(placement.to_picture(found.boxes_xyxy), found.scores, found.labels)


def _distances(bins: Array) -> Array:
    """(4, reg_max, N) logits -> (4, N) distances in units of the stride."""
    if bins.shape[1] == 1:
        return bins[:, 0]
    weights = np.exp(bins - bins.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    steps = np.arange(bins.shape[1], dtype=np.float32)[None, :, None]
    return (weights * steps).sum(axis=1)


def _sigmoid(logits: Array) -> Array:
    return (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)
