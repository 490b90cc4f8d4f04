"""Unstructured magnitude masks: which single weights lie below a percentile of all weights.

This is what the pruning that most articles show amounts to (Han 2015, arXiv 1506.02626, without its retraining): zeros
in the same shapes.  The file stays as large and every runtime as slow; only a compressed download shrinks.  See
docs/pruning-by-magnitude.md.  To make a detector smaller and faster, use `Prune`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def magnitude_masks(network: nn.Module, pruning_rate: float) -> dict[str, Tensor]:
    """For each convolution, by path, a boolean mask of its weights: True stays, False is small enough to go.

    pruning_rate: share of the weights of *each* convolution that go, in [0, 1): those whose magnitude is below that
    percentile.  Neither BatchNorm nor biases are touched.
    Raises ValueError for a rate outside [0, 1).
    """
    if not 0 <= pruning_rate < 1:
        raise ValueError(f"pruning_rate is a share in [0, 1); got {pruning_rate}.")
    masks = {}
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            sizes = module.weight.detach().abs()
            masks[path] = sizes >= torch.quantile(sizes.flatten().double(), pruning_rate).to(sizes.dtype)
    return masks


def masked(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Sets the weights that the masks give up to zero, in place."""
    with torch.no_grad():
        for path, mask in masks.items():
            weight = network.get_submodule(path).weight
            assert isinstance(weight, Tensor)
            weight.mul_(mask)


def sparsity(network: nn.Module) -> float:
    """Share of the convolutions' weights that are exactly zero, in [0, 1]."""
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros / max(sum(weight.numel() for weight in weights), 1)
