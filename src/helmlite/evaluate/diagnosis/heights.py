"""Accuracy by the height of a head in the picture: from how far away a detector still sees.

COCO's areas tell far from near with three sizes, the smallest of which holds most heads of a roadside picture.  Bands
of height say it in pixels of the original picture.  Average precision in a band follows COCO's rules: labelled boxes
outside the band are ignored, with the detections that take them, and so are detections outside it that take none.

    band       low_px <= height < below_px, so that every labelled head is in exactly one
    unknown    fewer than ten labelled boxes of a class: None, not 0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import Predictions, SizeRanges, coco_evaluation
from helmlite.evaluate.errors import Matches

BAND_EDGES_PX = (0.0, 16.0, 32.0, 64.0)
FEWEST_BOXES = 10  # of a class in a band; with fewer nothing is said of it
_HIGHEST = 1e5


@dataclass(frozen=True)
class BandAccuracy:
    """One class in one band.

    ap50:   in [0, 1];  recall: share of the boxes that is found at the threshold of the class.  None where unknown.
    """

    name: str
    boxes: int
    ap50: float | None
    recall: float | None


@dataclass(frozen=True)
class HeightBand:
    """Heads of at least `low_px` and less than `below_px` (None: no upper end) pixels of the original picture.

    boxes: labelled, of all classes;  ap50: mean over the classes of which it is known, None where it is of none
    """

    low_px: float
    below_px: float | None
    boxes: int
    ap50: float | None
    per_class: tuple[BandAccuracy, ...]

    def in_words(self) -> str:
        """`below 16 px`, `16 to 32 px`, `64 px or more`."""
        if self.below_px is None:
            return f"{self.low_px:g} px or more" if self.low_px else "any height"
        return f"{self.low_px:g} to {self.below_px:g} px" if self.low_px else f"below {self.below_px:g} px"


def accuracy_by_height(
    predictions: Predictions,
    dataset: Dataset,
    thresholds: Sequence[float],
    matches: Sequence[Matches],
    edges_px: Sequence[float] = BAND_EDGES_PX,
    fewest_boxes: int = FEWEST_BOXES,
) -> tuple[HeightBand, ...]:
    """AP50, and recall at a device's thresholds, in each band of height.

    thresholds, matches: one for each class, the matches of `errors.match_class` for that class alone
    edges_px:            the lower ends of the bands, rising; the last band has no upper end
    Raises ValueError where the edges do not rise from 0 or more.
    """
    if not edges_px or edges_px[0] < 0 or any(low >= high for low, high in pairwise(edges_px)):
        raise ValueError(f"Bands of height need lower ends that rise from 0 or more; got {list(edges_px)}.")
    below = [*edges_px[1:], None]
    limits = tuple(
        (low, _HIGHEST if high is None else float(np.nextafter(high, 0))) for low, high in zip(edges_px, below)
    )
    ap50 = ap50_by_range(predictions, dataset, SizeRanges(limits, box_heights))
    heights = [_heights_of(side, predictions, dataset) for side in matches]
    bands = []
    for band, (low, high) in enumerate(limits):
        per_class = []
        for label, item in enumerate(dataset.classes):
            inside = (heights[label] >= low) & (heights[label] <= high)
            boxes = int(inside.sum())
            is_known = boxes >= max(fewest_boxes, 1)
            recall = float(matches[label].found_at(thresholds[label])[inside].mean()) if is_known else None
            per_class.append(BandAccuracy(item.name, boxes, ap50[band][label] if is_known else None, recall))
        known = [item.ap50 for item in per_class if item.ap50 is not None]
        mean = float(np.mean(known)) if known else None
        boxes = sum(item.boxes for item in per_class)
        bands.append(HeightBand(low, below[band], boxes, mean, tuple(per_class)))
    return tuple(bands)


def ap50_by_range(
    predictions: Predictions, dataset: Dataset, ranges: SizeRanges
) -> tuple[tuple[float | None, ...], ...]:
    """COCO's AP50 of each class in each range of sizes; None where nothing is labelled.  (ranges, classes)"""
    evaluation = coco_evaluation(predictions, dataset, ranges)
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])[0, ..., -1]  # (recall, class, range); -1: unknown
    return tuple(
        tuple(float(curve.mean()) if (curve > -1).all() else None for curve in precision[..., number].T)
        for number in range(len(ranges.limits))
    )


def box_heights(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Height of each box in pixels; 0 where a box has none.  (N, 4) -> (N,)"""
    return np.clip(boxes_xyxy[:, 3] - boxes_xyxy[:, 1], 0, None)


def _heights_of(matches: Matches, predictions: Predictions, dataset: Dataset) -> NDArray[np.float64]:
    """Height of each labelled box of the matches.  (G,)"""
    boxes = [dataset[index].boxes_xyxy.astype(np.float64) for index in predictions.indices]
    first = np.cumsum([0, *(len(of_picture) for of_picture in boxes)])
    return box_heights(np.concatenate([np.zeros((0, 4)), *boxes]))[first[matches.head_pictures] + matches.head_boxes]
