"""What a test set can prove, before any training: losses smaller than this are lost in the choice of pictures.

The interval that will decide is the paired one, and before there is a candidate it is unknown.  It is estimated from
a stand-in: the baseline's own detections, disturbed as compression disturbs them.  Scores move in log-odds by a
normal of standard deviation `SCORE_NOISE`, box sides by `BOX_NOISE` of the box's size, and a share `DROPPED` of the
detections goes.  The half width of the paired bootstrap interval between baseline and stand-in, averaged over a few
disturbances, is the smallest loss that can be told from none: a true loss of that size is seen in half of such sets,
a smaller one in fewer.  A candidate that differs more from the baseline than the stand-in does resolves less; the
report gives the real interval afterwards.  On fewer pictures than an interval takes (resamples.py), and of a baseline
that reports nothing, nothing is said.

Held against real pairs on 76 pictures of bikes_helmets (val), helmet-yolo12m against itself at another input size:
half widths of 3.0 (640 and 416), 3.1 (416 and 320) and 4.5 points (640 and 320); the stand-in says 3.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from helmlite.data.dataset import Dataset
from helmlite.data.roles import labels_of_role
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.statistics.resamples import FEWEST_PICTURES, Resamples, resamples_of

SCORE_NOISE = 0.5
BOX_NOISE = 0.04
DROPPED = 0.03
STAND_INS = 5
_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Resolution:
    """The smallest loss that these pictures can show.

    loss_points:            a loss of mAP50-95 below this cannot be told from none; None where nothing is labelled or
                            reported, or there are too few pictures
    pictures_for_one_point: how many such pictures would show a loss of 1 point, as surely
    boxes:                  labelled ones
    bare_heads:             labelled heads of the no_helmet role; None without that role
    points_per_head:        what one head is worth in points of recall
    units:                  independent draws: pictures, or scenes where the data set names them
    """

    split: str
    pictures: int
    units: int
    loss_points: float | None
    pictures_for_one_point: int | None
    bare_heads: int | None
    points_per_head: float | None
    boxes: int | None = None

    def in_words(self) -> str:
        """`76 pictures: a loss below 2.9 points cannot be seen; about 640 would show 1 point half of the time. ...`"""
        text = f"{self.pictures} pictures: {self._loss_in_words()}"
        if self.bare_heads is None:
            return f"{text}. No class has the role no_helmet: nothing can be said of bare heads."
        if not self.bare_heads:
            return f"{text}. No bare head is labelled."
        return f"{text}. {self.bare_heads} bare heads: one head is {self.points_per_head:.1f} points of recall."

    def _loss_in_words(self) -> str:
        if self.loss_points is not None:
            text = f"a loss below {self.loss_points:.1f} points cannot be seen"
            if self.pictures_for_one_point is not None and self.pictures_for_one_point > self.pictures:
                text += f"; about {self.pictures_for_one_point} would show 1 point half of the time"
            return text
        if self.boxes == 0:
            return "nothing is labelled, so that no loss can be seen"
        if self.units < FEWEST_PICTURES:
            return f"{self.units} of them independent, at least {FEWEST_PICTURES} are needed to say what they can show"
        return "the baseline finds nothing in them, so that no loss can be seen"


def resolvable_loss(baseline: Predictions, dataset: Dataset, seed: int = 0, resamples: int = 500) -> Resolution:
    """What these pictures can prove about a candidate that is compared with this baseline."""
    draws = resamples_of(baseline, dataset, seed, resamples)
    loss = _half_width(baseline, dataset, draws, seed) if draws.has_enough_pictures else None
    labels = labels_of_role(dataset.classes, "no_helmet")
    heads = sum(int(np.isin(dataset[i].labels, labels).sum()) for i in baseline.indices) if labels else None
    return Resolution(
        split=dataset.split,
        pictures=len(baseline),
        units=draws.units,
        loss_points=loss,
        pictures_for_one_point=None if loss is None else math.ceil(len(baseline) * loss**2),
        bare_heads=heads,
        points_per_head=100 / heads if heads else None,
        boxes=sum(len(dataset[index].labels) for index in baseline.indices),
    )


def _half_width(baseline: Predictions, dataset: Dataset, draws: Resamples, seed: int) -> float | None:
    """Of the interval of a loss between the baseline and its stand-ins, points; None where it is unknown or nothing."""
    before = draws.map(baseline, dataset)
    widths = []
    for number in range(STAND_INS):
        stand_in = disturbed(baseline, seed=seed * STAND_INS + number)
        losses = 100 * (before - draws.map(stand_in, dataset))[1:]
        if not np.isnan(losses).all():
            widths.append(_NORMAL_95 * float(np.nanstd(losses)))
    return float(np.mean(widths)) if any(widths) else None


def disturbed(predictions: Predictions, seed: int) -> Predictions:
    """The predictions of a detector that differs from this one about as much as a compressed one does."""
    random = np.random.default_rng(seed)
    return Predictions(
        tuple(_disturbed_picture(found, random) for found in predictions.detections), predictions.indices
    )


def _disturbed_picture(found: Detections, random: np.random.Generator) -> Detections:
    found = found[random.random(len(found)) >= DROPPED]
    sides = np.tile(found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2], (1, 2))  # width, height, width, height
    boxes = found.boxes_xyxy + (sides * BOX_NOISE * random.standard_normal(sides.shape)).astype(np.float32)
    likely = np.clip(found.scores.astype(np.float64), 1e-6, 1 - 1e-6)
    odds = np.log(likely / (1 - likely)) + SCORE_NOISE * random.standard_normal(len(found))
    scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes.astype(np.float32), scores, found.labels)[order]
