"""Heads that a detector loses for one frame of a video, or takes for another class in it.

A head is the same in the frame before and the frame after where the classes mean the same and the boxes overlap by at
least 0.3; in between it is expected half way.  Nothing is tracked: a head that moves by most of its width from frame to
frame is not followed, and one that is lost for two frames in a row is not found.

    lost            nothing of its class is reported near the place: worth min(before, after) - what is left there
    another class   worth min(before, between, after), in sureties (seen.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helmlite.boxes import box_iou
from helmlite.data.roles import Class
from helmlite.evaluate.diagnosis.error_kinds import group_of, head_groups
from helmlite.mine.reasons import FLICKER, Spot, plain_box
from helmlite.mine.seen import Seen
from helmlite.runtime.agreement import compare

_SAME_IOU = 0.3


@dataclass(frozen=True)
class Flicker:
    """One head that flickers.

    label:   its class before;  is_lost: whether nothing is reported there, not even another class
    """

    spot: Spot
    label: int
    is_lost: bool


def flickers(before: Seen, between: Seen, after: Seen, name: str, classes: Sequence[Class]) -> list[Flicker]:
    """Heads of the middle one of three frames that the frames around it show otherwise.

    name: of the detector;  classes: of the set, which the labels count in
    """
    first, last = before.heads().reported(), after.heads().reported()
    middle = between.heads()
    groups = head_groups(classes)
    found = []
    for left, right in compare(first.found, last.found, classes, classes, _SAME_IOU).same:
        box = (first.found.boxes_xyxy[left] + last.found.boxes_xyxy[right]) / 2
        label = int(first.found.labels[left])
        around = min(float(first.sureties[left]), float(last.sureties[right]))
        near = box_iou(box[None], middle.found.boxes_xyxy)[0] >= _SAME_IOU
        same = np.isin(middle.found.labels, group_of(label, groups))
        still = float(middle.sureties[near & same].max(initial=0.0))
        if still >= 0.5:
            continue
        told = classes[label].name
        other = np.flatnonzero(near & ~same & (middle.sureties >= 0.5))
        if other.size:
            loudest = other[middle.sureties[other].argmax()]
            worth = min(around, float(middle.sureties[loudest]))
            says = f"{told} before and after, {classes[middle.found.labels[loudest]].name} in between, for {name}"
        else:
            worth, says = around - still, f"{told} before and after, lost in between, for {name}"
        found.append(Flicker(Spot(FLICKER, worth, plain_box(box), says), label, not other.size))
    return found
