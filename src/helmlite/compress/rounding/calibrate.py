"""Ranges of a network's values, watched while it looks at calibration pictures once.

Memory does not grow with the number of pictures: each value has its minimum, its maximum and a histogram whose
limits grow with what is seen.  Minimum and maximum are of every element; histograms are of a regular sample, because
counting all of them takes longer than the network itself.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from helmlite.compress.edits.shared_weights import shared_weights
from helmlite.compress.rounding.bias_correction import InputMeans
from helmlite.compress.rounding.quantization_plan import IMAGES, QuantPoint
from helmlite.compress.rounding.quantize_points import Points
from helmlite.compress.rounding.value_ranges import Histogram, Range, range_by
from helmlite.detector.trace import intercept, tensors_in

_BINS = 2048
_SAMPLED = 1 << 15  # elements of a value that one picture adds to its histogram
_SLACK = 1.25  # a histogram's limits grow by this much more than needed, so that they grow rarely
# Runtimes store a bias in 32 bits and in steps of (input's scale * weight's scale).  A dead channel's tiny scale would
# make its bias overflow, which ONNX Runtime does without a word; a quarter of the range is left to fine-tuning.
_BIAS_STEPS = 2.0**29
WEIGHT_AXES = ("channel", "tensor")
WEIGHT_RANGES = ("max", "mse")
_CLIPS = torch.linspace(0.2, 1.0, 41).tolist()  # shares of a weight's largest value that "mse" tries


class Observer:
    """What was seen of one value: `minimum`, `maximum` and a histogram between its two limits."""

    def __init__(self) -> None:
        self.minimum, self.maximum = math.inf, -math.inf
        self._limits: Range = (0.0, 0.0)
        self._counts: NDArray[np.float64] = np.zeros(_BINS)

    def see(self, values: Tensor) -> None:
        """Adds what one picture gave.  Raises ValueError where a value is not a number."""
        flat = _in_memory_order(values)
        low, high = (float(item) for item in torch.aminmax(flat))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("values that are not finite")
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._grow(low, high)
        step = max(1, flat.numel() // _SAMPLED)
        step += step > 1 and step % 2 == 0  # odd, so that it does not follow even rows, columns and channels
        counts = torch.histc(flat[::step], _BINS, *self._limits).double().numpy() * step
        if step > 1:  # a sample misses what is rare, and the farthest value is what clipping costs most
            counts += np.histogram([low, high], _BINS, self._limits)[0]
        self._counts += counts

    def histogram(self) -> Histogram:
        """What was seen."""
        return Histogram(self._counts, self._limits, self.minimum, self.maximum)

    def range_by(self, rule: str, percentile: float, levels: int) -> Range:
        """The range to keep, 0 always within it."""
        return range_by(rule, self.histogram(), percentile, levels)

    def _grow(self, low: float, high: float) -> None:
        old_low, old_high = self._limits
        if low >= old_low and high <= old_high and old_low < old_high:
            return
        new_low = old_low if low >= old_low else low * _SLACK if low < 0 else low
        new_high = old_high if high <= old_high else high * _SLACK if high > 0 else high
        if new_high <= new_low:
            new_high = new_low + 1e-6
        centres = self.histogram().centres()
        self._limits = (new_low, new_high)
        if self._counts.any():
            index = ((centres - new_low) / (new_high - new_low) * _BINS).astype(int).clip(0, _BINS - 1)
            self._counts = np.bincount(index, self._counts, _BINS).astype(np.float64)


@dataclass(frozen=True)
class Seen:
    """What one run over the calibration pictures gave.

    observers: of each edge; input_means: mean of each input channel of the quantized convolutions, by path
    """

    observers: Mapping[str, Observer]
    input_means: Mapping[str, Tensor]


def observe(network: nn.Module, points: Points, batches: Iterable[Tensor]) -> Seen:
    """Runs the network in evaluation mode over batches of pictures (B, 3, S, S) and watches every edge.

    Raises ValueError where a value is not finite, with the operator's name.
    """
    watch = _Watch(points)
    network = copy.deepcopy(network).to(memory_format=torch.channels_last).eval()  # faster, as in training
    with torch.inference_mode():
        for images in batches:
            if IMAGES in watch.observers:
                watch.observers[IMAGES].see(images)
            with intercept(network, watch.on_op):
                network(images.to(memory_format=torch.channels_last))
    return watch.seen()


class _Watch:
    """Looks at the edges as they are made."""

    def __init__(self, points: Points) -> None:
        self.observers = {name: Observer() for name in points.edges}
        self._weighted = set(points.weights)
        self._means = InputMeans()

    def on_op(
        self, name: str, module: str, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[..., Any]
    ) -> Any:
        if kind == "conv2d" and module in self._weighted:
            self._means.see(module, args[0])
        result = run(*args, **kwargs)
        made = tensors_in(result)
        for index, tensor in enumerate(made):
            observer = self.observers.get(name if len(made) == 1 else f"{name}[{index}]")
            if observer is not None:
                try:
                    observer.see(tensor)
                except ValueError as error:
                    raise ValueError(f"quantize: {name} gives {error} on a calibration picture.") from error
        return result

    def seen(self) -> Seen:
        return Seen(self.observers, self._means.found())


def _in_memory_order(values: Tensor) -> Tensor:
    """All elements in the order in which they lie, without a copy where they lie densely.  -> (N,)"""
    is_last = values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return values.permute(0, 2, 3, 1).reshape(-1) if is_last else values.reshape(-1)


def edge_points(points: Points, seen: Seen, rule: str, percentile: float, bits: int) -> dict[str, QuantPoint]:
    """The rounding of every edge; edges that meet in a concatenation get the range that holds all of theirs."""
    ranges = {
        name: points.fixed.get(name) or seen.observers[name].range_by(rule, percentile, 2**bits - 1)
        for name in points.edges
    }
    for group in points.shared:
        widest = min(ranges[name][0] for name in group), max(ranges[name][1] for name in group)
        ranges.update(dict.fromkeys(group, widest))
    return {name: asymmetric_point(limits, bits) for name, limits in ranges.items()}


def asymmetric_point(limits: Range, bits: int = 8) -> QuantPoint:
    """Unsigned rounding of this range, 0 kept exactly.

    >>> asymmetric_point((-1.0, 1.55), bits=8)  # scale 0.01: -1.0 is 0, 0 is 100, 1.55 is 255
    QuantPoint(bits=8, scales=(0.009999999776482582,), zero_points=(100,), axis=None, signed=False, group=0)
    """
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    levels = 2**bits - 1
    scale = float(np.float32((high - low) / levels)) or 1.0  # a value that is always 0 takes any scale
    return QuantPoint(bits, (scale,), (int(min(max(round(-low / scale), 0), levels)),))


def weight_points(
    network: nn.Module,
    points: Points,
    edges: Mapping[str, QuantPoint],
    bits: Mapping[str, int],
    axis: str = "channel",
    ranges: str = "max",
) -> dict[str, QuantPoint]:
    """Signed symmetric rounding of each weight; by module path.

    edges: the rounding of the values that the weights meet; bits: of each weight, by path (a weight that several layers
    share has the most that any of them has); axis, ranges: as in `symmetric_point`
    """
    made = {}
    most = dict(bits)
    for group in shared_weights(network):
        paths = [path for path in group if path in bits]
        most |= dict.fromkeys(paths, max((bits[path] for path in paths), default=0))
    for path, edge in points.weights.items():
        module = network.get_submodule(path)
        weight, bias = module.weight, module.bias
        assert isinstance(weight, Tensor)
        smallest = bias.detach().abs() / (edges[edge].scales[0] * _BIAS_STEPS) if isinstance(bias, Tensor) else None
        made[path] = symmetric_point(weight.detach(), most[path], smallest, axis, ranges)
    for group in shared_weights(network):
        paths = [path for path in group if path in made]
        made.update(dict.fromkeys(paths, _widest([made[path] for path in paths])) if paths else {})
    return made


def _widest(points: list[QuantPoint]) -> QuantPoint:
    """One rounding for a weight that several layers share: the largest scale of each channel."""
    return replace(points[0], scales=tuple(max(scales) for scales in zip(*(point.scales for point in points))))


def symmetric_point(
    weight: Tensor, bits: int = 8, smallest: Tensor | None = None, axis: str = "channel", ranges: str = "max"
) -> QuantPoint:
    """Signed rounding of a weight (outputs, ...), one scale for each output channel or one for all.

    A channel of nothing but zeros, or nearly so beside the others, gets a scale that cannot underflow.
    smallest: (outputs,), what the scale of each channel must not fall below
    axis:     "channel" or "tensor"
    ranges:   "max" keeps the largest value; "mse" clips where that lowers the sum of squared errors, which pays where
              there are few integers
    """
    rows = weight.flatten(1) if axis == "channel" else weight.reshape(1, -1)
    steps = 2 ** (bits - 1) - 1
    largest = rows.abs().amax(1)
    kept = largest if ranges == "max" else largest * _least_error_clips(rows, largest, steps)
    scales = kept.double().clamp(min=max(float(largest.max()) * 1e-4, 1e-8)) / steps
    if smallest is not None:
        least = smallest.double()
        scales = torch.maximum(scales, least if axis == "channel" else least.amax())
    made = tuple(float(np.float32(item)) for item in scales.tolist())
    return QuantPoint(bits, made, (0,) * len(made), 0 if axis == "channel" else None, True)


def _least_error_clips(rows: Tensor, largest: Tensor, steps: int) -> Tensor:
    """For each row the share of its largest value at which it is best clipped.  rows: (R, K), largest: (R,) -> (R,)"""
    found = torch.ones_like(largest)
    least = torch.full_like(largest, math.inf)
    for clip in reversed(_CLIPS):  # of equal errors the one that clips least
        scale = (largest * clip / steps).clamp(min=1e-12)[:, None]
        rounded = torch.round(rows / scale).clamp_(-steps, steps).mul_(scale)
        error = rounded.sub_(rows).square_().sum(1)
        found = torch.where(error < least, clip, found)
        least = torch.minimum(error, least)
    return found
