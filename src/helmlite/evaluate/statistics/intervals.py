"""Four 95 % intervals from one bootstrap: the only place where their arithmetic stands.

    percentile      the 2.5 and 97.5 percentiles of the resamples
    basic           the same two, mirrored at the value:  2 t - q(97.5), 2 t - q(2.5)
    bias-corrected  percentiles moved by 2 z0, where z0 = Phi^-1(share of resamples below the value)
    BCa             moved as well by how the standard error changes with the value, the acceleration
                    a = sum U^3 / (6 (sum U^2)^1.5),  U = mean of the jackknife - the value without one picture

B. Efron, Better Bootstrap Confidence Intervals, JASA 82 (1987), sections 2 (z0), 3 (the percentiles) and 7 (a).
B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), section 13.4, for the basic one's weakness.
Resamples equal to the value count half as below it, since a recall takes few values.  What each of them is worth on
detectors is measured by benchmarks/gate_simulation.py, and docs/gate.md says which of them the gate uses.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]

_ENDS = (0.025, 0.975)
_NORMAL = NormalDist()


def known(value: float) -> float | None:
    """The value, or None for NaN."""
    return None if np.isnan(value) else float(value)


def percentile_interval(values: Floats) -> Interval | None:
    """The 2.5 and 97.5 percentiles of what is known, or None where fewer than half of the resamples know it.

    values: (B,) NaN where a resample knows nothing; so in all functions here
    """
    return _percentiles(values, _ENDS)


def basic_interval(value: float, values: Floats) -> Interval | None:
    """Percentiles mirrored at `value`, the measure on the data set itself."""
    found = percentile_interval(values)
    return None if found is None else (2 * value - found[1], 2 * value - found[0])


def bias_corrected_interval(value: float, values: Floats) -> Interval | None:
    """Percentiles where the median of the resamples is taken for biased as it differs from `value` (BC)."""
    return _corrected(value, values, 0.0)


def bca_interval(value: float, values: Floats, jackknife: Floats) -> Interval | None:
    """Bias-corrected and accelerated.  jackknife: (U,) the measure without each independent picture or scene.

    None where fewer than half of the resamples, or of the jackknife, are known.
    """
    left = jackknife[~np.isnan(jackknife)]
    if len(left) == 0 or len(left) < len(jackknife) / 2:
        return None
    return _corrected(value, values, acceleration(left))


def acceleration(jackknife: Floats) -> float:
    """Efron's a from the measure without each picture; 0 where no picture changes it.

    >>> round(acceleration(np.array([3.0, 3.0, 3.0, 0.0])), 4)  # U = -0.75 (three times), 2.25
    0.0962
    """
    influence = jackknife.mean() - jackknife
    spread = float((influence**2).sum())
    return float((influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0


def _corrected(value: float, values: Floats, accelerated: float) -> Interval | None:
    told = values[~np.isnan(values)]
    if len(told) == 0:
        return None
    below = (float((told < value).sum()) + float((told <= value).sum())) / (2 * len(told))
    half = 0.5 / len(told)  # all resamples on one side say no more than that the share is under 1 of B
    bias = _NORMAL.inv_cdf(min(max(below, half), 1 - half))
    ends = []
    for end in _ENDS:
        moved = bias + _NORMAL.inv_cdf(end)
        ends.append(_NORMAL.cdf(bias + moved / (1 - accelerated * moved)))
    return _percentiles(values, (ends[0], ends[1]))


def _percentiles(values: Floats, ends: tuple[float, float]) -> Interval | None:
    told = values[~np.isnan(values)]
    if len(told) == 0 or len(told) < len(values) / 2:
        return None
    low, high = np.quantile(told, ends)
    return float(low), float(high)
