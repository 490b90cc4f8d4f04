"""Folding BatchNorm into the convolution before it, exact in evaluation mode.

    gamma * (W x + b - mean) / sqrt(var + eps) + beta  =  (s W) x + (s (b - mean) + beta),   s = gamma / sqrt(var + eps)

The pairs are found in the traced graph, never by names: a convolution whose output only that BatchNorm reads.
Branches that only training runs (one-to-many heads) are not in the graph and keep their BatchNorm, and so do
convolutions that share their weight: each has another scale, and folding would give each a weight of its own again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from helmlite.compress.edits.module_swap import plain_conv, put_module
from helmlite.compress.edits.shared_weights import shared_paths
from helmlite.detector.detector import Detector
from helmlite.detector.trace import Graph, trace

_TRACED_SIZE = 64  # pixels; what follows what does not depend on it


@dataclass(frozen=True)
class FoldBatchNorm:
    """Each BatchNorm goes into its convolution and becomes an identity.

    pairs: (path of the convolution, path of the BatchNorm)
    """

    kind: ClassVar[str] = "fold_batchnorm"
    pairs: tuple[tuple[str, str], ...]

    def redo(self, network: nn.Module) -> None:
        """Folds in place, weights included."""
        for conv_path, norm_path in self.pairs:
            conv, norm = network.get_submodule(conv_path), network.get_submodule(norm_path)
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            put_module(network, conv_path, folded_conv(conv, norm))
            put_module(network, norm_path, nn.Identity())

    def to_json(self) -> dict[str, Any]:
        return {"pairs": [list(pair) for pair in self.pairs]}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> FoldBatchNorm:
        return FoldBatchNorm(tuple((conv, norm) for conv, norm in values["pairs"]))


def fold_batchnorm(detector: Detector) -> Detector:
    """The detector with every foldable BatchNorm folded; itself where there is none.  Same answers in evaluation."""
    pairs = foldable_pairs(detector.network, trace(detector.network, _TRACED_SIZE))
    if not pairs:
        return detector
    edit = FoldBatchNorm(pairs)
    folded = detector.copy()
    edit.redo(folded.network)
    return detector.edited(edit, folded.network)


def foldable_pairs(network: nn.Module, graph: Graph) -> tuple[tuple[str, str], ...]:
    """(convolution path, BatchNorm path) wherever the BatchNorm alone reads the convolution and both run once.

    The convolution's weight is its own: one that other modules share cannot be folded into.
    """
    shared = shared_paths(network)
    return tuple((conv, norm) for conv, norm in _pairs(network, graph) if conv not in shared)


def norms_of_shared(network: nn.Module, graph: Graph) -> tuple[tuple[str, str], ...]:
    """The pairs that cannot be folded, since the convolution shares its weight."""
    shared = shared_paths(network)
    return tuple((conv, norm) for conv, norm in _pairs(network, graph) if conv in shared)


def _pairs(network: nn.Module, graph: Graph) -> list[tuple[str, str]]:
    producers, consumers = graph.producers(), graph.consumers()
    calls = Counter((op.module, op.kind) for op in graph.ops)
    pairs = []
    for norm_op in graph.ops:
        if norm_op.kind != "batch_norm":
            continue
        value = norm_op.inputs[0]
        conv_op = producers.get(value)
        if conv_op is None or conv_op.kind != "conv2d" or value in graph.results or consumers[value] != [norm_op]:
            continue
        conv, norm = network.get_submodule(conv_op.module), network.get_submodule(norm_op.module)
        runs_once = calls[conv_op.module, "conv2d"] == calls[norm_op.module, "batch_norm"] == 1
        if runs_once and isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
            pairs.append((conv_op.module, norm_op.module))
    return pairs


def folded_conv(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A new convolution that does both, computed in float64."""
    mean, var = _float64(norm.running_mean, 0, norm), _float64(norm.running_var, 1, norm)
    gamma, beta = _float64(norm.weight, 1, norm), _float64(norm.bias, 0, norm)
    scale = gamma / torch.sqrt(var + norm.eps)
    weight = conv.weight.detach().double() * scale[:, None, None, None]
    bias = (_float64(conv.bias, 0, norm) - mean) * scale + beta
    return plain_conv(conv, weight.to(conv.weight.dtype), bias.to(conv.weight.dtype))


def _float64(values: Tensor | None, default: float, norm: nn.BatchNorm2d) -> Tensor:
    if values is None:
        return torch.full((norm.num_features,), default, dtype=torch.float64)
    return values.detach().double()
