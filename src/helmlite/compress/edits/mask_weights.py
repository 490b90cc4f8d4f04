"""The edit of sparsity: single weights of these convolutions are zero, and training keeps them so.

The network keeps its modules, its parameters and their names.  It gets one more submodule, `masks`, with a boolean
buffer for each masked weight (True: it stays), and a hook of its own: before each forward pass the weights that are
given up are set to zero, and while it trains their gradients are zero too.  So whatever trains such a network (`fit`
with any objective) leaves exact zeros, in the weights and in their running mean.

A convolution that a later step replaces (a folded BatchNorm) is found again by its path; one that is merged away has
no mask any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

MASKS = "masks"  # name of the submodule


@dataclass(frozen=True)
class MaskWeights:
    """Gives each of these convolutions a mask of its weights' shape.  Which weights stay is state: all, at first."""

    kind: ClassVar[str] = "mask_weights"
    paths: tuple[str, ...]

    def redo(self, network: nn.Module) -> None:
        """Adds the masks in place.  Raises ValueError where a path has no weight."""
        shapes = {}
        for path in self.paths:
            weight = weight_at(network, path)
            if weight is None:
                raise ValueError(f"The masks do not fit the network: there is no weight at '{path}'.")
            shapes[path] = weight.shape
        network.add_module(MASKS, Masks(shapes))
        network.register_forward_pre_hook(_keep)

    def to_json(self) -> dict[str, Any]:
        return {"paths": list(self.paths)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> MaskWeights:
        return MaskWeights(tuple(values["paths"]))


class Masks(nn.Module):
    """Which weights of a network stay, as boolean buffers, by the path of their convolution."""

    def __init__(self, shapes: Mapping[str, torch.Size]) -> None:
        super().__init__()
        self._keys = {path: path.replace(".", ":") for path in shapes}  # a buffer's name has no dots
        self._watched: dict[str, tuple[Tensor, torch.utils.hooks.RemovableHandle]] = {}
        for path, shape in shapes.items():
            self.register_buffer(self._keys[path], torch.ones(shape, dtype=torch.bool))

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def of(self, path: str) -> Tensor:
        """The mask of the convolution at `path`: True where a weight stays."""
        mask: Tensor = getattr(self, self._keys[path])
        return mask

    def put(self, masks: Mapping[str, Tensor]) -> None:
        """Other masks of the same shapes, in place."""
        for path, mask in masks.items():
            self.of(path).copy_(mask)

    def zero(self, network: nn.Module) -> None:
        """Sets what is given up to zero, in place.  (Not by a product, which would leave -0 and not a number.)"""
        with torch.no_grad():
            for path in self._keys:
                weight = weight_at(network, path)
                if weight is not None:
                    weight.masked_fill_(self.of(path).logical_not(), 0.0)

    def watch(self, network: nn.Module) -> None:
        """Makes the gradients of what is given up zero, so that no optimizer moves it."""
        for path in self._keys:
            weight = weight_at(network, path)
            known = self._watched.get(path)
            if weight is None or not weight.requires_grad or (known is not None and known[0] is weight):
                continue
            if known is not None:
                known[1].remove()
            self._watched[path] = (weight, weight.register_hook(self._without_gradient(path)))  # type: ignore[no-untyped-call]

    def _without_gradient(self, path: str) -> Callable[[Tensor], Tensor]:
        return lambda gradient: gradient.masked_fill(self.of(path).logical_not(), 0.0)

    def __getstate__(self) -> dict[str, Any]:
        """Without the hooks on gradients: a copied network has parameters of its own, which have none yet."""
        return {**self.__dict__, "_watched": {}}


def has_masks(network: nn.Module) -> bool:
    """Whether weights of the network are kept at zero."""
    return isinstance(getattr(network, MASKS, None), Masks)


def masks_of(network: nn.Module) -> Masks:
    """The masks of a network that has been through MaskWeights.  Raises ValueError for any other."""
    found = getattr(network, MASKS, None)
    if not isinstance(found, Masks):
        raise ValueError("The network has no masks.")
    return found


def weight_at(network: nn.Module, path: str) -> Tensor | None:
    """The weight of the module at `path`; None where there is no such module, or it has none."""
    module: Any = network
    for name in path.split("."):
        module = getattr(module, name, None)
    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, Tensor) else None


def _keep(network: nn.Module, given: Any) -> None:
    """Before each forward pass.  A plain function of the network that it is called for, so that copies use their own.

    An exporter's trace holds the weights as they are, zeros included, and must not see this done.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return
    masks = masks_of(network)
    with torch._C.DisableTorchFunction():  # nor must `detector.trace`
        masks.zero(network)
        if network.training and torch.is_grad_enabled():
            masks.watch(network)
