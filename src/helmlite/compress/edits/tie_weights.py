"""The edit of tied weights: several convolutions use one kernel, each with a BatchNorm of its own.

A BatchNorm takes up any scale of its convolution's output channels, sign included.  With y = f y' for one channel,

    gamma (y - mean) / sqrt(var + eps) + beta  =  gamma' (y' - mean / f) / sqrt(var / f^2 + eps) + beta
    gamma' = gamma f sqrt(var / f^2 + eps) / sqrt(var + eps)

so kernels are first brought to one norm for each output channel, with the sign that makes every gamma' positive, which
changes no answer, and then replaced by their mean, at that same norm.  Kernels that differ by the scale of their
channels alone are tied without loss.  Where no BatchNorm follows, the kernel is the plain mean; biases are each layer's
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

_LEAST_FACTOR = 1e-6  # a dead channel stays as good as dead


@dataclass(frozen=True)
class TiedConv:
    """A convolution and the BatchNorm that alone reads it; norm is "" where there is none."""

    conv: str
    norm: str


@dataclass(frozen=True)
class TieWeights:
    """The convolutions of each group share one kernel from now on."""

    kind: ClassVar[str] = "tie_weights"
    groups: tuple[tuple[TiedConv, ...], ...]

    def redo(self, network: nn.Module) -> None:
        """Ties in place, weights included.  Raises ValueError where shapes differ."""
        for group in self.groups:
            convs = [_conv(network, member.conv) for member in group]
            if len({conv.weight.shape for conv in convs}) != 1:
                raise ValueError(f"The tied convolutions {', '.join(item.conv for item in group)} differ in shape.")
            kernel, factors = shared_kernel(*kernels_and_gammas(network, group))
            for member, factor in zip(group, factors):
                if member.norm:
                    _take_up(network.get_submodule(member.norm), factor)
            shared = nn.Parameter(kernel.to(convs[0].weight.dtype), requires_grad=convs[0].weight.requires_grad)
            for conv in convs:
                conv.weight = shared

    def to_json(self) -> dict[str, Any]:
        return {"groups": [[[item.conv, item.norm] for item in group] for group in self.groups]}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> TieWeights:
        return TieWeights(tuple(tuple(TiedConv(conv, norm) for conv, norm in group) for group in values["groups"]))


def kernels_and_gammas(network: nn.Module, group: Sequence[TiedConv]) -> tuple[list[Tensor], list[Tensor] | None]:
    """The kernels (O, I, h, w) of a group, and the scales (O,) of its BatchNorms; None where it has none."""
    kernels = [_conv(network, member.conv).weight.detach() for member in group]
    norms = [network.get_submodule(member.norm) for member in group if member.norm]
    gammas = [norm.weight.detach() for norm in norms if isinstance(norm, nn.BatchNorm2d)]
    return kernels, gammas if len(gammas) == len(kernels) else None


def shared_kernel(kernels: Sequence[Tensor], gammas: Sequence[Tensor] | None) -> tuple[Tensor, Tensor]:
    """What takes the place of M kernels (O, I, h, w), in float64, and the factor (M, O) of each in it.

    A factor is what the BatchNorm behind has to take up: kernel of a member = factor * shared kernel, where they agree.
    """
    stacked = torch.stack([kernel.double() for kernel in kernels])  # (M, O, I, h, w)
    rows = stacked.flatten(2)  # (M, O, K)
    if gammas is None:
        return stacked.mean(0), torch.ones(rows.shape[:2], dtype=torch.float64)
    norms = rows.norm(dim=2)
    common = norms.mean(0)  # (O,)
    sizes = torch.where(common > 0, norms / common, 1.0).clamp(min=_LEAST_FACTOR)
    factors = torch.where(torch.stack(list(gammas)) < 0, -sizes, sizes)
    mean = (rows / factors[:, :, None]).mean(0)  # (O, K)
    length = mean.norm(dim=1)
    mean *= torch.where(length > 0, common / length, 1.0)[:, None]
    return mean.view(stacked.shape[1:]), factors


def distances(kernels: Sequence[Tensor], gammas: Sequence[Tensor] | None) -> Tensor:
    """How far each member is from the shared kernel: 1 - cosine, 0 for the same direction, 1 for unrelated ones.  (M,)

    Channels count by their norm after alignment; kernels without a BatchNorm are compared as they are.
    """
    kernel, factors = shared_kernel(kernels, gammas)
    aligned = torch.stack([item.double() for item in kernels]).flatten(2) / factors[:, :, None]
    return 1 - torch.nn.functional.cosine_similarity(aligned.flatten(1), kernel.flatten()[None], dim=1)


def _conv(network: nn.Module, path: str) -> nn.Conv2d:
    conv = network.get_submodule(path)
    assert isinstance(conv, nn.Conv2d)
    return conv


def _take_up(norm: nn.Module, factor: Tensor) -> None:
    """Makes a BatchNorm give for y / factor what it gave for y, in place.  factor: (C,) float64"""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    mean, var = norm.running_mean.double(), norm.running_var.double()
    scaled = var / factor.square()
    with torch.no_grad():
        norm.weight.copy_(norm.weight.double() * factor * ((scaled + norm.eps) / (var + norm.eps)).sqrt())
        norm.running_mean.copy_(mean / factor)
        norm.running_var.copy_(scaled)
