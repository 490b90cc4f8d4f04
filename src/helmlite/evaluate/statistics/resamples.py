"""One set of resamples for all that is held against each other on the same pictures, and when its intervals are shown.

The limits stand here and nowhere else.  Simulated pictures whose true loss is known say what they are worth
(docs/gate.md): with fewer independent pictures than FEWEST_PICTURES the 95 % interval of a loss holds the truth less
than 93 times in 100, and with fewer bare heads than FEWEST_HEADS a bootstrap too often sees no head change.  Heads of
one picture are found and missed together, so that they must lie in FEWEST_HEAD_PICTURES as well: in the simulation 40
heads lie in 21 pictures on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.errors import Matches
from helmlite.evaluate.statistics.intervals import Floats, Interval, percentile_interval
from helmlite.evaluate.statistics.paired import widened
from helmlite.evaluate.statistics.resampling import (
    EVERY_IOU,
    Weights,
    bootstrap_weights,
    match_records,
    mean_average_precision,
    shares_found,
    unit_numbers,
)

FEWEST_PICTURES = 76
FEWEST_HEADS = 40
FEWEST_HEAD_PICTURES = 20


@dataclass(frozen=True)
class ChangedHeads:
    """How many heads one of two detectors finds and the other misses.  lost: newly missed;  won: newly found"""

    lost: int
    won: int

    @property
    def any(self) -> bool:
        return self.lost > 0 or self.won > 0


@dataclass(frozen=True)
class Resamples:
    """How often each of N pictures counts in the data set itself and in B resamples of it.

    weights: (1 + B, N), the first row all ones
    unit_of: (N,) which independent draw each picture belongs to: itself, or its scene
    """

    weights: Weights
    unit_of: NDArray[np.int64]

    @property
    def units(self) -> int:
        """Independent draws: pictures, or scenes where the data set names them."""
        return len(np.unique(self.unit_of))

    @property
    def has_enough_pictures(self) -> bool:
        """Whether there are independent draws enough for an interval."""
        return self.units >= FEWEST_PICTURES

    def map(self, found: Predictions, dataset: Dataset, ious: Sequence[int] = EVERY_IOU) -> Floats:
        """mAP over the IoU thresholds numbered `ious`, in [0, 1]; NaN where it is unknown.  (1 + B,)"""
        return mean_average_precision(match_records(found, dataset), self.weights, ious=ious)

    def recall(self, matches: Matches, threshold: float) -> Floats:
        """Share of the labelled heads that is found at a threshold chosen elsewhere; NaN without heads.  (1 + B,)"""
        return shares_found(matches, threshold, self.weights)

    def interval(self, values: Floats) -> Interval | None:
        """95 % interval of values (1 + B,); None where there are too few pictures for one."""
        return percentile_interval(values[1:]) if self.has_enough_pictures else None

    def loss_interval(self, losses: Floats) -> Interval | None:
        """95 % interval of a paired loss (1 + B,) in points; where no resample shows any, what as many independent
        pictures without a change leave open.  None where there are too few pictures for one."""
        found = self.interval(losses)
        if found is None or not is_unchanged(losses):
            return found
        return widened(found, 0, 0, self.units)

    def recall_loss_interval(self, losses: Floats, heads: Matches, changed: ChangedHeads) -> Interval | None:
        """The same of a loss of recall, never narrower than the few heads that changed allow (Tango).

        Where none did, a picture counts once, however many heads it holds: they would change together.
        None too where the heads are too few, or lie in too few pictures.
        """
        found = self.head_interval(losses, heads)
        if found is None:
            return None
        count = heads.head_count if changed.any else self.draws_among(heads.head_pictures)
        return widened(found, changed.lost, changed.won, count)

    def draws_among(self, pictures: NDArray[np.int64]) -> int:
        """How many independent draws these pictures are, by their numbers, which may come more than once."""
        return len(np.unique(self.unit_of[pictures]))

    def head_interval(self, values: Floats, matches: Matches) -> Interval | None:
        """The same of what is counted in these heads; None too where they are too few, or lie in too few pictures."""
        return None if self.too_few_heads(matches) else self.interval(values)

    def too_few_heads(self, matches: Matches) -> str:
        """Why no interval over these heads can be trusted; empty where one can.

        `45 heads in 3 independent pictures (at least 40 in 20)`
        """
        pictures = self.draws_among(matches.head_pictures)
        if matches.head_count >= FEWEST_HEADS and pictures >= FEWEST_HEAD_PICTURES:
            return ""
        return (
            f"{matches.head_count} heads in {pictures} independent pictures (at least {FEWEST_HEADS} in "
            f"{FEWEST_HEAD_PICTURES})"
        )


def is_unchanged(losses: Floats) -> bool:
    """Whether neither the pictures nor any resample of them shows a loss or a gain.  losses: (1 + B,)"""
    return not np.any(losses[~np.isnan(losses)])


def resamples_of(predictions: Predictions, dataset: Dataset, seed: int = 0, resamples: int = 1000) -> Resamples:
    """Pictures drawn with replacement, those of one scene together, as `bootstrap_weights`."""
    groups = [dataset[index].group for index in predictions.indices]
    drawn = bootstrap_weights(groups, resamples, seed)
    itself = np.ones((1, len(groups)), dtype=np.int64)
    return Resamples(np.concatenate([itself, drawn]), np.array(unit_numbers(groups), dtype=np.int64))
