"""A class that is no longer reported.

Of the heads that the baseline finds the candidate finds next to none, each at its own threshold.  It fires where at
most MOST_KEPT are still found and where even the upper end of the 99 % Wilson interval of that share is below half:
with nothing found, from eight heads on.  They must lie in FEWEST_PICTURES: a dark group photo is no dead class, and
that five pictures, each as likely lost as not, are all lost comes to 3 in 100.
"""

from __future__ import annotations

from dataclasses import dataclass

from helmlite.data.dataset import Dataset
from helmlite.evaluate.findings.chance import NORMAL_99, Draws, Unsaid
from helmlite.evaluate.findings.pairs import Side, heads_of
from helmlite.evaluate.statistics.risks import wilson_interval

FAMILY = "dead"
FEWEST_HEADS, FEWEST_PICTURES = 8, 5
MOST_KEPT, KEPT_FOR_CERTAIN = 0.1, 0.5


@dataclass(frozen=True)
class DeadClass:
    """One class that the candidate no longer finds.

    heads:          labelled ones;  found_before, found_after: of them, each detector at its own threshold
    shown_before, shown_after: boxes of the class that each shows, right or wrong
    """

    name: str
    role: str | None
    heads: int
    found_before: int
    found_after: int
    shown_before: int
    shown_after: int


def find_dead_classes(
    before: Side, after: Side, dataset: Dataset, draws: Draws
) -> tuple[list[DeadClass], list[Unsaid]]:
    """Every class that has died, and those of which the baseline finds too few heads or in too few pictures."""
    dead, unsaid = [], []
    for label, item in enumerate(dataset.classes):
        heads = heads_of(before, after, dataset, [label])
        known = int(heads.before.sum())
        if known < FEWEST_HEADS or not draws.enough(heads.pictures[heads.before], FEWEST_PICTURES):
            unsaid.append(Unsaid(FAMILY, item.name, known, FEWEST_HEADS))
            continue
        if is_gone(int((heads.before & heads.after).sum()), known):
            shown = [_shown(side, label) for side in (before, after)]
            found = int(heads.after.sum())
            dead.append(DeadClass(item.name, item.role, len(heads.before), known, found, *shown))
    return dead, unsaid


def is_gone(kept: int, heads: int) -> bool:
    """Whether next to nothing is left of so many heads, beyond what chance takes.

    >>> is_gone(0, 8), is_gone(0, 6), is_gone(1, 20), is_gone(3, 20)
    (True, False, True, False)
    """
    interval = wilson_interval(kept, heads, NORMAL_99)
    return interval is not None and kept <= MOST_KEPT * heads and interval[1] < KEPT_FOR_CERTAIN


def _shown(side: Side, label: int) -> int:
    matches, threshold = side.matches[label], side.thresholds[label]
    return int(matches.found_at(threshold).sum()) + matches.alarms_at(threshold)
