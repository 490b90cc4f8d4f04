"""Where a network is quantized: found in the traced graph, by what reads and what makes each value, never by names.

An operator *wants* integers where an INT8 kernel exists: convolutions and linear layers always, sums, concatenation
and average pooling where their own result is wanted as integers, matrix products of attention where asked for.
A wanted value is rounded where it is made, so that all its readers share one rounding; what only moves numbers
(pooling by maximum, upsampling, splitting, reshaping) carries the grid on.

    conv -> silu -> ROUND -> chunk -+-> conv -> silu -> ROUND -+-> cat -> conv        no rounding between conv and
                                    +--------------------------+                      silu, one scale at a cat

What the network gives is never rounded: the last convolutions of the head have integer inputs and weights and float
results, and the boxes and scores that are decoded from them do not share a scale (the classic way to an INT8 detector
that finds nothing).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from helmlite.compress.paths import is_below
from helmlite.compress.rounding.quantization_plan import IMAGES, FloatPart
from helmlite.detector.trace import Graph, Op

CARRIERS = frozenset(
    "max_pool2d interpolate chunk split getitem view reshape permute transpose flatten unflatten contiguous clone "
    "squeeze unsqueeze expand unbind narrow detach dropout".split()
)
ACTIVATIONS = frozenset("silu relu hardtanh relu6 hardswish sigmoid gelu mish leaky_relu".split())
_UNFUSED = ACTIVATIONS - {"relu", "hardtanh", "relu6"}  # those that ONNX Runtime runs apart from the convolution
_WEIGHTED = ("conv2d", "linear")
_FOLLOWING = ("add", "avg_pool2d", "adaptive_avg_pool2d", "cat")  # integer in, integer out
ATTENTION = ("float", "int8")


@dataclass(frozen=True)
class Points:
    """Where rounding goes.

    weights:      convolutions and linear layers whose weights are rounded -> the edge that they read, by path
    edges:        names of the values that are rounded, in the order in which they are made
    shared:       groups of edges that must have one scale because they meet in a concatenation
    carried:      other wanted values -> the edge whose grid they lie on
    fixed:        edges whose range is known beforehand
    stayed_float: what is not quantized, and why
    """

    weights: Mapping[str, str]
    edges: tuple[str, ...]
    shared: tuple[tuple[str, ...], ...]
    carried: Mapping[str, str]
    fixed: Mapping[str, tuple[float, float]]
    stayed_float: tuple[FloatPart, ...]


def choose_points(
    network: nn.Module,
    graph: Graph,
    attention: str = "float",
    keep_float: tuple[str, ...] = (),
    before_activation: bool = False,
) -> Points:
    """The points of a network with folded BatchNorm.

    attention:  "float" or "int8" for the two matrix products and what lies between them
    keep_float: paths; convolutions at or below them are not quantized
    before_activation: also rounds what a convolution gives to an activation that is no ReLU
    """
    demand = _Demand(network, graph, attention, keep_float, before_activation)
    rounded: dict[int, str] = {}  # value -> edge whose grid it lies on
    edges: list[str] = []
    carried: dict[str, str] = {}
    fixed: dict[str, tuple[float, float]] = {}
    groups = _Groups()
    if demand.is_wanted(0):
        rounded[0] = IMAGES
        edges.append(IMAGES)
    weights: dict[str, str] = {}
    for op in graph.ops:
        if demand.is_quantized(op):
            weights.setdefault(op.module, rounded[op.inputs[0]])
        sources = [rounded.get(value) for value in op.inputs]
        carries = op.kind in CARRIERS or op.kind == "cat"
        if carries and sources and all(source is not None for source in sources):
            for source in sources[1:]:
                groups.join(str(sources[0]), str(source))
            for index, value in enumerate(op.outputs):
                rounded[value] = str(sources[0])
                if demand.is_wanted(value):
                    carried[value_name(op, index)] = str(sources[0])
            continue
        for index, value in enumerate(op.outputs):
            if demand.is_rounded_here(value):
                rounded[value] = value_name(op, index)
                edges.append(rounded[value])
                if op.kind in ("softmax", "sigmoid"):
                    fixed[rounded[value]] = (0.0, 1.0)
    return Points(weights, tuple(edges), groups.all(), carried, fixed, _stayed_float(graph, demand, rounded))


def value_name(op: Op, index: int) -> str:
    """The name of one of an operator's results."""
    return op.name if len(op.outputs) == 1 else f"{op.name}[{index}]"


class _Demand:
    """Which values are wanted as integers, and which some reader must get in float."""

    def __init__(
        self, network: nn.Module, graph: Graph, attention: str, keep_float: tuple[str, ...], before_activation: bool
    ) -> None:
        self._network, self._attention, self._keep_float = network, attention, keep_float
        self._before_activation = before_activation
        self._readers = graph.consumers()
        self._wanted: dict[int, bool] = {}
        self._needed_float: dict[int, bool] = {}
        for op in reversed(graph.ops):
            for value in op.outputs:
                self._look_at(value)
        self._look_at(0)

    def is_wanted(self, value: int) -> bool:
        return self._wanted.get(value, False)

    def is_needed_float(self, value: int) -> bool:
        """Whether some reader, through what only moves or scales numbers, must get it in float."""
        return self._needed_float.get(value, False)

    def is_rounded_here(self, value: int) -> bool:
        """Whether a value that lies on no grid yet is rounded where it is made, or further on (in each branch)."""
        if not self.is_wanted(value):
            return False
        direct = any(op.kind not in CARRIERS and self._wants(op, value) for op in self._readers.get(value, ()))
        return direct or not self._needed_float[value]

    def is_quantized(self, op: Op) -> bool:
        """Whether this operator has a weight and is to run on integers."""
        if op.kind not in _WEIGHTED or self.is_kept(op):
            return False
        return isinstance(self._network.get_submodule(op.module), (nn.Conv2d, nn.Linear))

    def is_kept(self, op: Op) -> bool:
        """Whether the user keeps this operator in float."""
        return is_below(op.module, self._keep_float)

    def _look_at(self, value: int) -> None:
        readers = self._readers.get(value, ())
        self._wanted[value] = any(self._wants(op, value) for op in readers)
        self._needed_float[value] = any(self._needs_float(op) for op in readers)

    def _wants(self, op: Op, value: int) -> bool:
        if op.kind in _WEIGHTED:
            return op.inputs[0] == value and self.is_quantized(op)
        if op.kind == "matmul":
            return self._attention == "int8"
        if op.kind in _UNFUSED:
            return self._before_activation and any(self.is_wanted(output) for output in op.outputs)
        if op.kind in _FOLLOWING and all(number >= 0 for number in op.inputs) and (op.kind != "add" or _has_two(op)):
            return any(self.is_wanted(output) for output in op.outputs)
        return op.kind in CARRIERS and any(self.is_wanted(output) for output in op.outputs)

    def _needs_float(self, op: Op) -> bool:
        if op.kind == "matmul":
            return self._attention == "float"
        if op.kind in CARRIERS or op.kind == "mul":
            return any(self._needed_float[output] for output in op.outputs)
        return op.kind == "softmax"


def _has_two(op: Op) -> bool:
    """Whether a sum is of two tensors: one with a number stays in float."""
    return len(op.inputs) == 2


class _Groups:
    """Edges that must share one scale, joined pair by pair."""

    def __init__(self) -> None:
        self._group_of: dict[str, list[str]] = {}

    def join(self, first: str, second: str) -> None:
        mine, other = (self._group_of.setdefault(name, [name]) for name in (first, second))
        if mine is not other:
            mine.extend(other)
            for name in other:
                self._group_of[name] = mine

    def all(self) -> tuple[tuple[str, ...], ...]:
        distinct = {id(group): tuple(group) for group in self._group_of.values() if len(group) > 1}
        return tuple(distinct.values())


def _stayed_float(graph: Graph, demand: _Demand, rounded: Mapping[int, str]) -> tuple[FloatPart, ...]:
    """Operators that compute in float, those aside that belong to a convolution's kernel: activations, and BatchNorm
    behind a shared weight, which exporters fold."""
    parts = []
    for op in graph.ops:
        if op.kind in CARRIERS or op.kind in ACTIVATIONS or op.kind == "batch_norm":
            continue
        if op.kind in _WEIGHTED and demand.is_quantized(op):
            if any(value in graph.results for value in op.outputs):
                parts.append(FloatPart(op.name, "integer inputs and weights, float result: the head's raw maps"))
            continue
        takes_integers = op.kind in _FOLLOWING or op.kind == "matmul"
        if takes_integers and all(value in rounded for value in op.inputs):
            continue
        if demand.is_kept(op):
            why = "kept in float as asked for"
        elif op.kind in ("matmul", "softmax") or any(demand.is_needed_float(value) for value in op.outputs):
            why = "attention: products and softmax of a wide range"
        elif takes_integers:
            why = "its result goes into float operators only"
        else:
            why = f"no integer kernel for {op.kind}"
        parts.append(FloatPart(op.name, why))
    parts.append(
        FloatPart("decode", "boxes in pixels and scores in [0, 1] cannot share a scale; DFL needs its softmax")
    )
    return tuple(parts)
