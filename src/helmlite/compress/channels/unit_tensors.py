"""Where the units of channel groups lie in a network's tensors: masks and norms of whole units at once.

Units are numbered 0, 1, 2, ... in the order of bundles, groups and units.  A unit owns the rows of convolutions that
make its channels, the columns of those that read them, the biases, its BatchNorms' scales and shifts, and its entries
of bare parameters.  An element of a kernel lies in a row and in a column and so belongs to two units at once:

    conv.weight (2, 3)      rows: units 0 1      columns: units 5 6 -      ("-": a channel that cannot be removed)

        owners of the element in row 0, column 1:  {0, 6}              it stays only where both stay
        owners of the element in row 0, column 2:  {0}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from helmlite.compress.channels.channel_groups import ChannelGroups, Member
from helmlite.compress.channels.channel_sums import Scores, all_groups, mean_one
from helmlite.compress.channels.cut_channels import Choice

_NOBODY = -1


@dataclass(frozen=True)
class Owners:
    """Who owns a tensor's elements: for each row, and for each column where it has owners, a unit's number or -1.

    shape: of the row numbers, so that they broadcast along the tensor; a kernel's columns broadcast likewise
    """

    rows: Tensor
    columns: Tensor | None = None


class UnitTensors:
    """The tensors of a network that units own.  count: how many units there are; owners: parameter name -> owners."""

    def __init__(self, groups: ChannelGroups, network: nn.Module) -> None:
        self.groups = all_groups(groups)
        self.count = sum(len(group.units) for group in self.groups)
        members: dict[tuple[str, str], list[tuple[Member, int]]] = {}
        units = (unit for group in self.groups for unit in group.units)
        for number, unit in enumerate(units):
            for member in unit:
                members.setdefault((member.path, member.role), []).append((member, number))
        self.owners: dict[str, Owners] = {}
        for path, role in members:
            self._own(path, role, members, network)

    def tensors(self, network: nn.Module) -> dict[str, nn.Parameter]:
        """The owned parameters of a network of this structure that are trained, by name."""
        parameters = dict(network.named_parameters())
        return {name: parameters[name] for name in self.owners if parameters[name].requires_grad}

    def mask(self, name: str, chosen: Tensor) -> Tensor:
        """Elements of a parameter all of whose owners are chosen, broadcastable.  chosen: (units,) bool."""
        padded = torch.cat([chosen, chosen.new_ones(1)])  # -1 is the last: what nobody owns is always chosen
        owned = self.owners[name]
        rows = padded[owned.rows.to(chosen.device)]
        return rows if owned.columns is None else rows & padded[owned.columns.to(chosen.device)]

    def norms(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """L2 norm of everything that each unit owns.  tensors: by parameter name -> (units,) float64, on the CPU."""
        totals = torch.zeros(self.count + 1, dtype=torch.float64)
        for name, tensor in tensors.items():
            squares = tensor.detach().double().square()
            owned = self.owners[name]
            for numbers in (owned.rows, owned.columns):
                if numbers is not None:
                    totals.index_add_(0, numbers.reshape(-1) % (self.count + 1), _summed_like(squares, numbers).cpu())
        return totals[:-1].sqrt()

    def by_group(self, values: Tensor) -> Scores:
        """One value for each unit as the scores that pruning takes.  values: (units,)."""
        ends = np.cumsum([len(group.units) for group in self.groups])[:-1]
        return dict(zip(self.groups, np.split(values.detach().double().cpu().numpy(), ends)))

    def relative(self, values: Tensor) -> Scores:
        """As `by_group`, divided by the mean of each group, so that groups compare."""
        return mean_one(self.by_group(values))

    def chosen(self, choice: Choice) -> Tensor:
        """(units,) bool: the units that a choice keeps."""
        kept = [torch.zeros(len(group.units), dtype=torch.bool) for group in self.groups]
        for group, flags in zip(self.groups, kept):
            flags[list(choice[group])] = True
        return torch.cat(kept)

    def choice(self, chosen: Tensor) -> Choice:
        """The units that stay, group by group: the opposite of `chosen`."""
        flags = self.by_group(chosen.double())
        return {group: tuple(np.flatnonzero(item).tolist()) for group, item in flags.items()}

    def _own(
        self, path: str, role: str, members: Mapping[tuple[str, str], Sequence[tuple[Member, int]]], network: nn.Module
    ) -> None:
        if role == "parameter":
            tensor = network.get_parameter(path)
            dim = int(np.argmax(tensor.shape))
            numbers = _numbers(members[path, role], tensor.shape[dim])
            self.owners[path] = Owners(numbers.view([-1 if axis == dim else 1 for axis in range(tensor.ndim)]))
            return
        module = network.get_submodule(path)
        if isinstance(module, nn.BatchNorm2d):
            scales = _numbers(members[path, "norm"], module.num_features)
            self.owners[f"{path}.weight"] = self.owners[f"{path}.bias"] = Owners(scales)
            return
        assert isinstance(module, nn.Conv2d)
        rows = _numbers(members.get((path, "out"), ()), module.out_channels)
        self.owners[f"{path}.weight"] = Owners(rows.view(-1, 1, 1, 1), _columns(module, members.get((path, "in"), ())))
        if module.bias is not None and (path, "out") in members:
            self.owners[f"{path}.bias"] = Owners(rows)


def _numbers(members: Sequence[tuple[Member, int]], length: int) -> Tensor:
    """Each channel's unit, or -1."""
    numbers = torch.full((length,), _NOBODY)
    for member, number in members:
        numbers[member.index] = number
    return numbers


def _columns(conv: nn.Conv2d, members: Sequence[tuple[Member, int]]) -> Tensor | None:
    """(1, in, 1, 1); for a grouped convolution, each block of which reads its own inputs, (out, in / groups, 1, 1)."""
    if not members:
        return None
    blocks = _numbers(members, conv.in_channels).view(conv.groups, -1)
    return blocks.repeat_interleave(conv.out_channels // conv.groups if conv.groups > 1 else 1, dim=0)[..., None, None]


def _summed_like(squares: Tensor, numbers: Tensor) -> Tensor:
    """Sums over the dimensions along which `numbers` is broadcast, flat."""
    dims = [axis for axis in range(squares.ndim) if numbers.shape[axis] == 1 and squares.shape[axis] > 1]
    return (squares.sum(dim=dims) if dims else squares).reshape(-1)
