"""Integers after training, by a plan of our own: calibrated once, read by PyTorch and by every exporter.

    values   unsigned, asymmetric, one scale for each tensor; ranges from the user's own training pictures
    weights  signed, symmetric, one scale for each output channel

BatchNorm is folded first; where rounding goes is read off the traced graph (quantize_points.py).  `Quantize` and then
`Distill` is quantization-aware training.  Sources: Jacob 2018 (1712.05877) for the arithmetic, Nagel 2019 (1906.04721,
section 4.2) for the correction of biases.  Ranges: value_ranges.py; learned rounding: adaround.py; layers that get more
bits or stay in float for the sake of accuracy: mixed_precision.py.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.edits.shared_weights import shared_weights
from helmlite.compress.order import check_follows
from helmlite.compress.paths import check_path_list, check_paths
from helmlite.compress.rounding.adaround import adaround, gain, most_pictures
from helmlite.compress.rounding.bias_correction import correct_biases
from helmlite.compress.rounding.calibrate import (
    WEIGHT_AXES,
    WEIGHT_RANGES,
    Seen,
    edge_points,
    observe,
    weight_points,
)
from helmlite.compress.rounding.calibration_pictures import CalibrationPictures
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers
from helmlite.compress.rounding.mixed_precision import (
    DROPS,
    AllowedDrop,
    HigherPrecision,
    Quantizing,
    choose_precision,
)
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, weight_point
from helmlite.compress.rounding.quantize_points import ATTENTION, Points, choose_points
from helmlite.compress.rounding.value_ranges import check_rule
from helmlite.compress.technique import Context
from helmlite.detector.detector import Detector
from helmlite.detector.device import training_device
from helmlite.detector.trace import trace

ROUNDINGS = ("nearest", "adaround")
_BITS = 8
_BATCH = 4
_FEW_PICTURES = 8  # for a stand-in
_COMPARED = 8  # pictures
_ALIVE = 0.25  # least share of the float detector's best scores that must be left


class DeadDetectorError(ValueError):
    """Rounding has silenced the detector: its scores are near 0 where the float detector's are not."""


@dataclass(frozen=True)
class Quantize:
    """Integer weights and values.

    pictures:        of the train split, for calibration
    ranges:          mse | min_max | percentile | entropy: how much of what was seen a value's integers span.  On
                     helmet-yolo12m at 320 the raw maps lie 33.9, 32.8 and 24.7 dB above their error with the first
                     three; its mAP moves by less than 76 pictures can show with any of them
    percentile:      for the rule of that name
    attention:       float | int8: the two matrix products of attention and what lies between them
    keep_float:      paths; convolutions at or below them stay in float
    before_activation: also rounds between a convolution and a SiLU or Hardswish.  OpenVINO does without; ONNX Runtime
                     has no other INT8 convolution, and runs slower than float unless this is set or the activation is
                     ReLU
    correct_biases:  takes the mean error of rounded weights off the biases
    weight_bits, value_bits: 2 to 8.  None means 8; a compression run takes 7 where the target's processor adds INT8
                     products in 16 bits, which 8 would overflow (`runtime.machine.int8_weight_bits`)
    weight_axis:     channel | tensor: one scale for each output channel, or one for the whole weight
    weight_ranges:   max | mse: keeps a weight's largest value, or clips where that lowers the squared error (at 4 bits
                     it does)
    rounding:        nearest | adaround: the second learns for each weight whether to round up or down
    adaround_steps:  of each layer; adaround_pictures: at most so many, fewer where the input is large
    max_drop:        of mAP in [0, 1], which is kept on the tuning split by the fewest weights with `raised_bits` (None
                     means what is said of weight_bits), or else by the fewest layers in float.  None: no layer
    drop_of:         map (50-95) | map50; drop_pictures: of the tuning split on which it is measured
    """

    name: ClassVar[str] = "quantize"
    pictures: int = 300
    ranges: str = "mse"
    percentile: float = 99.99
    attention: str = "float"
    keep_float: tuple[str, ...] = ()
    before_activation: bool = False
    correct_biases: bool = True
    weight_bits: int | None = None
    value_bits: int = 8
    weight_axis: str = "channel"
    weight_ranges: str = "max"
    rounding: str = "nearest"
    adaround_steps: int = 500
    adaround_pictures: int = 64
    max_drop: float | None = None
    raised_bits: int | None = None
    drop_of: str = "map"
    drop_pictures: int = 128

    def __post_init__(self) -> None:
        check_rule(self.ranges, self.percentile)
        for setting, value, known in (
            ("attention", self.attention, ATTENTION),
            ("weight_axis", self.weight_axis, WEIGHT_AXES),
            ("weight_ranges", self.weight_ranges, WEIGHT_RANGES),
            ("rounding", self.rounding, ROUNDINGS),
            ("drop_of", self.drop_of, DROPS),
        ):
            if value not in known:
                raise ValueError(f"quantize: {setting} is one of {', '.join(known)}; got '{value}'.")
        for setting, bits in (
            ("weight_bits", self.bits_of_weights),
            ("value_bits", self.value_bits),
            ("raised_bits", self.bits_of_raised),
        ):
            if not 2 <= bits <= 8:
                raise ValueError(f"quantize: {setting} must be 2 to 8; got {bits}.")
        check_path_list(self.name, "keep_float", self.keep_float)
        if self.pictures < 1:
            raise ValueError(f"quantize: needs at least 1 calibration picture; got pictures = {self.pictures}.")
        if min(self.adaround_steps, self.adaround_pictures, self.drop_pictures) < 1:
            raise ValueError("quantize: adaround_steps, adaround_pictures and drop_pictures must be at least 1.")
        if self.max_drop is not None and not 0 <= self.max_drop < 1:
            raise ValueError(f"quantize: max_drop is a part of mAP, from 0 to below 1; got {self.max_drop}.")

    @property
    def bits_of_weights(self) -> int:
        """`weight_bits`, or its default."""
        return _BITS if self.weight_bits is None else self.weight_bits

    @property
    def bits_of_raised(self) -> int:
        """`raised_bits`, or its default."""
        return _BITS if self.raised_bits is None else self.raised_bits

    def stand_in(self) -> Quantize:
        """The same rounding from a handful of pictures: no learned rounding, no layer that gets more than others."""
        return replace(self, pictures=_FEW_PICTURES, correct_biases=False, rounding="nearest", max_drop=None)

    @property
    def measures_target(self) -> bool:
        """What a layer costs in float may be asked for where `max_drop` is given."""
        return self.max_drop is not None

    @property
    def uses_val(self) -> bool:
        """Which layers get more bits or stay in float is chosen there where `max_drop` is given."""
        return self.max_drop is not None

    def check_tied(self) -> None:
        """Raises ValueError where these settings cannot serve a detector whose layers share weights."""
        if self.rounding == "adaround":
            raise ValueError(
                "quantize: adaround learns one layer's rounding at a time, and this detector's layers share weights. "
                'Use rounding = "nearest" after tie.'
            )

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with fake quantization inside.

        Raises ValueError without calibration pictures or where max_drop cannot be kept, TechniqueOrderError where it
        is quantized already and DeadDetectorError where nothing is left of its scores.
        """
        check_follows(self.name, detector)
        check_paths(self.name, "keep_float", detector.network, self.keep_float)
        pictures = CalibrationPictures(context.data, self.pictures, context.input_size, context.seed, context.log)
        folded = merge_parallel_convs(fold_batchnorm(detector))
        if shared_weights(folded.network):
            self.check_tied()
        subject = _Subject(self, folded, pictures, context)
        higher = HigherPrecision() if self.max_drop is None else self._higher(subject, context)
        quantized, plan = subject.quantized(higher, self.rounding)
        signal_to_noise = signal_to_noise_db(folded.network, quantized.network, pictures.first(_COMPARED))
        context.log(
            f"quantize: {_weights_in_words(plan)} and {len(plan.edges())} values in "
            f"INT{self.value_bits}, calibrated on {len(pictures.used)} pictures; raw maps {signal_to_noise:.1f} dB "
            "above their error"
        )
        return quantized

    def _higher(self, subject: _Subject, context: Context) -> HigherPrecision:
        assert self.max_drop is not None

        def rounded_to_nearest(higher: HigherPrecision) -> Detector:
            return subject.quantized(higher, "nearest")[0]

        def as_it_ships(higher: HigherPrecision) -> Detector:
            return subject.quantized(higher, self.rounding)[0]

        return choose_precision(
            subject.folded,
            Quantizing(
                lambda higher: subject.plan(higher)[0],
                subject.plan(HigherPrecision())[1].weights,
                rounded_to_nearest,
                rounded_to_nearest if self.rounding == "nearest" else as_it_ships,
            ),
            self.bits_of_raised,
            subject.pictures.first(_COMPARED),
            AllowedDrop(self.max_drop, self.drop_of, self.drop_pictures),
            context,
        )


class _Subject:
    """A detector that is ready to be quantized, in one way or another, from one look at the calibration pictures.

    `higher` in its methods: layers that get more than the others, beside those that the user keeps in float
    """

    def __init__(self, settings: Quantize, folded: Detector, pictures: CalibrationPictures, context: Context) -> None:
        self.folded, self.pictures = folded, pictures
        self._settings, self._context = settings, context
        self._graph = trace(folded.network, context.input_size)
        self._seen = self._observed(self._points(HigherPrecision()))
        self._last: tuple[tuple[HigherPrecision, str], tuple[Detector, QuantizationPlan]] | None = None

    def plan(self, higher: HigherPrecision) -> tuple[QuantizationPlan, Points]:
        """How it is rounded, and where."""
        settings, points = self._settings, self._points(higher)
        if any(name not in self._seen.observers for name in points.edges):  # a branch is rounded further on than before
            self._seen = self._observed(points)
        edges = edge_points(points, self._seen, settings.ranges, settings.percentile, settings.value_bits)
        bits = dict.fromkeys(points.weights, settings.bits_of_weights)
        bits |= {path: settings.bits_of_raised for path in higher.raised if path in bits}
        weights = weight_points(self.folded.network, points, edges, bits, settings.weight_axis, settings.weight_ranges)
        made = {weight_point(path): point for path, point in weights.items()} | edges
        stated = {**asdict(settings), "keep_float": list(settings.keep_float)}
        calibration = {"settings": stated, **self.pictures.described()}
        if higher.raised:
            calibration["raised"] = dict(higher.raised)
        return QuantizationPlan(made, points.carried, points.stayed_float, calibration, points.shared), points

    def quantized(self, higher: HigherPrecision, rounding: str) -> tuple[Detector, QuantizationPlan]:
        """A detector with fake quantization inside, and its plan.  The last is kept, since learning takes long."""
        if self._last is None or self._last[0] != (higher, rounding):
            self._last = (higher, rounding), self._made(higher, rounding)
        return self._last[1]

    def _made(self, higher: HigherPrecision, rounding: str) -> tuple[Detector, QuantizationPlan]:
        plan, _ = self.plan(higher)
        changed = self.folded.copy()
        if rounding == "adaround":
            self._learn_rounding(changed.network, plan)
        elif self._settings.correct_biases:
            correct_biases(changed.network, plan, self._seen.input_means)
        edit = InsertQuantizers(plan)
        edit.redo(changed.network)
        return self.folded.edited(edit, changed.network), plan

    def _learn_rounding(self, network: nn.Module, plan: QuantizationPlan) -> None:
        settings, context = self._settings, self._context
        images = self.pictures.first(min(settings.adaround_pictures, most_pictures(context.input_size)))
        results = adaround(
            network,
            self.folded.network,
            plan,
            self._graph,
            images,
            settings.adaround_steps,
            settings.correct_biases,
            context.seed,
            training_device(context.device),
        )
        better = sum(item.chosen < item.nearest for item in results)
        context.log(
            f"quantize: adaround on {len(images)} pictures lowered the error of {better} of {len(results)} layers, "
            f"by {gain(results):.2f} times in the geometric mean"
        )

    def _points(self, higher: HigherPrecision) -> Points:
        settings = self._settings
        paths = (*settings.keep_float, *higher.in_float)
        points = choose_points(self.folded.network, self._graph, settings.attention, paths, settings.before_activation)
        parts = (
            replace(part, why=higher.in_float.get(_module_of(part.name)) or part.why) for part in points.stayed_float
        )
        return replace(points, stayed_float=tuple(parts))

    def _observed(self, points: Points) -> Seen:
        return observe(self.folded.network, points, self.pictures.batches(_BATCH))


def _weights_in_words(plan: QuantizationPlan) -> str:
    counts = Counter(point.bits for point in plan.weights().values())
    return ", ".join(f"{count} weights in INT{bits}" for bits, count in sorted(counts.items())) or "0 weights"


def _module_of(operator: str) -> str:
    return operator.rpartition("/")[0]


def signal_to_noise_db(before: nn.Module, after: nn.Module, images: Tensor) -> float:
    """Signal-to-noise ratio of the raw maps in dB.  Raises DeadDetectorError where the scores have gone."""
    with torch.inference_mode():
        expected, got = before.eval()(images), after.eval()(images)
    best_before, best_after = (_best_score(maps) for maps in (expected, got))
    if not best_after > _ALIVE * best_before:
        raise DeadDetectorError(
            f"quantize: the detector no longer answers: its best scores on {len(images)} calibration pictures are "
            f"{best_after:.3f} on average, {best_before:.3f} before. Try other ranges (mse, min_max), more pictures, "
            "or keep_float for its most sensitive layers."
        )
    signal = sum(float(item.double().square().mean()) for item in expected)
    noise = sum(float((a.double() - b.double()).square().mean()) for a, b in zip(expected, got))
    return 10 * math.log10(signal / noise) if noise > 0 else math.inf


def _best_score(maps: tuple[Tensor, ...]) -> float:
    """The highest score of each picture, averaged.  maps: (box, class, box, class, ...)"""
    best = torch.stack([item.flatten(1).amax(1) for item in maps[1::2]]).amax(0)  # (B,) logits
    return float(best.sigmoid().mean())
