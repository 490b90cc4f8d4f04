"""Cross-layer equalization: the channels between two convolutions are rescaled so that both weights use their range.

With one scale for a whole weight, a channel of small weights beside one of large weights is rounded away.  Where f is
positively homogeneous, f(s x) = s f(x) for s > 0, a channel may be divided by s before f and multiplied again behind
it and the network answers the same (Nagel 2019, arXiv 1906.04721, section 4.1):

    W2 f(W1 x + b1)  =  (W2 S) f(S^-1 W1 x + S^-1 b1)         s_i = sqrt(r1_i * r2_i) / r2_i
    r1_i = max |W1[i, :]|     r2_i = max |W2[:, i]|            after which both are sqrt(r1_i * r2_i)

ReLU and LeakyReLU are homogeneous, and so are pooling, upsampling and no activation at all.  SiLU, Hardswish and ReLU6
are not: a pair of convolutions with one of these between them is left.  So is a value that several operators read, or
that meets others in a sum or a concatenation.  A depthwise convolution is the second of one pair and the first of
the next; some rounds over all pairs equalize all three.

It is of use for weights with one scale each (`weight_axis = "tensor"`) and for few bits; with a scale for each output
channel in 8 bits there is little left to gain, and the channels of values become more alike or less.
The paper's absorption of large biases (4.1.3) changes what the network answers and is not done.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.order import check_follows
from helmlite.compress.technique import Context
from helmlite.detector.detector import Detector
from helmlite.detector.trace import Graph, Op, trace

_TRACED_SIZE = 64  # pixels; what follows what does not depend on it
_HOMOGENEOUS = frozenset("relu leaky_relu".split())
_CHANNEL_BY_CHANNEL = frozenset(
    "max_pool2d avg_pool2d adaptive_avg_pool2d interpolate contiguous clone detach dropout".split()
)
_CURVED = frozenset("silu hardswish hardtanh relu6 gelu mish sigmoid".split())


@dataclass(frozen=True)
class Equalize:
    """Rescales channels between pairs of convolutions; the network answers as before.  BatchNorm is folded first.

    rounds: over all pairs; one is enough where no convolution is in two pairs
    """

    name: ClassVar[str] = "equalize"
    rounds: int = 20

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"equalize: rounds must be at least 1; got {self.rounds}.")

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with equalized weights.

        Raises ValueError where no pair of convolutions can be equalized, TechniqueOrderError after quantization.
        """
        check_follows(self.name, detector)
        folded, pairs, curved = equalizable(detector)
        equalized = folded.copy()
        kind = next(equalized.network.parameters()).dtype
        equalized.network.double()  # rounded once, whatever the number of rounds
        for _ in range(self.rounds):
            for first, second in pairs:
                equalize_pair(_conv(equalized.network, first), _conv(equalized.network, second))
        equalized.network.to(kind)
        left = ", ".join(f"{count} with {name} between them" for name, count in sorted(curved.items()))
        context.log(f"equalize: {len(pairs)} pairs of convolutions" + (f"; left as they are: {left}" if left else ""))
        return equalized


def equalizable(detector: Detector) -> tuple[Detector, tuple[tuple[str, str], ...], Counter[str]]:
    """The detector with BatchNorm folded, and its `equalizable_pairs`.  Raises ValueError where there is none."""
    folded = fold_batchnorm(detector)
    pairs, curved = equalizable_pairs(folded.network, trace(folded.network, _TRACED_SIZE))
    if not pairs:
        kinds = ", ".join(sorted(curved)) or "nothing that scales along"
        raise ValueError(
            f"equalize: no pair of convolutions has only a ReLU between them (here it is {kinds}); replace the "
            "activation by relu first."
        )
    return folded, pairs, curved


def equalizable_pairs(network: nn.Module, graph: Graph) -> tuple[tuple[tuple[str, str], ...], Counter[str]]:
    """Paths of (first, second) convolution of each pair, and how many pairs each curved activation keeps apart."""
    readers = graph.consumers()
    calls = Counter(op.module for op in graph.ops if op.kind == "conv2d")
    owners = Counter(id(_conv(network, path).weight) for path in calls)  # tied weights serve several
    pairs: list[tuple[str, str]] = []
    curved: Counter[str] = Counter()
    for op in graph.ops:
        if op.kind != "conv2d":
            continue
        second, between = _following_conv(op, graph, readers)
        if second is None:
            continue
        both = (op.module, second.module)
        if any(calls[path] > 1 or owners[id(_conv(network, path).weight)] > 1 for path in both):
            continue
        if between:
            curved[between] += 1
        else:
            pairs.append(both)
    return tuple(pairs), curved


def _following_conv(first: Op, graph: Graph, readers: dict[int, list[Op]]) -> tuple[Op | None, str]:
    """The convolution that alone reads this one, channel by channel, and the curved activation between, or ""."""
    op, between = first, ""
    while True:
        value = op.outputs[0]
        following = readers.get(value, [])
        if len(op.outputs) > 1 or value in graph.results or len(following) != 1:
            return None, between
        op = following[0]
        if op.kind == "conv2d":
            return (op if op.inputs[0] == value else None), between
        if op.kind in _CURVED:
            between = op.kind
        elif op.kind not in _HOMOGENEOUS and op.kind not in _CHANNEL_BY_CHANNEL:
            return None, between


def equalize_pair(first: nn.Conv2d, second: nn.Conv2d) -> None:
    """Gives channel i of both the range sqrt(r1_i * r2_i), in place.  A channel that is 0 on one side is left."""
    scales = pair_scales(first, second).to(first.weight.dtype)
    with torch.no_grad():
        first.weight /= scales.view(-1, 1, 1, 1)
        if first.bias is not None:
            first.bias /= scales
        _by_input(second)[:] *= scales.view(second.groups, 1, -1, 1)


def pair_scales(first: nn.Conv2d, second: nn.Conv2d) -> Tensor:
    """s of each channel between two convolutions, (channels,) float64."""
    r1 = first.weight.detach().flatten(1).abs().amax(1).double()
    r2 = _by_input(second).abs().amax((1, 3)).flatten().double()
    scales = torch.sqrt(r1 * r2) / r2
    return torch.where((r1 > 0) & (r2 > 0), scales, 1.0)


def _by_input(conv: nn.Conv2d) -> Tensor:
    """The weight as (groups, outputs of a group, inputs of a group, h * w), in the same memory."""
    outputs, inputs = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    return conv.weight.detach().view(conv.groups, outputs, inputs, -1)


def _conv(network: nn.Module, path: str) -> nn.Conv2d:
    conv = network.get_submodule(path)
    assert isinstance(conv, nn.Conv2d)
    return conv
