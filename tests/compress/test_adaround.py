"""Learned rounding: by hand, never worse than nearest, and the same integers everywhere."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.low_rank import LowRank
from helmlite.compress.quantize import Quantize, signal_to_noise_db
from helmlite.compress.rounding.adaround import RoundedLayer, _Sample, gain, most_pictures
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers
from helmlite.compress.rounding.layer_rounding import (
    Choice,
    LayerProblem,
    _Descent,
    beta_at,
    layer_problem,
    odd_power,
    rectified_sigmoid,
)
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, QuantPoint
from helmlite.compress.shipped import load_demo_detector
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset
from helmlite.data.roles import with_roles
from helmlite.data.scenes import draw_scene, write_scenes
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helmlite.detector.trace import trace
from helmlite.export.onnx import export_onnx
from helmlite.export.qdq import stored_integers
from helmlite.runtime.preprocess import network_input
from helmlite.runtime.session import open_session
from helpers import alive


def as_it_is(values: Tensor) -> Tensor:
    return values


def problem(weight: list[float], patches: Tensor, low: int = -7, high: int = 7) -> LayerProblem:
    """One output, steps of 1, no bias; the target is what the unrounded weight gives."""
    rows = torch.tensor(weight).view(1, 1, -1)
    target = torch.bmm(patches, rows.transpose(1, 2))[0]
    return LayerProblem(rows, torch.zeros(1), torch.ones(1, 1, 1), low, high, patches, target, as_it_is)


def equal_inputs(count: int, positions: int = 500) -> Tensor:
    """(1, P, count): all inputs of a position are alike, so that only the sum of the weights matters."""
    return torch.randn(1, positions, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, count).contiguous()


@pytest.mark.slow
def test_no_bias_is_moved_where_there_is_none(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first link of a chain has no bias: what is chosen for it must be what it can do."""
    chosen: list[tuple[LayerProblem, Choice]] = []
    choose = LayerProblem.choose

    def watched(self: LayerProblem, *arguments: Any) -> Choice:
        choice = choose(self, *arguments)
        chosen.append((self, choice))
        return choice

    monkeypatch.setattr(LayerProblem, "choose", watched)
    detector = alive(new_tiny(with_roles(["helmet", "no_helmet"]), 64, width=0.5))
    where = Context(data, detector, 64, 0, tmp_path)
    chain = LowRank(energy=0.7, min_gain=0.0, images=4).apply(detector, where)
    Quantize(weight_bits=4, rounding="adaround", adaround_steps=20, adaround_pictures=4, pictures=4).apply(chain, where)
    without = [(layer, choice) for layer, choice in chosen if not layer.bias.any()]
    assert without
    assert all(not choice.bias.any() for _, choice in without)
    assert any(choice.bias.any() for layer, choice in chosen if layer.bias.any())


def test_errors_cancel_where_inputs_are_alike() -> None:
    """1.3 + 1.41 + 1.45 + 1.49 = 5.65: nearest gives 4, which 5 and 6 are nearer to."""
    layer = problem([1.3, 1.41, 1.45, 1.49], equal_inputs(4))
    assert layer.nearest().flatten().tolist() == [1, 1, 1, 1]
    learned = layer.learned(torch.ones(500, dtype=torch.bool), 300, seed=0)
    assert learned.sum() in (5, 6)
    assert learned.flatten()[3] == 2  # the one that was nearest to going up


def test_zeros_and_ends_stay() -> None:
    """A masked weight stays 0, and what is beyond the grid is cut; the rest is 1.25 and becomes 1."""
    layer = problem([0.0, 9.6, -9.6, 7.0, 0.38, 0.41, 0.46], equal_inputs(7))
    learned = layer.learned(torch.ones(500, dtype=torch.bool), 300, seed=0).flatten().tolist()
    assert learned == [0, 7, -7, 7, 0, 0, 1]


def test_the_rectified_sigmoid_and_beta_by_hand() -> None:
    # 1.2 / (1 + e^-v) - 0.1: half way at 0, whole from ln 11 on
    found = rectified_sigmoid(torch.tensor([0.0, math.log(11), -math.log(11), 5.0, math.log(2)]))
    assert found.tolist() == pytest.approx([0.5, 1.0, 0.0, 1.0, 0.7], abs=1e-6)
    assert [beta_at(item) for item in (0.0, 0.19, 0.2, 0.6, 1.0)] == [None, None, 20, 12, 2]
    assert odd_power(torch.tensor([-2.0, 0.5, 1.0]), 7).tolist() == [-128.0, 0.5**7, 1.0]
    assert odd_power(torch.tensor([-2.0]), 1).tolist() == [-2.0]


def test_the_written_out_derivative_is_pytorchs() -> None:
    random = torch.Generator().manual_seed(0)
    rest, step = torch.rand(1, 5, 7, generator=random), torch.rand(1, 5, 1, generator=random).expand(1, 5, 7).clone()
    by_weight = torch.randn(1, 5, 7, generator=random)
    descent = _Descent(rest, torch.zeros_like(rest), step)
    slopes = descent._slopes.detach().clone().requires_grad_()
    up = rectified_sigmoid(slopes)
    push = 30.0 * (1 - (2 * up - 1).abs().pow(4).mean())
    ((up * step * by_weight).sum() + push).backward()  # type: ignore[no-untyped-call]
    assert torch.allclose(descent.weight(), up.detach() * step)
    descent.step(by_weight.clone(), 4)
    assert descent._slopes.grad is not None
    assert slopes.grad is not None
    assert torch.allclose(descent._slopes.grad, slopes.grad, rtol=1e-4, atol=1e-6)


def correlated(groups: int, size: int) -> Tensor:
    random = torch.Generator().manual_seed(1)
    mixed = torch.randn(groups, 2048, size // 8, generator=random) @ torch.randn(
        groups, size // 8, size, generator=random
    )
    return mixed.relu()


@pytest.mark.parametrize(("groups", "outputs", "size"), [(1, 16, 72), (8, 1, 72)])
def test_the_error_of_a_layer_in_four_bits_falls(groups: int, outputs: int, size: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(groups, outputs, size)
    scale = weight.abs().amax(2, keepdim=True) / 7
    patches, bias = correlated(groups, size), torch.zeros(groups * outputs)
    target = torch.bmm(patches, weight.transpose(1, 2)).transpose(0, 1).flatten(1)
    layer = LayerProblem(weight, bias, scale, -7, 7, patches, target, nn.SiLU())
    held = torch.arange(2048) % 5 == 4
    choice = layer.choose(held, 500, move_bias=False, seed=0)
    print(f"error of nearest / learned: {choice.nearest / choice.error:.2f}")
    assert choice.nearest > 2 * choice.error
    integers = choice.weight / scale
    assert (integers - integers.round()).abs().max() < 1e-4
    assert ((choice.weight - weight).abs() <= scale * 1.0001).all()  # up or down, no farther


def test_nearest_is_kept_where_learning_made_it_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = problem([1.4, 1.4], equal_inputs(2))
    monkeypatch.setattr(LayerProblem, "learned", lambda self, where, steps, seed: torch.full((1, 1, 2), 7.0))
    choice = layer.choose(torch.arange(500) % 5 == 4, 10, move_bias=False, seed=0)
    assert choice.weight.flatten().tolist() == [1.0, 1.0]
    assert choice.error == choice.nearest


def test_a_mean_error_goes_into_the_bias() -> None:
    patches = torch.rand(1, 500, 2, generator=torch.Generator().manual_seed(0))
    choice = problem([0.4, 0.4], patches + 10).choose(torch.arange(500) % 5 == 4, 1, move_bias=True, seed=0)
    whole = float(choice.weight.sum())
    assert float(choice.bias) == pytest.approx(10.5 * (0.8 - whole), abs=0.2)


def test_patches_are_what_a_convolution_reads() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.Conv2d(6, 2, 1))
    graph = trace(network, 32)
    plan = QuantizationPlan({"1:weight": QuantPoint(4, (1.0,) * 6, (0,) * 6, 0, True)})
    images = torch.rand(3, 3, 32, 32)
    sample = _Sample(graph, plan, 3, seed=0)
    with torch.no_grad():
        targets = sample.outputs(network, images)["1/conv2d"]
        conv = network[1]
        assert isinstance(conv, nn.Conv2d)
        given = (network[0](images), conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        patches = sample.patches("1/conv2d", given, conv.groups)
        assert patches.shape == (2, len(targets), 2 * 9)
        layer = layer_problem(conv, torch.ones(6), plan.points["1:weight"], patches, targets, None, torch.device("cpu"))
        assert layer.error(layer.weight, layer.bias, sample.held) < 1e-10
    assert sample.held.float().mean() == pytest.approx(0.2, abs=0.01)


def test_the_gain_and_the_number_of_pictures() -> None:
    assert gain([RoundedLayer("a", 8.0, 2.0), RoundedLayer("b", 1.0, 1.0), RoundedLayer("c", 0.0, 0.0)]) == 2.0
    assert gain([]) == 1.0
    assert (most_pictures(416), most_pictures(832), most_pictures(100_000)) == (64, 16, 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(write_scenes(tmp_path_factory.mktemp("scenes"), train=8, val=4, test=1, seed=0), "train")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", pytest.param("yolo11n", marks=pytest.mark.matrix)])
def test_a_detector_in_four_bits(name: str, data: Dataset, tmp_path: Path) -> None:
    """The heads alone, so that it takes seconds."""
    if name == "tiny":
        detector, rest = load_demo_detector(), ("backbone", "neck")
    else:
        pytest.importorskip("ultralytics")
        from helmlite.detector.ultralytics import new_ultralytics

        detector = alive(new_ultralytics(name, with_roles(["helmet", "no_helmet"])))
        rest = tuple(
            path for path, _ in detector.network.named_modules() if re.fullmatch(r"model\.(1?\d|2[0-2])", path)
        )
    log: list[str] = []
    where = Context(data, detector, 160, 0, Path("unused"), log=log.append)
    nearest = Quantize(weight_bits=4, keep_float=rest).apply(detector, where)
    learned = Quantize(weight_bits=4, keep_float=rest, rounding="adaround", adaround_steps=200).apply(detector, where)
    planes = [torch.from_numpy(network_input(draw_scene(seed).image, 160)[0]) for seed in (1, 2)]
    before, after = (
        signal_to_noise_db(detector.network, item.network, torch.cat(planes)) for item in (nearest, learned)
    )
    assert after > before + 1
    assert any("adaround on 8 pictures lowered" in line for line in log)
    _check_grid(learned)
    export_onnx(learned, tmp_path / "model.onnx", 160, output="maps")
    found = open_session(tmp_path / "model.onnx", "onnxruntime", 1).run_named(planes[0].numpy())
    with torch.no_grad():
        expected = learned.network(planes[0])
    for ours, theirs in zip(expected, found.values()):
        assert np.linalg.norm(ours.numpy() - theirs) < 0.05 * np.linalg.norm(ours.numpy())


def _check_grid(detector: Detector) -> None:
    """Every weight is a point of the plan's grid, so that rounding to nearest gives the chosen integers."""
    edit = detector.edits[-1]
    assert isinstance(edit, InsertQuantizers)
    for path, point in edit.plan.weights().items():
        weight, scale = detector.network.get_submodule(path).weight, torch.tensor(point.scales)
        assert isinstance(weight, Tensor)
        integers = stored_integers(weight.detach(), point, scale, torch.zeros(len(scale), dtype=torch.int32))
        assert torch.allclose(integers * scale.view(-1, 1, 1, 1), weight, rtol=1e-6, atol=0)
