"""Why a picture is worth a person's look: spots in it, each worth something in (0, 1].

    disagreement     two detectors: one reports a head that the other does not, or another class on it
                     worth: how much surer the one is (seen.py); of another class, the less sure of both
    flicker          a video: a head that is there before and after but not in between (flicker.py)
    low confidence   the surest score at a spot is near its threshold
                     worth: 1 at the threshold, 0 from half way to a score of 0 or 1 on
    look-alike       a head, reported with no more than middling surety (below 3/4), with no rider and no two-wheeler
                     to carry it.  worth: its surety

What `evaluate.causes` calls a look-alike needs labels: it is a *false* alarm, surer than half of the true ones.
Without labels nobody can say which alarms are false, so this one is another, weaker thing, and it can only be told
where a detector knows riders or two-wheelers.

A picture is worth 1 - (1 - w1)(1 - w2)... by each reason: two half-sure spots make three quarters.  That lies between
the two usual ways of making one number of a picture's objects, their sum and their maximum (Brust et al. 2018, "Active
Learning for Deep Object Detection", arXiv 1809.09875): crowds count for more, but not without end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_iou, nms
from helmlite.data.roles import Class
from helmlite.evaluate.diagnosis.error_kinds import group_of, head_groups
from helmlite.evaluate.errors import MATCH_IOU
from helmlite.mine.corners import Box
from helmlite.mine.seen import Seen
from helmlite.runtime.agreement import compare

DISAGREEMENT, FLICKER, LOW_CONFIDENCE, LOOK_ALIKE = "disagreement", "flicker", "low confidence", "look-alike"
REASONS = (DISAGREEMENT, FLICKER, LOW_CONFIDENCE, LOOK_ALIKE)
_MIDDLING = 0.75  # half way between the threshold and a score of 1
_FAINT = 0.25  # half way between a score of 0 and the threshold: no doubt is left below


@dataclass(frozen=True)
class Spot:
    """One place that is worth a look.

    reason: one of REASONS;  worth: in (0, 1];  says: what happened there, in a few words
    box_xyxy: pixels of the picture
    """

    reason: str
    worth: float
    box_xyxy: Box
    says: str


def worth_together(worths: Iterable[float]) -> float:
    """What several spots of one picture are worth.

    >>> worth_together([0.5, 0.5])
    0.75
    """
    return float(1 - np.prod([1 - worth for worth in worths]))


def disagreements(first: Seen, second: Seen, names: Sequence[str], classes: Sequence[Class]) -> list[Spot]:
    """Heads that only one of two detectors reports, or that they give different classes.

    names: of the two;  classes: of the set, which the labels of both count in
    """
    sides = (first.heads(), second.heads())
    shown = [side.reported() for side in sides]
    pairs = compare(shown[0].found, shown[1].found, classes, classes)
    spots = []
    for left, right in pairs.other_class:
        told = [classes[side.found.labels[at]].name for side, at in zip(shown, (left, right))]
        worth = min(float(shown[0].sureties[left]), float(shown[1].sureties[right]))
        says = f"{told[0]} for {names[0]}, {told[1]} for {names[1]}"
        spots.append(Spot(DISAGREEMENT, worth, plain_box(shown[0].found.boxes_xyxy[left]), says))
    for number, alone in enumerate((pairs.only_left, pairs.only_right)):
        for at in alone:
            box, label = shown[number].found.boxes_xyxy[at], int(shown[number].found.labels[at])
            worth = float(shown[number].sureties[at]) - _surety_at(box, label, sides[1 - number], classes)
            says = f"{classes[label].name} for {names[number]} only"
            if worth > 0:
                spots.append(Spot(DISAGREEMENT, worth, plain_box(box), says))
    return spots


def low_confidence(seen: Seen, name: str, classes: Sequence[Class]) -> list[Spot]:
    """Heads whose surest score is near the threshold, on either side of it."""
    heads = seen.heads()
    heads = heads.chosen(heads.sureties > _FAINT)
    one_class = np.zeros(len(heads.found), np.int64)
    best = nms(heads.found.boxes_xyxy, heads.sureties.astype(np.float32), one_class, MATCH_IOU)
    spots = []
    for at in best.tolist():
        worth = 1 - 4 * abs(float(heads.sureties[at]) - 0.5)
        if worth > 0:
            said = f"{classes[heads.found.labels[at]].name} at {heads.found.scores[at]:.2f} for {name}"
            spots.append(Spot(LOW_CONFIDENCE, worth, plain_box(heads.found.boxes_xyxy[at]), said))
    return spots


def look_alikes(seen: Seen, carriers_xyxy: NDArray[np.float32], name: str, classes: Sequence[Class]) -> list[Spot]:
    """Heads of middling surety that no rider and no two-wheeler carries.

    carriers_xyxy: (R, 4) of every detector;  ask only where one of them knows riders or two-wheelers
    """
    heads = seen.heads().reported()
    heads = heads.chosen(heads.sureties < _MIDDLING)
    centres = (heads.found.boxes_xyxy[:, :2] + heads.found.boxes_xyxy[:, 2:]) / 2
    spots = []
    for at, centre in enumerate(centres):
        inside = (carriers_xyxy[:, :2] <= centre).all(axis=1) & (centre <= carriers_xyxy[:, 2:]).all(axis=1)
        if not inside.any():
            said = f"{classes[heads.found.labels[at]].name} for {name}, on no rider and no two-wheeler"
            spots.append(Spot(LOOK_ALIKE, float(heads.sureties[at]), plain_box(heads.found.boxes_xyxy[at]), said))
    return spots


def plain_box(box: NDArray[np.floating]) -> Box:
    """A box as four numbers."""
    left, top, right, bottom = (float(value) for value in box)
    return left, top, right, bottom


def _surety_at(box: NDArray[np.float32], label: int, seen: Seen, classes: Sequence[Class]) -> float:
    """How sure a detector is at most that a head of this meaning lies there."""
    same = np.isin(seen.found.labels, group_of(label, head_groups(classes)))
    there = same & (box_iou(box[None], seen.found.boxes_xyxy)[0] >= MATCH_IOU)
    return float(seen.sureties[there].max(initial=0.0))
