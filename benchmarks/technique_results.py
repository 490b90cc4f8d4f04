"""The rows that benchmarks/techniques.py made, read again, and their differences.

Intervals are 95 % bootstrap intervals over the test pictures; where a row has several seeds, each resample also draws
its seeds with replacement, so that the interval holds the spread over trainings too.  Differences are paired twice:
by picture, and by seed, since rows of one seed begin with the same cut and see the same batches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from technique_rows import ROWS, Row

from helmlite.evaluate.statistics.intervals import percentile_interval

_ONE_NETWORK = ("int8-min_max", "int8-percentile", "int8-mse", "int8-entropy", "int8-adaround", "w4", "w3")
TIMING_NAME = "timing.json"  # what `measure_speed` gives
TEACHER_NAME = "teacher.json"  # what the large teacher reaches

Values = NDArray[np.float64]  # (1 + resamples,) mAP50-95 in points, the first with every picture once


@dataclass(frozen=True)
class Difference:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


@dataclass(frozen=True)
class Measured:
    """A row and what was found with each of its seeds."""

    row: Row
    seeds: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def first(self) -> Mapping[str, Any]:
        """What was found with its first seed, which every row has."""
        return self.seeds[0]

    def maps(self, prefix: str = "") -> dict[int, Values]:
        """By seed mAP50-95 in every resample; {} where it was not looked at."""
        key = f"{prefix}resampled"
        return {int(item["seed"]): np.array(item[key]) for item in self.seeds if key in item}

    def over_seeds(self, prefix: str = "") -> Values:
        """The mean of its seeds; in each resample that of as many, drawn with replacement."""
        return _over_seeds(list(self.maps(prefix).values()))

    def mean(self, key: str) -> float | None:
        known = [item[key] for item in self.seeds if item.get(key) is not None]
        return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Timing:
    """The speed of all rows, of one run.  stated: timing.json as `techniques.py --time` wrote it, {} if never"""

    stated: Mapping[str, Any]

    def median_ms(self, runtime: str, name: str) -> float | None:
        """The median over its turns; None where it was not measured."""
        return self._median(runtime, name, "median_ms")

    def spread(self, runtime: str) -> float:
        """Fastest through slowest of rows that are one and the same network: what a ratio of two rows is worth here."""
        times = [found for name in _ONE_NETWORK if (found := self.faster(runtime, name)) is not None]
        return max(times) / min(times) if times else 1.0

    def faster(self, runtime: str, name: str, than: str = "baseline") -> float | None:
        """How many times faster the row is than another one; None where either was not measured.

        Both were timed against the baseline, in turn with it: the median of the ratios of their turns.
        """
        own, other = self._median(runtime, name, "times_as_fast"), self._median(runtime, than, "times_as_fast")
        return own / other if own and other else None

    def _median(self, runtime: str, name: str, key: str) -> float | None:
        found = self.stated.get(runtime, {}).get(name)
        return None if found is None else float(np.median(found[key]))


def read_timing(results: Path) -> Timing:
    path = results / TIMING_NAME
    return Timing(json.loads(path.read_text()) if path.is_file() else {})


def read_rows(results: Path) -> tuple[dict[str, Measured], dict[str, str]]:
    """Finished rows by name, and why others were refused.  Raises ValueError for rows of several baselines."""
    found: dict[str, Measured] = {}
    refused: dict[str, str] = {}
    for row in ROWS:
        paths = [results / f"{row.name}-s{seed}.json" for seed in range(row.seeds)]
        seeds = [json.loads(path.read_text()) for path in paths if path.is_file()]
        reasons = [item["refused"] for item in seeds if "refused" in item]
        if reasons:
            refused[row.name] = reasons[0]
        done = [item for item in seeds if "refused" not in item]
        if done:
            found[row.name] = Measured(row, done)
    if len(begun := {item["baseline"] for row in found.values() for item in row.seeds}) > 1:
        raise ValueError(f"{results}: its rows begin with {len(begun)} different baselines.")
    return found, refused


@dataclass(frozen=True)
class Pair:
    """Two rows seed by seed.  A row without training, which has one seed, is held against every seed of the other."""

    first: Sequence[Values]
    second: Sequence[Values]

    @staticmethod
    def of(first: Measured, second: Measured, prefix: str = "") -> Pair | None:
        """None where they have no seed in common, or one of them was not looked at."""
        ours, others = first.maps(prefix), second.maps(prefix)
        if others and not second.row.recipe:
            others = dict.fromkeys(ours, next(iter(others.values())))
        common = [seed for seed in ours if seed in others]
        return Pair([ours[seed] for seed in common], [others[seed] for seed in common]) if common else None

    @property
    def difference(self) -> Difference:
        """first - second, in points."""
        return _interval(_over_seeds([a - b for a, b in zip(self.first, self.second, strict=True)]))

    @property
    def seeds(self) -> int:
        return len(self.first)


def share_won_back(plain: Measured, mended: Measured, whole: Measured) -> Difference | None:
    """What `mended` won back of what `plain` lost against `whole`, in percent; None where no loss is shown."""
    start, reached, end = (item.over_seeds() for item in (plain, mended, whole))
    if _interval(end - start).low <= 0:
        return None
    return _interval(100 * (reached - start) / (end - start))


def _interval(values: Values) -> Difference:
    """values: (1 + B,), the first with every picture once"""
    found = percentile_interval(values[1:])
    assert found is not None  # every picture set here has boxes, so that each resample has a value
    return Difference(float(values[0]), *found)


def _over_seeds(values: Sequence[Values]) -> Values:
    stacked = np.stack(values)  # (S, 1 + B)
    drawn = np.random.default_rng(1).integers(0, len(stacked), size=stacked.shape)
    drawn[:, 0] = np.arange(len(stacked))
    made: Values = np.take_along_axis(stacked, drawn, axis=0).mean(axis=0)
    return made
