"""Scales and zero points worked by hand, the plan as data, and which range is kept."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from helmlite.compress.rounding.bias_correction import mean_shift
from helmlite.compress.rounding.calibrate import (
    Observer,
    asymmetric_point,
    edge_points,
    observe,
    symmetric_point,
)
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers, rounded_weight
from helmlite.compress.rounding.quantization_plan import FloatPart, QuantizationPlan, QuantPoint, stayed_float
from helmlite.compress.rounding.quantize_points import choose_points
from helmlite.compress.rounding.value_ranges import RULES
from helmlite.detector.trace import trace


@pytest.mark.parametrize(
    ("limits", "scale", "zero_point"),
    [
        ((-1.0, 1.55), 0.01, 100),
        ((0.0, 2.55), 0.01, 0),
        ((0.5, 2.55), 0.01, 0),  # 0 is always within the range
        ((-2.55, -1.0), 0.01, 255),
        ((-0.104, 2.446), 0.01, 10),  # the zero point is rounded: 10.4
        ((0.0, 0.0), 1.0, 0),
    ],
)
def test_asymmetric_points_by_hand(limits: tuple[float, float], scale: float, zero_point: int) -> None:
    point = asymmetric_point(limits)
    assert point.scales == pytest.approx((scale,))
    assert point.zero_points == (zero_point,)
    assert (point.low, point.high, point.signed, point.axis) == (0, 255, False, None)


def test_symmetric_points_have_a_scale_for_each_output_channel() -> None:
    weight = torch.tensor([[1.27, -0.5], [-0.254, 0.0], [0.0, 0.0]]).view(3, 2, 1, 1)
    point = symmetric_point(weight)
    assert point.scales == pytest.approx((0.01, 0.002, 1e-6))  # the empty channel: 1e-4 of the largest
    assert (point.low, point.high, point.zero_points, point.axis) == (-127, 127, (0, 0, 0), 0)
    rounded = rounded_weight(weight, point, torch.tensor(point.scales), torch.zeros(3, dtype=torch.int32))
    assert rounded.flatten().tolist() == pytest.approx([1.27, -0.5, -0.254, 0.0, 0.0, 0.0], abs=1e-7)


def test_a_scale_does_not_fall_below_what_the_bias_needs() -> None:
    point = symmetric_point(torch.tensor([1.27, 1.27]).view(2, 1, 1, 1), smallest=torch.tensor([0.02, 0.001]))
    assert point.scales == pytest.approx((0.02, 0.01))


def test_one_scale_for_a_whole_weight() -> None:
    weight = torch.tensor([[1.27, -0.5], [-0.254, 0.0]]).view(2, 2, 1, 1)
    point = symmetric_point(weight, axis="tensor")
    assert (point.axis, point.scales) == (None, pytest.approx((0.01,)))
    rounded = rounded_weight(weight, point, torch.tensor(point.scales[0]), torch.tensor(0, dtype=torch.int32))
    assert rounded.flatten().tolist() == pytest.approx([1.27, -0.5, -0.25, 0.0], abs=1e-6)
    assert symmetric_point(weight, smallest=torch.tensor([0.02, 0.03]), axis="tensor").scales == pytest.approx((0.03,))


def test_few_bits_are_clipped_where_that_lowers_the_squared_error() -> None:
    """Integers -1, 0, 1 for nine weights of 0.4 and one of 1: a step of 0.46 (9 * 0.06^2 + 0.54^2) beats all others."""
    weight = torch.tensor([0.4] * 9 + [1.0]).view(1, 10, 1, 1)
    assert symmetric_point(weight, bits=2).scales == (1.0,)
    assert symmetric_point(weight, bits=2, ranges="mse").scales == pytest.approx((0.46,))
    both = torch.cat([weight, torch.full_like(weight, 0.5)])
    assert symmetric_point(both, bits=2, ranges="mse").scales == pytest.approx((0.46, 0.5))


def test_a_weight_is_rounded_to_its_own_channels_step() -> None:
    weight = torch.tensor([[127.0, 0.6], [12.7, 0.06]]).view(2, 2, 1, 1)
    point = symmetric_point(weight)  # steps 1 and 0.1
    rounded = rounded_weight(weight, point, torch.tensor(point.scales), torch.zeros(2, dtype=torch.int32))
    assert rounded.flatten().tolist() == pytest.approx([127.0, 1.0, 12.7, 0.1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": 9, "scales": (1.0,), "zero_points": (0,)}, "2 to 8 bits; got 9"),
        ({"bits": 8, "scales": (1.0, 1.0), "zero_points": (0,)}, "as many zero points as scales"),
        ({"bits": 8, "scales": (1.0, 1.0), "zero_points": (0, 0)}, "one without an axis"),
        ({"bits": 8, "scales": (0.0,), "zero_points": (0,)}, "above 0"),
        ({"bits": 8, "scales": (math.inf,), "zero_points": (0,)}, "finite"),
        ({"bits": 8, "scales": (1.0,), "zero_points": (256,)}, "Zero points lie in 0 .. 255"),
        ({"bits": 4, "scales": (1.0,), "zero_points": (8,), "signed": True}, "Zero points lie in -7 .. 7"),
    ],
)
def test_impossible_points_are_refused(values: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=message):
        QuantPoint(**values)


def test_a_plan_survives_json_bit_by_bit() -> None:
    plan = QuantizationPlan(
        points={
            "a.conv:weight": QuantPoint(8, (0.1, 1e-7, 3.0000001), (0, 0, 0), axis=0, signed=True),
            "a.act/silu": QuantPoint(8, (float(np.float32(1 / 3)),), (27,)),
            "images": QuantPoint(4, (1 / 255,), (0,)),
        },
        carried={"a/chunk[0]": "a.act/silu"},
        stayed_float=(FloatPart("decode", "because"),),
        calibration={"pictures": 3, "sha256": "00"},
    )
    again = QuantizationPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert list(plan.weights()) == ["a.conv"]
    assert list(plan.edges()) == ["a.act/silu", "images"]
    assert stayed_float(plan) == [{"name": "decode", "why": "because"}]
    edit = InsertQuantizers(plan)
    assert InsertQuantizers.from_json(json.loads(json.dumps(edit.to_json()))) == edit


def test_an_observer_keeps_extremes_of_every_element_while_its_histogram_grows() -> None:
    observer = Observer()
    observer.see(torch.tensor([0.0, 1.0, -1.0]))
    observer.see(torch.tensor([0.5, 8.0]))
    observer.see(torch.tensor([-3.0]))
    assert observer.range_by("min_max", 100, 255) == (-3.0, 8.0)
    low, high = observer.range_by("percentile", 100, 255)
    assert (low, high) == pytest.approx((-3.0, 8.0), abs=0.02)


def test_a_percentile_leaves_out_what_is_rare() -> None:
    observer = Observer()
    observer.see(torch.linspace(0, 1, 10001))
    observer.see(torch.full((1,), 100.0))  # one of 10002
    low, high = observer.range_by("percentile", 99.9, 255)
    assert low == 0.0
    assert high == pytest.approx(1.0, abs=0.1)  # a bin is 100 * 1.25 / 2048 = 0.06 wide
    assert observer.range_by("min_max", 99.9, 255) == (0.0, 100.0)


def test_least_error_lies_between_the_bulk_and_the_outlier() -> None:
    random = torch.Generator().manual_seed(0)
    values = torch.cat([torch.randn(100_000, generator=random), torch.tensor([30.0])])
    observer = Observer()
    observer.see(values)
    low, high = observer.range_by("mse", 0, 255)
    assert 2 < high < 30
    assert -6 < low < -2
    assert rounding_error(values, (low, high)) < rounding_error(values, observer.range_by("min_max", 0, 255))


def rounding_error(values: torch.Tensor, limits: tuple[float, float]) -> float:
    point = asymmetric_point(limits)
    rounded = torch.fake_quantize_per_tensor_affine(values, point.scales[0], point.zero_points[0], 0, 255)
    return float((rounded - values).square().mean())


def test_a_value_that_is_always_zero_takes_any_scale() -> None:
    observer = Observer()
    observer.see(torch.zeros(10))
    for rule in RULES:
        assert asymmetric_point(observer.range_by(rule, 99.99, 255)) == QuantPoint(8, (1.0,), (0,))


def test_what_is_no_number_is_named() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.second(torch.relu(self.first(images) * float("nan"))),)

    network = Broken().eval()
    points = choose_points(network, trace(network, 32))
    with pytest.raises(ValueError, match="/relu gives values that are not finite"):
        observe(network, points, [torch.rand(1, 3, 32, 32)])


def test_edges_of_a_concatenation_get_the_range_that_holds_both() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(6, 3, 1)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.last(torch.cat([torch.relu(images * 3), torch.relu(images) * -1], 1)),)

    network = Joined().eval()
    points = choose_points(network, trace(network, 32))
    assert points.shared == (("/relu", "/mul#1"),)
    images = torch.zeros(1, 3, 32, 32)
    images[0, 0, 0, 0] = 0.7
    made = edge_points(points, observe(network, points, [images]), "min_max", 100, 8)
    assert made["/relu"] == made["/mul#1"] == asymmetric_point((-0.7, float(np.float32(0.7) * 3)))


def test_the_mean_shift_of_a_rounded_weight_by_hand() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(2, 2, 1, 1)
    rounded = weight + torch.tensor([[0.1, 0.0], [-0.1, 0.2]]).view(2, 2, 1, 1)
    means = torch.tensor([10.0, 5.0], dtype=torch.float64)
    assert mean_shift(weight, rounded, means, groups=1).tolist() == pytest.approx([1.0, 0.0], abs=1e-5)
    depthwise = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    assert mean_shift(depthwise, depthwise + 0.5, means, groups=2).tolist() == pytest.approx([5.0, 2.5])
