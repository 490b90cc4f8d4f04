"""Learned step sizes (LSQ, Esser 2020, arXiv 1902.08153): quantization-aware training that moves the scales too.

Rounding is r = clip(round(v / s), -Qn, Qp) * s.  Its gradients are those of the paper (equations 3 and 5):

    dr/ds = round(v / s) - v / s    where -Qn < v / s < Qp        dr/dv = 1
            -Qn                     where v / s <= -Qn                    0
             Qp                     where v / s >=  Qp                    0

and the one of s is multiplied by g = 1 / sqrt(N * Qp), with N weights in the layer or N values in one picture's tensor.
Unsigned values have a zero point z, which stays: Qn = z and Qp = 2^bits - 1 - z.  This is LSQ+ (Bhalgat 2020,
arXiv 2004.09576, equations 2 to 4) with its offset tied to the scale, beta = -z * s, since runtimes want 0 exact.

What the optimizer moves is not s but p, with s = s0 * exp(p), s0 being the calibrated scale:
    - s is above 0 whatever happens, and a step of Adam changes it by about the learning rate, relative to itself; on s
      the rate of 1e-4 would be a tenth of a typical scale of 1e-3 at every step;
    - dL/dp = s * dL/ds, divided by the mean square of the tensor's s0.  The constant makes one step of plain SGD move s
      by the same share as the paper's step on s does; Adam would not notice it, but for its epsilon, which g would
      otherwise drown the gradient in;
    - p stays within a factor of 4, and a scale that its bias cannot do with less of (a dead channel: runtimes keep
      biases in 32 bits) does not fall.
Edges that meet in a concatenation share one p, so that they keep one scale, and so do the uses of one tied weight:
their integers would otherwise differ and be stored for each use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from helmlite.compress.edits.shared_weights import shared_weights
from helmlite.compress.rounding.insert_quantizers import (
    QUANTIZERS,
    InsertQuantizers,
    Quantizers,
    has_quantizers,
    in_lines,
    quantizers_of,
)
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, QuantPoint, weight_point
from helmlite.compress.rounding.round_weights import RoundWeights
from helmlite.detector.detector import Batch, Detector, Edit
from helmlite.detector.objective import Objective

_FARTHEST = math.log(4.0)
_MOST_BIAS_STEPS = 2.0**27  # of (weight's scale * value's scale): both may fall by 4 and the bias still fits 32 bits


def learned_steps(detector: Detector) -> Detector:
    """The same detector, its scales as parameters: same answers, same edits, and training moves the scales too.

    Raises ValueError where nothing in it is rounded.
    """
    if not has_quantizers(detector.network):
        raise ValueError("distill: step_sizes needs a quantized detector; put quantize before distill.")
    learning = detector.copy()
    quantizers = quantizers_of(learning.network)
    tied = [tuple(map(weight_point, paths)) for paths in shared_weights(learning.network)]
    quantizers.steps = LearnedSteps(quantizers, _biases(learning.network, quantizers.plan), tied)
    quantizers.rounding = LearnedRounding()
    return learning


def settled_steps(detector: Detector) -> Detector:
    """The detector with its learned scales as the plan of its edit and as buffers again."""
    settled = detector.copy()
    plan = quantizers_of(settled.network).current_plan()
    plan = replace(plan, calibration={**plan.calibration, "step_sizes": "learned"})
    settled.network.add_module(QUANTIZERS, Quantizers(plan))
    return replace(settled, edits=tuple(_with_plan(edit, plan) for edit in settled.edits))


def _with_plan(edit: Edit, plan: QuantizationPlan) -> Edit:
    return replace(edit, plan=plan) if isinstance(edit, (InsertQuantizers, RoundWeights)) else edit


class LearnedSteps(nn.Module):
    """One parameter for each weight, edge or group of either: by how much its scales differ from where they began.

    quantizers: whose buffers hold where they begin
    tied:       groups of points that are one weight; those that are rounded alike keep one scale
    biases:     by path, the absolute biases (one for each scale) of the modules whose biases runtimes store in 32 bits
    """

    def __init__(
        self, quantizers: Quantizers, biases: Mapping[str, Tensor], tied: Sequence[tuple[str, ...]] = ()
    ) -> None:
        super().__init__()
        plan = quantizers.plan
        groups = [*plan.shared, *_rounded_alike(plan, tied)]
        leaders = {name: group[0] for group in groups for name in group}
        smallest = min((point.scales[0] for point in plan.edges().values()), default=math.inf)
        self._key_of: dict[str, str] = {}
        self._units: dict[str, float] = {}
        for name in plan.points:
            leader = leaders.get(name, name)
            self._key_of[name] = key = leader.replace(".", ":")  # a parameter's name has no dots
            if leader != name:
                continue
            start, _ = quantizers.tensors(name)
            self.register_parameter(key, nn.Parameter(torch.zeros_like(start)))
            self.register_buffer(f"{key}|lowest", torch.full_like(start, -_FARTHEST))
            self._units[key] = float(start.double().square().mean())
        for name, bias in biases.items():
            start, _ = quantizers.tensors(name)
            lowest: Tensor = getattr(self, f"{self._key_of[name]}|lowest")
            lowest[bias > _MOST_BIAS_STEPS * smallest * start] = 0.0

    def scale(self, name: str, start: Tensor) -> Tensor:
        """The scale of a point as it is now.  start: as the plan has it"""
        key = self._key_of[name]
        made: Tensor = _Scale.apply(getattr(self, key), start, self._units[key])
        return made

    def keep_in_bounds(self) -> None:
        """Takes back what went too far, in place."""
        with torch.no_grad():
            for key, parameter in self.named_parameters():
                parameter.copy_(parameter.clamp(max=_FARTHEST).maximum(getattr(self, f"{key}|lowest")))


def _rounded_alike(plan: QuantizationPlan, tied: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Of each tied weight the uses that the plan rounds in one way (a use may have stayed in float)."""
    found = []
    for names in tied:
        alike: dict[QuantPoint, list[str]] = {}
        for name in names:
            if name in plan.points:
                alike.setdefault(plan.points[name], []).append(name)
        found += [tuple(group) for group in alike.values() if len(group) > 1]
    return found


class LearnedRounding:
    """Rounding in float arithmetic, with gradients for the scales."""

    def value(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        values = tensor.numel() // len(tensor)  # of one picture
        return round_to_steps(tensor.float(), point, scale, zero_point, values).to(tensor.dtype)

    def weight(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        return round_to_steps(tensor, point, scale, zero_point, tensor.numel())

    def carried(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        return tensor  # it lies on the grid already


def round_to_steps(tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor, count: int) -> Tensor:
    """`tensor` rounded as in any other forward pass, with the paper's gradients for itself and for `scale`.

    count: N in g = 1 / sqrt(N * Qp)
    """
    lines = in_lines(tensor, point)
    above = max(point.high - int(zero_point.min()), 1)  # a value that is never positive has no Qp
    factor = 1 / math.sqrt(count * above)
    made: Tensor = _Round.apply(lines, scale, zero_point, point.axis, (point.low, point.high), factor)
    return made.reshape(tensor.shape)


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tensor: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        axis: int | None,
        limits: tuple[int, int],
        factor: float,
    ) -> Tensor:
        ctx.save_for_backward(tensor, scale, zero_point)
        ctx.axis, ctx.limits, ctx.factor = axis, limits, factor
        if axis is None:
            return torch.fake_quantize_per_tensor_affine(tensor, scale, zero_point, *limits)
        return torch.fake_quantize_per_channel_affine(tensor, scale, zero_point, axis, *limits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tensor, scale, zero_point = ctx.saved_tensors
        low, high = ctx.limits
        shape, others = [1] * tensor.ndim, list(range(tensor.ndim))
        if ctx.axis is not None:
            shape[ctx.axis] = -1
            others.remove(ctx.axis)
        steps = tensor / scale.view(shape)  # v / s
        lowest, highest = low - zero_point.view(shape), high - zero_point.view(shape)  # -Qn, Qp
        is_inside = (steps > lowest) & (steps < highest)
        by_scale = torch.where(is_inside, steps.round() - steps, steps.maximum(lowest).minimum(highest))
        for_scale = (gradients[0] * by_scale).sum(others).view(scale.shape) * ctx.factor
        return gradients[0] * is_inside, for_scale, None, None, None, None


class _Scale(torch.autograd.Function):
    """start * exp(parameter); the gradient is divided by `unit`, the mean square of `start`."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, start: Tensor, unit: float) -> Tensor:
        scale = start * parameter.exp()
        ctx.save_for_backward(scale)
        ctx.unit = unit
        return scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = ctx.saved_tensors
        return gradients[0] * scale / ctx.unit, None, None


class WithBoundedSteps:
    """Another objective, which also keeps the step sizes in their bounds."""

    def __init__(self, inner: Objective) -> None:
        self._inner = inner

    def identity(self) -> Mapping[str, Any]:
        return {"step_sizes": "learned", **self._inner.identity()}

    def parameters(self) -> Iterable[nn.Parameter]:
        return self._inner.parameters()

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        return self._inner.loss(network, batch, step)

    def after_step(self, network: nn.Module, step: int) -> None:
        self._inner.after_step(network, step)
        steps = quantizers_of(network).steps
        assert isinstance(steps, LearnedSteps)
        steps.keep_in_bounds()

    def epoch_ended(self) -> None:
        self._inner.epoch_ended()

    def state_dict(self) -> dict[str, Tensor]:
        return self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._inner.load_state_dict(state)


def _biases(network: nn.Module, plan: QuantizationPlan) -> dict[str, Tensor]:
    """By point, what the bias beside each scale of a rounded weight amounts to."""
    found = {}
    for path, point in plan.weights().items():
        bias = getattr(network.get_submodule(path), "bias", None)
        if isinstance(bias, Tensor) and not point.group:  # weights in groups never run in integers
            found[weight_point(path)] = bias.detach().abs() if point.axis == 0 else bias.detach().abs().amax()
    return found
