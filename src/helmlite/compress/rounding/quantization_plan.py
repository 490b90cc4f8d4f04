"""The quantization plan: plain data that says at which tensors a network is rounded to integers, and how.

    q = clip(round(x / scale) + zero_point, low, high)            x  is replaced by  (q - zero_point) * scale

A *point* is one tensor.  `model.4.cv1.conv:weight` is a weight; `model.4.cv1.act/silu` is what that operator gives
(names as in detector/trace.py); `model.10.attn/split[2]` the third result of an operator with several; `images` the
network's input.  PyTorch, ONNX and every later exporter read the same plan: none of them calibrates anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

IMAGES = "images"
_WEIGHT = ":weight"


@dataclass(frozen=True)
class QuantPoint:
    """How one tensor is rounded.

    scales, zero_points: one for the tensor, or one for each index along `axis`
    group:  of a weight (outputs, inputs, ...) with axis 0: this many inputs in a row share a scale, which are then
            in order of output and group; 0 means all of them
    signed: integers from -(2^(bits-1) - 1) to 2^(bits-1) - 1, symmetric about 0; else from 0 to 2^bits - 1
    """

    bits: int
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None
    signed: bool = False
    group: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"A quantization point has 2 to 8 bits; got {self.bits}.")
        if not self.scales or len(self.scales) != len(self.zero_points) or (self.axis is None and len(self.scales) > 1):
            raise ValueError(
                f"A quantization point needs as many zero points as scales, one without an axis; "
                f"got {len(self.scales)} scales, {len(self.zero_points)} zero points and axis {self.axis}."
            )
        if self.group < 0 or (self.group and self.axis != 0):
            raise ValueError(f"Groups of inputs belong to axis 0; got group {self.group} and axis {self.axis}.")
        if not all(0 < scale < float("inf") for scale in self.scales):
            raise ValueError("Scales are finite and above 0.")
        if not all(self.low <= zero_point <= self.high for zero_point in self.zero_points):
            raise ValueError(f"Zero points lie in {self.low} .. {self.high}, so that 0 is kept exactly.")

    @property
    def low(self) -> int:
        """The smallest integer."""
        return -(2 ** (self.bits - 1) - 1) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest integer."""
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1


@dataclass(frozen=True)
class FloatPart:
    """One operator that stays in float, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class QuantizationPlan:
    """Where and how a network is quantized.

    points:       name -> rounding
    carried:      results that lie on the grid of a point without being rounded again (name -> that point): pooling,
                  splitting, reshaping, and concatenation of tensors that share one scale
    stayed_float: operators that are not quantized, and why
    calibration:  pictures, their content hash, seed, input size and rule that the ranges come from
    shared:       groups of points that have one scale and zero point because they meet in a concatenation
    """

    points: Mapping[str, QuantPoint]
    carried: Mapping[str, str] = field(default_factory=dict)
    stayed_float: tuple[FloatPart, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    shared: tuple[tuple[str, ...], ...] = ()

    def weights(self) -> dict[str, QuantPoint]:
        """The weights' points, by the path of their module."""
        return {name.removesuffix(_WEIGHT): item for name, item in self.points.items() if name.endswith(_WEIGHT)}

    def edges(self) -> dict[str, QuantPoint]:
        """The points that are not weights."""
        return {name: item for name, item in self.points.items() if not name.endswith(_WEIGHT)}

    def to_json(self) -> dict[str, Any]:
        """Plain lists, numbers, strings and mappings."""
        return {
            "points": {name: _point_json(item) for name, item in self.points.items()},
            "carried": dict(self.carried),
            "stayed_float": stayed_float(self),
            "calibration": dict(self.calibration),
            "shared": [list(group) for group in self.shared],
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> QuantizationPlan:
        """The plan again, equal to the one that was written."""
        points = {name: _point(item) for name, item in values["points"].items()}
        return QuantizationPlan(
            points=points,
            carried=dict(values["carried"]),
            stayed_float=tuple(FloatPart(item["name"], item["why"]) for item in values["stayed_float"]),
            calibration=dict(values["calibration"]),
            shared=tuple(tuple(group) for group in values.get("shared", _equal_edges(points))),
        )


def stayed_float(plan: QuantizationPlan) -> list[dict[str, str]]:
    """What was not quantized and why, as a manifest says it."""
    return [{"name": part.name, "why": part.why} for part in plan.stayed_float]


def weight_point(path: str) -> str:
    """The name of a module's weight as a point."""
    return path + _WEIGHT


def _point_json(point: QuantPoint) -> dict[str, Any]:
    return {
        "bits": point.bits,
        "scales": list(point.scales),
        "zero_points": list(point.zero_points) if any(point.zero_points) else 0,
        "axis": point.axis,
        "signed": point.signed,
        **({"group": point.group} if point.group else {}),
    }


def _equal_edges(points: Mapping[str, QuantPoint]) -> list[list[str]]:
    """What older plans, which did not say what is shared, leave to be seen: edges of one scale and zero point."""
    alike: dict[QuantPoint, list[str]] = {}
    for name, point in points.items():
        if not name.endswith(_WEIGHT):
            alike.setdefault(point, []).append(name)
    return [names for names in alike.values() if len(names) > 1]


def _point(values: Mapping[str, Any]) -> QuantPoint:
    scales = tuple(float(scale) for scale in values["scales"])
    stated = values["zero_points"]
    zero_points = (0,) * len(scales) if stated == 0 else tuple(int(item) for item in stated)
    return QuantPoint(
        int(values["bits"]), scales, zero_points, values["axis"], bool(values["signed"]), int(values.get("group", 0))
    )
