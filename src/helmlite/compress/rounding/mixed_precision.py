"""Which layers get more bits, or stay in float, so that a quantized detector loses no more accuracy than allowed.

    1. sensitivity   the noise in the raw maps, beside their signal, when only this layer is rounded: its weight and
                     the value that it reads (the measure of ZeroQ, Cai 2020, arXiv 2001.00281, in another norm)
    2. price         what a layer costs on the target, or its multiply-accumulates: what is lost by leaving it in float
    3. choice        most noise for its price first, the fewest that keep the accuracy on the tuning pictures; then
                     those that turn out not to be needed go back, the dearest first

Where weights have fewer than 8 bits, all three are first done with the weights alone: some get 8 bits, which costs
bytes and no speed, so the price is their number of values.  Only where 8 bits for all of them are not enough do layers
stay in float.

Noise of single layers adds up nearly, accuracy does not; so noise gives the order, and accuracy itself decides where
to stop.  The search rounds to nearest; where rounding is learned, which takes long, the detector that ships is made and
looked at twice: before the search, which may then not be needed, and after it, where it must keep what was allowed.
Everything measured is written down at once: a run that was killed goes on where it was.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from helmlite.compress.edits.shared_weights import shared_weights
from helmlite.compress.layer_times import measured_once
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, QuantPoint, weight_point
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset
from helmlite.detector.detector import Detector
from helmlite.detector.fit_state import detector_sha256, json_sha256
from helmlite.detector.macs import conv_costs, shape_trace
from helmlite.evaluate.accuracy import evaluate
from helmlite.files import write_whole

DROPS = ("map", "map50")
_GIVEN_BACK = 8  # layers that are tried again as they were
_NAMED = 8  # layers in a line of the log; the plan names all


@dataclass(frozen=True)
class HigherPrecision:
    """Layers that get more than the others, by path, and why.

    in_float: those that are not rounded at all;  raised: those whose weights get more bits
    """

    in_float: Mapping[str, str] = field(default_factory=dict)
    raised: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Quantizing:
    """How a detector is quantized with one choice of layers or another.

    plan:    the plan with that choice
    reads:   the value that each weight meets where everything is in integers, by path
    tried:   makes a detector quickly, for the search; shipped: makes the one that ships
    """

    plan: Callable[[HigherPrecision], QuantizationPlan]
    reads: Mapping[str, str]
    tried: Callable[[HigherPrecision], Detector]
    shipped: Callable[[HigherPrecision], Detector]


@dataclass(frozen=True)
class AllowedDrop:
    """max_drop: of mAP in [0, 1]; of: "map" (50-95) or "map50"; pictures: of the tuning split"""

    max_drop: float
    of: str
    pictures: int


def choose_precision(
    folded: Detector,
    quantizing: Quantizing,
    raised_bits: int,
    images: Tensor,
    allowed: AllowedDrop,
    context: Context,
) -> HigherPrecision:
    """The layers that get more than the others; none where everything as planned is good enough.

    raised_bits: that a raised weight has;  images: (B, 3, S, S) for the sensitivities
    Raises ValueError where only the float detector itself is good enough, and where what ships is not.
    """
    plan = quantizing.plan(HigherPrecision())
    notes = _Notes.of(folded, plan, raised_bits, images, allowed, context)
    search = _Search(folded, quantizing, notes, images, allowed, context)
    everything = search.drop(HigherPrecision(), ships=True)
    context.log(
        f"quantize: {allowed.of} falls by {everything:.3f} on {len(search.subset)} tuning pictures with every layer in "
        f"integers; {allowed.max_drop:.3f} is allowed"
    )
    if everything <= allowed.max_drop:
        return HigherPrecision()
    few = {path: point for path, point in plan.weights().items() if point.bits < raised_bits}
    raised: Mapping[str, str] = dict.fromkeys(few, f"{raised_bits} bits in all weights are not enough")
    if few and search.is_enough(HigherPrecision(raised=raised)):
        higher, share = _fewest_raised(search, folded, few)
        layers = higher.raised
        told = f"{len(layers)} of {len(few)} layers get weights of {raised_bits} bits ({share:.0%} of all weights)"
    else:
        higher, share = _fewest_in_float(search, folded, raised, context)
        layers = higher.in_float
        told = f"{len(layers)} of {len(quantizing.reads)} layers stay in float ({share:.0%} of the cost)"
        if higher.raised:
            told += f" and all others get weights of {raised_bits} bits"
    falls = search.drop(higher, ships=True)
    context.log(f"quantize: {told}, {allowed.of} falls by {falls:.3f}: {_named(layers)}")
    if falls > allowed.max_drop:
        raise ValueError(
            f"quantize: {allowed.of} falls by {falls:.3f} with learned rounding, more than max_drop = "
            f"{allowed.max_drop}, which rounding to nearest keeps where {told}. "
            'Use rounding = "nearest", or allow more.'
        )
    return higher


class _Search:
    """Asks for the accuracy of one choice of layers after another; what was asked before is noted."""

    def __init__(
        self,
        folded: Detector,
        quantizing: Quantizing,
        notes: _Notes,
        images: Tensor,
        allowed: AllowedDrop,
        context: Context,
    ) -> None:
        data = context.val if context.val is not None and len(context.val) else context.data
        self.subset = data.subset(np.random.default_rng(context.seed).permutation(len(data))[: allowed.pictures])
        self.quantizing, self.notes, self.images, self.allowed = quantizing, notes, images, allowed
        self._input_size = context.input_size
        self._before = notes.once("float", lambda: self._accuracy(folded))

    def drop(self, higher: HigherPrecision, ships: bool = False) -> float:
        """What is lost with these layers, in parts of mAP.  ships: by what ships, not by what is made quickly"""
        make = self.quantizing.shipped if ships else self.quantizing.tried
        name = "drop of what ships " if make != self.quantizing.tried else "drop "
        name += " ".join(sorted(higher.in_float))
        name += "".join(f" raised {path}" for path in sorted(higher.raised))
        return self._before - self.notes.once(name, lambda: self._accuracy(make(higher)))

    def is_enough(self, higher: HigherPrecision) -> bool:
        return self.drop(higher) <= self.allowed.max_drop

    def _accuracy(self, detector: Detector) -> float:
        return _accuracy(detector, self.subset, self.allowed.of, self._input_size)


def _fewest_raised(search: _Search, folded: Detector, few: Mapping[str, QuantPoint]) -> tuple[HigherPrecision, float]:
    """The fewest weights that need more bits, and their share of all weights; more for all of them is enough.

    A weight that several layers share has one number of bits, and is one candidate.
    """
    members: dict[str, tuple[str, ...]] = {path: (path,) for path in few}
    for group in shared_weights(folded.network):
        if paths := tuple(path for path in group if path in few):
            members = {path: item for path, item in members.items() if path not in paths} | {paths[0]: paths}
    rounded = {name: {weight_point(path): few[path] for path in paths} for name, paths in members.items()}
    noise = sensitivities(folded.network, rounded, search.images, search.notes.once, "noise of the weight alone")
    prices = {name: float(_weight_of(folded.network, name).numel()) for name in members}
    order = by_noise_for_price(noise, prices)

    def of(names: Iterable[str]) -> HigherPrecision:
        why = {name: f"more bits: sensitivity {noise[name]:.2g} of noise to signal" for name in names}
        return HigherPrecision(raised={path: text for name, text in why.items() for path in members[name]})

    def is_enough(names: Sequence[str]) -> bool:
        return search.is_enough(of(names))

    count = fewest(len(order), lambda number: is_enough(order[:number]))
    names = _without_needless(order[:count], prices, is_enough)
    return of(names), sum(prices[name] for name in names) / sum(prices.values())


def _fewest_in_float(
    search: _Search, folded: Detector, raised: Mapping[str, str], context: Context
) -> tuple[HigherPrecision, float]:
    """The fewest layers that stay in float, where all others are raised if that is asked; their share of the cost."""
    points, reads = search.quantizing.plan(HigherPrecision(raised=raised)).points, search.quantizing.reads
    rounded = {path: {name: points[name] for name in (weight_point(path), value)} for path, value in reads.items()}
    name = "noise where all weights are raised" if raised else "noise"
    noise = sensitivities(folded.network, rounded, search.images, search.notes.once, name)
    prices = layer_prices(folded, list(noise), context)
    order = by_noise_for_price(noise, prices)

    def of(paths: Iterable[str]) -> HigherPrecision:
        why = {path: f"kept in float: sensitivity {noise[path]:.2g} of noise to signal" for path in paths}
        return HigherPrecision(why, {path: text for path, text in raised.items() if path not in why})

    def is_enough(paths: Sequence[str]) -> bool:
        return search.is_enough(of(paths))

    count = fewest(len(order), lambda number: is_enough(order[:number]))
    if count == len(order):
        raise ValueError(
            f"quantize: {search.allowed.of} falls by more than max_drop = {search.allowed.max_drop} unless every layer "
            "stays in float. Allow more, or train after quantization (distill)."
        )
    paths = _without_needless(order[:count], prices, is_enough)
    return of(paths), sum(prices[path] for path in paths) / sum(prices.values())


def _named(paths: Mapping[str, str]) -> str:
    shown = ", ".join(list(paths)[:_NAMED])
    return shown if len(paths) <= _NAMED else f"{shown} and {len(paths) - _NAMED} more (the plan names all)"


def _weight_of(network: nn.Module, path: str) -> Tensor:
    weight = network.get_submodule(path).weight
    assert isinstance(weight, Tensor)
    return weight


def sensitivities(
    network: nn.Module,
    rounded: Mapping[str, Mapping[str, QuantPoint]],
    images: Tensor,
    once: Callable[[str, Callable[[], float]], float] = lambda name, measure: measure(),
    what: str = "noise",
) -> dict[str, float]:
    """Noise to signal of the raw maps when only some points are rounded, by name.

    rounded: name -> the points of the plan that are rounded together;  what: under which name it is noted
    """
    expected = _maps(network, images)

    def noise(name: str) -> float:
        alone = copy.deepcopy(network)
        InsertQuantizers(QuantizationPlan(dict(rounded[name]))).redo(alone)
        return noise_to_signal(expected, _maps(alone, images))

    return {name: once(f"{what} {name}", lambda name=name: noise(name)) for name in rounded}  # type: ignore[misc]


def noise_to_signal(expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """Mean over the maps of |error|^2 / |map|^2, so that boxes and scores count alike."""
    ratios = [float((a - b).double().square().sum() / b.double().square().sum()) for b, a in zip(expected, got)]
    return sum(ratios) / len(ratios)


def layer_prices(folded: Detector, paths: Sequence[str], context: Context) -> dict[str, float]:
    """What each layer costs: milliseconds on the target where there is a clock, else multiply-accumulates."""
    found = dict.fromkeys(paths, 0.0)
    if context.layer_clock is not None:
        (times,) = measured_once(context.layer_clock, (folded,), context.input_size, context.workspace)
        costs = list(times.convolutions.items())
    else:
        graph = shape_trace(folded.network, context.input_size)
        costs = [(item.path, float(item.macs)) for item in conv_costs(folded.network, graph)]
    for path, cost in costs:
        if path in found:
            found[path] += cost
    least = min((cost for cost in found.values() if cost > 0), default=1.0)
    return {path: cost or least for path, cost in found.items()}  # linear layers are not convolutions


def by_noise_for_price(noise: Mapping[str, float], prices: Mapping[str, float]) -> list[str]:
    """Paths, those first that take most noise away for their price.

    >>> by_noise_for_price({"a": 4.0, "b": 3.0, "c": 1.0}, {"a": 4.0, "b": 1.0, "c": 2.0})
    ['b', 'a', 'c']
    """
    return sorted(noise, key=lambda path: -noise[path] / prices[path])


def fewest(count: int, is_enough: Callable[[int], bool]) -> int:
    """The smallest number in 1 .. count that is enough, by halving; `count` itself is taken to be.

    >>> fewest(100, lambda number: number >= 37)
    37
    """
    low, high = 1, count
    while low < high:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle + 1
    return high


def _without_needless(
    kept: Sequence[str], prices: Mapping[str, float], is_enough: Callable[[Sequence[str]], bool]
) -> list[str]:
    """Those that are needed, the dearest tried first."""
    left = list(kept)
    for path in sorted(kept, key=lambda path: -prices[path])[:_GIVEN_BACK]:
        others = [item for item in left if item != path]
        if others and is_enough(others):
            left = others
    return left


def _maps(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        found: tuple[Tensor, ...] = network.eval()(images)
    return found


def _accuracy(detector: Detector, data: Dataset, of: str, input_size: int) -> float:
    found = evaluate(detector.predictor(input_size), data)
    value = found.map if of == "map" else found.map50
    if value is None:
        raise ValueError("quantize: max_drop needs labelled tuning pictures; none of them has a box.")
    return value


@dataclass
class _Notes:
    """What was measured, by name, in a file."""

    path: Path
    values: dict[str, float]

    @staticmethod
    def of(
        folded: Detector,
        plan: QuantizationPlan,
        raised_bits: int,
        images: Tensor,
        allowed: AllowedDrop,
        context: Context,
    ) -> _Notes:
        asked = {
            "detector": detector_sha256(folded),
            "plan": plan.to_json(),
            "raised_bits": raised_bits,
            "pictures": [len(images), allowed.of, allowed.pictures, context.input_size, context.seed],
            "val": None if context.val is None else context.val.sha256(),
        }
        path = context.workspace / f"sensitivity-{json_sha256(asked)[:12]}.json"
        return _Notes(path, json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})

    def once(self, name: str, measure: Callable[[], float]) -> float:
        """What was noted, or else what is measured now."""
        if name not in self.values:
            self.values[name] = measure()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps(self.values, indent=1))
        return self.values[name]
