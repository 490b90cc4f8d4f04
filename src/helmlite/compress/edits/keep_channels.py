"""The edit of channel pruning: which input and output channels every layer keeps, fully resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class KeptConv:
    """Kept channels of one convolution, ascending.  For a depthwise convolution `inputs` equals `outputs`."""

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class KeepChannels:
    """Keeps these channels of these modules and removes the others.

    convs:      convolution path -> kept channels
    norms:      BatchNorm path -> kept channels
    parameters: path of a bare parameter -> kept indices along its longest dimension
    attributes: (module path, attribute, value): split sizes and head counts that the family's layers store
    """

    kind: ClassVar[str] = "keep_channels"
    convs: Mapping[str, KeptConv]
    norms: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    attributes: tuple[tuple[str, str, int | list[int]], ...] = ()

    def redo(self, network: nn.Module) -> None:
        """Cuts the channels out of `network`, weights included."""
        for path, kept in self.convs.items():
            _cut_conv(network.get_submodule(path), kept)
        for path, channels in self.norms.items():
            _cut_norm(network.get_submodule(path), channels)
        for path, channels in self.parameters.items():
            owner_path, _, name = path.rpartition(".")
            owner = network.get_submodule(owner_path)
            parameter = getattr(owner, name)
            setattr(
                owner,
                name,
                _cut(parameter, int(max(range(parameter.ndim), key=lambda d: parameter.shape[d])), channels),
            )
        for path, name, value in self.attributes:
            setattr(network.get_submodule(path), name, value)

    def to_json(self) -> dict[str, Any]:
        return {
            "convs": {
                path: {"out": _ranges(kept.outputs), "in": _ranges(kept.inputs)} for path, kept in self.convs.items()
            },
            "norms": {path: _ranges(channels) for path, channels in self.norms.items()},
            "parameters": {path: _ranges(channels) for path, channels in self.parameters.items()},
            "attributes": [list(item) for item in self.attributes],
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> KeepChannels:
        return KeepChannels(
            {path: KeptConv(_indices(kept["out"]), _indices(kept["in"])) for path, kept in values["convs"].items()},
            {path: _indices(ranges) for path, ranges in values["norms"].items()},
            {path: _indices(ranges) for path, ranges in values["parameters"].items()},
            tuple((path, name, value) for path, name, value in values["attributes"]),
        )


def _cut_conv(conv: nn.Module, kept: KeptConv) -> None:
    assert isinstance(conv, nn.Conv2d)
    outputs, inputs = torch.tensor(kept.outputs), torch.tensor(kept.inputs)
    if conv.groups == 1:
        weight = conv.weight.data[outputs][:, inputs]
    elif conv.groups == conv.in_channels == conv.out_channels:
        weight = conv.weight.data[outputs]
    else:
        weight = _cut_grouped(conv, outputs, inputs)
    groups = len(outputs) if conv.groups == conv.in_channels == conv.out_channels else conv.groups
    conv.weight = nn.Parameter(weight.clone(), requires_grad=conv.weight.requires_grad)
    if conv.bias is not None:
        conv.bias = nn.Parameter(conv.bias.data[outputs].clone(), requires_grad=conv.bias.requires_grad)
    conv.out_channels, conv.in_channels, conv.groups = len(outputs), len(inputs), groups


def _cut_grouped(conv: nn.Conv2d, outputs: Tensor, inputs: Tensor) -> Tensor:
    """Every block of a grouped convolution keeps equally many outputs and inputs of its own."""
    out_width, in_width = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    blocks = []
    for block in range(conv.groups):
        own_out = outputs[(outputs // out_width) == block]
        own_in = inputs[(inputs // in_width) == block] - block * in_width
        blocks.append(conv.weight.data[own_out][:, own_in])
    return torch.cat(blocks)


def _cut_norm(norm: nn.Module, channels: Sequence[int]) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight, norm.bias = _cut(norm.weight, 0, channels), _cut(norm.bias, 0, channels)
    index = torch.tensor(channels)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean, norm.running_var = norm.running_mean[index].clone(), norm.running_var[index].clone()
    norm.num_features = len(channels)


def _cut(parameter: nn.Parameter, dim: int, channels: Sequence[int]) -> nn.Parameter:
    cut = parameter.data.index_select(dim, torch.tensor(channels)).clone()
    return nn.Parameter(cut, requires_grad=parameter.requires_grad)


def _ranges(indices: Sequence[int]) -> list[list[int]]:
    """Ascending indices as [first, last] runs: (0, 1, 2, 5) -> [[0, 2], [5, 5]]."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return runs


def _indices(ranges: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(index for first, last in ranges for index in range(first, last + 1))
