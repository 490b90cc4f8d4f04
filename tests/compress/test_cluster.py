"""Clustered weights: what they hold, how training moves them, and that nothing else changes them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.cluster import Cluster
from helmlite.compress.distill import Distill
from helmlite.compress.edits.cluster_weights import ClusterWeights, codebooks_of, member_means, settle_codebooks
from helmlite.compress.edits.mask_weights import masks_of
from helmlite.compress.sparsify import Sparsify
from helmlite.compress.technique import Context, TechniqueOrderError
from helmlite.compress.tie import Tie
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helmlite.export.onnx import export_onnx
from helmlite.runtime.session import open_session
from helpers import alive

_CLASSES = with_roles(["helmet", "no_helmet"])


@pytest.fixture(scope="module")
def detector() -> Detector:
    return alive(new_tiny(_CLASSES, 64))


@pytest.fixture(scope="module")
def clustered(detector: Detector) -> Detector:
    return Cluster(bits=4).apply(detector, context(detector))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    samples = []
    for index in range(4):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), random.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        samples.append(Sample(path, np.array([[4, 4, 40, 44]], np.float32), np.array([index % 2], np.int64)))
    return dataset_of(samples, _CLASSES)


def context(detector: Detector, data: Dataset | None = None, workspace: Path = Path("unused")) -> Context:
    return Context(data or dataset_of([], _CLASSES), detector, 64, 0, workspace, log=lambda line: None)


def weight(network: nn.Module, path: str) -> Tensor:
    found = network.get_submodule(path).weight
    assert isinstance(found, Tensor)
    return found.detach()


def maps(detector: Detector) -> tuple[Tensor, ...]:
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found: tuple[Tensor, ...] = detector.network(images)
    return found


def test_every_convolution_holds_few_numbers(clustered: Detector) -> None:
    books = codebooks_of(clustered.network)
    convs = [path for path, module in clustered.network.named_modules() if isinstance(module, nn.Conv2d)]
    assert set(books.paths) == set(convs)
    for path in books.paths:
        values, index = books.of(path)
        most = 256 if path.endswith(("distances", "logits")) else 16
        assert len(values) <= most
        assert torch.equal(values[index.long()], weight(clustered.network, path))


def test_with_room_for_every_number_the_answers_are_those_of_the_folded_detector() -> None:
    detector = alive(new_tiny(_CLASSES, 64))
    grid = 0.05
    with torch.no_grad():
        for module in detector.network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_((module.weight / grid).round().clamp(-7, 7) * grid)
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_((module.running_var + module.eps).sqrt())  # folding multiplies by 1, or nearly
    lines: list[str] = []
    coarse = Context(dataset_of([], _CLASSES), detector, 64, 0, Path("unused"), log=lines.append)
    changed = Cluster(bits=8).apply(detector, coarse)
    assert "without loss" in lines[0]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(maps(detector), maps(changed)))


class _One(nn.Module):
    """One convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(x)
        return made


def test_the_centroid_step_is_the_mean_of_its_members() -> None:
    network = _One()
    ClusterWeights({"conv": 3}).redo(network)
    index = torch.tensor([0, 0, 1, 2], dtype=torch.uint8).view(4, 1, 1, 1)
    codebooks_of(network).put("conv", torch.tensor([1.0, 5.0, 0.0]), index)
    with torch.no_grad():
        weight(network, "conv").copy_(torch.tensor([1.0, 1.0, 5.0, 0.0]).view(4, 1, 1, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    picture = torch.ones(1, 1, 1, 1)
    (network(picture).flatten() * torch.tensor([2.0, 4.0, 6.0, 8.0])).sum().backward()  # the gradients of the weights
    optimizer.step()
    network(picture)
    # 1 - 0.1 * (2 + 4) / 2 = 0.7 for both; 5 - 0.1 * 6 = 4.4; the centroid 0 stays 0
    assert weight(network, "conv").flatten().tolist() == pytest.approx([0.7, 0.7, 4.4, 0.0])
    assert codebooks_of(network).of("conv")[0].tolist() == pytest.approx([0.7, 4.4, 0.0])
    assert torch.equal(codebooks_of(network).of("conv")[1], index)


def test_means_of_equal_numbers_are_these_numbers_bit_by_bit() -> None:
    values = torch.randn(16, generator=torch.Generator().manual_seed(0))
    index = torch.randint(0, 16, (100_003,), generator=torch.Generator().manual_seed(1))
    assert torch.equal(member_means(values[index], index, torch.ones(16)), values)


def test_a_copy_in_which_something_moved_is_brought_back(clustered: Detector) -> None:
    maps(clustered)  # so that the original knows its weights to be settled
    copy = clustered.copy()
    path = codebooks_of(copy.network).paths[0]
    for _ in range(4):  # whatever number of changes the original has seen
        weight(copy.network, path).add_(torch.randn(weight(copy.network, path).shape) * 0.01)
        settle_codebooks(copy.network)
        assert weight(copy.network, path).unique().numel() <= 16
    assert not torch.equal(weight(copy.network, path), weight(clustered.network, path))


@pytest.mark.slow
def test_training_moves_centroids_and_no_weight_leaves_its_own(
    clustered: Detector, data: Dataset, tmp_path: Path
) -> None:
    settings = Distill(epochs=2, teacher="none", batch_size=2, bf16=False)
    trained = settings.apply(clustered, context(clustered, data, tmp_path / "work"))
    save_checkpoint(trained, tmp_path / "trained", {})
    again = load_checkpoint(tmp_path / "trained")
    before, after = codebooks_of(clustered.network), codebooks_of(again.network)
    moved = 0
    for path in after.paths:
        values, index = after.of(path)
        assert torch.equal(index, before.of(path)[1])
        assert torch.equal(values[index.long()], weight(again.network, path))
        moved += not torch.equal(values, before.of(path)[0])
    assert moved > len(after.paths) / 2
    assert all(torch.equal(a, b) for a, b in zip(maps(trained), maps(again)))


@pytest.mark.slow
def test_what_a_mask_has_set_to_zero_stays_zero(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    sparse = Sparsify(sparsity=0.6, images=0).apply(detector, context(detector))
    clustered = Cluster(bits=3).apply(sparse, context(detector))
    trained = Distill(epochs=1, teacher="none", batch_size=4, bf16=False).apply(
        clustered, context(clustered, data, tmp_path)
    )
    maps(trained)
    path = "backbone.down.1.conv"
    zeros = weight(sparse.network, path) == 0
    assert zeros.float().mean() > 0.3
    for network in (clustered.network, trained.network):
        assert torch.equal(weight(network, path) == 0, zeros)
        assert weight(network, path).unique().numel() <= 8


def test_a_few_masked_weights_stay_zero_too(detector: Detector) -> None:
    """Fewer zeros than would earn a centroid of their own."""
    sparse = Sparsify(sparsity=0.02, images=0).apply(detector, context(detector))
    clustered = Cluster(bits=4).apply(sparse, context(detector))
    maps(clustered)
    masks = masks_of(clustered.network)
    given_up = [weight(clustered.network, path)[~masks.of(path)] for path in masks.paths]
    shares = [float((~masks.of(path)).float().mean()) for path in masks.paths]
    assert any(0 < share < 0.01 for share in shares)
    assert all(not item.any() for item in given_up)


def test_a_tied_weight_has_one_codebook(detector: Detector) -> None:
    tied = Tie("head", images=0).apply(detector, context(detector))
    clustered = Cluster(bits=4).apply(tied, context(detector))
    first, second = ("heads.0.box.1.pointwise.conv", "heads.1.box.1.pointwise.conv")
    assert first in codebooks_of(clustered.network).paths
    assert second not in codebooks_of(clustered.network).paths
    assert weight(clustered.network, first).unique().numel() <= 16
    assert clustered.network.get_submodule(first).weight is clustered.network.get_submodule(second).weight


def test_what_is_kept_is_left_alone(detector: Detector) -> None:
    changed = Cluster(bits=2, keep=("backbone",)).apply(detector, context(detector))
    assert not any(path.startswith("backbone.") for path in codebooks_of(changed.network).paths)
    assert weight(changed.network, "backbone.down.1.conv").unique().numel() > 256
    assert weight(changed.network, "neck.down_fine.leave.conv").unique().numel() <= 4


def test_edit_survives_json_a_checkpoint_and_export(clustered: Detector, tmp_path: Path) -> None:
    edit = clustered.edits[-1]
    assert isinstance(edit, ClusterWeights)
    assert ClusterWeights.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    save_checkpoint(clustered, tmp_path / "clustered", {})
    again = load_checkpoint(tmp_path / "clustered")
    assert all(torch.equal(a, b) for a, b in zip(maps(clustered), maps(again)))
    planes = np.random.default_rng(3).random((1, 3, 64, 64), dtype=np.float32)
    boxes, scores = again.predictor(64).decode(planes)
    export_onnx(again, tmp_path / "model.onnx", 64)
    found = open_session(tmp_path / "model.onnx", "onnxruntime", 1).run_named(planes)
    assert np.abs(found["scores"][0] - scores).max() < 1e-4
    assert np.allclose(found["boxes"][0], boxes, rtol=1e-3, atol=0.05)


def test_a_network_that_training_left_between_two_centroids_is_exported_on_them(
    clustered: Detector, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    moved = clustered.copy()
    path = "backbone.down.1.conv"
    weight(moved.network, path).add_(torch.randn(weight(moved.network, path).shape) * 1e-3)
    export_onnx(moved, tmp_path / "model.onnx", 64)
    shape = tuple(weight(moved.network, path).shape)
    arrays = [onnx.numpy_helper.to_array(item) for item in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert all(len(np.unique(array)) <= 16 for array in arrays if array.shape == shape)


def test_errors_say_what_to_do(detector: Detector, clustered: Detector) -> None:
    for bits in (0, 9):
        with pytest.raises(ValueError, match=f"cluster: bits must lie between 1 and 8; got {bits}"):
            Cluster(bits=bits)
    with pytest.raises(ValueError, match="cluster: head_bits must lie between 1 and 8; got 0"):
        Cluster(head_bits=0)
    with pytest.raises(ValueError, match="cluster: keep is a list of module paths"):
        Cluster(keep=("",))
    with pytest.raises(ValueError, match="keep names 'nowhere'"):
        Cluster(keep=("nowhere",)).apply(detector, context(detector))
    with pytest.raises(ValueError, match="no convolution is left"):
        Cluster(keep=("backbone", "neck", "heads")).apply(detector, context(detector))
    with pytest.raises(TechniqueOrderError, match="cluster cannot follow cluster"):
        Cluster().apply(clustered, context(clustered))
    with pytest.raises(TechniqueOrderError, match="put tie before cluster"):
        Tie().apply(clustered, context(clustered))
    with pytest.raises(ValueError, match="no weight at 'elsewhere'"):
        ClusterWeights({"elsewhere": 4}).redo(nn.Sequential())
