"""Taking off the biases what rounded weights add to the mean of each channel (Nagel 2019, 1906.04721, section 4.2)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from helmlite.compress.rounding.insert_quantizers import Quantizers, rounded_weight
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, weight_point


def correct_biases(network: nn.Module, plan: QuantizationPlan, input_means: Mapping[str, Tensor]) -> None:
    """Takes off each bias what rounding the weight adds to the mean of its output channel, in place.

    input_means: path of a convolution -> (I,), what its input channels are on average; others are left alone
    """
    quantizers = Quantizers(plan)
    for path in plan.weights():
        conv, means = network.get_submodule(path), input_means.get(path)
        if means is None:
            continue
        assert isinstance(conv, nn.Conv2d)
        if conv.bias is not None:
            name = weight_point(path)
            with torch.no_grad():
                rounded = rounded_weight(conv.weight, plan.points[name], *quantizers.tensors(name))
                conv.bias -= mean_shift(conv.weight, rounded, means, conv.groups).to(conv.bias.dtype)


class InputMeans:
    """Mean of each input channel of convolutions, over all that `see` was shown."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def see(self, path: str, given: Tensor) -> None:
        """What the convolution at `path` was given.  (B, I, H, W)"""
        self._sums[path] = self._sums.get(path, 0) + given.mean((2, 3)).double().sum(0)
        self._counts[path] = self._counts.get(path, 0) + len(given)

    def found(self) -> dict[str, Tensor]:
        """Path -> (I,)"""
        return {path: total / self._counts[path] for path, total in self._sums.items()}


def measured_input_means(network: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Mean of each input channel of every convolution over pictures (B, 3, S, S), in evaluation mode: path -> (I,)."""
    network = copy.deepcopy(network).to(memory_format=torch.channels_last).eval()
    means = InputMeans()

    def see(path: str, module: nn.Module, given: tuple[Any, ...]) -> None:
        means.see(path, given[0])

    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(partial(see, path))
    with torch.inference_mode():
        for images in batches:
            network(images.to(memory_format=torch.channels_last))
    return means.found()


def mean_shift(weight: Tensor, rounded: Tensor, input_means: Tensor, groups: int) -> Tensor:
    """How much rounding a convolution's weight moves the mean of each output channel (Nagel 2019, 1906.04721, 4.2).

    weight, rounded: (O, I / groups, h, w); input_means: (I,) -> (O,), to be taken off the bias
    """
    change = (rounded - weight).double().sum((2, 3))  # (O, I / groups)
    outputs_per_group = weight.shape[0] // groups
    per_output = input_means.view(groups, -1).repeat_interleave(outputs_per_group, 0)  # (O, I / groups)
    return (change * per_output).sum(1)
