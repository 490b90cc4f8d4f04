"""Merging parallel convolutions whose outputs are only added, exact (RepVGG, Ding 2021, arXiv 2101.03697).

    conv 3x3 (x) + conv 1x1 (x)  =  conv 3x3 (x)     with the 1x1 kernel added to the centre of the 3x3 kernel

YOLOv9 (RepConv) and v10 (RepVGGDW) train such branches.  They are found in the traced graph: a module whose whole
work is to run convolutions on its input, add them up, and perhaps apply an activation.  BatchNorm is folded first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.module_swap import plain_conv, put_module
from helmlite.detector.detector import Detector
from helmlite.detector.trace import Graph, Op, trace

_TRACED_SIZE = 64
_ACTIVATIONS = {"silu", "relu", "hardtanh", "relu6", "hardswish"}
_TOLERANCE = 1e-4  # relative


@dataclass(frozen=True)
class ParallelConvs:
    """A module that only adds up convolutions of its input.

    block: its path; convs: paths of the convolutions, the largest kernel first; activation: path of what follows, or ""
    """

    block: str
    convs: tuple[str, ...]
    activation: str


@dataclass(frozen=True)
class MergeParallelConvs:
    """Each block becomes one convolution (`<block>.conv`) and its activation (`<block>.act`)."""

    kind: ClassVar[str] = "merge_parallel_convs"
    blocks: tuple[ParallelConvs, ...]

    def redo(self, network: nn.Module) -> None:
        """Merges in place, weights included."""
        for block in self.blocks:
            put_module(network, block.block, _merged(network, block))

    def to_json(self) -> dict[str, Any]:
        return {"blocks": [{"block": b.block, "convs": list(b.convs), "activation": b.activation} for b in self.blocks]}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> MergeParallelConvs:
        return MergeParallelConvs(
            tuple(ParallelConvs(item["block"], tuple(item["convs"]), item["activation"]) for item in values["blocks"])
        )


def merge_parallel_convs(detector: Detector) -> Detector:
    """The detector with every block of parallel convolutions merged; itself where there is none.  Same answers."""
    blocks = parallel_blocks(detector.network, trace(detector.network, _TRACED_SIZE))
    if not blocks:
        return detector
    edit = MergeParallelConvs(blocks)
    merged = detector.copy()
    edit.redo(merged.network)
    return detector.edited(edit, merged.network)


def parallel_paths(detector: Detector) -> frozenset[str]:
    """Convolutions that `merge_parallel_convs` would merge once BatchNorm is folded; a change of one ends there."""
    folded = fold_batchnorm(detector)
    blocks = parallel_blocks(folded.network, trace(folded.network, _TRACED_SIZE))
    return frozenset(path for block in blocks for path in block.convs)


def parallel_blocks(network: nn.Module, graph: Graph) -> tuple[ParallelConvs, ...]:
    """The modules that can be merged, each tried out on a random input."""
    inside: dict[str, list[Op]] = {}
    for op in graph.ops:
        path = op.module
        while path:
            inside.setdefault(path, []).append(op)
            path = path.rpartition(".")[0]
    found = []
    for path, ops in inside.items():
        block = _as_block(network, path, ops)
        if block is not None and _is_equal(network, block):
            found.append(block)
    return tuple(found)


def _as_block(network: nn.Module, path: str, ops: Sequence[Op]) -> ParallelConvs | None:
    """The block, where a module's operators are convolutions of one value, their sum, and at most one activation."""
    convs = [op for op in ops if op.kind == "conv2d"]
    adds = [op for op in ops if op.kind == "add"]
    rest = [op for op in ops if op.kind not in ("conv2d", "add")]
    if len(convs) < 2 or len(adds) < len(convs) - 1 or len(rest) > 1 or any(op.kind not in _ACTIVATIONS for op in rest):
        return None
    if len({op.inputs[0] for op in convs}) > 1:
        return None
    terms = {op.outputs[0] for op in convs} | {op.outputs[0] for op in adds}
    if any(value not in terms for op in adds for value in op.inputs) or (rest and rest[0] is not ops[-1]):
        return None
    modules = [network.get_submodule(op.module) for op in convs]
    if not all(isinstance(item, nn.Conv2d) and _fits(item, modules[0]) for item in modules):
        return None
    largest_first = sorted(convs, key=lambda op: -op.input_shapes[1][-1])
    return ParallelConvs(path, tuple(op.module for op in largest_first), rest[0].module if rest else "")


def _fits(conv: nn.Conv2d, other: nn.Module) -> bool:
    """Whether both have one stride, grouping and size, and centred odd kernels."""
    assert isinstance(other, nn.Conv2d)
    same = (conv.stride, conv.groups, conv.in_channels, conv.out_channels, conv.padding_mode) == (
        other.stride, other.groups, other.in_channels, other.out_channels, other.padding_mode,
    )  # fmt: skip
    return same and _is_centred(conv) and _is_centred(other) and conv.padding_mode == "zeros"


def _is_centred(conv: nn.Conv2d) -> bool:
    return conv.dilation == (1, 1) and all(
        size % 2 == 1 and padding == size // 2 for size, padding in zip(conv.kernel_size, conv.padding)
    )


def _merged(network: nn.Module, block: ParallelConvs) -> nn.Sequential:
    convs = [network.get_submodule(path) for path in block.convs]
    host = convs[0]
    assert isinstance(host, nn.Conv2d)
    weight = torch.zeros_like(host.weight, dtype=torch.float64)
    bias = torch.zeros(host.out_channels, dtype=torch.float64)
    for conv in convs:
        assert isinstance(conv, nn.Conv2d)
        top, left = ((host.kernel_size[side] - conv.kernel_size[side]) // 2 for side in (0, 1))
        height, width = conv.kernel_size
        weight[:, :, top : top + height, left : left + width] += conv.weight.detach().double()
        if conv.bias is not None:
            bias += conv.bias.detach().double()
    made = nn.Sequential()
    made.add_module("conv", plain_conv(host, weight.to(host.weight.dtype), bias.to(host.weight.dtype)))
    if block.activation:
        made.add_module("act", network.get_submodule(block.activation))
    return made


def _is_equal(network: nn.Module, block: ParallelConvs) -> bool:
    """Whether the merged block gives what the block gives: an added constant or a skipped term would show here."""
    host = network.get_submodule(block.convs[0])
    assert isinstance(host, nn.Conv2d)
    size = 2 * host.kernel_size[0]
    pixels = torch.rand(1, host.in_channels, size, size, generator=torch.Generator().manual_seed(0)) - 0.5
    old, new = network.get_submodule(block.block), _merged(network, block)
    was_training = old.training
    with torch.no_grad():
        expected, got = old.eval()(pixels), new.eval()(pixels)
    old.train(was_training)
    return bool((expected - got).abs().max() <= _TOLERANCE * expected.abs().max().clamp(min=1e-6))
