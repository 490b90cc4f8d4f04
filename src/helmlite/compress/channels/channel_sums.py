"""Sums over everything that goes with a unit of channels: what most importance criteria are made of.

    values of each weight  ->  one sum for each channel of a module  ->  one sum for each unit
                               `channel_sums`                            `UnitSums`

so that a criterion only says what a single weight is worth: its square, its size, its part in the loss.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from helmlite.compress.channels.channel_groups import ChannelGroup, ChannelGroups

Scores = dict[ChannelGroup, NDArray[np.float64]]  # for each group one score a unit, higher is kept
ChannelSums = Mapping[tuple[str, str], NDArray[np.float64]]  # (path, role of `Member`) -> one value a channel

ROLES = ("out", "in", "norm", "parameter")


def channel_sums(network: nn.Module, values: Mapping[str, Tensor]) -> ChannelSums:
    """Values of single weights, summed for each channel that they belong to.

    values: parameter path -> a value for each of its elements; a parameter that is not named counts nothing
    """
    sums: dict[tuple[str, str], NDArray[np.float64]] = {}
    named = set()
    for path, module in network.named_modules():
        weight, bias = values.get(f"{path}.weight"), values.get(f"{path}.bias")
        if weight is None or not isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            continue
        named |= {f"{path}.weight", f"{path}.bias"}
        weight = weight.double()
        own = weight.flatten(1).sum(dim=1) if weight.ndim > 1 else weight
        own = own if bias is None else own + bias.double()
        if isinstance(module, nn.BatchNorm2d):
            sums[path, "norm"] = _array(own)
        else:
            sums[path, "out"] = _array(own)
            blocks = weight.view(module.groups, -1, *weight.shape[1:]).sum(dim=(1, 3, 4))  # (groups, in / groups)
            sums[path, "in"] = _array(blocks.flatten())
    sums.update({(path, "parameter"): _array(item.flatten()) for path, item in values.items() if path not in named})
    return sums


class UnitSums:
    """Adds up the channels of every unit.  Units of a group touch the same places equally often."""

    def __init__(self, groups: ChannelGroups, roles: Collection[str] = ROLES) -> None:
        """roles: of the members that count."""
        self._places = {group: _places(group, roles) for group in all_groups(groups)}

    def __call__(self, sums: ChannelSums) -> Scores:
        """The sum of each unit; a place that `sums` lacks counts nothing."""
        found: Scores = {}
        for group, places in self._places.items():
            total = np.zeros(len(group.units))
            for place, indices in places.items():
                if place in sums:
                    total += sums[place][indices].sum(axis=1)
            found[group] = total
        return found


def all_groups(groups: ChannelGroups) -> list[ChannelGroup]:
    """The groups of all bundles, in order."""
    return [group for bundle in groups.bundles for group in bundle.groups]


def mean_one(scores: Scores) -> Scores:
    """Scores divided by their group's mean, so that layers of larger weights do not count for more."""
    return {group: values / values.mean() if values.mean() > 0 else values for group, values in scores.items()}


def _places(group: ChannelGroup, roles: Collection[str]) -> dict[tuple[str, str], NDArray[np.int64]]:
    """(path, role) -> channel indices there, (units, channels of one unit)."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for unit in group.units:
        for member in unit:
            if member.role in roles:
                rows[member.path, member.role].append(member.index)
    return {place: np.array(indices, dtype=np.int64).reshape(len(group.units), -1) for place, indices in rows.items()}


def _array(values: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = values.detach().double().cpu().numpy()
    return array
