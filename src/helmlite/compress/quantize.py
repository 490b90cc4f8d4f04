"""INT8 after training, by a plan of our own: calibrated once, read by PyTorch and by every exporter.

    values   unsigned, asymmetric, one scale for each tensor; ranges from the user's own training pictures
    weights  signed, symmetric, one scale for each output channel

BatchNorm is folded first; where rounding goes is read off the traced graph (quantize_points.py).  `Quantize` and then
`Distill` is quantization-aware training.  Sources: Jacob 2018 (1712.05877) for the arithmetic, Nagel 2019 (1906.04721,
section 4.2) for the correction of biases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from helmlite.compress.calibrate import Seen, check_rule, edge_points, mean_shift, observe, weight_points
from helmlite.compress.calibration_pictures import CalibrationPictures
from helmlite.compress.fold_batchnorm import fold_batchnorm
from helmlite.compress.insert_quantizers import InsertQuantizers, Quantizers, rounded_weight
from helmlite.compress.merge_parallel import merge_parallel_convs
from helmlite.compress.order import check_follows
from helmlite.compress.quantization_plan import QuantizationPlan, weight_point
from helmlite.compress.quantize_points import ATTENTION, Points, choose_points
from helmlite.compress.technique import Context
from helmlite.detector.detector import Detector
from helmlite.detector.trace import trace

_BITS = 8
_BATCH = 4
_COMPARED = 8  # pictures
_ALIVE = 0.25  # least share of the float detector's best scores that must be left


class DeadDetectorError(ValueError):
    """Rounding has silenced the detector: its scores are near 0 where the float detector's are not."""


@dataclass(frozen=True)
class Quantize:
    """INT8 weights and values.

    pictures:        of the train split, for calibration
    ranges:          mse | min_max | percentile: how much of what was seen a value's integers span.  On helmet-yolo12m
                     at 320 the raw maps lie 33.9, 32.8 and 24.7 dB above their error; its mAP moves by less than 76
                     pictures can show with any of them
    percentile:      for the rule of that name
    attention:       float | int8: the two matrix products of attention and what lies between them
    keep_float:      paths; convolutions at or below them stay in float
    before_activation: also rounds between a convolution and a SiLU or Hardswish.  OpenVINO does without; ONNX Runtime
                     has no other INT8 convolution, and runs slower than float unless this is set or the activation is
                     ReLU
    correct_biases:  takes the mean error of rounded weights off the biases
    """

    name: ClassVar[str] = "quantize"
    pictures: int = 300
    ranges: str = "mse"
    percentile: float = 99.99
    attention: str = "float"
    keep_float: tuple[str, ...] = ()
    before_activation: bool = False
    correct_biases: bool = True

    def __post_init__(self) -> None:
        check_rule(self.ranges, self.percentile)
        if self.attention not in ATTENTION:
            raise ValueError(f"quantize: attention is one of {', '.join(ATTENTION)}; got '{self.attention}'.")
        if self.pictures < 1:
            raise ValueError(f"quantize: needs at least 1 calibration picture; got pictures = {self.pictures}.")

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with fake quantization inside.

        Raises ValueError without calibration pictures, TechniqueOrderError where it is quantized already and
        DeadDetectorError where nothing is left of its scores.
        """
        check_follows(self.name, detector)
        check_paths(detector.network, self.keep_float)
        pictures = CalibrationPictures(context.data, self.pictures, context.input_size, context.seed, context.log)
        folded = merge_parallel_convs(fold_batchnorm(detector))
        graph = trace(folded.network, context.input_size)
        points = choose_points(folded.network, graph, self.attention, self.keep_float, self.before_activation)
        seen = observe(folded.network, points, pictures.batches(_BATCH))
        plan = self._plan(folded, points, seen, pictures)
        edit = InsertQuantizers(plan)
        changed = folded.copy()
        if self.correct_biases:
            _correct_biases(changed.network, plan, seen.input_means)
        edit.redo(changed.network)
        quantized = folded.edited(edit, changed.network)
        signal_to_noise = signal_to_noise_db(folded.network, changed.network, pictures.first(_COMPARED))
        context.log(
            f"quantize: {len(points.weights)} weights and {len(points.edges)} values in INT8, calibrated on "
            f"{len(pictures.used)} pictures; raw maps {signal_to_noise:.1f} dB above their error"
        )
        return quantized

    def _plan(self, folded: Detector, points: Points, seen: Seen, pictures: CalibrationPictures) -> QuantizationPlan:
        edges = edge_points(points, seen, self.ranges, self.percentile, _BITS)
        weights = weight_points(folded.network, points, edges, _BITS)
        made = {weight_point(path): point for path, point in weights.items()} | edges
        settings = {**asdict(self), "keep_float": list(self.keep_float)}
        calibration = {"settings": settings, **pictures.described()}
        return QuantizationPlan(made, points.carried, points.stayed_float, calibration)


def check_paths(network: nn.Module, paths: tuple[str, ...]) -> None:
    known = {path for path, _ in network.named_modules()}
    for path in paths:
        if path not in known:
            raise ValueError(f"quantize: keep_float names '{path}', and the network has no such module.")


def _correct_biases(network: nn.Module, plan: QuantizationPlan, input_means: Mapping[str, Tensor]) -> None:
    """Takes off each bias what rounding the weight adds to the mean of its output channel, in place."""
    quantizers = Quantizers(plan)
    for path, means in input_means.items():
        conv = network.get_submodule(path)
        assert isinstance(conv, nn.Conv2d)
        if conv.bias is not None:
            name = weight_point(path)
            with torch.no_grad():
                rounded = rounded_weight(conv.weight, plan.points[name], *quantizers.tensors(name))
                conv.bias -= mean_shift(conv.weight, rounded, means, conv.groups).to(conv.bias.dtype)


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
