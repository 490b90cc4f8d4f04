"""Tied weights: the arithmetic by hand, which layers are alike, and that ties last through all that follows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.distill import Distill
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.shared_weights import shared_weights
from helmlite.compress.edits.tie_weights import TiedConv, TieWeights, distances, shared_kernel
from helmlite.compress.quantize import Quantize
from helmlite.compress.technique import Context, TechniqueOrderError
from helmlite.compress.tie import Tie, like_convs
from helmlite.data.dataset import Dataset
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.macs import count_parameters
from helmlite.detector.tiny import new_tiny
from helmlite.export.onnx import export_onnx
from helmlite.export.openvino import export_openvino
from helmlite.runtime.session import open_session
from helpers import alive, patchy_data

_CLASSES = with_roles(["helmet", "no_helmet"])
_SAVED = (2 * (3 * 3 * 64 + 64 * 64) + 64 * 4 + 64 * 2) * 2  # numbers: each head layer thrice, and twice too often


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return patchy_data(tmp_path_factory.mktemp("pictures"), count=6)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return alive(new_tiny(_CLASSES, 64))


@pytest.fixture(scope="module")
def tied(detector: Detector, data: Dataset) -> Detector:
    return Tie("head").apply(detector, context(detector, data))


def context(detector: Detector, data: Dataset, workspace: Path = Path("unused")) -> Context:
    return Context(data, detector, 64, 0, workspace, log=lambda line: None)


def maps(detector: Detector) -> tuple[Tensor, ...]:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found: tuple[Tensor, ...] = detector.network(images)
    return found


def two_units(first: float, second: float) -> nn.ModuleList:
    units = nn.ModuleList(nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.5)) for _ in range(2))
    with torch.no_grad():
        for unit, value in zip(units, (first, second)):
            unit[0].weight.fill_(value)
            unit[1].weight.fill_(3.0)
            unit[1].bias.fill_(1.0)
            unit[1].running_mean.fill_(2.0)
            unit[1].running_var.fill_(3.5)
    return units.eval()


_TWO = TieWeights(((TiedConv("0.0", "0.1"), TiedConv("1.0", "1.1")),))


def test_one_channel_by_hand() -> None:
    units = two_units(1.0, 3.0)  # (2 x - 2) / sqrt(3.5 + 0.5) * 3 + 1 and so on
    _TWO.redo(units)
    assert units[0][0].weight is units[1][0].weight
    assert units[0][0].weight.item() == pytest.approx(2.0)  # the mean of the norms 1 and 3
    assert units[1][1].running_mean.item() == pytest.approx(2 / 1.5)  # factor 3 / 2
    assert units[1][1].running_var.item() == pytest.approx(3.5 / 2.25)
    picture = torch.full((1, 1, 1, 1), 4.0)
    with torch.no_grad():
        assert units[0](picture).item() == pytest.approx((4 - 2) / 2 * 3 + 1)  # as before: one weight 1 ...
        assert units[1](picture).item() == pytest.approx((12 - 2) / 2 * 3 + 1)  # ... the other 3


def test_a_negative_scale_turns_the_kernel_and_not_the_answer() -> None:
    units = two_units(1.0, -1.0)
    with torch.no_grad():
        units[1][1].weight.fill_(-3.0)
    _TWO.redo(units)
    assert units[0][0].weight.item() == pytest.approx(1.0)
    assert units[1][1].weight.item() == pytest.approx(3.0)
    with torch.no_grad():
        assert units[1](torch.full((1, 1, 1, 1), 4.0)).item() == pytest.approx((-4 - 2) / 2 * -3 + 1)


def test_each_use_has_a_batchnorm_of_its_own() -> None:
    units = two_units(1.0, 1.0)
    with torch.no_grad():
        units[1][1].weight.fill_(5.0)
        units[1][1].running_mean.fill_(-1.0)
    _TWO.redo(units)
    with torch.no_grad():
        assert units[0](torch.ones(1, 1, 1, 1)).item() == pytest.approx((1 - 2) / 2 * 3 + 1)
        assert units[1](torch.ones(1, 1, 1, 1)).item() == pytest.approx((1 + 1) / 2 * 5 + 1)


def test_the_mean_of_two_directions_keeps_the_norm() -> None:
    kernels = [torch.tensor([2.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 4.0]).view(1, 2, 1, 1)]
    gammas = [torch.ones(1), torch.ones(1)]
    kernel, factors = shared_kernel(kernels, gammas)  # both at norm 3; mean (1.5, 1.5), again at norm 3
    assert kernel.flatten().tolist() == pytest.approx([3 / 2**0.5] * 2)
    assert factors.flatten().tolist() == pytest.approx([2 / 3, 4 / 3])
    assert distances(kernels, gammas).tolist() == pytest.approx([1 - 0.5**0.5] * 2)
    plain, ones = shared_kernel(kernels, None)
    assert plain.flatten().tolist() == [1.0, 2.0]
    assert ones.flatten().tolist() == [1.0, 1.0]


def test_a_dead_channel_stays_as_good_as_dead() -> None:
    units = two_units(0.0, 2.0)
    _TWO.redo(units)
    with torch.no_grad():
        assert units[0](torch.full((1, 1, 1, 1), 4.0)).item() == pytest.approx((0 - 2) / 2 * 3 + 1, abs=1e-3)


def test_what_is_alike_in_tiny(detector: Detector) -> None:
    head = like_convs(detector.network, "head")
    assert [member.conv for member in head[0]] == [f"heads.{scale}.box.1.depthwise.conv" for scale in range(3)]
    assert {len(group) for group in head} == {3}
    assert len(head) == 6  # depthwise, pointwise of both branches, distances, logits; the first units differ in width
    assert [group[0].norm == "" for group in head].count(True) == 2
    blocks = like_convs(detector.network, "blocks")
    assert [[member.conv for member in group] for group in blocks] == [
        [f"backbone.mix.1.blocks.{block}.{unit}.conv" for block in range(2)] for unit in ("first", "second")
    ]
    assert set(like_convs(detector.network, "all")) == set(head) | set(blocks)


def test_parameters_are_shared_and_the_input_is_not(detector: Detector, tied: Detector) -> None:
    assert count_parameters(detector.network) - count_parameters(tied.network) == _SAVED
    assert shared_weights(detector.network) == ()
    assert len(shared_weights(tied.network)) == 6
    assert [edit.kind for edit in tied.edits] == ["tie_weights"]
    assert all(a.std() > 0 and a.shape == b.shape for a, b in zip(maps(tied), maps(detector)))


def test_only_what_is_near_enough(detector: Detector, data: Dataset) -> None:
    with pytest.raises(
        ValueError, match=r"the nearest layers lie 0\.\d\d from their common kernel, above max_distance"
    ):
        Tie("blocks", max_distance=0.01).apply(detector, context(detector, data))
    alike = detector.copy()
    first, second = (alike.network.get_submodule(f"backbone.mix.1.blocks.{i}.first.conv") for i in range(2))
    with torch.no_grad():
        second.weight.copy_(first.weight * torch.linspace(0.5, 2, 32).view(-1, 1, 1, 1))
    changed = Tie("blocks", max_distance=0.01, images=0).apply(alike, context(alike, data))
    assert len(changed.edits[0].to_json()["groups"]) == 1
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(maps(alike), maps(changed)))


@pytest.mark.slow
def test_ties_survive_copies_training_and_checkpoints(tied: Detector, data: Dataset, tmp_path: Path) -> None:
    groups = shared_weights(tied.network)
    assert shared_weights(tied.copy().network) == groups
    edit = tied.edits[0]
    assert TieWeights.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    trained = Distill(epochs=1, batch_size=3, bf16=False).apply(tied, context(tied, data, tmp_path / "work"))
    assert shared_weights(trained.network) == groups
    path = groups[0][0]
    assert not torch.equal(trained.network.get_submodule(path).weight, tied.network.get_submodule(path).weight)
    save_checkpoint(trained, tmp_path / "tied", {})
    again = load_checkpoint(tmp_path / "tied")
    assert shared_weights(again.network) == groups
    assert all(torch.equal(a, b) for a, b in zip(maps(trained), maps(again)))


def test_folding_leaves_shared_weights_alone(tied: Detector) -> None:
    folded = fold_batchnorm(tied)
    assert shared_weights(folded.network) == shared_weights(tied.network)
    left = [path for path, module in folded.network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(left) == 12  # four layers with a BatchNorm at three scales
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(maps(tied), maps(folded)))


@pytest.mark.slow
def test_float_files_store_a_shared_weight_once(detector: Detector, tied: Detector, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    planes = np.random.default_rng(3).random((1, 3, 64, 64), dtype=np.float32)
    boxes, scores = tied.predictor(64).decode(planes)
    for name, item in (("plain", detector), ("tied", tied)):
        export_onnx(item, tmp_path / f"{name}.onnx", 64)
        export_openvino(item, tmp_path / f"{name}.xml", 64)
    for kind, runtime, file in (("onnx", "onnxruntime", "tied.onnx"), ("bin", "openvino", "tied.xml")):
        sizes = [(tmp_path / f"{name}.{kind}").stat().st_size for name in ("plain", "tied")]
        assert sizes[0] - sizes[1] > 0.85 * 4 * _SAVED  # the ONNX file has two more operators for each layer
        found = open_session(tmp_path / file, runtime, 1).run_named(planes)
        assert np.abs(found["scores"][0] - scores).max() < 1e-3
        assert np.allclose(found["boxes"][0], boxes, rtol=1e-3, atol=0.05)


@pytest.mark.slow
def test_int8_files_store_a_shared_weight_once(
    detector: Detector, tied: Detector, data: Dataset, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    onnx = pytest.importorskip("onnx")
    quantized = [Quantize().apply(item, context(item, data)) for item in (detector, tied)]
    plan = quantized[1].edits[-1].plan  # type: ignore[attr-defined]
    for group in shared_weights(tied.network):
        assert len({plan.weights()[path] for path in group}) == 1
    for name, item in zip(("plain", "tied"), quantized):
        export_onnx(item, tmp_path / f"{name}.onnx", 64)
        export_openvino(item, tmp_path / f"{name}.xml", 64)
    for kind in ("onnx", "bin"):
        sizes = [(tmp_path / f"{name}.{kind}").stat().st_size for name in ("plain", "tied")]
        assert sizes[0] - sizes[1] > 0.9 * _SAVED
    kinds = {node.op_type for node in onnx.load(tmp_path / "tied.onnx").graph.node}
    assert "BatchNormalization" not in kinds
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    planes = nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear").numpy()
    boxes, scores = quantized[1].predictor(64).decode(planes)
    found = open_session(tmp_path / "tied.onnx", "onnxruntime", 1, "int8").run_named(planes)
    assert np.abs(found["scores"][0] - scores).mean() < 1e-3
    assert np.abs(found["boxes"][0] - boxes).mean() < 0.5


@pytest.mark.slow
def test_int8_with_a_negative_scale_is_exported_as_computed(tied: Detector, data: Dataset, tmp_path: Path) -> None:
    turned = tied.copy()
    norm = turned.network.get_submodule("heads.1.box.1.pointwise.norm")
    with torch.no_grad():
        norm.weight[::2] *= -1
    quantized = Quantize().apply(turned, context(turned, data))
    export_onnx(quantized, tmp_path / "model.onnx", 64)
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    planes = nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear").numpy()
    boxes, scores = quantized.predictor(64).decode(planes)
    found = open_session(tmp_path / "model.onnx", "onnxruntime", 1, "int8").run_named(planes)
    assert np.abs(found["scores"][0] - scores).mean() < 1e-3
    assert np.abs(found["boxes"][0] - boxes).mean() < 0.5


def test_errors_say_what_to_do(detector: Detector, tied: Detector, data: Dataset) -> None:
    with pytest.raises(ValueError, match="tie: what is one of head, blocks, all; got 'neck'"):
        Tie("neck")
    with pytest.raises(ValueError, match="max_distance must lie between 0 and 1; got 2"):
        Tie(max_distance=2)
    with pytest.raises(ValueError, match="images must be at least 0"):
        Tie(images=-1)
    with pytest.raises(TechniqueOrderError, match="tie cannot follow tie"):
        Tie().apply(tied, context(tied, data))
    with pytest.raises(TechniqueOrderError, match="put tie before fold_batchnorm"):
        Tie().apply(fold_batchnorm(detector), context(detector, data))
    with pytest.raises(ValueError, match="adaround"):
        Quantize(rounding="adaround").apply(tied, context(tied, data))
    with pytest.raises(ValueError, match="differ in shape"):
        TieWeights(((TiedConv("0", ""), TiedConv("1", "")),)).redo(
            nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(2, 1, 1))
        )
    narrow = detector.copy()
    for scale in range(3):  # each scale another width, as pruning leaves them
        head = narrow.network.get_submodule(f"heads.{scale}")
        for branch, last in (("box", "distances"), ("score", "logits")):
            _cut(head, branch, last, 64 - 8 * scale)
    with pytest.raises(ValueError, match="no two like convolutions of the same shape in its head"):
        Tie("head").apply(narrow, context(narrow, data))


def _cut(head: nn.Module, branch: str, last: str, width: int) -> None:
    given = head.get_submodule(f"{branch}.0.depthwise.conv").in_channels
    outputs = getattr(head, last).out_channels
    units = [(f"{branch}.0.pointwise", given, width, 1), (f"{branch}.1.depthwise", width, width, width)]
    units.append((f"{branch}.1.pointwise", width, width, 1))
    for path, inputs, made, groups in units:
        unit = head.get_submodule(path)
        kernel = unit.conv.kernel_size[0]
        unit.conv = nn.Conv2d(inputs, made, kernel, padding=kernel // 2, groups=groups, bias=False)
        unit.norm = nn.BatchNorm2d(made)
    setattr(head, last, nn.Conv2d(width, outputs, 1))
