"""What keeps chance from being called a fault: intervals of 99 % over pictures drawn with replacement.

Five families are looked for in every comparison, some of them class by class, so that intervals of 95 % would cry wolf
in every second one.  An interval alone is not enough either: on many pictures a harmless difference is proved as well.
So every family also states what it takes for harmless, and the whole interval must lie beyond that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.statistics.intervals import Floats, Interval
from helmlite.evaluate.statistics.resampling import Weights, bootstrap_weights, unit_count

NORMAL_99 = 2.575829
FEWEST_PICTURES = 10  # independent ones: fewer are drawn again too often to say how much chance does
_RESAMPLES = 1000
_ENDS = (0.005, 0.995)
_AT_ONCE = 4_000_000  # weights held in memory together


@dataclass(frozen=True)
class Unsaid:
    """A family of faults that could not be looked for.

    family: the name of its file;  class_name: of the class that it is about, None where it is about all
    seen, needed: pairs of heads or boxes, and how many it takes
    """

    family: str
    class_name: str | None
    seen: int
    needed: int


@dataclass(frozen=True)
class Draws:
    """How often each picture counts in each resample.  weights: (B, N);  units: independent pictures or scenes"""

    weights: Weights
    units: int

    def enough(self, pictures: NDArray[np.int64], fewest: int = FEWEST_PICTURES) -> bool:
        """Whether something seen in these pictures (positions, with repetition) may be judged at all."""
        return min(self.units, len(np.unique(pictures))) >= fewest

    def mean_interval(self, values: Floats, pictures: NDArray[np.int64]) -> Interval:
        """99 % interval of a mean.  values: (P,);  pictures: (P,) the position of each value's picture"""
        count = self.weights.shape[1]
        sums = self.weights @ np.bincount(pictures, values, minlength=count)
        numbers = self.weights @ np.bincount(pictures, minlength=count)
        return _interval(np.where(numbers > 0, sums / np.maximum(numbers, 1), np.nan))

    def median_interval(self, values: Floats, pictures: NDArray[np.int64]) -> Interval:
        """99 % interval of a median, as `mean_interval`."""
        order = np.argsort(values, kind="stable")
        rows = max(_AT_ONCE // max(len(values), 1), 1)
        found = []
        for start in range(0, len(self.weights), rows):
            so_far = np.cumsum(self.weights[start : start + rows][:, pictures[order]], axis=1)  # (b, P)
            middle = (so_far * 2 >= so_far[:, -1:]).argmax(axis=1)
            found.append(np.where(so_far[:, -1] > 0, values[order[middle]], np.nan))
        return _interval(np.concatenate(found))


def draws_of(predictions: Predictions, dataset: Dataset, seed: int = 0) -> Draws:
    """Pictures drawn with replacement, those of one scene together."""
    groups = [dataset[index].group for index in predictions.indices]
    return Draws(bootstrap_weights(groups, _RESAMPLES, seed), unit_count(groups))


def _interval(values: Floats) -> Interval:
    low, high = np.nanquantile(values, _ENDS)
    return float(low), float(high)
