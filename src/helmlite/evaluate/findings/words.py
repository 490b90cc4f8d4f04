"""Every finding as a sentence: the one place where their words stand, since pages come in more than one language."""

from __future__ import annotations

from helmlite.evaluate import figures
from helmlite.evaluate.findings.blind import BlindHeights
from helmlite.evaluate.findings.chance import Unsaid
from helmlite.evaluate.findings.colours import SwappedColours
from helmlite.evaluate.findings.dead import DeadClass
from helmlite.evaluate.findings.leaks import Leak, OwnPictures
from helmlite.evaluate.findings.moved import MovedBoxes
from helmlite.evaluate.findings.scores import ShiftedScores

Finding = DeadClass | BlindHeights | MovedBoxes | SwappedColours | ShiftedScores | Leak | OwnPictures | Unsaid

FAMILIES = {
    "dead": "a class that is no longer reported",
    "blind": "heights at which it is blind",
    "moved": "boxes that are moved",
    "scores": "scores that are all lower or higher",
    "colours": "red and blue taken for each other",
}  # the files of this package


def in_words(finding: Finding, baseline: str = "the baseline") -> str:
    """One finding in a sentence, which begins with what it is about.  baseline: how the first model is called"""
    match finding:
        case DeadClass():
            return _dead(finding, baseline)
        case BlindHeights():
            return _blind(finding, baseline)
        case MovedBoxes():
            return _moved(finding, baseline)
        case SwappedColours():
            return _colours(finding, baseline)
        case ShiftedScores():
            return _scores(finding, baseline)
        case Leak():
            return _leak(finding)
        case OwnPictures():
            return _own_pictures(finding)
        case Unsaid():
            return _unsaid(finding)


def _dead(item: DeadClass, baseline: str) -> str:
    shown = f"reported {item.shown_after} times, not {item.shown_before}" if item.shown_after else "never reported"
    return (
        f"class {item.name}: {shown}; of {item.heads} heads {baseline} finds {item.found_before}, "
        f"this model {item.found_after}."
    )


def _blind(item: BlindHeights, baseline: str) -> str:
    here, there = ("below", "above it") if item.is_below else ("from", "below it")
    limit = f"{here} {item.limit_px:.0f} px of height{'' if item.is_below else ' on'}"
    lost = item.other_heads - item.other_kept
    rest = f"loses {lost} of {item.other_heads}" if lost else f"loses none of {item.other_heads}"
    return (
        f"blind {limit}: there it finds {item.kept} of the {item.heads} heads that {baseline} finds, even at a quarter "
        f"of the lower threshold; {there} it {rest}."
    )


def _moved(item: MovedBoxes, baseline: str) -> str:
    parts = [
        f"{abs(value):.1f} px {ahead if value > 0 else back}"
        for value, ahead, back in ((item.right_px, "to the right", "to the left"), (item.down_px, "down", "up"))
        if abs(value) >= 0.05
    ]
    text = f"boxes are moved: they lie {' and '.join(parts)} from where {baseline} has them (median of {item.pairs})"
    if item.before_off_px is not None and item.after_off_px is not None:
        text += (
            f"; from the labelled boxes {baseline} is {_off(item.before_off_px)} away, this model "
            f"{_off(item.after_off_px)}"
        )
    return f"{text}. Is the letterbox's padding undone, and by the right scale?"


def _off(offset: tuple[float, float]) -> str:
    return f"({offset[0]:+.1f}, {offset[1]:+.1f}) px"


def _colours(item: SwappedColours, baseline: str) -> str:
    return (
        f"colours: it answers like {baseline} when red and blue are swapped: {item.alike_swapped} of {item.boxes} "
        f"boxes have a like one then, {item.alike} as the pictures are ({item.pictures} pictures). Is it fed BGR for "
        "RGB?"
    )


def _scores(item: ShiftedScores, baseline: str) -> str:
    text = (
        f"scores of {item.name} are {item.ratio:.2f} times those of {baseline} (median of {item.pairs} heads): its "
        f"threshold moved from {item.threshold_before:.2f} to {item.threshold_after:.2f}; keeping the old one would "
    )
    if item.ratio < 1:
        return f"{text}lose {item.found_after - item.found_kept} of {item.heads} heads."
    return f"{text}raise {item.alarms_kept - item.alarms_after} more false alarms."


def _leak(item: Leak) -> str:
    pairs = ", ".join(f"{pair.tested} ≈ {pair.learned}" for pair in item.first)
    more = f" and {item.pictures - len(item.first)} more" if item.pictures > len(item.first) else ""
    text = (
        f"{item.pictures} of {item.tested} pictures of {item.tested_split} look the same as pictures of "
        f"{item.learned_split}: {pairs}{more}."
    )
    for side in item.without:
        without = f"{figures.points(side.map)} points of mAP50-95, {figures.points(side.map_without)} without them"
        between = figures.points_between(side.map_without_ci95)
        text += f" {side.name}: {without}{f' (95 % interval: {between})' if between else ', no interval'}."
    return text


def _own_pictures(item: OwnPictures) -> str:
    used = "learned from" if item.split == "train" else "was tuned and judged on"
    return (
        f"{item.model} {used} these very pictures ({item.split}, {item.sha256[:12]}): its figures say what it "
        "remembers, not what it can do."
    )


def _unsaid(item: Unsaid) -> str:
    of_class = f" ({item.class_name})" if item.class_name else ""
    return (
        f"not looked for: {FAMILIES[item.family]}{of_class}; {item.seen} to go by, in too few pictures or fewer than "
        f"the {item.needed} it takes."
    )
