"""Rounding weights up or down by what it does to the layer's answer (AdaRound, Nagel 2020, arXiv 2004.10568).

Rounding to nearest makes the smallest error in each weight, not in what the layer gives: errors that cancel out are
better than small ones.  For each layer, one after the other,

    W~ = s * clip(floor(W / s) + h(V), low, high)          h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)
    min over V   E |f(W x + b) - f(W~ x^ + b)|^2 + weight * mean(1 - |2 h(V) - 1|^beta)

x is what the layer reads in the float network and x^ in the network that is quantized so far; f is the activation
behind it.  beta falls from 20 to 2, so that h may first move freely and is then pushed to 0 or 1.  The first term is
divided by the error of rounding to nearest, so that one weight of the second fits every layer.

The problem is small because it is solved at a sample of positions: some thousand patches of the input, whatever the
pictures' size.  They are gathered in one pass of the float network, batch by batch, and one pass of the quantized one
with all pictures at once, which stops at each layer, rounds it, and goes on with its new answer.

A chosen weight is stored as the point of the grid that it was rounded to: rounding to nearest then gives the same
integers, in PyTorch and in every exporter, and neither the plan nor the file format knows of this.
A weight of exactly 0 stays 0, so that masks hold.  Linear layers stay rounded to nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from helmlite.compress.rounding.insert_quantizers import Quantizers
from helmlite.compress.rounding.layer_rounding import Activation, layer_problem
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, weight_point
from helmlite.detector.trace import Graph, Op, intercept

_POSITIONS = 4096  # of one layer, over all pictures
_HELD = 5  # every fifth picture is kept for the comparison with rounding to nearest
_AT_ONCE = 64 * 416 * 416  # pixels of all pictures together; about 3.5 GB for YOLOv12m
_ACTIVATIONS = (nn.SiLU, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.LeakyReLU, nn.GELU, nn.Sigmoid, nn.Mish)


@dataclass(frozen=True)
class RoundedLayer:
    """Mean square error of a layer's answer at positions that it was not fitted to.

    nearest: with weights rounded to nearest; chosen: with those that were kept
    """

    path: str
    nearest: float
    chosen: float


def most_pictures(input_size: int) -> int:
    """How many pictures of this size are looked at, so that memory stays bounded."""
    return max(1, _AT_ONCE // (input_size * input_size))


def adaround(
    network: nn.Module,
    original: nn.Module,
    plan: QuantizationPlan,
    graph: Graph,
    images: Tensor,
    steps: int,
    move_biases: bool,
    seed: int,
    device: torch.device,
) -> tuple[RoundedLayer, ...]:
    """Puts every convolution's weight on the grid of the plan, in place.

    network:     without quantizers; original: the same network, which stays in float
    graph:       a trace of it at the size of `images` (N, 3, S, S)
    move_biases: also takes the mean error that is left off the bias, where there is one and held positions agree
    device:      where each layer's problem is solved
    """
    sample = _Sample(graph, plan, len(images), seed)
    targets = sample.outputs(original, images)
    quantizers = Quantizers(plan)
    activations = _activations(network, graph)
    results: dict[str, RoundedLayer] = {}
    done: set[int] = set()  # data pointers: a tied weight is rounded where it is met first

    def on_op(name: str, module: str, kind: str, args: Any, kwargs: Any, run: Callable[..., Any]) -> Any:
        if name in targets and args[1].data_ptr() not in done:
            done.add(args[1].data_ptr())
            conv = network.get_submodule(module)
            assert isinstance(conv, nn.Conv2d)
            point, (scale, _) = plan.points[weight_point(module)], quantizers.tensors(weight_point(module))
            patches = sample.patches(name, args, conv.groups)
            layer = layer_problem(conv, scale, point, patches, targets.pop(name), activations.get(name), device)
            choice = layer.choose(sample.held.to(device), steps, move_biases and conv.bias is not None, seed)
            conv.weight.copy_(choice.weight.view(conv.weight.shape))
            if conv.bias is not None:
                conv.bias.copy_(choice.bias)
            results[module] = RoundedLayer(module, choice.nearest, choice.error)
        return quantizers.on_op(name, module, kind, args, kwargs, run)

    with torch.no_grad(), intercept(network.eval(), on_op):
        network(quantizers.round_images(images))
    return tuple(results.values())


def gain(results: Sequence[RoundedLayer]) -> float:
    """By which factor the layers' errors fell: the geometric mean over all layers."""
    logs = [math.log(item.nearest / item.chosen) for item in results if item.chosen > 0 and item.nearest > 0]
    return math.exp(sum(logs) / len(logs)) if logs else 1.0


class _Sample:
    """The positions at which each quantized convolution is looked at, the same in both networks.

    held: (pictures * positions,) marks those that no layer is fitted to; only for layers of full count
    """

    def __init__(self, graph: Graph, plan: QuantizationPlan, pictures: int, seed: int) -> None:
        weighted = plan.weights()
        self._ops: dict[str, Op] = {}
        for op in graph.ops:
            if op.kind == "conv2d" and op.module in weighted:
                self._ops[op.name] = op
        self._count = math.ceil(_POSITIONS / pictures)
        self._random = torch.Generator().manual_seed(seed)
        self._places = {name: self._draw(op, pictures) for name, op in self._ops.items()}
        picture = torch.arange(pictures).repeat_interleave(self._count)
        alone = torch.arange(len(picture))
        self.held = (picture if pictures >= _HELD else alone) % _HELD == _HELD - 1

    def outputs(self, network: nn.Module, images: Tensor) -> dict[str, Tensor]:
        """What each convolution gives there before its activation: name -> (P, O)."""
        found: dict[str, list[Tensor]] = {name: [] for name in self._ops}
        start = 0

        def on_op(name: str, module: str, kind: str, args: Any, kwargs: Any, run: Callable[..., Any]) -> Any:
            result = run(*args, **kwargs)
            if name in found:
                for index, plane in enumerate(result):
                    found[name].append(plane.flatten(1)[:, self._places[name][start + index]].t().clone())
            return result

        with torch.no_grad():
            for batch in torch.split(images, 4):
                with intercept(network.eval(), on_op):
                    network(batch)
                start += len(batch)
        return {name: torch.cat(rows) for name, rows in found.items()}

    def patches(self, name: str, args: Sequence[Any], groups: int) -> Tensor:
        """What the convolution reads there.  args: of its call -> (groups, P, inputs of a group * h * w)"""
        values, weight, _, stride, padding, dilation, _ = args
        (height, width), (_, _, _, columns) = weight.shape[2:], self._ops[name].output_shapes[0]
        found = []
        for plane, place in zip(values, self._places[name]):
            padded = functional.pad(plane, (padding[1], padding[1], padding[0], padding[0]))
            top, left = (place // columns) * stride[0], (place % columns) * stride[1]
            y = top[:, None, None] + (torch.arange(height) * dilation[0])[:, None]  # (n, h, 1)
            x = left[:, None, None] + (torch.arange(width) * dilation[1])[None, :]  # (n, 1, w)
            found.append(padded[:, y, x].transpose(0, 1))  # (n, I, h, w)
        patches = torch.cat(found)
        return patches.reshape(len(patches), groups, -1).transpose(0, 1).contiguous()

    def _draw(self, op: Op, pictures: int) -> Tensor:
        _, _, height, width = op.output_shapes[0]
        return torch.randint(height * width, (pictures, self._count), generator=self._random)


def _activations(network: nn.Module, graph: Graph) -> dict[str, Activation]:
    """The activation that alone reads a convolution, by the convolution's name."""
    readers = graph.consumers()
    found: dict[str, Activation] = {}
    for op in graph.ops:
        if op.kind == "conv2d" and op.outputs[0] not in graph.results and len(readers.get(op.outputs[0], ())) == 1:
            module = network.get_submodule(readers[op.outputs[0]][0].module)
            if isinstance(module, _ACTIVATIONS):
                found[op.name] = _kind_of(module)
    return found


def _kind_of(module: nn.Module) -> Activation:
    """The activation as a function that changes nothing in place."""
    fresh = type(module)()
    if isinstance(module, nn.LeakyReLU):
        fresh = nn.LeakyReLU(module.negative_slope)
    return fresh
