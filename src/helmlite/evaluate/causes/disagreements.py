"""Heads that one of two detectors finds and the other does not, each with what is known about why.

What goes with being newly missed is measured among the heads that the baseline finds, and what goes with being newly
found among those that it misses: the others could not have changed in that direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.causes.box_facts import BoxFacts
from helmlite.evaluate.causes.causes import MissedHead, describe_miss, measure_outcomes
from helmlite.evaluate.causes.traits import LOWEST_SHARE, Limits, choose_limits, measure_risks
from helmlite.evaluate.diagnosis.error_kinds import FOUND, HeadOutcome, Outcomes, sort_out
from helmlite.evaluate.statistics.resampling import check_pairing
from helmlite.evaluate.statistics.risks import Risk


@dataclass(frozen=True)
class ChangedHead:
    """One head that only one of two detectors finds.

    missed:           the head as the detector that misses it leaves it; its causes go with the change
    baseline_score, candidate_score: of the detection of its class that fits it (IoU 0.5), whatever the threshold; None
                      where none does
    score_difference: baseline minus candidate, positive where the baseline is surer.  A detector that reports nothing
                      at all there is unsure to the full: the other's whole score is the difference.
    """

    missed: MissedHead
    baseline_score: float | None
    candidate_score: float | None
    score_difference: float


@dataclass(frozen=True)
class ChangeCauses:
    """What two detectors disagree about, the widest score difference first.

    missed_risks, found_risks: what goes with each trait, the surest first
    """

    newly_missed: tuple[ChangedHead, ...]
    newly_found: tuple[ChangedHead, ...]
    missed_risks: tuple[Risk, ...]
    found_risks: tuple[Risk, ...]
    limits: Limits
    heads: int
    pictures: int


def explain_changes(
    baseline: Predictions,
    candidate: Predictions,
    dataset: Dataset,
    baseline_thresholds: Sequence[float],
    candidate_thresholds: Sequence[float],
    share: float = LOWEST_SHARE,
) -> ChangeCauses:
    """Heads newly missed and newly found, and what goes with it.  Pictures are read one after another.

    baseline_thresholds, candidate_thresholds: one score for each class of the data set; take them at equal false
    alarms (`gate.operating_point`), or one detector wins only by being loud

    Raises ValueError where the two did not see the same pictures, and for thresholds that do not fit the classes.
    """
    check_pairing(baseline, candidate)
    before = sort_out(baseline, dataset, baseline_thresholds).heads
    after = sort_out(candidate, dataset, candidate_thresholds).heads
    facts, _ = measure_outcomes(Outcomes(before, ()), dataset)
    limits = choose_limits(facts, share)
    found_before = np.array([item.kind == FOUND for item in before], dtype=bool)
    found_after = np.array([item.kind == FOUND for item in after], dtype=bool)
    missed_risks = _risks_among(found_before, ~found_after, facts, limits)
    found_risks = _risks_among(~found_before, found_after, facts, limits)
    lost, won = np.flatnonzero(found_before & ~found_after), np.flatnonzero(found_after & ~found_before)
    newly_missed = [
        _changed(before[i], after[i], describe_miss(after[i], facts[i], limits, missed_risks, dataset)) for i in lost
    ]
    newly_found = [
        _changed(before[i], after[i], describe_miss(before[i], facts[i], limits, found_risks, dataset)) for i in won
    ]
    return ChangeCauses(
        newly_missed=tuple(sorted(newly_missed, key=lambda item: -item.score_difference)),
        newly_found=tuple(sorted(newly_found, key=lambda item: item.score_difference)),
        missed_risks=missed_risks,
        found_risks=found_risks,
        limits=limits,
        heads=len(before),
        pictures=len(baseline),
    )


def _risks_among(
    candidates: NDArray[np.bool_], is_hit: NDArray[np.bool_], facts: Sequence[BoxFacts], limits: Limits
) -> tuple[Risk, ...]:
    """What goes with being hit among those heads that could be."""
    chosen = np.flatnonzero(candidates)
    return measure_risks([facts[int(number)] for number in chosen], limits, is_hit[chosen])


def _changed(before: HeadOutcome, after: HeadOutcome, missed: MissedHead) -> ChangedHead:
    difference = (before.found_score or 0.0) - (after.found_score or 0.0)
    return ChangedHead(missed, before.found_score, after.found_score, difference)
