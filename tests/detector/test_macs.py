"""Multiply-accumulates, by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helmlite.detector.macs import conv_costs, count_macs, count_parameters, shape_trace
from helmlite.detector.trace import trace


class _Network(nn.Module):
    """One dense and one depthwise convolution, then a product of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, images: Tensor) -> Tensor:
        features = self.depthwise(self.dense(images)).flatten(2)  # (1, 8, N)
        return features @ features.transpose(1, 2)


def test_convolutions_and_products_are_counted() -> None:
    """At 64: 32 * 32 positions; 9 * 3 * 8 and 9 * 8 each; the product 8 * 1024 * 8."""
    positions = 32 * 32
    assert count_macs(_Network(), 64) == positions * (9 * 3 * 8) + positions * (9 * 8) + 8 * positions * 8
    assert count_parameters(_Network()) == 8 * 27 + 8 + 8 * 9 + 8


def test_each_convolution_is_listed() -> None:
    network = _Network()
    costs = conv_costs(network, trace(network, 64))
    assert [(cost.path, cost.macs) for cost in costs] == [("dense", 221184), ("depthwise", 73728)]


def test_shapes_alone_tell_the_same() -> None:
    network = _Network()
    assert shape_trace(network, 64) == trace(network, 64)
    assert all(
        parameter.device == torch.device("cpu") for parameter in network.parameters()
    )  # the original is untouched


def test_what_a_hook_adds_is_not_counted() -> None:
    network = _Network()
    network.register_forward_hook(lambda module, given, made: made @ made)
    assert count_macs(network, 64) == count_macs(_Network(), 64)
