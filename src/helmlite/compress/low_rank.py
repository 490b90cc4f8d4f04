"""Low-rank factorization: one convolution becomes a chain of two or three that cost less together.

    svd      1 x 1   ->  1 x 1, 1 x 1                     Denton 2014 (arXiv 1404.0736)
    spatial  h x w   ->  h x 1, 1 x w                     Jaderberg 2014 (arXiv 1405.3866)
    tucker   h x w   ->  1 x 1, h x w, 1 x 1              Kim 2016 (arXiv 1511.06530)
    cp       h x w   ->  1 x 1, depthwise h x w, 1 x 1    Lebedev 2015 (arXiv 1412.6553)

The kernels: decompositions.py.  How many ranks: rank.py.  Nothing stands between the links; the BatchNorm and the
activation behind the layer stay, and BatchNorm statistics are corrected.  Fewer multiply-accumulates are not yet
less time, since each link reads and writes a whole map: with a clock for the target a layer is split only where the
chain was measured to be faster, without one where at least `min_gain` of its multiply-accumulates go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

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
from helmlite.compress.kernels.decompositions import DECOMPOSITIONS, Ranks, tails
from helmlite.compress.kernels.rank import Option, allot, energy_rank, rounded_rank, vbmf_rank
from helmlite.compress.layer_sensitivity import measured_sensitivities
from helmlite.compress.order import check_follows
from helmlite.compress.paths import check_path_list, check_paths
from helmlite.compress.technique import Context
from helmlite.detector.detector import Detector
from helmlite.detector.macs import count_macs

METHODS = ("auto", *DECOMPOSITIONS)
RANKS = ("energy", "vbmf", "budget")
_CLOCK_ROUNDS = 2  # with a budget: so many times others make up for what turned out slower
_LOSSES = tuple(0.005 * 1.25**step for step in range(24))  # shares of a kernel's energy, up to 0.85, for a budget


@dataclass(frozen=True)
class LowRank:
    """Splits the convolutions that get cheaper by it.

    method:     svd (1 x 1 kernels), spatial, tucker, cp (larger ones), or auto: svd, and of the other three whichever
                costs least at the same bound on its error
    ranks:      energy | vbmf (svd, spatial and tucker; auto then takes svd and tucker, as Kim 2016) | budget
    energy:     for ranks "energy": share of each kernel's sum of squares that stays, at least; where a method has two
                ranks, each loses half of the rest.  cp is fitted afterwards and keeps more
    macs_ratio: for ranks "budget": multiply-accumulates of the whole network after / before, in (0, 1)
    min_gain:   where no clock measures: share of a layer's multiply-accumulates that has to go
    keep:       paths; convolutions at or below them stay
    images:     pictures of the train split for BatchNorm statistics
    Ranks are rounded up to `Context.channel_multiple`.
    """

    name: ClassVar[str] = "low_rank"
    method: str = "auto"
    ranks: str = "energy"
    energy: float = 0.9
    macs_ratio: float | None = None
    min_gain: float = 0.25
    keep: tuple[str, ...] = ()
    images: int = 32

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"low_rank: unknown method '{self.method}'; known are {', '.join(METHODS)}.")
        if self.ranks not in RANKS:
            raise ValueError(f"low_rank: ranks is one of {', '.join(RANKS)}; got '{self.ranks}'.")
        if not 0 < self.energy < 1:
            raise ValueError(f"low_rank: energy must lie between 0 and 1 (both excluded); got {self.energy}.")
        if (self.macs_ratio is not None) != (self.ranks == "budget"):
            raise ValueError('low_rank: ranks = "budget" needs macs_ratio, and nothing else takes it.')
        if self.macs_ratio is not None and not 0 < self.macs_ratio < 1:
            raise ValueError(f"low_rank: macs_ratio must lie between 0 and 1 (both excluded); got {self.macs_ratio}.")
        if self.ranks == "vbmf" and self.method == "cp":
            raise ValueError("low_rank: vbmf finds ranks of matrices, and cp has none; take energy or budget.")
        check_path_list(self.name, "keep", self.keep)
        if not 0 <= self.min_gain < 1 or self.images < 1:
            raise ValueError(
                f"low_rank: min_gain must lie in [0, 1) and images be at least 1; got {self.min_gain}, {self.images}."
            )

    @property
    def measures_target(self) -> bool:
        """Whether a split layer is faster is measured where there is a clock."""
        return True

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with split convolutions.

        Raises ValueError where none gets cheaper or the budget cannot be met, TechniqueOrderError after sparsity,
        tied layers, clustering or quantization.
        """
        check_follows(self.name, detector)
        check_paths(self.name, "keep", detector.network, self.keep)
        layers, left = dense_convs(detector, context.input_size, self.keep)
        chosen, slower = self._measured_choice(detector, layers, context)
        left.update(self._why_not(layers, chosen, slower))
        if not chosen:
            raise ValueError(f"low_rank: no convolution gets cheaper ({told(left)}). Ask for less energy or min_gain.")
        changed = factorized(detector, layers, chosen)
        correct_statistics(detector, changed, self.images, context)
        context.log(_line(detector, layers, chosen, left, context, self.macs_ratio))
        return changed

    def _measured_choice(
        self, detector: Detector, layers: Mapping[str, DenseConv], context: Context
    ) -> tuple[dict[str, Option], set[str]]:
        """What is split how, and what the clock has found to be slower that way."""
        options = {path: self._options(layer, context) for path, layer in layers.items()}
        slower: set[str] = set()
        chosen = self._choice(detector, layers, options, context)
        rounds = _CLOCK_ROUNDS if self.ranks == "budget" else 0
        for turn in range(rounds + 1):
            if context.layer_clock is None or not chosen:
                break
            lengths = {path: len(links_of(layers[path].conv, way.method, way.ranks)) for path, way in chosen.items()}
            found = slower_chains(detector, factorized(detector, layers, chosen), lengths, context)
            if not found:
                break
            slower |= found
            chosen = {path: way for path, way in chosen.items() if path not in slower}
            if turn < rounds:  # after the last measurement nothing comes in that was not timed
                rest = {path: ways for path, ways in options.items() if path not in slower}
                chosen = self._choice(detector, layers, rest, context, is_strict=False)
        return chosen, slower

    def _options(self, layer: DenseConv, context: Context) -> list[Option]:
        """Ways to split a layer that make it cheaper."""
        found = []
        least = 0.0 if context.layer_clock is not None else self.min_gain
        for method in self._methods(layer.conv):
            spectra = DECOMPOSITIONS[method].spectra(layer.conv.weight)
            behind = [tails(item) for item in spectra]
            total = max(float(behind[0][0]), 1e-300)
            for ranks in dict.fromkeys(self._ranks(layer.conv, method, spectra, context.channel_multiple)):
                links = links_of(layer.conv, method, ranks)
                macs = layer.macs_of(links)
                is_lighter = sum(link.weights for link in links) < layer.weights
                fits = all(rank <= len(item) for rank, item in zip(ranks, spectra))
                if fits and is_lighter and macs < layer.macs and macs <= (1 - least) * layer.macs:
                    error = sum(float(item[rank]) for item, rank in zip(behind, ranks)) / total
                    found.append(Option(method, ranks, macs, error))
        return found

    def _methods(self, conv: nn.Conv2d) -> tuple[str, ...]:
        fitting = ("svd",) if conv.kernel_size == (1, 1) else ("spatial", "tucker", "cp")
        if self.method == "auto":
            return fitting if self.ranks != "vbmf" or fitting == ("svd",) else ("tucker",)
        return tuple(method for method in fitting if method == self.method)

    def _ranks(self, conv: nn.Conv2d, method: str, spectra: Sequence[Tensor], multiple: int) -> Iterator[Ranks]:
        losses = _LOSSES if self.ranks == "budget" else (1 - self.energy,)
        if self.ranks == "vbmf":
            sides = _matrix_sides(conv, method)
            exact = (vbmf_rank(item, *side) for item, side in zip(spectra, sides))
            yield tuple(rounded_rank(max(rank, 1), multiple) for rank in exact)
            return
        for loss in losses:
            kept = 1 - loss / len(spectra)
            yield tuple(rounded_rank(energy_rank(item, kept), multiple) for item in spectra)

    def _choice(
        self,
        detector: Detector,
        layers: Mapping[str, DenseConv],
        options: Mapping[str, Sequence[Option]],
        context: Context,
        is_strict: bool = True,
    ) -> dict[str, Option]:
        """One way for each layer that is split.  is_strict: a budget that cannot be met is an error."""
        ways = {path: items for path, items in options.items() if items}
        if self.ranks != "budget":
            return {path: min(items, key=lambda way: way.macs) for path, items in ways.items()}
        assert self.macs_ratio is not None
        before = count_macs(detector.network, context.input_size)
        saving = (1 - self.macs_ratio) * before
        possible = sum(layers[path].macs - min(way.macs for way in items) for path, items in ways.items())
        if is_strict and possible < saving:
            raise ValueError(
                f"low_rank: macs_ratio {self.macs_ratio} cannot be reached; {1 - possible / before:.0%} of the MACs "
                "remain when every layer is split as far as it goes. Ask for a higher ratio."
            )
        weights = self._sensitivities(detector, layers, ways, context)
        macs = {path: layer.macs for path, layer in layers.items()}
        return allot(ways, macs, weights, saving)[0]

    def _sensitivities(
        self,
        detector: Detector,
        layers: Mapping[str, DenseConv],
        ways: Mapping[str, Sequence[Option]],
        context: Context,
    ) -> dict[str, float]:
        """What each layer's error counts, measured with one of its own ways in its place."""
        typical = {path: items[len(items) // 2] for path, items in ways.items()}
        disturbances = {path: partial(_stand_in, layers[path].conv, way) for path, way in typical.items()}
        about = {path: [way.method, list(way.ranks)] for path, way in typical.items()}
        return measured_sensitivities(detector, disturbances, context, about)

    def _why_not(self, layers: Mapping[str, DenseConv], chosen: Mapping[str, Option], slower: set[str]) -> Counter[str]:
        reasons: Counter[str] = Counter()
        for path, layer in layers.items():
            if path in chosen:
                continue
            if not self._methods(layer.conv):
                reasons["of another kernel size"] += 1
            elif path in slower:
                reasons["slower as a chain"] += 1
            else:
                reasons["not needed" if self.ranks == "budget" else "no cheaper"] += 1
        return reasons


@dataclass(frozen=True)
class Factorize:
    """Each convolution becomes a chain.

    layers: path -> method and ranks; the geometry of the links follows from the convolution that is there
    """

    kind: ClassVar[str] = "factorize"
    layers: Mapping[str, tuple[str, Ranks]]

    def redo(self, network: nn.Module) -> None:
        """Puts chains of the right shapes in, in place.  Their kernels are weights and come afterwards."""
        for path, (method, ranks) in self.layers.items():
            conv = network.get_submodule(path)
            assert isinstance(conv, nn.Conv2d)
            put_chain(network, path, links_of(conv, method, ranks))

    def to_json(self) -> dict[str, Any]:
        return {"layers": {path: {"method": method, "ranks": list(r)} for path, (method, r) in self.layers.items()}}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Factorize:
        return Factorize(
            {path: (item["method"], tuple(int(r) for r in item["ranks"])) for path, item in values["layers"].items()}
        )


def factorized(detector: Detector, layers: Mapping[str, DenseConv], chosen: Mapping[str, Option]) -> Detector:
    """A new detector with these layers split, BatchNorm statistics as they were."""
    edit = Factorize({path: (way.method, way.ranks) for path, way in chosen.items()})
    changed = detector.copy()
    edit.redo(changed.network)
    for path, way in chosen.items():
        set_kernels(changed.network, path, DECOMPOSITIONS[way.method].kernels(layers[path].conv.weight, way.ranks))
    return detector.edited(edit, changed.network)


def links_of(conv: nn.Conv2d, method: str, ranks: Ranks) -> tuple[Link, ...]:
    """The links of a chain in a convolution's place: stride, padding and dilation go where the window is."""
    whole = link_like(conv)
    into, out = whole.in_channels, whole.out_channels
    if method == "svd":
        return Link(into, ranks[0], whole.kernel, whole.stride, whole.padding), Link(ranks[0], out)
    if method == "spatial":
        (h, w), (sh, sw), (ph, pw), (dh, dw) = whole.kernel, whole.stride, whole.padding, whole.dilation
        return (
            Link(into, ranks[0], (h, 1), (sh, 1), (ph, 0), (dh, 1)),
            Link(ranks[0], out, (1, w), (1, sw), (0, pw), (1, dw)),
        )
    window = (whole.kernel, whole.stride, whole.padding, whole.dilation)
    if method == "tucker":
        inner, outer = ranks
        return Link(into, inner), Link(inner, outer, *window), Link(outer, out)
    assert method == "cp"
    return Link(into, ranks[0]), Link(ranks[0], ranks[0], *window, groups=ranks[0]), Link(ranks[0], out)


def _matrix_sides(conv: nn.Conv2d, method: str) -> tuple[tuple[int, int], ...]:
    """Rows and columns of each matrix whose rank a method chooses."""
    into, out, (height, width) = conv.in_channels, conv.out_channels, conv.kernel_size
    if method == "svd":
        return ((out, into),)
    if method == "spatial":
        return ((into * height, out * width),)
    return (into, out * height * width), (out, into * height * width)


def _stand_in(conv: nn.Conv2d, way: Option) -> tuple[nn.Module, float]:
    holder = nn.Sequential(conv)
    put_chain(holder, "0", links_of(conv, way.method, way.ranks))
    set_kernels(holder, "0", DECOMPOSITIONS[way.method].kernels(conv.weight, way.ranks))
    return holder[0].eval(), way.error


def _line(
    detector: Detector,
    layers: Mapping[str, DenseConv],
    chosen: Mapping[str, Option],
    left: Mapping[str, int],
    context: Context,
    asked: float | None,
) -> str:
    saved = sum(layers[path].macs - way.macs for path, way in chosen.items())
    ratio = 1 - saved / count_macs(detector.network, context.input_size)
    methods = told(Counter(way.method for way in chosen.values()))
    missed = ""
    if asked is not None and ratio > asked + 1e-9:
        missed = f" ({asked:g} was asked for; the chains that would make up for the rest are slower or were not timed)"
    return (
        f"low_rank: {len(chosen)} convolutions split ({methods}), {ratio:.1%} of the multiply-accumulates left"
        f"{missed}; left as they were: {told(left)}"
    )
