"""Four intervals from one bootstrap, worked by hand and held against scipy."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.evaluate.statistics.intervals import (
    acceleration,
    basic_interval,
    bca_interval,
    bias_corrected_interval,
    percentile_interval,
)

EVEN = np.arange(10_001) / 10_000  # a share of p of these resamples is below p
NO_ACCELERATION = np.array([1.0, 2.0, 3.0])
LEANING = np.array([3.0, 3.0, 3.0, 0.0])  # U = -0.75 (three times), 2.25: a = 10.125 / (6 * 6.75^1.5) = 0.0962


def test_percentiles_and_their_mirror_image() -> None:
    assert percentile_interval(EVEN) == pytest.approx((0.025, 0.975))
    assert basic_interval(0.4, EVEN) == pytest.approx((0.8 - 0.975, 0.8 - 0.025))


def test_without_bias_and_acceleration_all_are_the_percentiles() -> None:
    assert bias_corrected_interval(0.5, EVEN) == pytest.approx((0.025, 0.975), abs=1e-4)
    assert bca_interval(0.5, EVEN, NO_ACCELERATION) == pytest.approx((0.025, 0.975), abs=1e-4)


def test_bias_moves_both_ends() -> None:
    """84.13 % of the resamples are below the value: z0 = 1, ends Phi(2 - 1.96) and Phi(2 + 1.96)."""
    assert bias_corrected_interval(0.841345, EVEN) == pytest.approx((0.51596, 0.99996), abs=1e-4)


def test_acceleration_moves_the_ends_apart() -> None:
    """a = 0.0962, z0 = 0: Phi(-1.96 / 1.1886) and Phi(1.96 / 0.8114)."""
    assert acceleration(LEANING) == pytest.approx(0.09623, abs=1e-5)
    assert bca_interval(0.5, EVEN, LEANING) == pytest.approx((0.04957, 0.99214), abs=1e-4)


def test_equal_resamples_count_half_as_below() -> None:
    """Of ten, two are below and six equal: a share of one half, no bias."""
    values = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0])
    assert bias_corrected_interval(1.0, values) == percentile_interval(values) == (0.0, 2.0)


def test_all_resamples_on_one_side_or_all_equal() -> None:
    ends = bias_corrected_interval(5.0, np.array([1.0, 2.0, 3.0]))
    assert ends is not None
    assert ends[0] < ends[1] <= 3.0
    for interval in (
        percentile_interval(np.ones(9)),
        basic_interval(1.0, np.ones(9)),
        bias_corrected_interval(1.0, np.ones(9)),
        bca_interval(1.0, np.ones(9), np.ones(5)),
    ):
        assert interval == (1.0, 1.0)


def test_unknown_resamples_are_left_out_until_most_are_unknown() -> None:
    half_known, hardly = np.array([1.0, 1.0, np.nan]), np.array([1.0, np.nan, np.nan])
    assert bias_corrected_interval(1.0, half_known) == (1.0, 1.0)
    assert bca_interval(1.0, half_known, half_known) == (1.0, 1.0)
    assert basic_interval(1.0, hardly) is None
    assert bias_corrected_interval(1.0, hardly) is None
    assert bca_interval(1.0, half_known, hardly) is None
    assert percentile_interval(np.zeros(0)) is None
    assert bias_corrected_interval(1.0, np.zeros(0)) is None


@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_scipy(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    sample = np.random.default_rng(seed).exponential(size=25)
    found = {
        name: stats.bootstrap((sample,), np.mean, method=name, n_resamples=999, random_state=seed)
        for name in ("percentile", "basic", "BCa")
    }
    resamples = found["BCa"].bootstrap_distribution
    value, jackknife = float(sample.mean()), np.array([np.delete(sample, i).mean() for i in range(25)])
    ours = {
        "percentile": percentile_interval(resamples),
        "basic": basic_interval(value, resamples),
        "BCa": bca_interval(value, resamples, jackknife),
    }
    for name, interval in ours.items():
        assert interval == pytest.approx(tuple(found[name].confidence_interval), abs=1e-9)
