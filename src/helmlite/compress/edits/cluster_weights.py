"""The edit of weight sharing: each of these weights holds only the numbers of a small codebook.

The network keeps its modules, its parameters and their names.  It gets one more submodule, `codebooks`, with two
buffers for each clustered weight, and a hook of its own:

    index   which centroid each number is, uint8, in the weight's shape     never changes
    values  the centroids, float32

Before each forward pass in which a weight has moved, the members of each centroid are replaced by their mean, in
place.  After a step of gradient descent this is the paper's update of shared weights (Han 2016, arXiv 1510.00149,
section 3.3),

    c <- c - rate * sum over members of dL/dw        here: the mean of (c - rate * dL/dw)

up to the number of members, which is a factor of the rate.  With an optimizer that divides by a running size of each
gradient (Adam) the members' steps are normalized first and averaged then, which is not the centroid's own step.  So
whatever trains such a network trains its centroids, and leaves a codebook, also in the running mean of the weights:
the mean over time and that over members commute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from helmlite.compress.edits.mask_weights import weight_at

CODEBOOKS = "codebooks"  # name of the submodule


@dataclass(frozen=True)
class ClusterWeights:
    """Gives each of these modules' weights a codebook of so many centroids (path -> number)."""

    kind: ClassVar[str] = "cluster_weights"
    sizes: Mapping[str, int]

    def redo(self, network: nn.Module) -> None:
        """Adds the codebooks in place.  Raises ValueError where a path has no weight.

        Which centroid each number is, is state: until it is loaded or put, weights stay as they are.
        """
        shapes = {}
        for path in self.sizes:
            weight = weight_at(network, path)
            if weight is None:
                raise ValueError(f"The codebooks do not fit the network: there is no weight at '{path}'.")
            shapes[path] = weight.shape
        network.add_module(CODEBOOKS, Codebooks(self.sizes, shapes))
        network.register_forward_pre_hook(_share)

    def to_json(self) -> dict[str, Any]:
        return {"sizes": dict(self.sizes)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> ClusterWeights:
        return ClusterWeights({path: int(size) for path, size in values["sizes"].items()})


class Codebooks(nn.Module):
    """A network's centroids and which of them each weight is, as buffers, by the path of their module.

    A new one has not-a-numbers for centroids, and leaves weights alone.
    """

    def __init__(self, sizes: Mapping[str, int], shapes: Mapping[str, torch.Size]) -> None:
        super().__init__()
        self._keys = {path: path.replace(".", ":") for path in sizes}  # a buffer's name has no dots
        self._settled: dict[str, tuple[Tensor, int]] = {}
        for path, key in self._keys.items():
            self.register_buffer(f"{key}|values", torch.full((sizes[path],), torch.nan))
            self.register_buffer(f"{key}|index", torch.zeros(shapes[path], dtype=torch.uint8))

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the modules whose weights are clustered."""
        return tuple(self._keys)

    def of(self, path: str) -> tuple[Tensor, Tensor]:
        """Centroids (K,) and indices (in the weight's shape) of the module at `path`."""
        key = self._keys[path]
        return getattr(self, f"{key}|values"), getattr(self, f"{key}|index")

    def put(self, path: str, values: Tensor, index: Tensor) -> None:
        """Other centroids and indices of the same shapes, in place."""
        own_values, own_index = self.of(path)
        own_values.copy_(values)
        own_index.copy_(index)
        self._settled.pop(path, None)

    def share(self, network: nn.Module) -> None:
        """Replaces each centroid's members by their mean, in place, wherever a weight has moved since the last time."""
        for path in self._keys:
            weight = weight_at(network, path)
            assert weight is not None
            settled = self._settled.get(path)
            if settled is None or settled[0] is not weight or settled[1] != weight._version:
                self._share_one(path, weight)
                self._settled[path] = (weight, weight._version)

    def _share_one(self, path: str, weight: Tensor) -> None:
        values, index = self.of(path)
        if bool(values.isnan().any()):
            return
        with torch.no_grad():
            numbers = index.flatten().long()
            values.copy_(member_means(weight.flatten(), numbers, values))
            weight.copy_(values[numbers].view(weight.shape))

    def __getstate__(self) -> dict[str, Any]:
        """Without what was seen of the weights: a copied network has tensors of its own, which count anew."""
        return {**self.__dict__, "_settled": {}}


def member_means(weights: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """The mean of each centroid's members (K,); one without members stays, and a centroid 0 stays 0.

    Summed in float64: a mean of equal float32 numbers is that number, bit for bit.
    weights: (N,) float32; index: (N,) int64; values: (K,), the centroids so far

    >>> member_means(torch.tensor([1.0, 2.0, 6.0, 5.0]), torch.tensor([0, 0, 1, 2]), torch.tensor([9.0, 9.0, 0.0, 7.0]))
    tensor([1.5000, 6.0000, 0.0000, 7.0000])
    """
    count = len(values)
    members = torch.bincount(index, minlength=count)
    sums = torch.bincount(index, weights.double(), minlength=count)
    means = (sums / members.clamp(min=1)).to(values.dtype)
    return torch.where((members > 0) & (values != 0), means, values)


def codebooks_of(network: nn.Module) -> Codebooks:
    """The codebooks of a network that has been through ClusterWeights.  Raises ValueError for any other."""
    found = getattr(network, CODEBOOKS, None)
    if not isinstance(found, Codebooks):
        raise ValueError("The network's weights are not clustered.")
    return found


def settle_codebooks(network: nn.Module) -> None:
    """Brings the weights of a network to its codebooks, in place; does nothing where it has none."""
    if getattr(network, CODEBOOKS, None) is not None:
        codebooks_of(network).share(network)


def codebook_bits(values: int) -> int:
    """Bits of an index into a codebook of so many values, at least 1."""
    return max(int(np.ceil(np.log2(values))), 1)


def _share(network: nn.Module, given: Any) -> None:
    """Before each forward pass.  A plain function of the network that it is called for, so that copies use their own.

    An exporter's trace must not see this done: whoever exports settles the codebooks first.
    """
    if torch._C._get_tracing_state() is None:
        with torch._C.DisableTorchFunction():  # nor must `detector.trace`
            codebooks_of(network).share(network)
