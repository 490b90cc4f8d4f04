"""How many steps every bundle keeps, by measured losses: the least loss in all under a budget.

    minimize    sum over bundles of loss_b(kept_b)        subject to    cost(kept_1, kept_2, ...) <= target

Lagrange: for a multiplier m, minimize  sum loss_b + m * cost  and look for the smallest m that meets the target
(Everett 1963, "Generalized Lagrange multiplier method", Operations Research 11).  The cost is no sum over bundles (a
convolution costs outputs * inputs), so for each m the bundles are taken in turn, each at its best level while the
others stay, until none moves.  What the multiplier leaves of the budget is spent level by level, and where that is
not within a per cent of Lagrange's lower bound, levels are exchanged between bundles while it helps.

The losses are taken to add up, which they do for small cuts only: pruning in rounds, and a look at the result, are
what keeps that honest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from helmlite.compress.channels.ledger import BundleCosts
from helmlite.compress.channels.ranking import Levels, unreachable

_BISECTIONS = 40
_EXCHANGES = 3
_WORTHWHILE = 0.01  # share of the loss that exchanges must be able to save
_SWEEPS = 100  # each lowers the Lagrangian, so that few are needed; the limit is for rounding


def allotted_steps(
    losses: Sequence[NDArray[np.float64]], levels: Levels, costs: BundleCosts, target: float, unit: str = "MACs"
) -> tuple[int, ...]:
    """Steps that each bundle keeps so that at most `target` remains, at the least sum of losses that is found.

    losses: for each bundle the loss at each of its levels, not rising with the level
    Raises ValueError where even the lowest levels are above the target.
    """
    whole = costs.total([allowed[-1] for allowed in levels])
    lowest = [0] * len(levels)
    least = costs.total(_steps(levels, lowest))
    if least > target:
        raise unreachable(unit, target / whole, least / whole)
    search = _Search(losses, levels, costs, target)
    best, bound, low, high = lowest, 0.0, 0.0, search.steepest()
    for _ in range(_BISECTIONS):
        multiplier = (low + high) / 2
        found = search.relaxed(multiplier)
        over = search.cost(found) - target
        bound = max(
            bound, search.loss(found) + multiplier * over
        )  # Lagrange's, as far as going in turn finds the least
        if over > 0:
            low = multiplier
        else:
            high = multiplier
            best = min((found, best), key=search.loss)
    best = search.spent(best)
    if search.loss(best) > bound * (1 + _WORTHWHILE):
        best = min((search.exchanged(start) for start in (best, search.spent(lowest))), key=search.loss)
    return _steps(levels, best)


class _Search:
    """Works on positions in `levels`: 0 is the lowest level of a bundle."""

    def __init__(
        self, losses: Sequence[NDArray[np.float64]], levels: Levels, costs: BundleCosts, target: float
    ) -> None:
        self._losses, self._levels, self._costs, self._target = losses, levels, costs, target

    def cost(self, at: Sequence[int]) -> float:
        return self._costs.total(_steps(self._levels, at))

    def loss(self, at: Sequence[int]) -> float:
        return float(sum(losses[position] for losses, position in zip(self._losses, at)))

    def steepest(self) -> float:
        """A multiplier with which every bundle goes to its lowest level, where that saves anything."""
        kept = [allowed[0] for allowed in self._levels]  # where the others are lowest, a step saves least
        savings = [
            float(saving)
            for bundle, allowed in enumerate(self._levels)
            for saving in np.diff(self._costs.change(kept, bundle, allowed))
            if saving > 0
        ]
        highest = max(float(losses.max()) for losses in self._losses)
        return 2 * max(highest, 1e-12) / min(savings, default=1.0)

    def relaxed(self, multiplier: float) -> list[int]:
        """The least loss + multiplier * cost that taking bundles in turn arrives at, from the whole network on."""
        kept = [allowed[-1] for allowed in self._levels]
        at = [len(allowed) - 1 for allowed in self._levels]
        for _ in range(_SWEEPS):
            before = list(at)
            for bundle, allowed in enumerate(self._levels):
                worth = self._losses[bundle] + multiplier * self._costs.change(kept, bundle, allowed)
                at[bundle] = len(allowed) - 1 - int(np.argmin(worth[::-1]))  # the highest of equals
                kept[bundle] = allowed[at[bundle]]
            if at == before:
                break
        return at

    def spent(self, at: Sequence[int]) -> list[int]:
        """Levels are raised while the budget allows: by most loss saved, or by most for its cost, as is better."""
        return min((self._raised(at, 0.0), self._raised(at, 1.0)), key=self.loss)

    def exchanged(self, start: Sequence[int]) -> list[int]:
        """One bundle goes down and others up, or one up and others down, while that lowers the loss."""
        at = list(start)
        for _ in range(_EXCHANGES):
            before = self.loss(at)
            for bundle in range(len(at)):
                tried = [at]
                for position in self._moves(at[bundle], bundle):
                    moved = [*at[:bundle], position, *at[bundle + 1 :]]
                    moved = moved if position < at[bundle] else self._met(moved, bundle)
                    tried += [self.spent(moved)] if self.cost(moved) <= self._target else []
                at = min(tried, key=self.loss)
            if self.loss(at) > before * (1 - _WORTHWHILE):
                break
        return at

    def _moves(self, position: int, bundle: int) -> list[int]:
        """A level, half of the way and all of it, down and up."""
        top = len(self._levels[bundle]) - 1
        moves = {0, position // 2, position - 1, position + 1, (position + top + 1) // 2, top}
        return sorted(move for move in moves if 0 <= move <= top and move != position)

    def _met(self, start: Sequence[int], fixed: int) -> list[int]:
        """Levels are lowered, the least loss for each unit of cost first, all but one, until the budget is met."""
        at, kept = list(start), list(_steps(self._levels, start))
        over = self._costs.total(kept) - self._target
        while over > 0:
            cheapest, chosen, saving = np.inf, None, 0.0
            for bundle, allowed in enumerate(self._levels):
                if bundle == fixed or not at[bundle]:
                    continue
                saved = -self._costs.change(kept, bundle, allowed[: at[bundle]])
                lost = self._losses[bundle][: at[bundle]] - self._losses[bundle][at[bundle]]
                price = np.where(saved > 0, lost / np.maximum(saved, 1e-12), np.inf)
                step = int(price.argmin())
                if price[step] < cheapest:
                    cheapest, chosen, saving = float(price[step]), (bundle, step), float(saved[step])
            if chosen is None:
                break
            at[chosen[0]] = chosen[1]
            kept[chosen[0]] = self._levels[chosen[0]][chosen[1]]
            over -= saving
        return at

    def _raised(self, start: Sequence[int], weight_of_cost: float) -> list[int]:
        at, kept = list(start), list(_steps(self._levels, start))
        room = self._target - self._costs.total(kept)
        while True:
            best, chosen, price = 0.0, None, 0.0
            for bundle, allowed in enumerate(self._levels):
                higher = allowed[at[bundle] + 1 :]
                saved = self._losses[bundle][at[bundle]] - self._losses[bundle][at[bundle] + 1 :]
                if not higher or saved[-1] <= 0:
                    continue
                added = self._costs.change(kept, bundle, higher)
                worth = np.where(added <= room, saved / np.maximum(added, 1e-12) ** weight_of_cost, 0.0)
                step = int(worth.argmax())
                if worth[step] > best:
                    best, chosen, price = float(worth[step]), (bundle, at[bundle] + 1 + step), float(added[step])
            if chosen is None:
                return at
            at[chosen[0]] = chosen[1]
            kept[chosen[0]] = self._levels[chosen[0]][chosen[1]]
            room -= price


def _steps(levels: Levels, at: Sequence[int]) -> tuple[int, ...]:
    return tuple(allowed[position] for allowed, position in zip(levels, at, strict=True))
