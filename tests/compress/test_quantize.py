"""Quantizing a detector: what it keeps, what it survives, what it refuses."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.activation import ReplaceActivation
from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.prune import Prune
from helmlite.compress.quantize import DeadDetectorError, Quantize, signal_to_noise_db
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers, quantizers_of
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, QuantPoint
from helmlite.compress.technique import Context, TechniqueOrderError
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.detector.tiny import new_tiny
from helmlite.detector.trace import trace
from helmlite.runtime.preprocess import network_input
from helpers import alive

_CLASSES = with_roles(["helmet", "no_helmet"])
_YOLOS = ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n")


def smooth_pictures() -> Tensor:
    """Two of the kind that is calibrated on: white noise would lie outside of all ranges."""
    coarse = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    return nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")


def data_of(folder: Path, count: int, labels: Callable[[int], int] = lambda index: index % 2) -> Dataset:
    random = np.random.default_rng(0)
    samples = []
    for index in range(count):
        path = folder / f"{index}.png"
        picture = cv2.resize(random.integers(0, 255, (6, 6, 3), dtype=np.uint8), (64, 48))
        cv2.imwrite(str(path), picture)
        boxes = np.array([[4, 4, 20, 24]], np.float32)
        samples.append(Sample(path, boxes, np.array([labels(index)], np.int64)))
    return dataset_of(samples, _CLASSES)


class Lines(list[str]):
    """A log that can be read."""

    def __call__(self, line: str) -> None:
        self.append(line)


def context(data: Dataset, detector: Detector, log: Callable[[str], None] | None = None) -> Context:
    return Context(data, detector, 64, 0, Path("unused"), log=Lines() if log is None else log)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return data_of(tmp_path_factory.mktemp("pictures"), 12)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return alive(new_tiny(_CLASSES, 64))


@pytest.fixture(scope="module")
def quantized(detector: Detector, data: Dataset) -> Detector:
    return Quantize().apply(detector, context(data, detector))


def plan_of(detector: Detector) -> QuantizationPlan:
    edit = detector.edits[-1]
    assert isinstance(edit, InsertQuantizers)
    return edit.plan


def answers(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        found: tuple[Tensor, ...] = network(images)
    return found


class OneConv(nn.Module):
    """A weight 1.0 and 0.5 on two channels, and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(2, 1, 1, bias=False), nn.ReLU()
        self.last = nn.Conv2d(1, 1, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, 0.5]).view(1, 2, 1, 1))
            self.last.weight.fill_(1.0)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.last(self.act(self.conv(images))),)


def one_conv_plan() -> QuantizationPlan:
    """Weight steps of 0.3 (1.0 -> 0.9, 0.5 -> 0.6), results of the ReLU in steps of 1, at most 255 - 0."""
    return QuantizationPlan(
        {
            "conv:weight": QuantPoint(8, (0.3,), (0,), axis=0, signed=True),
            "act/relu": QuantPoint(8, (1.0,), (0,)),
        }
    )


def test_fake_quantization_by_hand() -> None:
    network = OneConv()
    InsertQuantizers(one_conv_plan()).redo(network)
    images = torch.tensor([[10.0, 2.0], [-5.0, 1.0], [1000.0, 0.0]]).t().reshape(1, 2, 3, 1)
    # 10 * 0.9 + 2 * 0.6 = 10.2 -> 10;  -5 * 0.9 + 0.6 < 0 -> 0;  900 -> 255
    assert answers(network, images)[0].flatten().tolist() == pytest.approx([10.0, 0.0, 255.0])
    assert network.conv.weight.flatten().tolist() == [1.0, 0.5]  # the trained weight is kept


def test_gradients_pass_rounding_and_stop_where_a_value_is_clipped() -> None:
    network = OneConv()
    InsertQuantizers(one_conv_plan()).redo(network)
    for pixels, expected in (([10.0, 2.0], [10.0, 2.0]), ([1000.0, 0.0], [0.0, 0.0])):
        network.zero_grad()
        network(torch.tensor(pixels).view(1, 2, 1, 1))[0].sum().backward()
        assert network.conv.weight.grad is not None
        assert network.conv.weight.grad.flatten().tolist() == pytest.approx(expected)


def test_a_plan_for_another_network_is_refused() -> None:
    plan = one_conv_plan()
    with pytest.raises(ValueError, match="no weight of its shape at 'conv'"):
        InsertQuantizers(QuantizationPlan({"conv:weight": QuantPoint(8, (1.0, 1.0), (0, 0), 0, True)})).redo(OneConv())
    network = OneConv()
    InsertQuantizers(QuantizationPlan({**plan.points, "gone/relu": QuantPoint(8, (1.0,), (0,))})).redo(network)
    with pytest.raises(ValueError, match="nothing ran as 'gone/relu'"):
        network(torch.rand(1, 2, 4, 4))
    # the failed pass left nothing open: without the point that is missing the next one works
    quantizers_of(network).plan = plan
    assert torch.isfinite(network(torch.rand(1, 2, 4, 4))[0]).all()


def test_an_error_inside_the_network_closes_the_pass() -> None:
    network = OneConv()
    InsertQuantizers(one_conv_plan()).redo(network)
    with pytest.raises(RuntimeError):
        network(torch.rand(1, 5, 4, 4))
    assert torch.rand(2).add(1).shape == (2,)
    assert torch.isfinite(network(torch.rand(1, 2, 4, 4))[0]).all()


def test_a_quantized_detector_stays_close_and_its_input_untouched(detector: Detector, quantized: Detector) -> None:
    assert detector.edits == ()
    assert [edit.kind for edit in quantized.edits] == ["fold_batchnorm", "insert_quantizers"]
    images = smooth_pictures()
    expected, got = answers(detector.network, images), answers(quantized.network, images)
    assert [item.shape for item in got] == [item.shape for item in expected]
    assert all(not torch.equal(a, b) for a, b in zip(expected, got))
    assert signal_to_noise_db(detector.network, quantized.network, images) > 15


def test_every_point_is_met_in_the_forward_pass(quantized: Detector) -> None:
    plan = plan_of(quantized)
    rounded = [op for op in trace(quantized.network, 64).ops if op.kind.startswith("fake_quantize")]
    assert len(rounded) == len(plan.points)
    assert len(plan.weights()) == sum(isinstance(module, nn.Conv2d) for module in quantized.network.modules())


def test_copies_are_independent(quantized: Detector) -> None:
    twin = quantized.copy()
    images = torch.rand(1, 3, 64, 64)
    expected = answers(quantized.network, images)
    with torch.no_grad():
        for name, tensor in quantizers_of(twin.network).named_buffers():
            if name.endswith("|scale") and tensor.ndim == 0:
                tensor.mul_(4)
    assert not torch.equal(answers(twin.network, images)[0], expected[0])
    assert torch.equal(answers(quantized.network, images)[0], expected[0])
    assert quantizers_of(quantized.network).current_plan() == plan_of(quantized)
    assert quantizers_of(twin.network).current_plan() != plan_of(quantized)


def test_checkpoint_gives_equal_answers(quantized: Detector, tmp_path: Path) -> None:
    save_checkpoint(quantized, tmp_path / "int8", {})
    again = load_checkpoint(tmp_path / "int8")
    assert again.edits == quantized.edits
    images = torch.rand(2, 3, 96, 96)
    assert all(torch.equal(a, b) for a, b in zip(answers(quantized.network, images), answers(again.network, images)))


def test_edit_survives_json(quantized: Detector) -> None:
    edit = quantized.edits[-1]
    assert InsertQuantizers.from_json(json.loads(json.dumps(edit.to_json()))) == edit


def test_training_goes_on_through_the_rounding(quantized: Detector) -> None:
    network = copy.deepcopy(quantized.network).train()
    scales = {name: tensor.clone() for name, tensor in quantizers_of(network).named_buffers()}
    images = torch.rand(3, 3, 64, 64)
    target = [torch.randn_like(item) for item in answers(network, images)]
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        maps = family_of(quantized).training_maps(network, images).maps
        loss = torch.stack([(a - b).square().mean() for a, b in zip(maps, target)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(torch.equal(scales[name], tensor) for name, tensor in quantizers_of(network).named_buffers())


def test_training_sees_the_rounding(quantized: Detector) -> None:
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        seen = family_of(quantized).training_maps(quantized.network, images)
    assert all(torch.equal(a, b) for a, b in zip(seen.maps, answers(quantized.network, images)))
    plan = plan_of(quantized)
    scales = {point.scales[0] for point in plan.edges().values()}
    steps = [torch.unique(item).diff().min().item() for item in seen.features]  # every feature lies on some grid
    assert all(min(abs(step / scale - round(step / scale)) for scale in scales) < 0.02 for step in steps)


def test_the_same_seed_gives_the_same_plan(detector: Detector, quantized: Detector, data: Dataset) -> None:
    again = Quantize().apply(detector, context(data, detector))
    assert plan_of(again) == plan_of(quantized)


def test_the_plan_names_its_pictures(quantized: Detector, data: Dataset) -> None:
    calibration = plan_of(quantized).calibration
    assert calibration["pictures"] == 12
    assert calibration["boxes_by_class"] == {"helmet": 6, "no_helmet": 6}
    assert (calibration["input_size"], calibration["seed"]) == (64, 0)
    assert len(calibration["sha256"]) == 64
    assert calibration["settings"]["ranges"] == "mse"


def test_wrong_order_is_explained(quantized: Detector, data: Dataset) -> None:
    where = context(data, quantized)
    with pytest.raises(TechniqueOrderError, match="it is done once"):
        Quantize().apply(quantized, where)
    with pytest.raises(TechniqueOrderError, match="put activation before quantize"):
        ReplaceActivation().apply(quantized, where)
    with pytest.raises(TechniqueOrderError, match="put prune before quantize"):
        Prune(macs_ratio=0.5).apply(quantized, where)


def test_settings_are_checked(detector: Detector, data: Dataset) -> None:
    for settings, message in (
        ({"ranges": "guess"}, "unknown range rule 'guess'; known are min_max, percentile, mse, entropy"),
        ({"percentile": 50.0}, "between 90 and 100; got 50"),
        ({"attention": "fp8"}, "attention is one of float, int8; got 'fp8'"),
        ({"pictures": 0}, "at least 1 calibration picture"),
        ({"weight_bits": 9}, "weight_bits must be 2 to 8; got 9"),
        ({"value_bits": -4}, "value_bits must be 2 to 8; got -4"),
        ({"raised_bits": 1}, "raised_bits must be 2 to 8; got 1"),
        ({"weight_axis": "row"}, "weight_axis is one of channel, tensor; got 'row'"),
        ({"weight_ranges": "min"}, "weight_ranges is one of max, mse; got 'min'"),
        ({"rounding": "up"}, "rounding is one of nearest, adaround; got 'up'"),
        ({"adaround_steps": 0}, "must be at least 1"),
        ({"max_drop": 5.0}, "max_drop is a part of mAP, from 0 to below 1; got 5.0"),
        ({"drop_of": "f1"}, "drop_of is one of map, map50; got 'f1'"),
        ({"keep_float": ("",)}, "keep_float is a list of module paths"),
    ):
        with pytest.raises(ValueError, match=message):
            Quantize(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="keep_float names 'nowhere'"):
        Quantize(keep_float=("nowhere",)).apply(detector, context(data, detector))


def test_no_pictures_few_pictures_and_a_class_that_none_shows(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no calibration pictures"):
        Quantize().apply(detector, context(dataset_of([], _CLASSES), detector))
    log = Lines()
    one = data_of(tmp_path, 1, lambda index: 0)
    assert plan_of(Quantize().apply(detector, context(one, detector, log))).calibration["pictures"] == 1
    assert any("only 1 calibration pictures" in line for line in log)
    assert any("no calibration picture shows 'no_helmet'" in line for line in log)


def test_a_rare_class_is_among_the_pictures(detector: Detector, tmp_path: Path) -> None:
    mostly_helmets = data_of(tmp_path, 40, lambda index: int(index in (7, 31)))
    plan = plan_of(Quantize(pictures=16).apply(detector, context(mostly_helmets, detector)))
    assert plan.calibration["boxes_by_class"] == {"helmet": 14, "no_helmet": 2}


def test_unreadable_pictures_are_skipped_and_counted(detector: Detector, tmp_path: Path) -> None:
    data, log = data_of(tmp_path, 5), Lines()
    data.image_paths[2].write_bytes(b"no picture")
    plan = plan_of(Quantize().apply(detector, context(data, detector, log)))
    assert (plan.calibration["pictures"], plan.calibration["unreadable"]) == (4, 1)
    assert any("skipped" in line and "2.png" in line for line in log)
    for path in data.image_paths:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 5 calibration pictures can be read"):
        Quantize().apply(detector, context(data, detector))


def test_a_silenced_detector_is_refused() -> None:
    class Answer(nn.Module):
        def __init__(self, logit: float) -> None:
            super().__init__()
            self._logit = logit

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            return torch.zeros(len(images), 4, 2, 2), torch.full((len(images), 2, 2, 2), self._logit)

    images = torch.zeros(2, 3, 8, 8)
    assert signal_to_noise_db(Answer(2.0), Answer(1.0), images) == pytest.approx(6.02, abs=0.01)
    with pytest.raises(DeadDetectorError, match=r"0\.018 on average, 0\.881 before"):
        signal_to_noise_db(Answer(2.0), Answer(-4.0), images)
    with pytest.raises(DeadDetectorError):
        signal_to_noise_db(Answer(2.0), Answer(float("nan")), images)


def test_corrected_biases_bring_the_mean_back(data: Dataset, detector: Detector) -> None:
    coarse = {
        flag: Quantize(weight_bits=4, correct_biases=flag).apply(detector, context(data, detector)).network
        for flag in (False, True)
    }
    changed = [
        name
        for name, tensor in coarse[True].named_parameters()
        if not torch.equal(tensor, dict(coarse[False].named_parameters())[name])
    ]
    assert changed
    assert all(name.endswith(".bias") for name in changed)
    images = torch.stack([torch.from_numpy(network_input(item.read_image(), 64)[0][0]) for item in data])
    with torch.inference_mode():
        expected = [item.mean((0, 2, 3)) for item in detector.network(images)]
        found = {flag: [item.mean((0, 2, 3)) for item in network(images)] for flag, network in coarse.items()}
    errors = {flag: sum(float((a - b).abs().sum()) for a, b in zip(expected, item)) for flag, item in found.items()}
    assert errors[True] < 0.5 * errors[False]


@pytest.mark.parametrize(
    ("settings", "weight_bits", "value_bits", "axis"),
    [
        ({"weight_bits": 4, "weight_ranges": "mse", "ranges": "entropy"}, 4, 8, 0),
        ({"weight_axis": "tensor"}, 8, 8, None),
    ],
)
def test_bits_and_axis_are_what_was_asked_for(
    detector: Detector, data: Dataset, settings: dict[str, Any], weight_bits: int, value_bits: int, axis: int | None
) -> None:
    coarse = Quantize(**settings).apply(detector, context(data, detector))
    plan = plan_of(coarse)
    assert {(point.bits, point.axis) for point in plan.weights().values()} == {(weight_bits, axis)}
    assert {point.bits for point in plan.edges().values()} == {value_bits}
    assert signal_to_noise_db(detector.network, coarse.network, smooth_pictures()) > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", _YOLOS)
def test_every_family_keeps_its_answers_through_copy_training_and_rebuilding(name: str, data: Dataset) -> None:
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    detector = alive(new_ultralytics(name, _CLASSES))
    quantized = Quantize(pictures=4).apply(detector, context(data, detector))
    rebuilt = family_of(detector).build(detector.architecture)
    for edit in quantized.edits:
        type(edit).from_json(json.loads(json.dumps(edit.to_json()))).redo(rebuilt)  # type: ignore[attr-defined]
    rebuilt.load_state_dict(quantized.network.state_dict())
    images = torch.rand(2, 3, 96, 96)
    expected, got = answers(quantized.network, images), answers(rebuilt.eval(), images)
    assert all(torch.equal(a, b) for a, b in zip(expected, got))
    rebuilt.train()
    seen = family_of(detector).training_maps(rebuilt, images)
    torch.stack([item.square().mean() for item in (*seen.maps, *seen.extra)]).sum().backward()
    assert all(item.grad is not None for item in rebuilt.parameters() if item.requires_grad)
