"""Red and blue taken for each other: a picture that OpenCV read as BGR, given to a network that knows RGB.

A detector that is fed the wrong way round answers like its baseline when red and blue are swapped once more.  So the
candidate looks again at some pictures with swapped channels, and its boxes are counted that are like one of the
baseline's, same class, IoU of at least 0.5, score within SCORE: as pictures are, and swapped.  It fires where
swapping certainly brings more such boxes (99 % interval, paired by picture) and leaves at most half of those that are
unlike.  This asks the model anew, and is done only where its accuracy fell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_iou
from helmlite.data.dataset import Dataset
from helmlite.detections import Detections, Image, Predictor
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.errors import MATCH_IOU
from helmlite.evaluate.findings.chance import Unsaid, draws_of
from helmlite.evaluate.findings.pairs import Side, partners

FAMILY = "colours"
FEWEST_BOXES = 20
PROBED_PICTURES = 40
SCORE = 0.05


@dataclass(frozen=True)
class SwappedColours:
    """The candidate answers like the baseline when red and blue are swapped.

    boxes: that the baseline shows in `pictures` pictures;  alike, alike_swapped: those to which the candidate has a
    like one in the pictures as they are, and with red and blue swapped
    """

    pictures: int
    boxes: int
    alike: int
    alike_swapped: int


def predict_swapped(predict: Predictor, dataset: Dataset, indices: Sequence[int]) -> Predictions:
    """What is found in these pictures of a data set with red and blue swapped.  Raises ValueError where one is gone."""
    return Predictions(
        tuple(predict(swap_red_and_blue(dataset[index].read_image())) for index in indices), tuple(indices)
    )


def swap_red_and_blue(image: Image) -> Image:
    """The picture as one reads it who takes RGB for BGR.  (H, W, 3)"""
    return np.ascontiguousarray(image[..., ::-1])


def probed_indices(before: Side, most: int = PROBED_PICTURES) -> tuple[int, ...]:
    """Pictures in which the baseline shows something, spread over all that it saw."""
    limits = np.array(before.thresholds, dtype=np.float32)
    shown = [
        index
        for index, found in zip(before.predictions.indices, before.predictions.detections, strict=True)
        if (found.scores >= limits[found.labels]).any()
    ]
    places = (
        np.unique(np.linspace(0, len(shown) - 1, most).round().astype(int)) if len(shown) > most else range(len(shown))
    )
    return tuple(shown[place] for place in places)


def find_swapped_colours(
    before: Side, after: Side, swapped: Predictions, dataset: Dataset, seed: int = 0
) -> tuple[SwappedColours | None, list[Unsaid]]:
    """Whether the candidate takes red for blue.

    swapped: of the candidate, in some of the pictures that both saw, with red and blue swapped
    """
    place_of = {index: place for place, index in enumerate(before.predictions.indices)}
    places = [place_of[index] for index in swapped.indices]
    pictures, alike, alike_swapped = [np.zeros(0, np.int64)], [np.zeros(0, bool)], [np.zeros(0, bool)]
    limits = np.array(before.thresholds, dtype=np.float32)
    for number, place in enumerate(places):
        found = before.predictions.detections[place]
        shown = found[found.scores >= limits[found.labels]]
        pictures.append(np.full(len(shown), number))
        alike.append(_alike(shown, after.predictions.detections[place]))
        alike_swapped.append(_alike(shown, swapped.detections[number]))
    of_box, plain, turned = np.concatenate(pictures), np.concatenate(alike), np.concatenate(alike_swapped)
    draws = draws_of(swapped, dataset, seed)
    if len(of_box) < FEWEST_BOXES or not draws.enough(of_box):
        return None, [Unsaid(FAMILY, None, len(of_box), FEWEST_BOXES)]
    more = draws.mean_interval(turned.astype(np.float64) - plain, of_box)
    if more[0] <= 0 or 2 * int((~turned).sum()) > int((~plain).sum()):
        return None, []
    return SwappedColours(len(places), len(of_box), int(plain.sum()), int(turned.sum())), []


def _alike(shown: Detections, others: Detections) -> NDArray[np.bool_]:
    """Whether each box has one like it.  (N,)"""
    taken = partners(shown, others)
    has = np.flatnonzero(taken >= 0)
    like = np.zeros(len(shown), dtype=bool)
    if len(has):
        overlap = box_iou(shown.boxes_xyxy[has], others.boxes_xyxy[taken[has]]).diagonal()
        near = np.abs(shown.scores[has] - others.scores[taken[has]]) <= SCORE
        like[has] = (overlap >= MATCH_IOU) & near
    return like
