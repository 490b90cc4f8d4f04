"""The allotment against every possible one, on bundles that meet in one convolution as layers of a chain do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from helmlite.compress.channels.allotment import allotted_steps
from helmlite.compress.channels.channel_groups import Bundle, ChannelGroup, Member
from helmlite.compress.channels.ledger import BundleCosts, Ledger
from helmlite.detector.macs import ConvCost

_LEVELS = [(2, 4, 6, 8)] * 4


def _chain(positions: tuple[int, ...]) -> BundleCosts:
    """conv0 (3 -> 8), conv1 .. conv3 (8 -> 8), conv4 (8 -> 2): four bundles of 8 channels between five layers."""
    widths = (3, 8, 8, 8, 8, 2)
    costs = tuple(ConvCost(f"conv{i}", positions[i], 9, widths[i], widths[i + 1], 1) for i in range(5))
    bundles = [_between(f"conv{i}", f"conv{i + 1}", 8) for i in range(4)]
    return Ledger(costs, 50.0, {cost.path: 1.0 for cost in costs}, "MACs").for_bundles(bundles)


def _between(first: str, second: str, channels: int) -> Bundle:
    units = tuple((Member(first, "out", channel), Member(second, "in", channel)) for channel in range(channels))
    return Bundle((ChannelGroup(units, 1),), channels)


def _best(losses: list[NDArray[np.float64]], costs: BundleCosts, target: float) -> float:
    """The least loss of all allotments within the budget."""
    return min(
        sum(float(loss[at]) for loss, at in zip(losses, chosen))
        for chosen in itertools.product(range(4), repeat=4)
        if costs.total([allowed[at] for allowed, at in zip(_LEVELS, chosen)]) <= target
    )


def _loss(losses: list[NDArray[np.float64]], steps: tuple[int, ...]) -> float:
    return sum(float(loss[allowed.index(kept)]) for loss, allowed, kept in zip(losses, _LEVELS, steps))


def test_the_hand_made_optimum_is_found() -> None:
    """The second bundle is costly to cut and the third costs nothing: the least loss of all 256 is found."""
    costs = _chain((64, 64, 16, 16, 4))
    losses = [
        np.array([4.0, 1.5, 0.5, 0.0]),
        np.array([9.0, 6.0, 3.0, 0.0]),
        np.array([0.2, 0.1, 0.0, 0.0]),
        np.array([2.0, 1.0, 0.5, 0.0]),
    ]
    whole = costs.total([8, 8, 8, 8])
    for share in (0.9, 0.7, 0.5, 0.3, 0.2):
        steps = allotted_steps(losses, _LEVELS, costs, share * whole)
        assert costs.total(steps) <= share * whole
        assert _loss(losses, steps) == pytest.approx(_best(losses, costs, share * whole))
    assert allotted_steps(losses, _LEVELS, costs, 0.9 * whole)[2] < 8  # what costs nothing goes first


def test_random_cases_are_near_the_optimum() -> None:
    random = np.random.default_rng(0)
    optimal = 0
    for _ in range(40):
        costs = _chain(tuple(int(2 ** random.integers(1, 7)) for _ in range(5)))
        losses = [np.append(np.cumsum(random.random(3) ** 2)[::-1], 0.0) for _ in range(4)]
        target = random.uniform(0.2, 0.9) * costs.total([8, 8, 8, 8])
        steps = allotted_steps(losses, _LEVELS, costs, target)
        assert costs.total(steps) <= target
        best = _best(losses, costs, target)
        assert _loss(losses, steps) <= best + 0.25 * max(float(loss.max()) for loss in losses)
        optimal += _loss(losses, steps) <= best + 1e-9
    assert optimal >= 36


def test_a_budget_that_cannot_be_met_says_what_remains() -> None:
    costs = _chain((16, 16, 16, 16, 16))
    losses = [np.array([3.0, 2.0, 1.0, 0.0])] * 4
    with pytest.raises(ValueError, match="1% of the MACs cannot be reached in this round: 10% remain"):
        allotted_steps(losses, _LEVELS, costs, 0.01 * costs.total([8, 8, 8, 8]))
