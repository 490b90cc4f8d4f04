"""What a test set can prove, before any training: losses smaller than this are lost in the choice of pictures.

The interval that will decide is the paired one, and before there is a candidate it is unknown.  It is estimated from
a stand-in: the baseline's own detections, disturbed as compression disturbs them.  Scores move in log-odds by a
normal of standard deviation `SCORE_NOISE`, box sides by `BOX_NOISE` of the box's size, and a share `DROPPED` of the
detections goes.  The half width of the paired bootstrap interval between baseline and stand-in, averaged over a few
disturbances, is the smallest loss that can be told from none.  A candidate that differs more from the baseline than
the stand-in does resolves less; the report gives the real interval afterwards.

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
from helmlite.evaluate.statistics.resampling import bootstrap_weights, match_records, mean_average_precision, unit_count

SCORE_NOISE = 0.5
BOX_NOISE = 0.04
DROPPED = 0.03
STAND_INS = 5
_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Resolution:
    """The smallest loss that these pictures can show.

    loss_points:            a loss of mAP50-95 below this cannot be told from none; None where nothing is labelled
    pictures_for_one_point: how many such pictures would show a loss of 1 point
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

    def in_words(self) -> str:
        """`76 pictures: a loss below 2.9 points cannot be seen; 640 would show 1 point. 54 bare heads: ...`"""
        if self.loss_points is None:
            text = f"{self.pictures} pictures: nothing is labelled, so that no loss can be seen"
        else:
            text = f"{self.pictures} pictures: a loss below {self.loss_points:.1f} points cannot be seen"
            if self.pictures_for_one_point is not None and self.pictures_for_one_point > self.pictures:
                text += f"; about {self.pictures_for_one_point} would show 1 point"
        if self.bare_heads is None:
            return f"{text}. No class has the role no_helmet: nothing can be said of bare heads."
        if not self.bare_heads:
            return f"{text}. No bare head is labelled."
        return f"{text}. {self.bare_heads} bare heads: one head is {self.points_per_head:.1f} points of recall."


def resolvable_loss(baseline: Predictions, dataset: Dataset, seed: int = 0, resamples: int = 500) -> Resolution:
    """What these pictures can prove about a candidate that is compared with this baseline."""
    groups = [dataset[index].group for index in baseline.indices]
    weights = bootstrap_weights(groups, resamples, seed)
    before = mean_average_precision(match_records(baseline, dataset), weights)
    half_widths = []
    for number in range(STAND_INS):
        stand_in = disturbed(baseline, seed=seed * STAND_INS + number)
        losses = 100 * (before - mean_average_precision(match_records(stand_in, dataset), weights))
        if not np.isnan(losses).all():
            half_widths.append(_NORMAL_95 * float(np.nanstd(losses)))
    loss = float(np.mean(half_widths)) if half_widths else None
    labels = labels_of_role(dataset.classes, "no_helmet")
    heads = sum(int(np.isin(dataset[i].labels, labels).sum()) for i in baseline.indices) if labels else None
    return Resolution(
        split=dataset.split,
        pictures=len(baseline),
        units=unit_count(groups),
        loss_points=loss,
        pictures_for_one_point=None if loss is None else math.ceil(len(baseline) * loss**2),
        bare_heads=heads,
        points_per_head=100 / heads if heads else None,
    )


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
