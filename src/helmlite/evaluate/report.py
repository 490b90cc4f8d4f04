"""The report of a compression run: what was there, what came out, what it cost, and how that is known.

`RunReport` is plain data, and `report_json` gives it as JSON values.  report_files.py writes and reads it, pages/
makes a page of it and shows it in a terminal.

Accuracies and recalls are in [0, 1], drops and intervals of a loss in points (hundredths of that).  None is
"unknown", and is shown as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from helmlite.evaluate import figures
from helmlite.evaluate.comparison import Comparison
from helmlite.evaluate.cost import Factor, product, ratio
from helmlite.evaluate.errors import HeadChanges
from helmlite.evaluate.gate import GateVerdict
from helmlite.evaluate.measured import DataUsed, Measured
from helmlite.evaluate.plain import from_plain, to_plain
from helmlite.evaluate.statistics.resolution import Resolution
from helmlite.runtime.manifest import StayedFloat

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Curve:
    """A line to be plotted: a training loss, the accuracy after each epoch, accuracy against latency.

    lines: name of the line -> its (x, y) points
    """

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, tuple[tuple[float, float], ...]]


@dataclass(frozen=True)
class RunReport:
    """Everything that a compression run has to say.

    model:           what was compressed;  target: what it was compressed for
    data:            the splits used; the reported figures come from the one whose purpose is "reported"
    steps:           a row for each step, in order, the baseline left out
    references:      rows to be held against: the best that needs no training, a native nano
    speedup:         result against baseline, in a run of these two alone
    speedup_factors: input size, structure, activation, precision: ratios of rows timed in turn in another run
    map_loss_ci95:   95 % interval of the loss of mAP50-95 on the reported pictures, points, negative for a gain
    heads:           heads lost and won on the reported pictures, at the thresholds chosen on `val`
    gate:            the verdict on the tuning pictures
    resolution:      what the reported pictures can prove at all
    stayed_float:    parts that were not quantized, and why
    evidence:        baseline and result compared on the reported pictures: errors, causes, thresholds, conditions
    measured_on:     "CPU", "runtime", "threads", "rounds": the conditions of every latency
    """

    model: str
    target: str
    baseline: Measured
    result: Measured
    gate: GateVerdict
    data: tuple[DataUsed, ...]
    steps: tuple[Measured, ...] = ()
    references: tuple[Measured, ...] = ()
    speedup: float | None = None
    speedup_factors: tuple[Factor, ...] = ()
    map_loss_ci95: tuple[float, float] | None = None
    heads: HeadChanges | None = None
    resolution: Resolution | None = None
    stayed_float: tuple[StayedFloat, ...] = ()
    evidence: Comparison | None = None
    notes: tuple[str, ...] = ()
    curves: tuple[Curve, ...] = ()
    commands: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    measured_on: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    minutes: float | None = None
    created: str = ""

    @property
    def map_loss_points(self) -> float | None:
        """Points of mAP50-95 lost on the reported pictures; negative for a gain, None where unknown."""
        before, after = self.baseline.map, self.result.map
        return None if before is None or after is None else 100 * (before - after)

    @property
    def size_ratio(self) -> float | None:
        """How many times smaller the files are that the target loads."""
        return ratio(self.baseline.size_bytes, self.result.size_bytes)

    @property
    def measured_speedup(self) -> float | None:
        """The interleaved ratio where there is one, else the ratio of the medians."""
        return self.speedup or ratio(self.baseline.latency_ms_median, self.result.latency_ms_median)

    def speedup_of(self, item: Measured) -> float | None:
        """How many times faster than the baseline one row is: interleaved where it was, else by the medians."""
        if item is self.baseline:
            return None if item.latency_ms_median is None else 1.0
        if item is self.result:
            return self.measured_speedup
        return item.speedup or ratio(self.baseline.latency_ms_median, item.latency_ms_median)

    @property
    def factor_product(self) -> float | None:
        """What the measured factors multiply to, to be held against `measured_speedup`."""
        return product(self.speedup_factors) if self.speedup_factors else None


def verdict_line(report: RunReport) -> str:
    """The answer in one line, in heads and times.

    `11.2× faster, 16× smaller; 2 of 54 bare heads newly missed, 1 newly found; gate: passed`
    """
    heads = report.heads.in_words() if report.heads else "bare heads unknown (no class has the role no_helmet)"
    speed = times_in_words(report.measured_speedup, "faster", "slower")
    size = times_in_words(report.size_ratio, "smaller", "larger")
    speed = "speed unknown" if speed == figures.UNKNOWN else speed
    size = "size unknown" if size == figures.UNKNOWN else size
    return f"{speed}, {size}; {heads}; gate: {report.gate.verdict}"


def report_json(report: RunReport) -> dict[str, Any]:
    """The report as plain JSON values: every field, and what is derived from them.

    `map_drop` is the points lost (0 where nothing was), `map_gain` the points won; `map_drop_ci95` is the interval of
    the loss, where a negative number is a gain.
    """
    values: dict[str, Any] = to_plain(report)
    loss = report.map_loss_points
    values.pop("map_loss_ci95")
    factors = {item.name: item.ratio for item in report.speedup_factors}
    derived = {
        "format": FORMAT_VERSION,
        "verdict": verdict_line(report),
        "speedup": report.measured_speedup,
        "speedup_interleaved": report.speedup,
        "speedup_factors": factors,
        "speedup_factor_details": values["speedup_factors"],
        "speedup_factor_product": report.factor_product,
        "size_ratio": report.size_ratio,
        "map_drop": None if loss is None else max(loss, 0.0),
        "map_gain": None if loss is None else max(-loss, 0.0),
        "map_drop_ci95": report.map_loss_ci95,
    }
    return {**values, **to_plain(derived)}


def report_from_json(values: Mapping[str, Any]) -> RunReport:
    """The report that `report_json` wrote.  Raises ValueError where it is not one, naming the field."""
    if values.get("format") != FORMAT_VERSION:
        raise ValueError(f"Expected a report of format {FORMAT_VERSION}, got {values.get('format')!r}.")
    factors = [
        {key: item[key] for key in ("name", "before_ms", "after_ms", "note")}
        for item in values.get("speedup_factor_details", [])
    ]
    stored = {
        **values,
        "speedup": values.get("speedup_interleaved"),
        "speedup_factors": factors,
        "map_loss_ci95": values.get("map_drop_ci95"),
    }
    return from_plain(RunReport, stored, "report")


def times_in_words(value: float | None, more: str, less: str) -> str:
    """`11.2× faster`, `1.3× slower`, `unknown`; what rounds to the same is called that.

    >>> times_in_words(11.23, "faster", "slower"), times_in_words(0.5, "smaller", "larger")
    ('11.2× faster', '2.00× larger')
    >>> times_in_words(0.999, "faster", "slower")
    'neither faster nor slower'
    """
    if value is None:
        return figures.UNKNOWN
    if figures.times(value) == figures.times(1.0) or figures.times(1 / value) == figures.times(1.0):
        return f"neither {more} nor {less}"
    return f"{figures.times(value)} {more}" if value >= 1 else f"{figures.times(1 / value)} {less}"
