"""Which modules of a network share one weight: what folding, clustering, quantizing and exporting must know."""

from __future__ import annotations

from torch import Tensor, nn


def shared_weights(network: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Groups of paths of modules that hold the very same `weight`, each group in the network's order."""
    paths: dict[int, list[str]] = {}
    for path, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor):
            paths.setdefault(id(weight), []).append(path)
    return tuple(tuple(group) for group in paths.values() if len(group) > 1)


def shared_paths(network: nn.Module) -> frozenset[str]:
    """The paths of all those modules."""
    return frozenset(path for group in shared_weights(network) for path in group)
