"""Magnitude masks: which single weights are small enough to go.

    unstructured   the smallest of each convolution, or of all of them together (Han 2015, arXiv 1506.02626)
    N:M            the N largest of each M neighbours along the input channels (Zhou 2021, arXiv 2102.04010; Mishra
                   2021, arXiv 2104.08378, for the kernels that need 2:4)

This is what the pruning that most articles show amounts to: zeros in the same shapes.  The file stays as large and
every runtime as slow; only a compressed download shrinks.  See docs/pruning-by-magnitude.md.  To make a detector
smaller and faster, use `Prune`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def smallest_go(weights: Sequence[Tensor], share: float) -> tuple[Tensor, ...]:
    """One mask for each weight: the smallest go, of all of them together.

    share: of all numbers in `weights`, in [0, 1); the count is rounded.  What is as small as the last that goes, goes
    too, so that zeros always do.

    >>> smallest_go([torch.tensor([1.0, -5.0]), torch.tensor([-2.0, 3.0])], 0.5)
    (tensor([False,  True]), tensor([False,  True]))
    """
    sizes = [weight.detach().abs() for weight in weights]
    together = torch.cat([size.flatten() for size in sizes])
    count = round(share * together.numel())
    if count == 0:
        return tuple(torch.ones_like(size, dtype=torch.bool) for size in sizes)
    limit = together.kthvalue(count).values
    return tuple(size > limit for size in sizes)


def n_of_m_mask(weight: Tensor, kept: int, of: int) -> Tensor:
    """The mask of (out, in, h, w) that keeps the `kept` largest of every `of` neighbouring input channels.

    Of equally large ones the first stay.  `of` must divide the number of input channels.
    """
    moved = weight.detach().abs().movedim(1, -1)
    blocks = moved.reshape(*moved.shape[:-1], -1, of)  # (out, h, w, in / of, of)
    largest = blocks.argsort(dim=-1, descending=True, stable=True)[..., :kept]
    mask = torch.zeros_like(blocks, dtype=torch.bool).scatter_(-1, largest, True)
    return mask.flatten(-2).movedim(-1, 1)


def masked(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Sets the weights that the masks give up to zero, in place."""
    with torch.no_grad():
        for path, mask in masks.items():
            weight = network.get_submodule(path).weight
            assert isinstance(weight, Tensor)
            weight.masked_fill_(mask.logical_not(), 0.0)


def sparsity(network: nn.Module) -> float:
    """Share of the convolutions' weights that are exactly zero, in [0, 1]."""
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros / max(sum(weight.numel() for weight in weights), 1)
