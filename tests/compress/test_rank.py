"""Ranks: by energy, out of noise, and from a budget, each on cases worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from helmlite.compress.kernels.rank import Option, allot, energy_rank, rounded_rank, vbmf_rank


@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.8, 1), (0.81, 2), (0.9, 2), (0.95, 3), (0.999, 3)])
def test_energy_by_hand(energy: float, rank: int) -> None:
    assert energy_rank(torch.tensor([8.0, 1.0, 1.0]), energy) == rank


def test_ranks_are_rounded_up() -> None:
    assert [rounded_rank(rank, 8) for rank in (1, 8, 9)] == [8, 8, 16]
    assert rounded_rank(5, 1) == 5


def _squares(rank: int, rows: int, columns: int, noise: float, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=random)
    matrix = left @ torch.randn(rank, columns, generator=random)
    return torch.linalg.svdvals(matrix + noise * torch.randn(rows, columns, generator=random)).square()


@pytest.mark.parametrize(("rows", "columns"), [(40, 100), (100, 40), (64, 64)])
@pytest.mark.parametrize("rank", [1, 5, 12])
@pytest.mark.parametrize("noise", [0.01, 1.0])
def test_vbmf_finds_the_rank_below_the_noise(rows: int, columns: int, rank: int, noise: float) -> None:
    assert vbmf_rank(_squares(rank, rows, columns, noise), rows, columns) == rank


def test_vbmf_sees_nothing_in_noise_and_all_without_it() -> None:
    assert vbmf_rank(_squares(0, 50, 200, 1.0), 50, 200) == 0
    assert vbmf_rank(_squares(4, 30, 60, 0.0), 30, 60) == 4
    assert vbmf_rank(torch.zeros(8), 8, 16) == 0


def test_vbmf_threshold_by_hand() -> None:
    """Noise of variance 1 in (50, 200): a = 1/4, t0 = 1.25645, x0 = 2.25645 * 1.19898 = 2.70544.

    A direction is kept once its squared singular value is above 200 * 2.70544 = 541.
    """
    threshold = 200 * (1 + 2.5129 * math.sqrt(0.25)) * (1 + 0.25 / (2.5129 * math.sqrt(0.25)))
    assert threshold == pytest.approx(541, abs=0.5)
    noise = _squares(0, 50, 200, 1.0)
    for size, rank in ((0.85, 0), (1.15, 1)):
        squares = torch.cat([torch.tensor([size * threshold]), noise[1:]]).sort(descending=True).values
        assert vbmf_rank(squares, 50, 200) == rank


def _option(macs: int, error: float) -> Option:
    return Option("svd", (macs,), macs, error)


def test_the_budget_goes_where_an_error_costs_least() -> None:
    """Layer a saves 60 for an error of 0.1, layer b 50 for 0.4: the first 60 come from a, the next from b."""
    options = {"a": [_option(40, 0.1)], "b": [_option(50, 0.4)]}
    macs, even = {"a": 100, "b": 100}, {"a": 1.0, "b": 1.0}
    assert allot(options, macs, even, 60) == ({"a": options["a"][0]}, 60.0)
    assert allot(options, macs, even, 61) == ({"a": options["a"][0], "b": options["b"][0]}, 110.0)
    assert allot(options, macs, {"a": 10.0, "b": 1.0}, 30)[0] == {"b": options["b"][0]}  # a's error counts more
    assert allot(options, macs, even, 500)[1] == 110.0  # less than asked for


def test_only_ways_on_the_lower_hull_are_taken() -> None:
    """From 100: 80 costs 0.2 (0.01 each), 60 costs 0.22 (0.0055 each): 80 lies above the line and is passed over."""
    ways = [_option(80, 0.2), _option(60, 0.22), _option(20, 0.9)]
    assert allot({"a": ways}, {"a": 100}, {"a": 1.0}, 10) == ({"a": ways[1]}, 40.0)
    assert allot({"a": ways}, {"a": 100}, {"a": 1.0}, 50) == ({"a": ways[2]}, 80.0)


def test_the_budget_is_the_best_of_all_choices_on_its_hull() -> None:
    """Against every combination of three layers' ways: none that saves as much has a smaller weighted error."""
    import itertools

    random = torch.Generator().manual_seed(0)
    macs = {name: 100 for name in "abc"}
    weights = {"a": 1.0, "b": 2.0, "c": 0.5}
    options = {}
    for name in macs:
        errors = torch.rand(4, generator=random).sort().values.cumsum(0)
        options[name] = [_option(100 - 20 * (index + 1), float(error)) for index, error in enumerate(errors)]
    for saving in (40, 100, 180):
        chosen, saved = allot(options, macs, weights, saving)
        assert saved >= saving
        error = sum(weights[name] * way.error for name, way in chosen.items())
        for ways in itertools.product(*([None, *items] for items in options.values())):
            found = [(name, way) for name, way in zip(macs, ways) if way is not None]
            if sum(macs[name] - way.macs for name, way in found) >= saved:
                assert sum(weights[name] * way.error for name, way in found) >= error - 1e-9
