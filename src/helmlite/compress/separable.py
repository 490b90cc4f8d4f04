"""Depthwise-separable replacement: a dense h x w convolution becomes a depthwise and a pointwise one.

    (out, in, h, w)  ->  depthwise (in * m, 1, h, w), pointwise (out, in * m, 1, 1)

MobileNet (Howard 2017, arXiv 1704.04861) trains such pairs from the start.  Here they start from the dense kernel: for
each input channel c the matrix W[:, c] of (out, h * w) is replaced by the best of rank m (decompositions.separable),
so that what the layer has learned stays as far as the form allows (Guo 2018, "Network Decoupling", arXiv 1808.05517,
section 3, has the theorem).  With rank m = 1 a 3 x 3 layer costs about a ninth, and its error is large: fine-tune
afterwards (`distill`).  Between the two stands nothing; BatchNorm and activation behind the layer stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from helmlite.compress.kernels.conv_chain import (
    DenseConv,
    Link,
    correct_statistics,
    dense_convs,
    link_like,
    put_chain,
    set_kernels,
    slower_chains,
    told,
)
from helmlite.compress.kernels.decompositions import separable, separable_errors
from helmlite.compress.order import check_follows
from helmlite.compress.paths import check_paths, is_below
from helmlite.compress.technique import Context
from helmlite.detector.detector import Detector
from helmlite.detector.macs import count_macs


@dataclass(frozen=True)
class Separable:
    """Splits dense h x w convolutions of stride 1 or 2 into a depthwise and a pointwise one.

    only:       paths; only convolutions at or below them are split.  () means all
    keep:       paths; convolutions at or below them stay
    rank:       filters for each input channel (m)
    min_width:  layers with fewer input or output channels stay
    max_error:  relative error |W' - W| / |W| above which a layer stays; None: any error goes
    macs_ratio: stop once the whole network's multiply-accumulates after / before are down to this, in (0, 1): layers
                with the least squared relative error for what they save go first.  None: all go
    images:     pictures of the train split for BatchNorm statistics
    A layer that a clock for the target finds slower as a pair stays.
    """

    name: ClassVar[str] = "separable"
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    rank: int = 1
    min_width: int = 32
    max_error: float | None = None
    macs_ratio: float | None = None
    images: int = 32

    def __post_init__(self) -> None:
        if self.rank < 1 or self.min_width < 1 or self.images < 1:
            raise ValueError(
                f"separable: rank, min_width and images must be at least 1; "
                f"got {self.rank}, {self.min_width} and {self.images}."
            )
        if self.max_error is not None and not self.max_error > 0:
            raise ValueError(f"separable: max_error must be above 0; got {self.max_error}.")
        if self.macs_ratio is not None and not 0 < self.macs_ratio < 1:
            raise ValueError(f"separable: macs_ratio must lie between 0 and 1 (both excluded); got {self.macs_ratio}.")

    @property
    def measures_target(self) -> bool:
        """Whether a pair is faster than its layer is measured where there is a clock."""
        return True

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with separable convolutions.

        Raises ValueError where no layer can be split or macs_ratio cannot be reached, TechniqueOrderError after
        sparsity, tied layers, clustering or quantization.
        """
        check_follows(self.name, detector)
        for setting, paths in (("only", self.only), ("keep", self.keep)):
            check_paths(self.name, setting, detector.network, paths)
        layers, left = dense_convs(detector, context.input_size, self.keep)
        candidates, errors = self._candidates(layers, left)
        slower = self._slower(detector, candidates, context)
        if slower:
            left["slower as a pair"] += len(slower)
        faster = {path: layer for path, layer in candidates.items() if path not in slower}
        chosen = self._within_budget(detector, faster, errors, context)
        left["not needed"] += len(faster) - len(chosen)
        if not chosen:
            raise ValueError(f"separable: there is no convolution to split (left: {told(left)}).")
        changed = self._split(detector, chosen)
        correct_statistics(detector, changed, self.images, context)
        saved = sum(self._saving(layer) for layer in chosen.values())
        ratio = 1 - saved / count_macs(detector.network, context.input_size)
        mean = sum(errors[path] for path in chosen) / len(chosen)
        context.log(
            f"separable: {len(chosen)} convolutions split with a relative error of {mean**0.5:.2f}, {ratio:.1%} of the "
            f"multiply-accumulates left; left as they were: {told(left)}; fine-tune afterwards"
        )
        return changed

    def _candidates(
        self, layers: Mapping[str, DenseConv], left: Counter[str]
    ) -> tuple[dict[str, DenseConv], dict[str, float]]:
        """What may be split, and the relative squared error that it costs.  left: counts the others."""
        found, errors = {}, {}
        for path, layer in layers.items():
            reason = self._why_not(layer)
            if not reason:
                behind = separable_errors(layer.conv.weight)
                errors[path] = float(behind[min(self.rank, len(behind) - 1)])
                if self.max_error is not None and errors[path] > self.max_error**2:
                    reason = "above max_error"
            if reason:
                left[reason] += 1
            else:
                found[path] = layer
        return found, errors

    def _why_not(self, layer: DenseConv) -> str:
        conv = layer.conv
        if self.only and not is_below(layer.path, self.only):
            return "not named"
        if conv.kernel_size == (1, 1):
            return "pointwise"
        if max(link_like(conv).stride) > 2:
            return "of a larger stride"
        if min(conv.in_channels, conv.out_channels) < self.min_width:
            return f"below {self.min_width} channels"
        links = links_of(conv, self.rank)
        is_cheaper = layer.macs_of(links) < layer.macs and sum(link.weights for link in links) < layer.weights
        return "" if is_cheaper else "no cheaper"

    def _slower(self, detector: Detector, candidates: Mapping[str, DenseConv], context: Context) -> set[str]:
        if context.layer_clock is None or not candidates:
            return set()
        return slower_chains(detector, self._split(detector, candidates), dict.fromkeys(candidates, 2), context)

    def _within_budget(
        self, detector: Detector, layers: Mapping[str, DenseConv], errors: Mapping[str, float], context: Context
    ) -> dict[str, DenseConv]:
        """The layers to split, least squared error for each multiply-accumulate saved first."""
        if self.macs_ratio is None:
            return dict(layers)
        savings = {path: self._saving(layer) for path, layer in layers.items()}
        before = count_macs(detector.network, context.input_size)
        if sum(savings.values()) < (1 - self.macs_ratio) * before:
            raise ValueError(
                f"separable: macs_ratio {self.macs_ratio} cannot be reached; {1 - sum(savings.values()) / before:.0%} "
                "of the MACs remain when every layer that may be split is. Ask for a higher ratio."
            )
        chosen: set[str] = set()
        saved = 0
        for path in sorted(layers, key=lambda path: errors[path] / savings[path]):
            if saved >= (1 - self.macs_ratio) * before:
                break
            chosen.add(path)
            saved += savings[path]
        return {path: layer for path, layer in layers.items() if path in chosen}

    def _saving(self, layer: DenseConv) -> int:
        """Multiply-accumulates that go when a layer is split."""
        return layer.macs - layer.macs_of(links_of(layer.conv, self.rank))

    def _split(self, detector: Detector, chosen: Mapping[str, DenseConv]) -> Detector:
        edit = SplitDepthwise(dict.fromkeys(chosen, self.rank))
        changed = detector.copy()
        edit.redo(changed.network)
        for path, layer in chosen.items():
            set_kernels(changed.network, path, separable(layer.conv.weight, (self.rank,)))
        return detector.edited(edit, changed.network)


@dataclass(frozen=True)
class SplitDepthwise:
    """Each convolution becomes a depthwise and a pointwise one.

    layers: path -> filters for each input channel; stride, padding and dilation are those of the convolution there
    """

    kind: ClassVar[str] = "split_depthwise"
    layers: Mapping[str, int]

    def redo(self, network: nn.Module) -> None:
        """Puts pairs of the right shapes in, in place.  Their kernels are weights and come afterwards."""
        for path, rank in self.layers.items():
            conv = network.get_submodule(path)
            assert isinstance(conv, nn.Conv2d)
            put_chain(network, path, links_of(conv, rank))

    def to_json(self) -> dict[str, Any]:
        return {"layers": dict(self.layers)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> SplitDepthwise:
        return SplitDepthwise({path: int(rank) for path, rank in values["layers"].items()})


def links_of(conv: nn.Conv2d, rank: int) -> tuple[Link, Link]:
    """The depthwise and the pointwise link."""
    whole = link_like(conv)
    inputs, wide = whole.in_channels, whole.in_channels * rank
    depthwise = Link(inputs, wide, whole.kernel, whole.stride, whole.padding, whole.dilation, inputs)
    return depthwise, Link(wide, whole.out_channels)
