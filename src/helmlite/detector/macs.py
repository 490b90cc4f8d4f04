"""Multiply-accumulates of a network, counted from the operators that it runs."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn

from helmlite.detector.trace import Graph, trace


@dataclass(frozen=True)
class ConvCost:
    """What one call of a convolution costs: macs = positions * kernel area * in * out / groups."""

    path: str
    positions: int  # height * width of its output
    kernel_area: int
    in_channels: int
    out_channels: int
    groups: int

    @property
    def macs(self) -> int:
        return self.positions * self.kernel_area * self.in_channels * self.out_channels // self.groups


def conv_costs(network: nn.Module, graph: Graph) -> tuple[ConvCost, ...]:
    """The cost of every convolution that `graph` (a trace of `network`) runs, in order."""
    costs = []
    for op in graph.ops:
        if op.kind == "conv2d":
            conv = network.get_submodule(op.module)
            assert isinstance(conv, nn.Conv2d)
            _, _, height, width = op.output_shapes[0]
            area = conv.kernel_size[0] * conv.kernel_size[1]
            costs.append(ConvCost(op.module, height * width, area, conv.in_channels, conv.out_channels, conv.groups))
    return tuple(costs)


def shape_trace(network: nn.Module, input_size: int) -> Graph:
    """As `trace`, without computing anything: only shapes go through a copy of the network (PyTorch's meta device).

    Fake quantization, which hooks of the network put in, is left out: it changes no shape and is no multiplication.
    """
    shapes = copy.deepcopy(network).to("meta")
    shapes._forward_pre_hooks.clear()
    shapes._forward_hooks.clear()
    return trace(shapes, input_size)


def count_macs(network: nn.Module, input_size: int) -> int:
    """Multiply-accumulates for one square picture: convolutions, linear layers and matrix products."""
    return sum(macs for _, macs in macs_by_module(network, input_size))


def macs_by_module(network: nn.Module, input_size: int) -> list[tuple[str, int]]:
    """(path of the module that makes the call, its multiply-accumulates) of every operator that multiplies."""
    graph = shape_trace(network, input_size)
    found = [(cost.path, cost.macs) for cost in conv_costs(network, graph)]
    for op in graph.ops:
        if op.kind == "matmul":
            *_, rows, inner = op.input_shapes[0]
            found.append((op.module, _product(op.input_shapes[0][:-2]) * rows * inner * op.input_shapes[1][-1]))
        elif op.kind == "linear":
            found.append((op.module, _product(op.output_shapes[0]) * op.input_shapes[0][-1]))
    return found


def count_parameters(network: nn.Module) -> int:
    """Trained numbers in the network, each shared tensor counted once."""
    return sum(parameter.numel() for parameter in network.parameters())


def _product(numbers: tuple[int, ...]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result
