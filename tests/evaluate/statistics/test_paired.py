"""Tango's interval of a paired difference: published values, its definition, and what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helmlite.evaluate.statistics.paired import count_that_resolves, tango_interval


def test_it_is_the_published_one() -> None:
    """Airway hyper-responsiveness before and after a transplant, 1 and 7 of 21 changed: M. Fagerland, S. Lydersen,
    P. Laake, BMC Medical Research Methodology 13:91 (2013)."""
    assert tango_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("count", [1, 40, 189, 600])
def test_nothing_changed_leaves_what_the_formula_says(count: int) -> None:
    end = 1.959964**2 / (count + 1.959964**2)
    assert tango_interval(0, 0, count) == pytest.approx((-end, end), abs=1e-9)


def test_the_two_ways_of_changing_mirror_each_other() -> None:
    low, high = tango_interval(5, 2, 60)
    assert tango_interval(2, 5, 60) == pytest.approx((-high, -low))
    assert low < 3 / 60 < high


def test_everything_changed_and_nothing_seen() -> None:
    low, high = tango_interval(30, 0, 30)
    assert 0.7 < low < 1 and high == pytest.approx(1.0)
    assert tango_interval(0, 0, 0) == (-1.0, 1.0)


@pytest.mark.parametrize("share", [0.005, 0.01, 0.02, 0.05])
def test_as_many_as_it_says_resolve_a_share(share: float) -> None:
    count = count_that_resolves(share)
    assert tango_interval(0, 0, count)[1] <= share < tango_interval(0, 0, count - 1)[1]


@pytest.mark.parametrize("count", [40, 100, 189, 400])
@pytest.mark.parametrize("won_share", [0.0, 0.02, 0.1])
def test_a_true_loss_of_two_in_a_hundred_is_hardly_ever_ruled_out(count: int, won_share: float) -> None:
    """The exact chance, over all counts that may be seen, that the upper end lies below the truth."""
    lost_share = won_share + 0.02
    wrong = 0.0
    for lost in range(count + 1):
        chance = _binomial(lost, count, lost_share)
        if chance < 1e-9:
            continue
        for won in range(count - lost + 1):
            both = chance * _binomial(won, count - lost, won_share / (1 - lost_share))
            if both > 1e-9 and tango_interval(lost, won, count)[1] < 0.02:
                wrong += both
    assert wrong <= 0.04, "nominally 0.025"


def _binomial(hits: int, count: int, share: float) -> float:
    if share == 0:
        return float(hits == 0)
    logarithm = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return float(np.exp(logarithm + hits * math.log(share) + (count - hits) * math.log1p(-share)))
