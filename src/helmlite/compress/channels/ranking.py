"""How many steps every bundle keeps under a target, when nothing but importance is known; and which units those are.

    price      the cheapest cuts go first, over all bundles at once: a cut's price is the importance that is lost for
               each unit of cost that is saved (the units' own order is by importance).  For importance that foretells
               the loss (Taylor, OBD), which may be added up and divided
    threshold  the units with the least importance go first, over all bundles at once and whatever they cost.  For
               importance that only compares units, such as norms relative to the mean of their group: by price such
               units would go where they cost most, a layer at a time.  (Measured on real pictures, half of the
               multiply-accumulates, mAP50-95 before training: L2 0.1 by price, 1.1 by threshold; Taylor 8.2 and 3.4)
    uniform    every bundle keeps the same share of its first width, as near as multiples allow

A fourth way, by measured sensitivity, is in sensitivity.py and allotment.py.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from helmlite.compress.channels.channel_groups import Bundle, ChannelGroups
from helmlite.compress.channels.channel_sums import Scores
from helmlite.compress.channels.cut_channels import Choice
from helmlite.compress.channels.ledger import Ledger, Loss, loss_of_step

Levels = Sequence[tuple[int, ...]]  # for each bundle the numbers of steps that it may keep, ascending, all last


def smallest_steps(groups: ChannelGroups, min_keep: float) -> list[int]:
    """For each bundle of the detector that pruning begins with the steps that stay, whatever the rounds.

    Cutting changes the sizes of bundles and neither their number nor their order.
    """
    return [max(1, math.ceil(bundle.steps * min_keep)) for bundle in groups.bundles]


def allowed_steps(groups: ChannelGroups, channel_multiple: int, floors: Sequence[int]) -> Levels:
    """What each bundle may keep: all, or as many steps as make its channel count a multiple of `channel_multiple`.

    floors: for each bundle the steps that stay at least
    """
    return [_allowed(bundle, channel_multiple, floor) for bundle, floor in zip(groups.bundles, floors, strict=True)]


def choose_units(
    groups: ChannelGroups,
    scores: Scores,
    ledger: Ledger,
    target: float,
    channel_multiple: int,
    floors: Sequence[int],
) -> Choice:
    """Units to keep so that at most `target` remains, by the global ranking.

    ledger: what the network costs now, in the unit of `target`; it is left at what remains
    floors: for each bundle the steps that stay at least
    Raises ValueError where even the smallest allowed network is above the target.
    """
    levels = allowed_steps(groups, channel_multiple, floors)
    return kept_units(groups, scores, global_steps(groups, scores, ledger, levels, target))


def global_steps(
    groups: ChannelGroups, scores: Scores, ledger: Ledger, levels: Levels, target: float
) -> tuple[int, ...]:
    """Steps that each bundle keeps so that at most `target` remains; the ledger is left at what remains.

    A cut goes to the next lower level.  Raises ValueError where even the lowest levels are above the target.
    """
    slices = [_Slices(bundle, scores, allowed) for bundle, allowed in zip(groups.bundles, levels, strict=True)]
    before = ledger.left
    while ledger.left > target:
        prices = [(_price(item, ledger.saving(item.loss)), index) for index, item in enumerate(slices) if item.can_cut]
        if not prices:
            raise unreachable(ledger.unit, target / before, ledger.left / before)
        _, cheapest = min(prices)
        ledger.remove(slices[cheapest].loss)
        slices[cheapest].cut()
    return tuple(item.left for item in slices)


def threshold_steps(
    groups: ChannelGroups, scores: Scores, ledger: Ledger, levels: Levels, target: float
) -> tuple[int, ...]:
    """Steps that each bundle keeps so that at most `target` remains, by one threshold on importance for all bundles.

    A bundle keeps the steps whose units' mean importance is above the threshold, and up to the next allowed number.
    Raises ValueError where even the lowest levels are above the target.
    """
    steps = [_step_values(bundle, scores) for bundle in groups.bundles]
    costs = ledger.for_bundles(groups.bundles)

    def kept_above(threshold: float) -> tuple[int, ...]:
        counts = [int((found > threshold).sum()) for found in steps]
        return tuple(min(level for level in allowed if level >= count) for allowed, count in zip(levels, counts))

    thresholds = np.unique(np.concatenate(steps))
    least = costs.total(kept_above(float(thresholds[-1])))
    if least > target:
        raise unreachable(ledger.unit, target / ledger.left, least / ledger.left)
    first = bisect_left(thresholds, True, key=lambda item: costs.total(kept_above(float(item))) <= target)
    return kept_above(float(thresholds[first]))


def _step_values(bundle: Bundle, scores: Scores) -> NDArray[np.float64]:
    """(steps,) mean importance of the units that go with each step of a bundle, least first."""
    found = [np.sort(scores[group]).reshape(bundle.steps, -1).mean(axis=1) for group in bundle.groups]
    return np.asarray(np.mean(found, axis=0), dtype=np.float64)


def uniform_steps(
    groups: ChannelGroups, ledger: Ledger, levels: Levels, whole: Sequence[int], target: float
) -> tuple[int, ...]:
    """Steps that each bundle keeps: the largest common share of `whole` with which at most `target` remains.

    whole: the steps of each bundle before the first cut, of which the share is taken
    Raises ValueError where even the lowest levels are above the target.
    """
    costs = ledger.for_bundles(groups.bundles)
    shares = _turning_points(levels, whole)
    low, high = 0, len(shares) - 1  # the lowest share keeps the lowest level of every bundle
    if costs.total(_at_share(levels, whole, shares[0])) > target:
        raise unreachable(
            ledger.unit, target / ledger.left, costs.total(_at_share(levels, whole, shares[0])) / ledger.left
        )
    while low < high:
        middle = (low + high + 1) // 2
        if costs.total(_at_share(levels, whole, shares[middle])) <= target:
            low = middle
        else:
            high = middle - 1
    return _at_share(levels, whole, shares[low])


def kept_units(groups: ChannelGroups, scores: Scores, steps: Sequence[int]) -> Choice:
    """The units that matter most, as many as each bundle's steps make."""
    choice = {}
    for bundle, kept in zip(groups.bundles, steps, strict=True):
        for group in bundle.groups:
            order = np.argsort(scores[group], kind="stable")
            count = kept * (len(group.units) // bundle.steps)
            choice[group] = tuple(sorted(order[len(order) - count :].tolist()))
    return choice


def unreachable(unit: str, target: float, least: float) -> ValueError:
    """What to say where a target is too low.  target, least: shares of what is there now."""
    return ValueError(
        f"prune: {target:.0%} of the {unit} cannot be reached in this round: {least:.0%} remain when every group is at "
        "its minimum. Ask for a higher ratio or lower min_keep."
    )


class _Slices:
    """One bundle, cut level by level.  can_cut: there is a lower level; loss: the channels that the next cut takes."""

    def __init__(self, bundle: Bundle, scores: Scores, levels: tuple[int, ...]) -> None:
        self._lost = _importance_lost(bundle, scores)
        self._steps = bundle.steps
        self._loss_of_step = loss_of_step(bundle)
        self._levels = list(levels)
        self.loss: Loss = {}
        self._look_ahead()

    @property
    def can_cut(self) -> bool:
        return len(self._levels) > 1

    @property
    def left(self) -> int:
        """Steps that are kept so far."""
        return self._levels[-1]

    def cut(self) -> None:
        """Makes the next cut."""
        self._levels.pop()
        self._look_ahead()

    @property
    def price(self) -> float:
        """Importance that the next cut loses."""
        return float(self._lost[self._steps - self._levels[-2]] - self._lost[self._steps - self._levels[-1]])

    def _look_ahead(self) -> None:
        if self.can_cut:
            steps = self._levels[-1] - self._levels[-2]
            self.loss = {path: (steps * out, steps * into) for path, (out, into) in self._loss_of_step.items()}


def _importance_lost(bundle: Bundle, scores: Scores) -> NDArray[np.float64]:
    """What is lost in all when the first 0, 1, ... steps are gone, the least important units first."""
    lost = np.zeros(bundle.steps + 1)
    for group in bundle.groups:
        per_step = np.sort(scores[group], kind="stable").reshape(bundle.steps, -1).sum(axis=1)
        lost[1:] += np.cumsum(per_step)
    return lost


def _price(item: _Slices, saving: float) -> float:
    """Importance for each unit of cost; what saves nothing goes last."""
    return item.price / saving if saving > 0 else math.inf


def _allowed(bundle: Bundle, channel_multiple: int, floor: int) -> tuple[int, ...]:
    channels_per_step = bundle.channels // bundle.steps
    stride = channel_multiple // math.gcd(channel_multiple, channels_per_step)
    return (*(steps for steps in range(stride, bundle.steps, stride) if steps >= floor), bundle.steps)


def _at_share(levels: Levels, whole: Sequence[int], share: float) -> tuple[int, ...]:
    """For each bundle the level nearest to this share of its first width, the higher of two that are as near."""
    return tuple(
        min(allowed, key=lambda level: (abs(level - share * steps), -level))
        for allowed, steps in zip(levels, whole, strict=True)
    )


def _turning_points(levels: Levels, whole: Sequence[int]) -> list[float]:
    """The shares at which some bundle takes its next level, ascending, after 0."""
    points = {
        (lower + upper) / 2 / steps
        for allowed, steps in zip(levels, whole, strict=True)
        for lower, upper in itertools.pairwise(allowed)
    }
    return [0.0, *sorted(points)]
