"""Scores that are all lower or all higher than the baseline's, so that a threshold that was right is wrong.

Average precision does not see it, and thresholds chosen anew undo it; a device that keeps its old threshold is blind.
Class by class: over the heads that both detectors reach at any score, and that at least one of them shows, the median
of the candidate's score over the baseline's.  It fires where the whole 99 % interval of that median is below LOWER or
above HIGHER, and where keeping the baseline's threshold certainly costs something: heads where scores fell,
false alarms where they rose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.evaluate.errors import Matches
from helmlite.evaluate.findings.chance import Draws, Unsaid
from helmlite.evaluate.findings.pairs import Side
from helmlite.evaluate.statistics.intervals import Interval

FAMILY = "scores"
FEWEST_HEADS = 20
LOWER, HIGHER = 0.8, 1.25


@dataclass(frozen=True)
class ShiftedScores:
    """The scores of one class have moved.

    ratio:       median of the candidate's score over the baseline's, over `pairs` heads;  ratio_ci99: its interval
    threshold_before, threshold_after: chosen for each of them by one rule
    found_after, found_kept:   of `heads` labelled ones, at the candidate's own threshold and at the baseline's
    alarms_after, alarms_kept: false alarms, likewise
    """

    name: str
    pairs: int
    ratio: float
    ratio_ci99: Interval
    threshold_before: float
    threshold_after: float
    heads: int
    found_after: int
    found_kept: int
    alarms_after: int
    alarms_kept: int


def find_shifted_scores(
    before: Side, after: Side, dataset: Dataset, draws: Draws
) -> tuple[list[ShiftedScores], list[Unsaid]]:
    """Every class whose scores have moved, and those of which both reach too few heads to say."""
    shifted, unsaid = [], []
    for label, item in enumerate(dataset.classes):
        sides = before.matches[label], after.matches[label]
        thresholds = before.thresholds[label], after.thresholds[label]
        reached = np.isfinite(sides[0].found_scores) & np.isfinite(sides[1].found_scores)
        reached &= sides[0].found_at(thresholds[0]) | sides[1].found_at(thresholds[1])
        pictures = sides[0].head_pictures[reached]
        if len(pictures) < FEWEST_HEADS or not draws.enough(pictures):
            unsaid.append(Unsaid(FAMILY, item.name, len(pictures), FEWEST_HEADS))
            continue
        ratios = sides[1].found_scores[reached] / np.maximum(sides[0].found_scores[reached], 1e-9)
        interval = draws.median_interval(ratios, pictures)
        if not _costs(sides[1], thresholds[1], thresholds[0], interval, draws):
            continue
        own, kept = thresholds[1], thresholds[0]
        shifted.append(
            ShiftedScores(
                name=item.name,
                pairs=len(ratios),
                ratio=float(np.median(ratios)),
                ratio_ci99=interval,
                threshold_before=kept,
                threshold_after=own,
                heads=sides[1].head_count,
                found_after=int(sides[1].found_at(own).sum()),
                found_kept=int(sides[1].found_at(kept).sum()),
                alarms_after=sides[1].alarms_at(own),
                alarms_kept=sides[1].alarms_at(kept),
            )
        )
    return shifted, unsaid


def _costs(matches: Matches, own: float, kept: float, ratio_ci99: Interval, draws: Draws) -> bool:
    """Whether scores have moved for certain, and the old threshold for certain costs heads or false alarms."""
    if ratio_ci99[1] < LOWER:
        lost = matches.found_at(own).astype(np.float64) - matches.found_at(kept)
        return draws.mean_interval(lost, matches.head_pictures)[0] > 0
    if ratio_ci99[0] > HIGHER:
        more = _alarms(matches, kept) - _alarms(matches, own)
        return draws.mean_interval(more, np.arange(matches.picture_count))[0] > 0
    return False


def _alarms(matches: Matches, threshold: float) -> NDArray[np.float64]:
    """False alarms in each picture.  (N,)"""
    loud = matches.alarm_pictures[matches.alarm_scores >= threshold]
    return np.bincount(loud, minlength=matches.picture_count).astype(np.float64)
