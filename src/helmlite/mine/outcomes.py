"""What a person decided about each suggestion, and what that teaches the detector that is to become better.

    confirmed        kept as it was, and that detector reports it: it knew
    hard negative    taken away: something that is not there was reported
    hard positive    added by the person, given another class, or kept although that detector does not report it

A box that was moved so far that it overlaps its suggestion by less than 0.5 counts as one taken away and one added.

A box that nobody has looked at cannot be told from one that was found right: a suggestion that only the second detector
or the frames around reported is a hard positive in either case.  `is_as_suggested` says which pictures that concerns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helmlite.data.roles import Class, guess_role
from helmlite.detections import Detections
from helmlite.mine.choose import PreLabel
from helmlite.mine.corners import Box, NamedBox
from helmlite.runtime.agreement import compare

CONFIRMED, HARD_NEGATIVE, HARD_POSITIVE = "confirmed", "hard negative", "hard positive"
KINDS = (HARD_NEGATIVE, HARD_POSITIVE, CONFIRMED)
_SAME_PX = 0.5  # formats round: CVAT to hundredths of a pixel, YOLO to millionths of a picture


@dataclass(frozen=True)
class Outcome:
    """One decision.

    class_name: as corrected; None where nothing is there
    suggested:  class of the suggestion; None where there was none
    box_xyxy:   pixels, as corrected; of a hard negative as suggested
    score, by:  of the suggestion;  says: what happened, in words
    """

    picture: str
    kind: str
    class_name: str | None
    suggested: str | None
    box_xyxy: Box
    score: float | None
    by: tuple[str, ...]
    says: str


def decide(
    picture: str, suggestions: Sequence[PreLabel], corrected: Sequence[NamedBox], classes: Sequence[Class], name: str
) -> tuple[Outcome, ...]:
    """What happened to every suggestion of a picture, and what was added: negatives, positives, confirmed.

    classes: of the mined set; another class of the person's is understood by its name
    name:    of the detector that is to become better
    """
    known = with_more(classes, [item.class_name for item in corrected])
    before = _detections([(item.class_name, item.box_xyxy) for item in suggestions], known)
    after = _detections([(item.class_name, item.box_xyxy) for item in corrected], known)
    pairs = compare(before, after, known, known)
    outcomes = []
    for at in pairs.only_left:
        one = suggestions[at]
        says = f"no {one.class_name} there, though {' and '.join(one.by)} report it"
        outcomes.append(Outcome(picture, HARD_NEGATIVE, None, one.class_name, one.box_xyxy, one.score, one.by, says))
    for at, to in pairs.other_class:
        one, now = suggestions[at], corrected[to]
        says = f"{now.class_name}, not {one.class_name}"
        outcomes.append(
            Outcome(picture, HARD_POSITIVE, now.class_name, one.class_name, now.box_xyxy, one.score, one.by, says)
        )
    for to in pairs.only_right:
        now = corrected[to]
        says = f"{now.class_name} added by the person"
        outcomes.append(Outcome(picture, HARD_POSITIVE, now.class_name, None, now.box_xyxy, None, (), says))
    for at, to in pairs.same:
        one, now = suggestions[at], corrected[to]
        knew = name in one.by
        kind = CONFIRMED if knew else HARD_POSITIVE
        says = f"{now.class_name} confirmed" + ("" if knew else f", which {name} does not report")
        outcomes.append(Outcome(picture, kind, now.class_name, one.class_name, now.box_xyxy, one.score, one.by, says))
    return tuple(sorted(outcomes, key=lambda item: KINDS.index(item.kind)))


def is_as_suggested(suggestions: Sequence[PreLabel], corrected: Sequence[NamedBox]) -> bool:
    """Whether the labels of a picture are the suggestions, box for box: of the same class, no side moved by more than
    half a pixel.  Then it was right, or nobody has looked at it: no format says which.
    """
    left = list(corrected)
    for one in suggestions:
        same = [item for item in left if item.class_name == one.class_name and _moved(item, one) <= _SAME_PX]
        if not same:
            return False
        left.remove(min(same, key=lambda item: _moved(item, one)))
    return not left


def _moved(box: NamedBox, suggestion: PreLabel) -> float:
    """By how many pixels the side of a box that was moved most was moved."""
    return max(abs(now - before) for now, before in zip(box.box_xyxy, suggestion.box_xyxy, strict=True))


def with_more(classes: Sequence[Class], names: Sequence[str]) -> tuple[Class, ...]:
    """These classes, and behind them those of the names that are not among them, with the roles that they usually have.

    >>> [item.role for item in with_more([Class("helmet", "helmet")], ["bare head", "helmet", "cap"])]
    ['helmet', 'no_helmet', None]
    """
    known = {item.name for item in classes}
    more = [name for name in dict.fromkeys(names) if name not in known]
    return (*classes, *(Class(name, guess_role(name)) for name in more))


def _detections(items: Sequence[tuple[str, Box]], classes: Sequence[Class]) -> Detections:
    label_of = {item.name: label for label, item in enumerate(classes)}
    return Detections(
        np.array([box for _, box in items], np.float32).reshape(-1, 4),
        np.ones(len(items), np.float32),
        np.array([label_of[name] for name, _ in items], np.int64),
    )
