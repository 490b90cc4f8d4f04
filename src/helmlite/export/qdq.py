"""Rounding as nodes of an ONNX graph: QuantizeLinear and DequantizeLinear with exactly the plan's numbers.

Weights are stored as the INT8 integers that PyTorch rounded to, followed by one DequantizeLinear, so that a file is a
quarter of its float size and no runtime rounds a weight by a rule of its own.

Fewer than 8 bits are stored in 8-bit containers: weights of 4 bits as INT8 integers from -7 to 7, values of 4 bits as
UINT8 from 0 to 15, with a Clip before the rounding because QuantizeLinear saturates at 255 only.  The numbers are
PyTorch's, every runtime runs them, and none gains speed by them; the file's metadata says how many bits they need
(`helmlite.weight_bits`, `helmlite.value_bits`).  INT4 tensors of ONNX need opset 21, which older runtimes do not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from helmlite.compress.rounding.insert_quantizers import in_lines, rounded_weight
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, QuantPoint


@dataclass(frozen=True)
class OnnxRounding:
    """A `Rounding` whose trace becomes Q/DQ nodes.

    repeat_carried: also rounds what lies on a grid already (after concatenation, upsampling, splitting).  It changes no
                    number, but ONNX Runtime runs an operator on integers only where Q/DQ stand on all its sides
    """

    repeat_carried: bool

    def value(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        step, zero = float(scale), int(zero_point)
        if point.high < 255:
            tensor = tensor.clamp((point.low - zero) * step, (point.high - zero) * step)
        return _rounded_value(tensor, step, zero, point.high)

    def weight(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        integers = stored_integers(tensor.detach(), point, scale, zero_point)
        stored = _Stored(integers, scale.detach().clone(), point.axis)
        rounded = _stored_weight(in_lines(tensor, point), stored)
        # without groups there is no Reshape: runtimes look for the integers right before the convolution
        return rounded.reshape(tensor.shape) if point.group else rounded

    def carried(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        return self.value(tensor, point, scale, zero_point) if self.repeat_carried else tensor


def stored_integers(weight: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
    """The INT8 integers of a weight, those that fake quantization rounds to, in lines of one scale (`in_lines`)."""
    rounded = in_lines(rounded_weight(weight, point, scale, zero_point), point)
    shape = [1] * rounded.ndim
    if point.axis is not None:
        shape[point.axis] = -1
    return torch.round(rounded.double() / scale.double().view(shape)).to(torch.int8)


def bits_metadata(plan: QuantizationPlan) -> dict[str, str]:
    """What an ONNX file says about the bits that its integers need, for the weights and the other values."""
    sides = {"helmlite.weight_bits": plan.weights(), "helmlite.value_bits": plan.edges()}
    found = {name: sorted({point.bits for point in points.values()}) for name, points in sides.items()}
    return {name: ", ".join(map(str, bits)) for name, bits in found.items() if bits}


@dataclass(frozen=True)
class _Stored:
    """A weight's integers and scales, kept out of the traced graph until its symbol is written."""

    integers: Tensor
    scales: Tensor
    axis: int | None


class _RoundValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, scale: float, zero_point: int, high: int) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(tensor, scale, zero_point, 0, high)

    @staticmethod
    def symbolic(g: Any, tensor: Any, scale: float, zero_point: int, high: int) -> Any:
        step = g.op("Constant", value_t=torch.tensor(scale, dtype=torch.float32))
        zero = g.op("Constant", value_t=torch.tensor(zero_point, dtype=torch.uint8))
        integers = g.op("QuantizeLinear", tensor, step, zero)
        return g.op("DequantizeLinear", integers, step, zero).setType(tensor.type())


class _StoreWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, stored: _Stored) -> Tensor:
        return weight.clone()

    @staticmethod
    def symbolic(g: Any, weight: Any, stored: _Stored) -> Any:
        integers = g.op("Constant", value_t=stored.integers)
        steps = g.op("Constant", value_t=stored.scales)
        zeros = g.op("Constant", value_t=torch.zeros_like(stored.scales, dtype=torch.int8))
        axis = {} if stored.axis is None else {"axis_i": stored.axis}
        return g.op("DequantizeLinear", integers, steps, zeros, **axis).setType(weight.type())


def _rounded_value(tensor: Tensor, scale: float, zero_point: int, high: int) -> Tensor:
    made: Tensor = _RoundValue.apply(tensor, scale, zero_point, high)
    return made


def _stored_weight(weight: Tensor, stored: _Stored) -> Tensor:
    made: Tensor = _StoreWeight.apply(weight, stored)
    return made
