"""Weight sharing by clustering, the second step of Deep Compression (Han 2016, arXiv 1510.00149).

Each convolution keeps 2^b numbers, found by k-means over its weights (kmeans.py), and for each weight the index of
one of them.  n weights then take

    n b + 32 * 2^b   bits instead of   32 n

and less where some centroids are more frequent than others (the paper's third step, Huffman coding).  That is a
smaller download (runtime/packing.py packs a bundle and restores it bit for bit): the file that a runtime loads holds
the same numbers unpacked, as large and as fast as before.

BatchNorm is folded first: folded later, it would multiply each output channel by a number of its own and leave no
codebook.  Training afterwards (`distill`) moves the centroids and never the assignment, as in the paper's section 3.3
(cluster_weights.py).  Weights that a mask has set to zero stay zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from helmlite.compress.edits.cluster_weights import ClusterWeights, codebook_bits, codebooks_of
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.mask_weights import has_masks, masks_of
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.kernels.kmeans import codebook_for, nearest
from helmlite.compress.order import check_follows
from helmlite.compress.paths import check_path_list, check_paths, is_below
from helmlite.compress.technique import Context
from helmlite.detector.detector import Detector
from helmlite.detector.trace import trace

BITS = range(1, 9)
_TRACED_SIZE = 64  # pixels; which convolutions run does not depend on it
_SPARSE = 0.01  # share of exact zeros from which on 0 is a centroid of its own


@dataclass(frozen=True)
class Cluster:
    """A codebook of 2^bits numbers for the weights of each convolution.

    bits:      of an index, 1 to 8: 5 gives 32 centroids
    head_bits: the same for the convolutions that give the raw maps, which errors reach undamped; None means `bits`
    keep:      paths; convolutions at or below them keep their weights

    Only convolutions that ship are clustered: branches that only training runs (of v10 and 26) stay as they are.
    """

    name: ClassVar[str] = "cluster"
    bits: int = 5
    head_bits: int | None = 8
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, bits in {"bits": self.bits, "head_bits": self.head_bits}.items():
            if bits is not None and bits not in BITS:
                raise ValueError(f"cluster: {name} must lie between 1 and 8; got {bits}.")
        check_path_list(self.name, "keep", self.keep)

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with folded BatchNorm and clustered weights.

        Raises ValueError for a path in `keep` that is not there and where no convolution is left,
        TechniqueOrderError where its weights lie on a grid or a codebook already.
        """
        check_follows(self.name, detector)
        check_paths(self.name, "keep", detector.network, self.keep)
        folded = merge_parallel_convs(fold_batchnorm(detector))
        codebooks = {path: self._codebook(folded.network, path, bits) for path, bits in self._bits(folded).items()}
        edit = ClusterWeights({path: len(values) for path, (values, _) in codebooks.items()})
        changed = folded.copy()
        signal, noise = _put(changed.network, edit, codebooks)
        context.log(_told(codebooks, signal, noise))
        return folded.edited(edit, changed.network)

    def _bits(self, folded: Detector) -> dict[str, int]:
        """The convolutions to cluster, a shared weight once, and the bits of each."""
        network, graph = folded.network, trace(folded.network, _TRACED_SIZE)
        bits: dict[str, int] = {}
        seen: set[int] = set()
        for op in graph.ops:
            if op.kind != "conv2d" or is_below(op.module, self.keep):
                continue
            module = network.get_submodule(op.module)
            if isinstance(module, nn.Conv2d) and id(module.weight) not in seen:
                seen.add(id(module.weight))
                gives_maps = any(value in graph.results for value in op.outputs)
                bits[op.module] = (self.head_bits or self.bits) if gives_maps else self.bits
        if not bits:
            raise ValueError("cluster: no convolution is left to cluster; name fewer in keep.")
        return bits

    def _codebook(self, network: nn.Module, path: str, bits: int) -> tuple[Tensor, Tensor]:
        """Centroids (K,) and indices in the weight's shape."""
        weight = network.get_submodule(path).weight
        assert isinstance(weight, Tensor)
        numbers = weight.detach().numpy()
        keep_zero = _has_given_up(network, path) or bool(np.mean(numbers == 0) >= _SPARSE)
        values = codebook_for(numbers, 2**bits, keep_zero=keep_zero)
        return torch.from_numpy(values), torch.from_numpy(nearest(numbers, values))


def _has_given_up(network: nn.Module, path: str) -> bool:
    """Whether a mask keeps some of the convolution's weights at zero."""
    masks = masks_of(network) if has_masks(network) else None
    return masks is not None and path in masks.paths and not bool(masks.of(path).all())


def _put(network: nn.Module, edit: ClusterWeights, codebooks: dict[str, tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Makes the edit and sets the weights, in place; gives the sums of squares of the weights and of their change."""
    before = {path: network.get_submodule(path).weight for path in codebooks}
    kept = {path: weight.detach().clone() for path, weight in before.items() if isinstance(weight, Tensor)}
    edit.redo(network)
    own = codebooks_of(network)
    for path, (values, index) in codebooks.items():
        own.put(path, values, index)
    own.share(network)
    signal = noise = 0.0
    for path, weight in kept.items():
        now = network.get_submodule(path).weight
        assert isinstance(now, Tensor)
        signal += float(weight.double().square().sum())
        noise += float((now.detach().double() - weight.double()).square().sum())
    return signal, noise


def _told(codebooks: dict[str, tuple[Tensor, Tensor]], signal: float, noise: float) -> str:
    numbers = sum(index.numel() for _, index in codebooks.values())
    bits = sum(index.numel() * codebook_bits(len(values)) + 32 * len(values) for values, index in codebooks.values())
    loss = "without loss" if noise == 0 else f"{10 * math.log10(signal / noise):.1f} dB above their error"
    return (
        f"cluster: {numbers} weights of {len(codebooks)} layers, {loss}; as codebooks and indices "
        f"{numbers * 4 / 1e6:.2f} MB become {bits / 8e6:.2f} MB (helmlite pack); the files that runtimes load "
        "keep their size, and their speed"
    )
