"""Which part of what was seen of a value its integers span: four rules that read a histogram.

    min_max     everything
    percentile  all but the rarest values at each end
    mse         the least mean square error of rounding and clipping
    entropy     the least Kullback-Leibler divergence between what was seen and what the integers can tell apart
                (Migacz 2017, "8-bit inference with TensorRT", GTC talk S7310)

Entropy was made for signed, symmetric integers, where one threshold is sought.  Ours are unsigned and have two ends,
so one end is sought after the other: the upper end with the lower one at the minimum, then the lower end with the
upper one as found.  What lies outside is counted at the end, as clipping puts it there; 0 is always inside.  For a
value that is never negative (ReLU) this is the rule as published, with all 2^bits levels on one side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RULES = ("min_max", "percentile", "mse", "entropy")
Range = tuple[float, float]

_CLIPS = np.linspace(0.2, 1.0, 81)  # shares of the range that "mse" tries
_ENDS = 128  # bins that "entropy" tries
_NEVER = 1e-9  # stands for a probability of 0: a value that the integers cannot give costs much, not everything


@dataclass(frozen=True)
class Histogram:
    """How often values fell into equal bins between two limits, and the extremes of all of them.

    counts: (bins,)
    """

    counts: NDArray[np.float64]
    limits: Range
    minimum: float
    maximum: float

    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        low, high = self.limits
        bins = len(self.counts)
        return low + (np.arange(bins) + 0.5) * (high - low) / bins

    def edges(self) -> NDArray[np.float64]:
        """Where bins begin and end, one more than there are bins."""
        return np.linspace(*self.limits, len(self.counts) + 1)


def check_rule(rule: str, percentile: float) -> None:
    """Raises ValueError for an unknown rule or an impossible percentile."""
    if rule not in RULES:
        raise ValueError(f"quantize: unknown range rule '{rule}'; known are {', '.join(RULES)}.")
    if not 90 <= percentile <= 100:
        raise ValueError(f"quantize: percentile must be between 90 and 100; got {percentile}.")


def range_by(rule: str, seen: Histogram, percentile: float, levels: int) -> Range:
    """The range to keep, 0 always within it.  levels: of the integers, 2^bits - 1."""
    low, high = min(seen.minimum, 0.0), max(seen.maximum, 0.0)
    if rule == "min_max" or low == high:
        return low, high
    if rule == "percentile":
        return _between(seen, 1 - percentile / 100, percentile / 100)
    return _least_error(seen, low, high, levels) if rule == "mse" else _least_divergence(seen, low, high, levels)


def _between(seen: Histogram, lower: float, upper: float) -> Range:
    """The values below which these shares of all elements lie."""
    shares = np.cumsum(seen.counts) / seen.counts.sum()
    edges = seen.edges()
    low = edges[int(np.searchsorted(shares, lower, side="right"))]
    high = edges[min(int(np.searchsorted(shares, upper)) + 1, len(seen.counts))]
    return min(max(float(low), seen.minimum), 0.0), max(min(float(high), seen.maximum), 0.0)


def _least_error(seen: Histogram, low: float, high: float, levels: int) -> Range:
    """The range of the least mean square error of rounding, each end tried in turn."""
    present = seen.counts > 0
    centres, counts = seen.centres()[present], seen.counts[present]

    def error(limits: Range) -> float:
        return rounding_error(centres, counts, limits, levels)

    best = (low, high)
    for _ in range(2):
        best = min(((best[0], high * clip) for clip in _CLIPS), key=error)
        if low < 0:
            best = min(((low * clip, best[1]) for clip in _CLIPS), key=error)
    return float(best[0]), float(best[1])


def rounding_error(centres: NDArray[np.float64], counts: NDArray[np.float64], limits: Range, levels: int) -> float:
    """Sum of the squared errors of values that lie at `centres`, so many at each."""
    low, high = limits
    if high <= low:
        return math.inf
    scale = (high - low) / levels
    zero = round(-low / scale)
    rounded = (np.clip(np.round(centres / scale) + zero, 0, levels) - zero) * scale
    return float((counts * (centres - rounded) ** 2).sum())


def _least_divergence(seen: Histogram, low: float, high: float, levels: int) -> Range:
    """The range whose integers tell most of what was seen, its upper end sought first.

    A range has more bins than integers at least: with fewer, no two values of different bins would share an integer.
    """
    edges, counts = seen.edges(), seen.counts
    first, zero, last = (int(item) for item in np.searchsorted(edges[1:-1], (low, 0.0, high), side="right"))
    stops = _between_bins(min(max(zero, first + levels + 1), last), last)
    stop = min(stops, key=lambda bin: (divergence(counts, first, bin, levels + 1), last - bin))
    starts = _between_bins(first, max(min(zero, stop - levels - 1), first))
    start = min(starts, key=lambda bin: (divergence(counts, bin, stop, levels + 1), bin))
    return (low if start == first else min(float(edges[start]), 0.0)), (
        high if stop == last else max(float(edges[stop + 1]), 0.0)
    )


def _between_bins(first: int, last: int) -> list[int]:
    """Bins that are tried as an end, both of these among them."""
    return sorted({round(item) for item in np.linspace(first, last, _ENDS).tolist()})


def divergence(counts: NDArray[np.float64], first: int, last: int, groups: int) -> float:
    """Kullback-Leibler divergence of what was seen from what `groups` integers over the bins first .. last can say.

    P is the histogram with all that lies outside counted in the bin at that end; Q spreads what each integer stands
    for evenly over those of its bins in which anything was seen.

    >>> import numpy as np
    >>> round(divergence(np.array([2.0, 0.0, 1.0, 3.0]), 0, 3, 2), 4)  # P 2 0 1 3, Q 2 0 2 2
    0.0872
    """
    inside = counts[first : last + 1]
    seen = inside.copy()
    seen[0] += counts[:first].sum()
    seen[-1] += counts[last + 1 :].sum()
    group = np.arange(len(inside)) * groups // len(inside)
    present = inside > 0
    total = np.bincount(group, inside, groups)
    sharing = np.bincount(group, present, groups)
    told = np.where(present, total[group] / np.maximum(sharing[group], 1), 0.0)
    p, q = seen / seen.sum(), told / max(told.sum(), 1e-300)
    where = p > 0
    return float((p[where] * np.log(p[where] / np.maximum(q[where], _NEVER))).sum())
