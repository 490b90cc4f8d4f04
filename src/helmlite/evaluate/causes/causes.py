"""Which heads a detector misses and what it takes for heads, each with what is known about why.

Three things are kept apart.  The *kind* is what happened there (`error_kinds.py`: a helmet is reported on it, the box
lies badly, ...).  *Traits* are what the head is like (`traits.py`: small, dark, ...).  *Causes* are those of its traits
with which heads are provably missed more often on this very data set, the surest first; a head without one is missed
for a reason that is not measured here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.causes.box_facts import BoxFacts, measure_boxes
from helmlite.evaluate.causes.traits import (
    LOWEST_SHARE,
    Limits,
    choose_limits,
    likeliest_first,
    measure_risks,
    shown_among,
    trait_in_words,
    traits_of,
)
from helmlite.evaluate.diagnosis.error_kinds import (
    ALARM_KINDS,
    BADLY_PLACED,
    BELOW_THRESHOLD,
    BOTH_WRONG,
    DUPLICATE,
    FOUND,
    LOOK_ALIKE,
    MISS_KINDS,
    OTHER_CLASS,
    AlarmOutcome,
    HeadOutcome,
    Outcomes,
    sort_out,
)
from helmlite.evaluate.errors import Head
from helmlite.evaluate.statistics.risks import Risk


@dataclass(frozen=True)
class MissedHead:
    """One labelled head that is not found at the thresholds.

    picture:     its file name;  class_name: as labelled
    kind:        one of `error_kinds.MISS_KINDS`
    reported_as: class that is reported on it, where that is another
    score:       of the detection that `kind` speaks of; None where it is not seen
    traits:      what it is like, the likeliest first;  causes: those of them that are shown to go with misses
    """

    head: Head
    picture: str
    box_xyxy: tuple[float, float, float, float]
    class_name: str
    kind: str
    reported_as: str | None
    score: float | None
    facts: BoxFacts
    traits: tuple[str, ...]
    causes: tuple[str, ...]
    says: str


@dataclass(frozen=True)
class FalseAlarm:
    """One detection above its threshold that takes no labelled head.

    picture_index: in the data set;  picture: its file name;  class_name: as reported
    kind:   one of `error_kinds.ALARM_KINDS`
    on_it:  class of the labelled box that it lies on; None on background
    facts:  of its box; near_heads and highest_iou speak of labelled heads, without the one that it lies on
    traits: of its box, against the limits of the labelled heads
    """

    picture_index: int
    picture: str
    box_xyxy: tuple[float, float, float, float]
    class_name: str
    score: float
    kind: str
    on_it: str | None
    facts: BoxFacts
    traits: tuple[str, ...]
    says: str


@dataclass(frozen=True)
class ErrorCauses:
    """All errors of one detector on one split.

    missed: the worst kinds first (another class is reported on the head), in each the largest heads first
    alarms: the highest scores first
    risks:  what goes with each trait, over all labelled heads, the surest first
    pixels_unknown: heads of pictures that could no longer be read
    """

    missed: tuple[MissedHead, ...]
    alarms: tuple[FalseAlarm, ...]
    risks: tuple[Risk, ...]
    limits: Limits
    heads: int
    pictures: int
    pixels_unknown: int

    def count_kinds(self) -> dict[str, int]:
        """How many missed heads and alarms there are of each kind, as in `missed: not seen`; none is left out."""
        misses, alarms = Counter(item.kind for item in self.missed), Counter(item.kind for item in self.alarms)
        counted = {f"missed: {kind}": misses[kind] for kind in MISS_KINDS}
        return counted | {f"false alarm: {kind}": alarms[kind] for kind in ALARM_KINDS}


def explain_errors(
    predictions: Predictions,
    dataset: Dataset,
    thresholds: Sequence[float],
    look_alikes: Sequence[str] = (),
    share: float = LOWEST_SHARE,
) -> ErrorCauses:
    """Every missed head and every false alarm, with what is known about why.  Pictures are read one after another.

    thresholds:  one score for each class of the data set (`thresholds.choose_thresholds(...).by_class`)
    look_alikes: classes that are no heads but look like them, to be named where an alarm lies on one
    share:       of the heads that count as small, as blurred and as dark

    Raises ValueError for thresholds or names that do not fit the data set's classes, or a share outside 0 to 1.
    """
    outcomes = sort_out(predictions, dataset, thresholds, look_alikes)
    head_facts, alarm_facts = measure_outcomes(outcomes, dataset)
    limits = choose_limits(head_facts, share)
    is_missed = np.array([item.kind != FOUND for item in outcomes.heads], dtype=bool)
    risks = measure_risks(head_facts, limits, is_missed)
    missed = [
        describe_miss(outcome, facts, limits, risks, dataset)
        for outcome, facts in zip(outcomes.heads, head_facts, strict=True)
        if outcome.kind != FOUND
    ]
    alarms = [
        _describe_alarm(outcome, facts, limits, dataset)
        for outcome, facts in zip(outcomes.alarms, alarm_facts, strict=True)
    ]
    return ErrorCauses(
        missed=tuple(sorted(missed, key=lambda item: (MISS_KINDS.index(item.kind), -item.facts.height_pixels))),
        alarms=tuple(sorted(alarms, key=lambda item: -item.score)),
        risks=risks,
        limits=limits,
        heads=len(outcomes.heads),
        pictures=len(predictions),
        pixels_unknown=sum(item.picture_luma is None for item in head_facts),
    )


def measure_outcomes(outcomes: Outcomes, dataset: Dataset) -> tuple[list[BoxFacts], list[BoxFacts]]:
    """Facts of every head and of every alarm, in their order; each picture that shows one is read once."""
    heads_in = _by_picture([item.head.picture for item in outcomes.heads])
    alarms_in = _by_picture([item.picture for item in outcomes.alarms])
    head_facts: dict[int, BoxFacts] = {}
    alarm_facts: dict[int, BoxFacts] = {}
    for picture in dict.fromkeys([*heads_in, *alarms_in]):
        of_heads, of_alarms = heads_in.get(picture, []), alarms_in.get(picture, [])
        heads = _stack([outcomes.heads[position].box_xyxy for position in of_heads])
        alarms = _stack([outcomes.alarms[position].box_xyxy for position in of_alarms])
        facts = measure_boxes(dataset, picture, np.concatenate([heads, alarms]), heads)
        head_facts |= zip(of_heads, facts[: len(heads)], strict=True)
        alarm_facts |= zip(of_alarms, facts[len(heads) :], strict=True)
    return [head_facts[n] for n in range(len(outcomes.heads))], [alarm_facts[n] for n in range(len(outcomes.alarms))]


def _by_picture(pictures: Sequence[int]) -> dict[int, list[int]]:
    """Positions in the list by the picture that they name, in their order."""
    positions: dict[int, list[int]] = {}
    for position, picture in enumerate(pictures):
        positions.setdefault(picture, []).append(position)
    return positions


def describe_miss(
    outcome: HeadOutcome, facts: BoxFacts, limits: Limits, risks: Sequence[Risk], dataset: Dataset
) -> MissedHead:
    """A missed head in plain values and in words."""
    traits = likeliest_first(traits_of(facts, limits), risks)
    causes = shown_among(traits, risks)
    reported_as = None if outcome.kind != OTHER_CLASS else _name(dataset, outcome.on_it_label)
    score = outcome.found_score if outcome.kind == BELOW_THRESHOLD else outcome.on_it_score
    return MissedHead(
        head=outcome.head,
        picture=dataset.image_paths[outcome.head.picture].name,
        box_xyxy=outcome.box_xyxy,
        class_name=dataset.classes[outcome.label].name,
        kind=outcome.kind,
        reported_as=reported_as,
        score=score,
        facts=facts,
        traits=traits,
        causes=causes,
        says=_miss_in_words(outcome.kind, reported_as, score, facts, traits, causes),
    )


def _miss_in_words(
    kind: str,
    reported_as: str | None,
    score: float | None,
    facts: BoxFacts,
    traits: Sequence[str],
    causes: Sequence[str],
) -> str:
    happened = {
        OTHER_CLASS: f"reported as {reported_as}",
        BADLY_PLACED: "the box lies badly",
        BELOW_THRESHOLD: "seen, but below the threshold",
    }.get(kind, kind)
    scored = "" if score is None else f" (score {score:.2f})"
    shown = [trait_in_words(item, facts) for item in causes]
    rest = [trait_in_words(item, facts) for item in traits if item not in causes]
    parts = [happened + scored]
    if shown:
        parts.append(f"shown to matter here: {', '.join(shown)}")
    if rest:
        parts.append(f"not shown to: {', '.join(rest)}")
    return "; ".join(parts)


def _describe_alarm(outcome: AlarmOutcome, facts: BoxFacts, limits: Limits, dataset: Dataset) -> FalseAlarm:
    traits = traits_of(facts, limits)
    on_it = _name(dataset, outcome.on_it_label)
    happened = {
        DUPLICATE: f"a second box on a head that is labelled {on_it}",
        OTHER_CLASS: f"on a head that is labelled {on_it}",
        BADLY_PLACED: f"lies badly on a head that is labelled {on_it}",
        BOTH_WRONG: f"lies badly on a head that is labelled {on_it}",
        LOOK_ALIKE: "something that looks like it: surer than half of the true detections",
    }.get(outcome.kind, "on background")
    if outcome.kind == LOOK_ALIKE and on_it is not None:
        happened = f"a {on_it}, as labelled"
    said = [f"{dataset.classes[outcome.label].name} (score {outcome.score:.2f}): {happened}"]
    if traits:
        said.append(", ".join(trait_in_words(item, facts) for item in traits))
    return FalseAlarm(
        picture_index=outcome.picture,
        picture=dataset.image_paths[outcome.picture].name,
        box_xyxy=outcome.box_xyxy,
        class_name=dataset.classes[outcome.label].name,
        score=outcome.score,
        kind=outcome.kind,
        on_it=on_it,
        facts=facts,
        traits=traits,
        says="; ".join(said),
    )


def _name(dataset: Dataset, label: int | None) -> str | None:
    return None if label is None else dataset.classes[label].name


def _stack(boxes: Sequence[tuple[float, float, float, float]]) -> NDArray[np.float32]:
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)
