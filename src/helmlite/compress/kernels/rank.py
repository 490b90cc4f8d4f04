"""How many ranks: by energy, by variational Bayes, or from a budget over the whole network.

energy  the fewest ranks that keep a stated share of the squared singular values
vbmf    the number of singular values that stand out of noise, whose size is estimated too: the global analytic solution
        of empirical variational Bayesian matrix factorization (Nakajima 2013, JMLR 14:1-37, theorem 2 and section 6).
        With L <= M the sides of the matrix, a = L / M, x_h = s_h^2 / (M sigma^2):

            kept where x_h > x0 = (1 + t0) (1 + a / t0),  t0 = 2.5129 sqrt(a)
            sigma^2 minimizes  sum_{x_h <= x0} (x_h - ln x_h)
                               + sum_{x_h > x0} (x_h - t_h + ln((t_h + 1) / x_h) + a ln(t_h / a + 1)),
            t_h = (x_h - (1 + a) + sqrt((x_h - (1 + a))^2 - 4 a)) / 2

budget  for every layer some ways to split it, each with its cost and its error; the cheapest error for each unit of
        cost saved goes first, over all layers at once.  On each layer's lower convex hull this greedy walk gives the
        least weighted error that a Lagrange multiplier can reach
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

_NOISE_STEPS, _NOISE_GRIDS = 400, 3
_NOISE_FLOOR = 1e-9  # of the mean squared entry: a matrix without noise has a variance of 0, and no logarithm of it


@dataclass(frozen=True)
class Option:
    """One way to split a layer.  macs: what it then costs; error: relative squared error of its kernel, at most."""

    method: str
    ranks: tuple[int, ...]
    macs: int
    error: float


def energy_rank(squares: Tensor, energy: float) -> int:
    """The fewest leading values, at least 1, whose share of the sum is `energy`.  squares: descending.

    energy_rank(torch.tensor([8.0, 1.0, 1.0]), 0.9) = 2
    """
    shares = squares.double().cumsum(0) / squares.double().sum().clamp(min=1e-300)
    return min(int((shares < energy - 1e-12).sum()) + 1, len(squares))


def rounded_rank(rank: int, multiple: int) -> int:
    """The next multiple, upwards: a target's kernels like those, and less would keep less than was asked for."""
    return -(-rank // multiple) * multiple


def vbmf_rank(squares: Tensor, rows: int, columns: int) -> int:
    """How many singular values of a (rows, columns) matrix are more than noise; 0 where none is.

    squares: all min(rows, columns) squared singular values, descending
    """
    short, long = min(rows, columns), max(rows, columns)
    alpha = short / long
    ground = 2.5129 * math.sqrt(alpha)
    threshold = (1 + ground) * (1 + alpha / ground)
    exact = squares.detach().double()
    assert len(exact) == short
    if float(exact.sum()) <= 0:
        return 0
    variance = _noise_variance(exact, short, long, threshold)
    return int((exact > long * variance * threshold).sum())


def _noise_variance(squares: Tensor, short: int, long: int, threshold: float) -> float:
    """The minimum of the free energy within the bounds of the paper: a grid, then finer ones around its minimum."""
    alpha = short / long
    upper = float(squares.sum()) / (short * long)
    most = min(math.ceil(short / (1 + alpha)) - 1, short - 1)  # ranks that noise leaves room for
    lower = max(float(squares[most]) / (long * threshold), float(squares[most:].mean()) / long, upper * _NOISE_FLOOR)
    low, high = math.log(min(lower, upper)), math.log(upper)
    for _ in range(_NOISE_GRIDS):
        grid = torch.linspace(low, high, _NOISE_STEPS + 1, dtype=torch.float64)
        ratios = squares / (long * grid.exp()[:, None])  # (steps + 1, short)
        best = int(_free_energy(ratios, alpha, threshold).argmin())
        low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _NOISE_STEPS)])
    return math.exp((low + high) / 2)


def _free_energy(ratios: Tensor, alpha: float, threshold: float) -> Tensor:
    """Of each row of x_h = s_h^2 / (M sigma^2).  (G, L) -> (G,)"""
    noise = ratios.clamp(min=1e-300)
    kept = ratios.clamp(min=threshold)
    centred = kept - (1 + alpha)
    strengths = 0.5 * (centred + (centred.square() - 4 * alpha).clamp(min=0).sqrt())
    of_kept = kept - strengths + ((strengths + 1) / kept).log() + alpha * (strengths / alpha + 1).log()
    return torch.where(ratios > threshold, of_kept, noise - noise.log()).sum(1)


def allot(
    options: Mapping[str, Sequence[Option]], macs: Mapping[str, int], weights: Mapping[str, float], saving: float
) -> tuple[dict[str, Option], float]:
    """Which layers are split, and how, so that `saving` multiply-accumulates go with the least weighted error.

    options: layer -> ways to split it; macs: layer -> its cost as it is; weights: layer -> what its error counts
    Gives the choice, and what it saves: less than `saving` where even the cheapest of all ways is not enough.
    """
    steps = []
    for path, ways in options.items():
        points = _lower_hull(macs[path], ways)
        for (cost, error, _), (next_cost, next_error, way) in pairwise(points):
            price = weights[path] * (next_error - error) / (cost - next_cost)
            steps.append((price, path, cost - next_cost, way))
    chosen: dict[str, Option] = {}
    saved = 0.0
    for _, path, gain, way in sorted(steps, key=lambda item: item[:2]):
        if saved >= saving:
            break
        assert way is not None
        chosen[path] = way
        saved += gain
    return chosen, saved


def _lower_hull(whole: int, ways: Sequence[Option]) -> list[tuple[int, float, Option | None]]:
    """The ways that a Lagrange multiplier can choose, from the layer as it is (no error) to the cheapest.

    From each point the next is that of the least slope, so prices never fall along a layer's list.
    """
    points: list[tuple[int, float, Option | None]] = [(whole, 0.0, None)]
    left = [way for way in ways if way.macs < whole]
    while left:
        cost, error, _ = points[-1]
        best = min(left, key=lambda way: ((way.error - error) / (cost - way.macs), way.macs))
        points.append((best.macs, best.error, best))
        left = [way for way in left if way.macs < best.macs]
    return points
