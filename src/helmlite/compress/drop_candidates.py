"""Which blocks of a network could be left out: those that an identity can stand in for.

A block is a module that takes one tensor and gives one of the same shape, runs once for a picture and has
convolutions inside.  It is an entry of a list of layers (nn.Sequential, nn.ModuleList), or has at least two
convolutions: a lone convolution that a module calls by name is a part of that module, not a block.

Of modules that do the same (a list with one entry, and that entry) the outermost counts.  Blocks may lie inside each
other: a residual block inside its stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from helmlite.detector.device import device_of

_SIZE = 64  # pixels: the smallest picture that all strides and attention areas divide


@dataclass(frozen=True)
class BlockCandidate:
    """A block that could be an identity.  shape: of its input and output for one small picture, without the batch"""

    path: str
    shape: tuple[int, ...]
    convolutions: int


def block_candidates(network: nn.Module) -> tuple[BlockCandidate, ...]:
    """The blocks that could be left out, outer before inner, in the order in which they stand in the network.

    Of branches that only training runs there are none.  The network is left as it was.
    """
    calls = _Calls(network)
    found: list[BlockCandidate] = []
    effects: set[tuple[int, int]] = set()
    entries = {
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        if isinstance(module, (nn.Sequential, nn.ModuleList))
        for name, _ in module.named_children()
    }
    for path, module in network.named_modules():
        convolutions = sum(isinstance(item, nn.Conv2d) for item in module.modules())
        is_block = convolutions >= 2 or (path in entries and convolutions >= 1)
        effect = calls.effect.get(path)
        if isinstance(module, nn.Conv2d) or not is_block or calls.count[path] != 1 or effect is None:
            continue
        if effect[0] != effect[1] and effect not in effects:  # else it is an identity already, or one as its parent
            effects.add(effect)
            found.append(BlockCandidate(path, calls.shape[path], convolutions))
    return tuple(found)


class _Calls:
    """One forward pass, watched.  count: calls of each module;  effect: numbers of its input and output tensor"""

    def __init__(self, network: nn.Module) -> None:
        self.count: Counter[str] = Counter()
        self.effect: dict[str, tuple[int, int]] = {}
        self.shape: dict[str, tuple[int, ...]] = {}
        self._alive: list[Tensor] = []  # so that no id is used twice
        handles = [
            module.register_forward_hook(self._watch(path), with_kwargs=True)
            for path, module in network.named_modules()
            if module is not network
        ]
        was_training = network.training
        network.eval()
        try:
            with torch.no_grad():
                network(torch.zeros(1, 3, _SIZE, _SIZE, device=device_of(network)))
        finally:
            network.train(was_training)
            for handle in handles:
                handle.remove()

    def _watch(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], made: Any) -> None:
            self.count[path] += 1
            if len(given) != 1 or named or not isinstance(given[0], Tensor) or not isinstance(made, Tensor):
                return
            self._alive += [given[0], made]
            if given[0].shape == made.shape and given[0].dtype == made.dtype:
                self.effect[path] = id(given[0]), id(made)
                self.shape[path] = tuple(made.shape[1:])

        return hook
