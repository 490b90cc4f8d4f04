"""Ultralytics' mAP and COCO's on the same detections: every difference between the two formulas, and what it moves.

    helmlite eval helmet-yolo12m --data DATA.yaml --input-size 416 --predictions FOUND.json
    python benchmarks/metric_differences.py --data DATA.yaml --predictions FOUND.json

Both formulas are written here once, in numpy, with a switch for each difference.  With all of them off the result must
be hotcoco's, with all of them on that of the installed Ultralytics' own functions; else it exits 1.  Each is turned
on alone.  The formulas: pycocotools' cocoeval.py; Ultralytics' `compute_ap`, `ap_per_class` and `match_predictions`,
read in release 8.4.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from common import commit, data_options
from numpy.typing import NDArray

from helmlite.boxes import box_iou
from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import IOU_THRESHOLDS, Predictions, load_predictions, measure_accuracy

_TOLERANCE = 1e-6, 1e-5  # of hotcoco, and of Ultralytics, whose sort leaves the order of equal scores to chance
_POINTS = np.linspace(0, 1, 101)
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Formula:
    """COCO's as it is; every switch is one thing that Ultralytics does otherwise.

    joint_limit: the best 300 detections of a picture over all classes count; else the best 100 of each class
    linear:      precision between two recalls lies on a line, from 1 at recall 0; else it is that of the higher recall
    trapezium:   area under the 101 points by trapezia, so that the first and the last count half; else their mean
    float32:     overlaps in single precision, with 1e-7 added to the union; else in double precision
    first_best:  of two labelled boxes overlapped equally the first is taken; else the last
    one_try:     a detection may take only the labelled box that it overlaps most, and none where a better score has it;
                 else the best of the free ones.  Earlier releases of Ultralytics did so
    """

    joint_limit: bool = False
    linear: bool = False
    trapezium: bool = False
    float32: bool = False
    first_best: bool = False
    one_try: bool = False


COCO = Formula()
ULTRALYTICS = Formula(joint_limit=True, linear=True, trapezium=True, float32=True, first_best=True)
SWITCHES: Mapping[str, Formula] = {
    "300 detections of a picture, not 100 of each class": Formula(joint_limit=True),
    "precision linear between recalls, 1 at recall 0": Formula(linear=True),
    "area by trapezia, not the mean of 101 points": Formula(trapezium=True),
    "linear, and by trapezia": Formula(linear=True, trapezium=True),
    "overlap in float32, 1e-7 added": Formula(float32=True),
    "of equal overlaps the first box, not the last": Formula(first_best=True),
    "one try for each detection (earlier releases)": Formula(one_try=True),
    "all of today's": ULTRALYTICS,
    "all of an earlier release's": replace(ULTRALYTICS, one_try=True),
}


def average_precisions(predictions: Predictions, dataset: Dataset, formula: Formula) -> Floats:
    """AP of each class that is labelled, at each of the ten overlaps.  (C, 10)"""
    scores: list[list[Floats]] = [[] for _ in dataset.classes]
    true: list[list[Bools]] = [[] for _ in dataset.classes]
    heads = np.zeros(len(dataset.classes), np.int64)
    for index, found in zip(predictions.indices, predictions.detections, strict=True):
        sample = dataset[index]
        if formula.joint_limit:
            found = found[np.argsort(-found.scores, kind="stable")[:300]]
        for label in range(len(dataset.classes)):
            boxes = sample.boxes_xyxy[sample.labels == label]
            own = found[found.labels == label]
            own = own[np.argsort(-own.scores, kind="stable")]
            own = own if formula.joint_limit else own[:100]
            heads[label] += len(boxes)
            scores[label].append(own.scores.astype(np.float64))
            true[label].append(_matched(_overlaps(own, boxes, formula), formula))
    rows = [
        _average_precision(np.concatenate(scores[label]), np.concatenate(true[label]), int(heads[label]), formula)
        for label in np.flatnonzero(heads)
    ]
    return np.array(rows).reshape(-1, len(IOU_THRESHOLDS))


def _overlaps(found: Detections, boxes: NDArray[np.float32], formula: Formula) -> Floats:
    """(N, G)"""
    if not formula.float32:
        return box_iou(found.boxes_xyxy.astype(np.float64), boxes.astype(np.float64))
    corners = np.minimum(found.boxes_xyxy[:, None, 2:], boxes[None, :, 2:])
    corners = np.clip(corners - np.maximum(found.boxes_xyxy[:, None, :2], boxes[None, :, :2]), 0, None)
    inner = corners[..., 0] * corners[..., 1]
    areas = [(side[:, 2] - side[:, 0]) * (side[:, 3] - side[:, 1]) for side in (found.boxes_xyxy, boxes)]
    return inner / (areas[0][:, None] + areas[1][None, :] - inner + np.float32(1e-7))


def _matched(overlaps: Floats, formula: Formula) -> Bools:
    """Whether each detection, best score first, takes a labelled box at each overlap.  (N, G) -> (N, 10)"""
    true = np.zeros((len(overlaps), len(IOU_THRESHOLDS)), bool)
    if not overlaps.size:
        return true
    for column, least in enumerate(IOU_THRESHOLDS):
        least = np.float32(least) if formula.float32 else min(least, 1 - 1e-10)
        if formula.one_try:
            rows = _pairs_of_one_try(overlaps, least)
        else:
            rows = _pairs_by_score(overlaps, least, formula.first_best)
        true[rows, column] = True
    return true


def _pairs_by_score(overlaps: Floats, least: float, first_best: bool) -> list[int]:
    free = np.ones(overlaps.shape[1], bool)
    rows = []
    for row in np.flatnonzero(overlaps.max(axis=1) >= least):
        open_to = np.where(free, overlaps[row], -1.0)
        best = int(open_to.argmax()) if first_best else len(open_to) - 1 - int(open_to[::-1].argmax())
        if open_to[best] >= least:
            free[best] = False
            rows.append(int(row))
    return rows


def _pairs_of_one_try(overlaps: Floats, least: float) -> list[int]:
    """Every detection wants the box that it overlaps most, and every box goes to the best score that wants it."""
    best = overlaps.argmax(axis=1)
    value = overlaps.max(axis=1)
    rows = []
    for box in np.unique(best[value >= least]):
        wanting = np.flatnonzero((best == box) & (value >= least))
        rows.append(int(wanting[0]))
    return rows


def _average_precision(scores: Floats, true: Bools, heads: int, formula: Formula) -> Floats:
    """(10,)"""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(true[order], axis=0)  # (M, 10)
    precision = hits / np.arange(1, len(order) + 1)[:, None]
    recall = hits / heads
    if not len(order):
        return np.zeros(len(IOU_THRESHOLDS))
    return np.array([_area(recall[:, column], precision[:, column], formula) for column in range(len(IOU_THRESHOLDS))])


def _area(recall: Floats, precision: Floats, formula: Formula) -> float:
    if formula.linear:
        known_recall = np.concatenate([[0.0], recall, [recall[-1], 1.0]])
        known = np.maximum.accumulate(np.concatenate([[1.0], precision, [0.0, 0.0]])[::-1])[::-1]
        curve = np.interp(_POINTS, known_recall, known)
    else:
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        curve = envelope[np.searchsorted(recall, _POINTS, side="left")]
    if formula.trapezium:
        return float(((curve[1:] + curve[:-1]) / 2 * np.diff(_POINTS)).sum())
    return float(curve.mean())


def ultralytics_precisions(predictions: Predictions, dataset: Dataset) -> Floats:
    """The same by the installed Ultralytics' own functions.  (C, 10)"""
    import torch
    from ultralytics.engine.validator import BaseValidator
    from ultralytics.utils.metrics import ap_per_class
    from ultralytics.utils.metrics import box_iou as their_iou

    validator = SimpleNamespace(iouv=torch.linspace(0.5, 0.95, 10))
    true, scores, labels, truth = [np.zeros((0, 10), bool)], [], [], []
    for index, found in zip(predictions.indices, predictions.detections, strict=True):
        sample = dataset[index]
        found = found[np.argsort(-found.scores, kind="stable")[:300]]
        overlaps = their_iou(torch.from_numpy(sample.boxes_xyxy), torch.from_numpy(found.boxes_xyxy))
        args = torch.from_numpy(found.labels), torch.from_numpy(sample.labels), overlaps
        if len(found) and len(sample.labels):
            true.append(BaseValidator.match_predictions(validator, *args).numpy())
        else:
            true.append(np.zeros((len(found), 10), bool))
        scores.append(found.scores), labels.append(found.labels), truth.append(sample.labels)
    parts = np.concatenate(true), np.concatenate(scores), np.concatenate(labels), np.concatenate(truth)
    return np.asarray(ap_per_class(*parts)[5])


def main() -> int:
    arguments = _arguments()
    dataset = load_dataset(arguments.data, arguments.split)
    found = load_predictions(arguments.predictions, dataset)
    accuracy = measure_accuracy(found, dataset)
    coco = average_precisions(found, dataset, COCO)
    print(f"{arguments.data.parent.name} ({arguments.split}), {len(found)} pictures, commit {commit()}")
    most = max(int((item.labels == label).sum()) for item in found.detections for label in range(len(dataset.classes)))
    print(f"most detections of a picture {max(map(len, found.detections))}, of one class {most}; classes: {len(coco)}")
    print(f"{'COCO':52} mAP50-95 {100 * coco.mean():8.4f}  mAP50 {100 * coco[:, 0].mean():8.4f}")
    for name, formula in SWITCHES.items():
        change = 100 * (average_precisions(found, dataset, formula) - coco)
        print(f"{name:52} mAP50-95 {change.mean():+8.4f}  mAP50 {change[:, 0].mean():+8.4f}")
    theirs = ultralytics_precisions(found, dataset)
    ours = average_precisions(found, dataset, ULTRALYTICS)
    off = abs(coco.mean() - (accuracy.map or 0)), float(np.abs(ours - theirs).max())
    print(f"off hotcoco by {off[0]:.1e}, off Ultralytics' own functions by {off[1]:.1e}")
    return 0 if off[0] <= _TOLERANCE[0] and off[1] <= _TOLERANCE[1] else 1


def _arguments() -> argparse.Namespace:
    parser = data_options(__doc__, None)
    parser.add_argument("--predictions", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
