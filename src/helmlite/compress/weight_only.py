"""Weight-only quantization: the file gets smaller, and nothing runs faster.

Weights are stored as integers of 8 or 4 bits with their scales, and every value is computed in float.  Runtimes turn
the integers back into float weights when they load the file.  For those who pay by the megabyte (a download over a
mobile network, flash memory) and cannot lose what INT8 values cost; for speed there is `quantize`.

    w  ->  s * clip(round(w / s), -q, q)      q = 127 or 7; the s of least squared error among 26 shares of max|w| / q

With 8 bits each output channel has a scale.  With 4 bits a scale serves `group_size` input channels of one output
(groups as for language models: Dettmers 2023, 2212.09720), since 15 steps for a whole channel are few.  Rounding is to
nearest; a few pictures show what it does to the means, which is taken off the biases (`tiny` on real pictures: 19.8 mAP
without, 22.6 with, 24.6 in float).  Trained further, the network sees its rounded weights, as after `quantize`
(straight-through estimator); `Distill(step_sizes=True)` moves the scales too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.order import check_follows
from helmlite.compress.paths import check_path_list, check_paths, is_below
from helmlite.compress.rounding.bias_correction import correct_biases, measured_input_means
from helmlite.compress.rounding.calibration_pictures import CalibrationPictures
from helmlite.compress.rounding.insert_quantizers import quantizers_of, rounded_weight
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, QuantPoint, weight_point
from helmlite.compress.rounding.round_weights import RoundWeights
from helmlite.compress.technique import Context
from helmlite.detector.detector import Detector
from helmlite.detector.trace import trace

BITS = (4, 8)
_BATCH = 4
_TRACED_SIZE = 64  # pixels; which layers have weights does not depend on it
_SHARES = torch.linspace(1.0, 0.5, 26).tolist()


@dataclass(frozen=True)
class WeightOnly:
    """INT8 or INT4 weights, float values.

    bits:       8 | 4
    group_size: with 4 bits, input channels that share a scale (less where that does not divide a layer's); 0 means all
                input channels of an output channel.  A scale takes as much room as 8 weights of 4 bits
    keep:       paths; layers at or below them keep float weights
    pictures:   of the train split, on which the mean error of rounded weights is taken off the biases; 0: they stay
    """

    name: ClassVar[str] = "weight_only"
    bits: int = 8
    group_size: int = 32
    keep: tuple[str, ...] = ()
    pictures: int = 64

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"weight_only: bits is 4 or 8; got {self.bits}.")
        if self.group_size < 0:
            raise ValueError(f"weight_only: group_size must be 0 (all input channels) or more; got {self.group_size}.")
        check_path_list(self.name, "keep", self.keep)
        if self.pictures < 0:
            raise ValueError(f"weight_only: pictures must be 0 (biases stay) or more; got {self.pictures}.")

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with rounded weights.

        Raises ValueError for a path that is not there and where no layer is left to round, TechniqueOrderError where
        its weights lie on a grid already.
        """
        check_follows(self.name, detector)
        check_paths(self.name, "keep", detector.network, self.keep)
        folded = merge_parallel_convs(fold_batchnorm(detector))
        plan = self._plan(folded.network)
        edit = RoundWeights(plan)
        changed = folded.copy()
        if self.pictures:
            pictures = CalibrationPictures(
                context.data, self.pictures, context.input_size, context.seed, context.log, self.name
            )
            means = measured_input_means(folded.network, pictures.batches(_BATCH))
            correct_biases(changed.network, plan, means)
        edit.redo(changed.network)
        context.log(
            f"weight_only: {len(plan.points)} weights in INT{self.bits}, {weights_above_error_db(changed.network):.1f} "
            "dB above their error; the file gets smaller, and nothing runs faster"
        )
        return folded.edited(edit, changed.network)

    def stand_in(self) -> WeightOnly:
        """The same rounding without a look at pictures."""
        return replace(self, pictures=0)

    def _plan(self, network: nn.Module) -> QuantizationPlan:
        paths = [op.module for op in trace(network, _TRACED_SIZE).ops if op.kind in ("conv2d", "linear")]
        group_size = self.group_size if self.bits == 4 else 0
        points = {}
        for path in dict.fromkeys(paths):
            module = network.get_submodule(path)
            if isinstance(module, (nn.Conv2d, nn.Linear)) and not is_below(path, self.keep):
                points[weight_point(path)] = nearest_point(module.weight.detach(), self.bits, group_size)
        if not points:
            raise ValueError("weight_only: no layer is left to round; name fewer in keep.")
        return QuantizationPlan(points)


def nearest_point(weight: Tensor, bits: int, group_size: int = 0) -> QuantPoint:
    """Signed rounding of a weight (outputs, inputs, ...) with the scales of least squared error.

    group_size: input channels that share a scale, 0 for all; taken down to the next divisor of the inputs

    >>> nearest_point(torch.tensor([[0.7, -0.2], [1.4, 1.4]]), bits=4).scales  # 0.1: 7 and -2; 0.2: 7 and 7
    (0.10000000149011612, 0.20000000298023224)
    """
    outputs, inputs = weight.shape[:2]
    group = 0 if group_size == 0 or group_size >= inputs else _divisor(inputs, group_size)
    count = outputs * (inputs // group if group else 1)
    lines = weight.reshape(count, -1)
    highest = 2 ** (bits - 1) - 1
    largest = lines.abs().amax(1)
    largest = torch.where(largest > 0, largest, 1.0).clamp(min=1e-30)  # a line of zeros takes any scale
    best, least = largest / highest, torch.full_like(largest, math.inf)
    for share in _SHARES:
        scales = largest * share / highest
        steps = (lines / scales[:, None]).round_().clamp_(-highest, highest)
        errors = (steps * scales[:, None] - lines).square_().sum(1)
        best, least = torch.where(errors < least, scales, best), torch.minimum(errors, least)
    return QuantPoint(bits, tuple(best.tolist()), (0,) * count, axis=0, signed=True, group=group)


def weights_above_error_db(network: nn.Module) -> float:
    """How far all rounded weights of a network together lie above what rounding does to them, in dB."""
    quantizers = quantizers_of(network)
    signal = noise = 0.0
    for path, point in quantizers.plan.weights().items():
        weight = network.get_submodule(path).weight
        assert isinstance(weight, Tensor)
        rounded = rounded_weight(weight.detach(), point, *quantizers.tensors(weight_point(path)))
        signal += float(weight.detach().double().square().sum())
        noise += float((rounded - weight.detach()).double().square().sum())
    return 10 * math.log10(signal / noise) if noise > 0 else math.inf


def _divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is not above `most`."""
    return next(item for item in range(most, 0, -1) if number % item == 0)
