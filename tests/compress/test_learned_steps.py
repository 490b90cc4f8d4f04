"""Learned step sizes: the paper's gradients by hand, scales that stay sound, and files that have the trained ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.distill import Distill
from helmlite.compress.edits.shared_weights import shared_weights
from helmlite.compress.quantize import Quantize
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers, quantizers_of
from helmlite.compress.rounding.learned_steps import LearnedSteps, learned_steps, round_to_steps, settled_steps
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, QuantPoint, weight_point
from helmlite.compress.rounding.round_weights import RoundWeights
from helmlite.compress.technique import Context
from helmlite.compress.tie import Tie
from helmlite.compress.weight_only import WeightOnly
from helmlite.data.dataset import Dataset
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.ema import every_tensor
from helmlite.detector.fit_state import detector_sha256
from helmlite.detector.tiny import new_tiny
from helmlite.export.onnx import export_onnx
from helmlite.export.openvino import export_openvino
from helmlite.export.parity import measure_parity
from helmlite.runtime.machine import int8_weight_bits, read_machine
from helpers import alive, patchy_data

_CLASSES = with_roles(["helmet", "no_helmet"])
_SIGNED = QuantPoint(3, (0.5,), (0,), signed=True)  # Qn = Qp = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return patchy_data(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return alive(new_tiny(_CLASSES, 64, width=0.5))


@pytest.fixture(scope="module")
def quantized(detector: Detector, data: Dataset) -> Detector:
    bits = int8_weight_bits(read_machine())  # what this machine's runtimes add without overflow
    return Quantize(weight_bits=bits).apply(
        detector, Context(data, detector, 64, 0, Path("unused"), log=lambda line: None)
    )


def context(data: Dataset, detector: Detector, folder: Path, log: Callable[[str], None] = lambda line: None) -> Context:
    return Context(data, detector, 64, 0, folder, log=log)


def settings(epochs: int = 1) -> Distill:
    return Distill(epochs=epochs, batch_size=4, teacher="none", mosaic=0.0, step_sizes=True)


def gradients(values: list[float], point: QuantPoint, count: int = 1) -> tuple[list[float], list[float]]:
    """Of the sum of the rounded values: for each value, and for the scale.  Values one at a time for the latter."""
    zero_point = torch.tensor(point.zero_points[0], dtype=torch.int32)
    for_values, for_scales = [], []
    for value in values:
        tensor = torch.tensor([value], requires_grad=True)
        scale = torch.tensor(point.scales[0], requires_grad=True)
        round_to_steps(tensor, point, scale, zero_point, count).sum().backward()
        assert tensor.grad is not None
        assert scale.grad is not None
        for_values.append(tensor.grad.item())
        for_scales.append(scale.grad.item())
    return for_values, for_scales


def test_gradients_are_those_of_equation_3_by_hand() -> None:
    # v / s = 0.6, -1.2, 2.8, then both ends exactly, then beyond them
    values = [0.3, -0.6, 1.4, 1.5, -1.5, 4.0, -4.0]
    for_values, for_scales = gradients(values, _SIGNED)
    g = 1 / math.sqrt(1 * 3)
    assert for_values == [1, 1, 1, 0, 0, 0, 0]
    assert for_scales == pytest.approx([0.4 * g, 0.2 * g, 0.2 * g, 3 * g, -3 * g, 3 * g, -3 * g], abs=1e-6)


def test_gradients_with_a_zero_point_by_hand() -> None:
    # 0 .. 7 with zero point 2: Qn = 2, Qp = 5; v / s = 1.4, -1.4, then clipped above and below
    point = QuantPoint(3, (0.5,), (2,))
    for_values, for_scales = gradients([0.7, -0.7, 9.0, -9.0], point, count=20)
    g = 1 / math.sqrt(20 * 5)
    assert for_values == [1, 1, 0, 0]
    assert for_scales == pytest.approx([-0.4 * g, 0.4 * g, 5 * g, -2 * g], abs=1e-6)


def test_a_zero_point_is_the_offset_of_lsq_plus_tied_to_the_scale() -> None:
    """LSQ+ rounds to clip(round((x - beta) / s), 0, n) * s + beta and has a gradient for s and one for beta."""
    scale, zero_point, highest = 0.5, 2, 7
    beta = -zero_point * scale
    for value in (0.7, -0.7, 9.0, -9.0, 0.26):
        steps = (value - beta) / scale
        is_inside = 0 < steps < highest
        by_scale = round(steps) - steps if is_inside else float(np.clip(steps, 0, highest))
        by_beta = 0.0 if is_inside else 1.0
        expected = by_scale + by_beta * -zero_point  # d beta / d s
        _, (found,) = gradients([value], QuantPoint(3, (scale,), (zero_point,)))
        assert found == pytest.approx(expected / math.sqrt(5), abs=1e-5)


@pytest.mark.parametrize("value", [0.3, -0.6, 4.0, -4.0])
def test_gradients_are_differences_where_rounding_holds_still(value: float) -> None:
    """With the integer held, r = q * s, and with v following s's grid (straight-through) r - v = (q - v / s) * s."""
    tensor, step = torch.tensor([value], dtype=torch.float64), 1e-6

    def surrogate(scale: float) -> float:  # v / s enters through the difference that rounding makes
        ratio = float(tensor) / scale
        held = round(value / 0.5) - value / 0.5  # rounding's difference as a constant: straight-through
        return scale * float(np.clip(ratio + held, -3, 3))

    difference = (surrogate(0.5 + step) - surrogate(0.5 - step)) / (2 * step)
    _, (found,) = gradients([value], _SIGNED)
    assert found * math.sqrt(3) == pytest.approx(difference, abs=1e-4)


def test_channels_and_groups_sum_their_own_gradients() -> None:
    weight = torch.tensor([[0.3, 0.3, 4.0, -4.0], [0.6, 0.3, 0.1, 0.0]]).view(2, 4, 1, 1).requires_grad_()
    zeros = torch.zeros(4, dtype=torch.int32)
    scales = torch.full((4,), 0.5, requires_grad=True)
    point = QuantPoint(3, (0.5,) * 4, (0,) * 4, axis=0, signed=True, group=2)
    round_to_steps(weight, point, scales, zeros, 8).sum().backward()
    g = 1 / math.sqrt(8 * 3)  # N = 8 weights of the layer
    assert scales.grad is not None
    # 0.4 + 0.4;  3 - 3;  v / s = 1.2 and 0.6: -0.2 + 0.4;  0.2 and 0: -0.2
    assert scales.grad.tolist() == pytest.approx([0.8 * g, 0.0, 0.2 * g, -0.2 * g], abs=1e-6)
    whole = torch.full((2,), 0.5, requires_grad=True)
    point = QuantPoint(3, (0.5,) * 2, (0,) * 2, axis=0, signed=True)
    round_to_steps(weight, point, whole, zeros[:2], 8).sum().backward()
    assert whole.grad is not None
    assert whole.grad.tolist() == pytest.approx([0.8 * g, 0.0], abs=1e-6)


class TwoBranches(nn.Module):
    """Two convolutions whose results meet, as in a block of a detector."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.Conv2d(2, 1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.last(torch.cat([self.first(images), self.second(images)], 1)),)


def two_branches(bias: float = 0.0) -> nn.Module:
    network = TwoBranches()
    with torch.no_grad():
        for conv in (network.first, network.second, network.last):
            conv.weight.fill_(0.77)
            conv.bias.fill_(bias)
    edge, weight = QuantPoint(8, (0.01,), (3,)), QuantPoint(8, (0.02,), (0,), 0, True)
    plan = QuantizationPlan(
        {"first/conv2d": edge, "second/conv2d": edge, "first:weight": weight, "last:weight": weight},
        shared=(("first/conv2d", "second/conv2d"),),
    )
    InsertQuantizers(plan).redo(network)
    return network


def learning(network: nn.Module) -> nn.Module:
    base = new_tiny(_CLASSES, 64, width=0.25)
    return learned_steps(replace(base, network=network, edits=())).network


def steps_of(network: nn.Module) -> LearnedSteps:
    steps = quantizers_of(network).steps
    assert isinstance(steps, LearnedSteps)
    return steps


def test_points_that_meet_share_one_parameter_and_stay_equal() -> None:
    network = learning(two_branches())
    assert len(list(steps_of(network).parameters())) == 3
    optimizer = torch.optim.AdamW(steps_of(network).parameters(), lr=1e-2)
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        optimizer.zero_grad()
        network(images)[0].square().sum().backward()
        optimizer.step()
    scales = {
        name: float(quantizers_of(network).tensors(name)[0].detach()) for name in ("first/conv2d", "second/conv2d")
    }
    assert scales["first/conv2d"] == scales["second/conv2d"] != pytest.approx(0.01, rel=1e-3)


def test_gradients_of_points_that_meet_are_joined() -> None:
    network = learning(two_branches())
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    parts = []
    for cut in ("first", "second", None):
        network.zero_grad()
        with torch.no_grad():
            for index, name in enumerate(("first", "second")):
                network.last.weight[0, index] = 0.0 if name == cut else 0.77
        network(images)[0].sum().backward()
        gradient = steps_of(network).get_parameter("first/conv2d").grad
        assert gradient is not None
        parts.append(gradient.item())
    assert parts[0] + parts[1] == pytest.approx(parts[2], rel=1e-4)
    assert parts[0] != 0


class OneConv(nn.Module):
    """One input, two outputs, no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


@pytest.mark.parametrize("start", [1e-7, 1e-3, 10.0])
def test_one_step_of_adam_changes_a_scale_by_the_learning_rate(start: float) -> None:
    network = OneConv()
    point = QuantPoint(4, (start, start / 2), (0, 0), 0, True)
    InsertQuantizers(QuantizationPlan({"conv:weight": point})).redo(network)
    with torch.no_grad():
        network.conv.weight.copy_(torch.tensor([1.3, 2.2]).view(2, 1, 1, 1) * start)
    network = learning(network)
    optimizer = torch.optim.AdamW(steps_of(network).parameters(), lr=1e-3)
    (network(torch.ones(1, 1, 1, 1)) * start).sum().backward()
    optimizer.step()
    scale, _ = quantizers_of(network).tensors("conv:weight")
    changes = scale.detach() / torch.tensor(point.scales) - 1
    assert changes.abs().tolist() == pytest.approx([1e-3, 1e-3], rel=0.02)


def test_scales_stay_positive_and_within_bounds_whatever_the_steps() -> None:
    network = learning(two_branches())
    steps = steps_of(network)
    for direction in (-1.0, 1.0):
        with torch.no_grad():
            for parameter in steps.parameters():
                parameter.fill_(direction * 1e4)
        steps.keep_in_bounds()
        for name, point in quantizers_of(network).plan.points.items():
            scale = float(quantizers_of(network).tensors(name)[0].detach())
            assert scale / point.scales[0] == pytest.approx(4.0**direction, rel=1e-5)


def test_a_scale_that_its_bias_needs_does_not_fall() -> None:
    """0.02 * 0.01 * 2^27 is 26844: of a larger bias a quarter of a quarter of the scale would overflow 32 bits."""
    for bias, share in ((26800.0, 0.25), (26900.0, 1.0)):
        network = learning(two_branches(bias))
        with torch.no_grad():
            for parameter in steps_of(network).parameters():
                parameter.fill_(-50.0)
        steps_of(network).keep_in_bounds()
        assert float(quantizers_of(network).tensors("first:weight")[0].detach()) == pytest.approx(
            0.02 * share, rel=1e-5
        )


def test_learned_steps_begin_with_the_same_answers_and_settle_as_they_began(quantized: Detector) -> None:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    learned = learned_steps(quantized)
    settled = settled_steps(learned)
    with torch.no_grad():
        expected = quantized.network(images)
        for network in (learned.network, settled.network):
            assert all(torch.equal(a, b) for a, b in zip(expected, network(images)))
    names = {name for name, _ in every_tensor(quantized.network)}
    assert {name for name, _ in every_tensor(settled.network)} == names
    assert len({name for name, _ in every_tensor(learned.network)}) > len(names)
    assert quantizers_of(quantized.network).steps is None


def test_the_plan_says_which_edges_share_a_scale(quantized: Detector) -> None:
    plan = quantizers_of(quantized.network).plan
    assert plan.shared
    for group in plan.shared:
        assert len({plan.points[name] for name in group}) == 1
    without = {name: item for name, item in plan.to_json().items() if name != "shared"}  # as older ones were written
    found = {name: group for group in QuantizationPlan.from_json(without).shared for name in group}
    assert all(set(group) <= set(found[group[0]]) for group in plan.shared)


@pytest.mark.slow
def test_training_moves_scales_lowers_the_loss_and_the_edit_has_the_new_plan(
    quantized: Detector, detector: Detector, data: Dataset, tmp_path: Path
) -> None:
    said: list[str] = []
    before = detector_sha256(quantized)
    trained = settings(epochs=10).apply(quantized, context(data, detector, tmp_path / "work", said.append))
    assert detector_sha256(quantized) == before
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in said if line.startswith("epoch")]
    assert len(losses) == 10  # of two steps
    assert losses[-1] < losses[0]

    edit, old = trained.edits[-1], quantized.edits[-1]
    assert isinstance(edit, InsertQuantizers)
    assert isinstance(old, InsertQuantizers)
    assert edit.plan == quantizers_of(trained.network).current_plan() == quantizers_of(trained.network).plan
    assert edit.plan.points.keys() == old.plan.points.keys()
    changes = [
        after / earlier
        for name, point in edit.plan.points.items()
        for after, earlier in zip(point.scales, old.plan.points[name].scales)
    ]
    assert 0.99 < min(changes) < max(changes) < 1.01  # 20 steps at up to 1e-4
    assert sum(change != 1 for change in changes) > len(changes) / 2
    assert all(point.zero_points == old.plan.points[name].zero_points for name, point in edit.plan.points.items())
    for group in edit.plan.shared:
        assert len({edit.plan.points[name] for name in group}) == 1
    assert edit.plan.calibration["step_sizes"] == "learned"
    assert trained.edits[:-1] == quantized.edits[:-1]

    save_checkpoint(trained, tmp_path / "trained", {})
    again = load_checkpoint(tmp_path / "trained")
    assert again.edits == trained.edits
    assert detector_sha256(again) == detector_sha256(trained)

    images = [sample.read_image() for sample in data]
    export_onnx(trained, tmp_path / "model.onnx", 64)
    export_openvino(trained, tmp_path / "model.xml", 64)
    for path, runtime in ((tmp_path / "model.onnx", "onnxruntime"), (tmp_path / "model.xml", "openvino")):
        # A value that lies halfway between two integers may be rounded either way, and this network with random weights
        # makes much of it: one picture may be far off, most are not.
        parities = [measure_parity(trained, path, [image], runtime, threads=1) for image in images]
        assert np.median([parity.score_mean for parity in parities]) < 1e-5
        assert np.median([parity.box_mean_pixels for parity in parities]) < 1e-3
    import onnx

    stored = {
        item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(tmp_path / "model.onnx").graph.initializer
    }
    found = {float(item) for item in stored.values() if item.dtype == np.float32 and item.ndim == 0}
    assert {point.scales[0] for point in edit.plan.edges().values()} <= found


@pytest.mark.slow
def test_a_stopped_training_of_step_sizes_goes_on_bitwise(
    quantized: Detector, detector: Detector, data: Dataset, tmp_path: Path
) -> None:
    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("epoch 1 of 2"):
            raise StoppedError

    whole = settings(2).apply(quantized, context(data, detector, tmp_path / "whole"))
    with pytest.raises(StoppedError):
        settings(2).apply(quantized, context(data, detector, tmp_path / "cut", stop))
    again = settings(2).apply(quantized, context(data, detector, tmp_path / "cut"))
    assert detector_sha256(again) == detector_sha256(whole)
    without = replace(settings(2), step_sizes=False)
    with pytest.raises(ValueError, match="another"):
        without.apply(quantized, context(data, detector, tmp_path / "cut"))


@pytest.mark.slow
def test_step_sizes_of_weights_in_groups_are_learned_too(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    rounded = WeightOnly(4, 8).apply(detector, context(data, detector, tmp_path))
    trained = settings().apply(rounded, context(data, detector, tmp_path / "work"))
    edit = trained.edits[-1]
    assert isinstance(edit, RoundWeights)
    assert edit.plan == quantizers_of(trained.network).plan
    assert edit.plan.points != quantizers_of(rounded.network).plan.points


def test_uses_of_one_tied_weight_keep_one_scale(data: Dataset, tmp_path: Path) -> None:
    """Else their integers differ from use to use, and a file stores them for each."""
    plain = alive(new_tiny(with_roles(["helmet", "no_helmet"]), 64, width=0.5))
    where = context(data, plain, tmp_path)
    tied = Quantize(pictures=4).apply(Tie(what="all").apply(plain, where), where)
    learning = learned_steps(tied)
    groups = [tuple(map(weight_point, paths)) for paths in shared_weights(learning.network)]
    assert groups
    steps = steps_of(learning.network)
    with torch.no_grad():
        for parameter in steps.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) * 0.1
            )
    plan = quantizers_of(settled_steps(learning).network).plan
    before = quantizers_of(tied.network).plan
    for group in groups:
        scales = {plan.points[name].scales for name in group}
        assert len(scales) == 1
        assert scales != {before.points[group[0]].scales}
    separate = [
        item for item in before.weights() if weight_point(item) not in {name for group in groups for name in group}
    ]
    assert len({plan.points[weight_point(item)].scales for item in separate}) == len(separate)


def test_without_quantization_there_is_nothing_to_learn(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="step_sizes needs a quantized detector; put quantize before distill"):
        settings().apply(detector, context(data, detector, tmp_path / "work"))
    assert not (tmp_path / "work").exists()
    with pytest.raises(ValueError, match="learned in float32"):
        Distill(epochs=1, step_sizes=True, bf16=True)
