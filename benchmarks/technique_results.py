"""The rows that benchmarks/techniques.py made, read again, and their differences.

Intervals are 95 % bootstrap intervals over the test pictures; where a row has several seeds, each resample also draws
its seeds with replacement, so that the interval holds the spread over trainings too.
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

    def maps(self, prefix: str = "") -> list[Values]:
        """For each seed mAP50-95 in every resample; [] where it was not looked at."""
        return [np.array(item[f"{prefix}resampled"]) for item in self.seeds if f"{prefix}resampled" in item]

    def mean(self, key: str) -> float | None:
        known = [item[key] for item in self.seeds if item.get(key) is not None]
        return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Timing:
    """Medians of all rows in turn, in one run.  stated: timing.json as `techniques.py --time` wrote it, {} if never"""

    stated: Mapping[str, Any]

    def median_ms(self, runtime: str, name: str) -> float | None:
        found: float | None = self.stated.get(runtime, {}).get(name)
        return found

    def faster(self, runtime: str, name: str, than: str = "baseline") -> float | None:
        """How many times faster the row is than another one; None where either was not measured."""
        own, other = self.median_ms(runtime, name), self.median_ms(runtime, than)
        return other / own if own and other else None


def read_timing(results: Path) -> Timing:
    path = results / "timing.json"
    return Timing(json.loads(path.read_text()) if path.is_file() else {})


def read_rows(results: Path) -> tuple[dict[str, Measured], dict[str, str]]:
    """Finished rows by name, and why others were refused."""
    found, refused = {}, {}
    for row in ROWS:
        paths = [results / f"{row.name}-s{seed}.json" for seed in range(row.seeds)]
        seeds = [json.loads(path.read_text()) for path in paths if path.is_file()]
        reasons = [item["refused"] for item in seeds if "refused" in item]
        if reasons:
            refused[row.name] = reasons[0]
        done = [item for item in seeds if "refused" not in item]
        if done:
            found[row.name] = Measured(row, done)
    return found, refused


def difference_ci95(first: Sequence[Values], second: Sequence[Values]) -> Difference | None:
    """first - second in points, paired over pictures; seeds are drawn anew in each resample.

    None where one of them is empty.
    """
    if not first or not second:
        return None
    change = over_seeds(first, 1) - over_seeds(second, 2)
    interval = percentile_interval(change[1:])
    return None if interval is None else Difference(float(change[0]), *interval)


def share_won_back(plain: Measured, mended: Measured, whole: Measured) -> Difference | None:
    """What `mended` won back of what `plain` lost against `whole`, in percent."""
    start, reached, end = (over_seeds(item.maps(), seed) for seed, item in enumerate((plain, mended, whole)))
    shares = 100 * (reached - start) / (end - start)
    interval = percentile_interval(shares[1:])
    return None if interval is None else Difference(float(shares[0]), *interval)


def over_seeds(values: Sequence[Values], seed: int) -> Values:
    """Mean over the seeds; in each resample (the first aside) over as many seeds drawn with replacement."""
    stacked = np.stack(values)  # (S, 1 + B)
    drawn = np.random.default_rng(seed).integers(0, len(stacked), size=stacked.shape)
    drawn[:, 0] = np.arange(len(stacked))
    made: Values = np.take_along_axis(stacked, drawn, axis=0).mean(axis=0)
    return made
