"""Fake quantization inside a network: its forward rounds weights and values as a plan says, in float arithmetic.

The network keeps its modules, its parameters and their names.  It gets one more submodule, `quantizers`, which holds
every scale and zero point as a buffer, and two hooks of its own: while a forward pass runs, each PyTorch call goes by
`Quantizers.on_op`, which rounds what the plan names.  Gradients pass straight through rounding and stop where a value
is clipped (straight-through estimator, Bengio 2013, 1308.3432), so training such a network is quantization-aware
training.  Whoever calls `network(images)` sees the rounding: evaluation, training, tracing and export alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from helmlite.compress.rounding.quantization_plan import IMAGES, QuantizationPlan, QuantPoint, weight_point
from helmlite.detector.trace import intercept

QUANTIZERS = "quantizers"  # name of the submodule


@dataclass(frozen=True)
class PlannedRounding:
    """What the edits that follow a quantization plan have in common."""

    plan: QuantizationPlan

    def redo(self, network: nn.Module) -> None:
        """Inserts in place.  Raises ValueError where a weight of the plan is missing or of another shape."""
        insert(network, self.plan)

    def to_json(self) -> dict[str, Any]:
        return {"plan": self.plan.to_json()}

    @classmethod
    def from_json(cls: type[_Edit], values: Mapping[str, Any]) -> _Edit:
        return cls(QuantizationPlan.from_json(values["plan"]))


_Edit = TypeVar("_Edit", bound=PlannedRounding)


@dataclass(frozen=True)
class InsertQuantizers(PlannedRounding):
    """Rounds what the plan names, in every forward pass."""

    kind: ClassVar[str] = "insert_quantizers"


def insert(network: nn.Module, plan: QuantizationPlan) -> None:
    """Rounds what the plan names in every forward pass of `network`, in place.

    Raises ValueError where a weight of the plan is missing or of another shape.
    """
    for path, point in plan.weights().items():
        weight = getattr(network.get_submodule(path), "weight", None)
        if not isinstance(weight, Tensor) or not _fits(weight, point):
            raise ValueError(f"The quantization plan does not fit the network: no weight of its shape at '{path}'.")
    network.add_module(QUANTIZERS, Quantizers(plan))
    network.register_forward_pre_hook(_open)
    network.register_forward_hook(_close, always_call=True)


def _fits(weight: Tensor, point: QuantPoint) -> bool:
    if point.axis is None:
        return True
    if not point.group:
        return weight.shape[point.axis] == len(point.scales)
    return weight.shape[1] % point.group == 0 and weight.shape[0] * weight.shape[1] // point.group == len(point.scales)


class Rounding(Protocol):
    """How rounding is done: in PyTorch, or as the nodes of an exported graph."""

    def value(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor: ...

    def weight(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor: ...

    def carried(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor: ...


class FakeRounding:
    """Rounding in float arithmetic, with gradients."""

    def value(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        exact = tensor.float()  # under autocast it may come in BF16
        rounded = torch.fake_quantize_per_tensor_affine(exact, scale, zero_point, point.low, point.high)
        return rounded.to(tensor.dtype)

    def weight(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        return rounded_weight(tensor, point, scale, zero_point)

    def carried(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        return tensor  # it lies on the grid already


def rounded_weight(weight: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
    """The weight as its integers stand for it."""
    if point.axis is None:
        return torch.fake_quantize_per_tensor_affine(weight, scale, zero_point, point.low, point.high)
    lines = in_lines(weight, point)
    rounded = torch.fake_quantize_per_channel_affine(lines, scale, zero_point, point.axis, point.low, point.high)
    return rounded.reshape(weight.shape)


def in_lines(weight: Tensor, point: QuantPoint) -> Tensor:
    """The weight so that index i along the point's axis has scale i.

    That is the weight itself; in groups, (outputs, inputs, h, w) -> (outputs * groups, inputs of a group * h * w).
    """
    return weight.reshape(len(point.scales), -1) if point.group else weight


class Steps(Protocol):
    """Scales that are being learned (learned_steps.py)."""

    def scale(self, name: str, start: Tensor) -> Tensor:
        """The scale of a point as it is now.  start: as the plan has it"""
        ...


class Quantizers(nn.Module):
    """A network's scales and zero points, as buffers, and what rounds with them.

    rounding: replaced by an exporter, on its own copy of the network
    steps:    while the scales are learned, what they are now; the buffers then hold where they began
    """

    def __init__(self, plan: QuantizationPlan) -> None:
        super().__init__()
        self.plan = plan
        self.rounding: Rounding = FakeRounding()
        self.steps: Steps | None = None
        self._keys: dict[str, str] = {}
        for name, point in plan.points.items():
            self._keys[name] = name.replace(".", ":")  # a buffer's name has no dots
            shape = () if point.axis is None else (len(point.scales),)
            self.register_buffer(f"{self._keys[name]}|scale", torch.tensor(point.scales).view(shape))
            zero_points = torch.tensor(point.zero_points, dtype=torch.int32).view(shape)
            self.register_buffer(f"{self._keys[name]}|zero_point", zero_points)
        self._weighted = frozenset(plan.weights())
        self._pass: AbstractContextManager[None] | None = None
        self._met: set[str] = set()

    def tensors(self, name: str) -> tuple[Tensor, Tensor]:
        """Scale and zero point of a point as they are now."""
        key = self._keys[name]
        scale, zero_point = getattr(self, f"{key}|scale"), getattr(self, f"{key}|zero_point")
        return scale if self.steps is None else self.steps.scale(name, scale), zero_point

    def current_plan(self) -> QuantizationPlan:
        """The plan with the scales that the network has now."""
        points = {}
        for name, point in self.plan.points.items():
            scale, zero_point = (item.reshape(-1).tolist() for item in self.tensors(name))
            points[name] = replace(point, scales=tuple(scale), zero_points=tuple(zero_point))
        return replace(self.plan, points=points)

    def on_op(
        self, name: str, module: str, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[..., Any]
    ) -> Any:
        """Runs one PyTorch call of the forward pass with its weight and results rounded where the plan says so."""
        if kind in ("conv2d", "linear") and module in self._weighted:
            args = (args[0], self._weight(args[1], weight_point(module)), *args[2:])
        result = run(*args, **kwargs)
        if isinstance(result, Tensor):
            return self._result(result, name)
        if isinstance(result, (tuple, list)):
            return type(result)(self._result(item, f"{name}[{index}]") for index, item in enumerate(result))
        return result

    def open(self, network: nn.Module) -> None:
        """Begins a forward pass."""
        self._met = set()
        self._pass = intercept(network, self.on_op)
        self._pass.__enter__()

    def close(self, is_complete: bool) -> None:
        """Ends it.  Raises ValueError where a complete pass left out a point: the network is not the plan's."""
        if self._pass is not None:
            self._pass.__exit__(None, None, None)
            self._pass = None
        missed = [name for name in self.plan.points if name not in self._met]
        if is_complete and missed:
            raise ValueError(f"The quantization plan does not fit the network: nothing ran as '{missed[0]}'.")

    def round_images(self, images: Tensor) -> Tensor:
        """The network's input, rounded where the plan says so."""
        return self._result(images, IMAGES)

    def _weight(self, weight: Tensor, name: str) -> Tensor:
        self._met.add(name)
        return self.rounding.weight(weight, self.plan.points[name], *self.tensors(name))

    def _result(self, value: Any, name: str) -> Any:
        if name in self._keys:
            self._met.add(name)
            return self.rounding.value(value, self.plan.points[name], *self.tensors(name))
        source = self.plan.carried.get(name)
        if source is not None:
            return self.rounding.carried(value, self.plan.points[source], *self.tensors(source))
        return value


def has_quantizers(network: nn.Module) -> bool:
    """Whether something in the network is rounded."""
    return isinstance(getattr(network, QUANTIZERS, None), Quantizers)


def quantizers_of(network: nn.Module) -> Quantizers:
    """The quantizers of a network in which something is rounded.  Raises ValueError for any other."""
    found = getattr(network, QUANTIZERS, None)
    if not isinstance(found, Quantizers):
        raise ValueError("The network is not quantized.")
    return found


# The hooks are plain functions of the module that they are called for: a copy of the network then uses its own
# quantizers, which a closure over the first network would not.


def _open(network: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    quantizers = quantizers_of(network)
    images = quantizers.round_images(given[0])
    quantizers.open(network)
    quantizers._met.add(IMAGES)
    return (images, *given[1:])


def _close(network: nn.Module, given: Any, made: Any) -> None:
    quantizers_of(network).close(is_complete=made is not None)
