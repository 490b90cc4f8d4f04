"""Rounding as nodes of an ONNX graph: QuantizeLinear and DequantizeLinear with exactly the plan's numbers.

Weights are stored as the INT8 integers that PyTorch rounded to, followed by one DequantizeLinear, so that a file is a
quarter of its float size and no runtime rounds a weight by a rule of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from helmlite.compress.insert_quantizers import rounded_weight
from helmlite.compress.quantization_plan import QuantPoint


@dataclass(frozen=True)
class OnnxRounding:
    """A `Rounding` whose trace becomes Q/DQ nodes.

    repeat_carried: also rounds what lies on a grid already (after concatenation, upsampling, splitting).  It changes no
                    number, but ONNX Runtime runs an operator on integers only where Q/DQ stand on all its sides
    """

    repeat_carried: bool

    def value(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        _check_exportable(point)
        return _rounded_value(tensor, float(scale), int(zero_point))

    def weight(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        _check_exportable(point)
        integers = stored_integers(tensor.detach(), point, scale, zero_point)
        return _stored_weight(tensor, _Stored(integers, scale.detach().clone(), point.axis))

    def carried(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        return self.value(tensor, point, scale, zero_point) if self.repeat_carried else tensor


def stored_integers(weight: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
    """The INT8 integers of a weight, those that fake quantization rounds to."""
    rounded = rounded_weight(weight, point, scale, zero_point)
    shape = [1] * weight.ndim
    if point.axis is not None:
        shape[point.axis] = -1
    return torch.round(rounded.double() / scale.double().view(shape)).to(torch.int8)


def _check_exportable(point: QuantPoint) -> None:
    if point.bits != 8:
        raise ValueError(f"ONNX export knows 8 bits; a point of the plan has {point.bits}.")


@dataclass(frozen=True)
class _Stored:
    """A weight's integers and scales, kept out of the traced graph until its symbol is written."""

    integers: Tensor
    scales: Tensor
    axis: int | None


class _RoundValue(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, scale: float, zero_point: int) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(tensor, scale, zero_point, 0, 255)

    @staticmethod
    def symbolic(g: Any, tensor: Any, scale: float, zero_point: int) -> Any:
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


def _rounded_value(tensor: Tensor, scale: float, zero_point: int) -> Tensor:
    made: Tensor = _RoundValue.apply(tensor, scale, zero_point)
    return made


def _stored_weight(weight: Tensor, stored: _Stored) -> Tensor:
    made: Tensor = _StoreWeight.apply(weight, stored)
    return made
