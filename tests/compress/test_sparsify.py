"""Sparsity: the masks by hand, zeros that stay through training, folding and quantization."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.distill import Distill
from helmlite.compress.download_size import download_size
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.mask_weights import MaskWeights, masks_of, weight_at
from helmlite.compress.edits.merge_parallel import merge_parallel_convs, parallel_paths
from helmlite.compress.kernels.magnitude_mask import n_of_m_mask, smallest_go
from helmlite.compress.prune import Prune
from helmlite.compress.quantize import Quantize
from helmlite.compress.rounding.insert_quantizers import quantizers_of
from helmlite.compress.rounding.quantization_plan import weight_point
from helmlite.compress.sparsify import Sparsify, cubic_sparsity, kept_and_block, maskable_paths
from helmlite.compress.technique import Context, TechniqueOrderError
from helmlite.data.dataset import Dataset
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.fit import FitSettings, finetune
from helmlite.detector.tiny import new_tiny
from helmlite.detector.trace import trace
from helmlite.export.onnx import export_onnx
from helmlite.export.qdq import stored_integers
from helpers import Lines, alive, check_float_export, patchy_data

_CLASSES = with_roles(["helmet", "no_helmet"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return patchy_data(tmp_path_factory.mktemp("pictures"), height=48)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return alive(new_tiny(_CLASSES, 64, width=0.5))


def context(data: Dataset, detector: Detector, folder: Path, log: Lines | None = None) -> Context:
    return Context(data, detector, 64, 0, folder, log=Lines() if log is None else log)


def masked_weights(detector: Detector) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight and mask of every masked convolution."""
    masks = masks_of(detector.network)
    found = {path: (weight_at(detector.network, path), masks.of(path)) for path in masks.paths}
    return {path: (weight, mask) for path, (weight, mask) in found.items() if weight is not None}


def all_zero_where_masked(detector: Detector) -> bool:
    pairs = masked_weights(detector).values()
    assert any(not mask.all() for _, mask in pairs)
    assert all(bool(weight[mask].any()) for weight, mask in pairs if mask.any())
    return all(bool((weight[~mask] == 0).all()) for weight, mask in pairs)


def test_smallest_by_hand() -> None:
    """0.3 of ten numbers of two weights together: 0.1, -0.2 and 0.3 go, wherever they are."""
    first = torch.tensor([[0.1, 5.0, -0.2, 4.0]])
    second = torch.tensor([0.3, 1.0, -2.0, 3.0, 9.0, -8.0])
    one, other = smallest_go([first, second], 0.3)
    assert one.tolist() == [[False, True, False, True]]
    assert other.tolist() == [False, True, True, True, True, True]
    assert all(mask.all() for mask in smallest_go([first, second], 0.0))


def test_smallest_is_numpy_s_percentile() -> None:
    weight = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    (mask,) = smallest_go([weight], 0.37)
    assert torch.equal(mask, weight.abs() >= float(np.percentile(weight.abs().numpy(), 37)))


def test_two_of_four_by_hand() -> None:
    """Eight input channels of one output: two blocks, each keeps its two largest."""
    weight = torch.tensor([0.1, -4.0, 3.0, 0.2, 1.0, 1.0, 1.0, -7.0]).view(1, 8, 1, 1)
    kept = [False, True, True, False, True, False, False, True]  # of equal ones the first
    assert n_of_m_mask(weight, 2, 4).flatten().tolist() == kept
    assert n_of_m_mask(weight, 1, 4).flatten().tolist() == [False, True, *[False] * 5, True]


def test_each_block_loses_its_two_smallest() -> None:
    weight = torch.randn(5, 12, 3, 3, generator=torch.Generator().manual_seed(0))
    mask = n_of_m_mask(weight, 2, 4)
    for out in range(5):
        for block in range(0, 12, 4):
            for row in range(3):
                for column in range(3):
                    sizes = weight[out, block : block + 4, row, column].abs()
                    gone = ~mask[out, block : block + 4, row, column]
                    assert gone.sum() == 2
                    assert sizes[gone].max() < sizes[~gone].min()


def test_the_cubic_schedule() -> None:
    """Half way 1 - (1/2)^3 = 7/8 of the final sparsity, at a quarter 1 - (3/4)^3 = 37/64."""
    assert cubic_sparsity(0, 100, 0.8) == 0
    assert cubic_sparsity(25, 100, 0.8) == pytest.approx(0.8 * 37 / 64)
    assert cubic_sparsity(50, 100, 0.8) == pytest.approx(0.7)
    assert cubic_sparsity(100, 100, 0.8) == cubic_sparsity(140, 100, 0.8) == 0.8


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_half_of_the_weights(scope: str, detector: Detector, data: Dataset, tmp_path: Path) -> None:
    before = {name: item.clone() for name, item in detector.network.state_dict().items()}
    log = Lines()
    sparse = Sparsify(sparsity=0.5, scope=scope, images=4).apply(detector, context(data, detector, tmp_path, log))
    assert all(torch.equal(before[name], item) for name, item in detector.network.state_dict().items())
    assert detector.edits == ()
    pairs = masked_weights(sparse)
    total = sum(mask.numel() for _, mask in pairs.values())
    assert sum(int((~mask).sum()) for _, mask in pairs.values()) / total == pytest.approx(0.5, abs=0.005)
    assert all_zero_where_masked(sparse)
    shares = [float((~mask).float().mean()) for _, mask in pairs.values()]
    assert (max(shares) - min(shares) < 0.02) is (scope == "layer")
    assert "every runtime takes as long unless measured otherwise" in log[-1]
    assert download_size(sparse.network).packed_bytes < 0.85 * download_size(detector.network).packed_bytes


def test_both_ends_stay_whole(detector: Detector) -> None:
    every, inner = maskable_paths(detector.network, False), maskable_paths(detector.network, True)
    ends = {"backbone.stem.conv", *(f"heads.{n}.{part}" for n in range(3) for part in ("distances", "logits"))}
    assert set(every) - set(inner) == ends


def test_two_of_four_on_a_detector(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    log = Lines()
    sparse = Sparsify(pattern="2:4", images=0).apply(detector, context(data, detector, tmp_path, log))
    pairs = masked_weights(sparse)
    for weight, _ in pairs.values():
        blocks = weight.detach().movedim(1, -1).unflatten(-1, (-1, 4))
        assert ((blocks == 0).sum(-1) == 2).all()
    convs = [path for path in maskable_paths(detector.network, True) if path not in pairs]
    assert convs
    assert all(weight_at(detector.network, path).shape[1] == 1 for path in convs)  # type: ignore[union-attr]
    assert f"{len(convs)} left out" in log[0]


@pytest.mark.slow
def test_training_keeps_every_zero(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    """The weights that answer are the running mean's, and all of them have moved but the zeros."""
    sparse = Sparsify(sparsity=0.6, images=4).apply(detector, context(data, detector, tmp_path))
    trained = Distill(epochs=2, batch_size=4).apply(sparse, context(data, detector, tmp_path / "distill"))
    assert all_zero_where_masked(trained)
    moved = [
        not torch.equal(a, b)
        for (a, _), (b, _) in zip(masked_weights(trained).values(), masked_weights(sparse).values())
    ]
    assert all(moved)
    assert all(
        torch.equal(a, b) for (_, a), (_, b) in zip(masked_weights(trained).values(), masked_weights(sparse).values())
    )


def test_gradients_of_what_is_gone_are_zero_in_a_copy_too(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    sparse = Sparsify(sparsity=0.5, images=0).apply(detector, context(data, detector, tmp_path))
    for network in (sparse.network, sparse.copy().network.train()):
        network.train()
        sum(item.square().mean() for item in network(torch.rand(2, 3, 64, 64))).backward()
        masks = masks_of(network)
        for path in masks.paths:
            gradient = weight_at(network, path).grad  # type: ignore[union-attr]
            assert gradient is not None and (gradient[~masks.of(path)] == 0).all() and gradient.any()
        network.eval()


@pytest.mark.slow
def test_gradual(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    """Two epochs of two steps, all gone after ceil(0.7 * 4) = 3 of them."""
    settings = Sparsify(sparsity=0.8, schedule="gradual", epochs=2, batch_size=4, every=1)
    log = Lines()
    sparse = settings.apply(detector, context(data, detector, tmp_path, log))
    assert all_zero_where_masked(sparse)
    pairs = masked_weights(sparse)
    total = sum(mask.numel() for _, mask in pairs.values())
    assert sum(int((~mask).sum()) for _, mask in pairs.values()) / total == pytest.approx(0.8, abs=0.005)
    assert [line.split(":")[0] for line in log if line.startswith("epoch")] == ["epoch 1 of 2", "epoch 2 of 2"]


@pytest.mark.slow
def test_gradual_goes_on_after_a_stop_bit_by_bit(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    """Stopped after the first of two epochs, with a part of the weights given up."""
    settings = Sparsify(sparsity=0.8, schedule="gradual", epochs=2, batch_size=4, every=1)
    whole = settings.apply(detector, context(data, detector, tmp_path / "whole"))

    def stop(line: str) -> None:
        if line.startswith("epoch 1 of 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        settings.apply(detector, Context(data, detector, 64, 0, tmp_path / "cut", log=stop))
    log = Lines()
    resumed = settings.apply(detector, context(data, detector, tmp_path / "cut", log))
    assert any("goes on after epoch 1 of 2" in line for line in log)
    found = resumed.network.state_dict()
    assert all(torch.equal(item, found[name]) for name, item in whole.network.state_dict().items())


def test_masks_survive_a_checkpoint_and_a_second_training(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    sparse = Sparsify(sparsity=0.5, images=4).apply(detector, context(data, detector, tmp_path))
    edit = sparse.edits[-1]
    assert MaskWeights.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    save_checkpoint(sparse, tmp_path / "sparse", {})
    loaded = load_checkpoint(tmp_path / "sparse")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(sparse.network(images), loaded.network(images)))
    trained = finetune(loaded, data, FitSettings(64, 1, batch_size=4, optimizer="sgd"), 0, tmp_path / "fit", Lines())
    assert all_zero_where_masked(trained)
    assert torch.equal(
        masked_weights(trained)["backbone.down.1.conv"][1], masks_of(sparse.network).of("backbone.down.1.conv")
    )


@pytest.mark.slow
def test_a_zero_is_the_integer_zero(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    sparse = Sparsify(pattern="2:4", images=4).apply(detector, context(data, detector, tmp_path))
    quantized = Quantize(pictures=4).apply(sparse, context(data, detector, tmp_path))
    assert [edit.kind for edit in quantized.edits] == ["mask_weights", "fold_batchnorm", "insert_quantizers"]
    quantizers = quantizers_of(quantized.network)
    looked_at = 0
    for path, (weight, mask) in masked_weights(quantized).items():
        name = weight_point(path)
        if name in quantizers.plan.points:
            integers = stored_integers(weight, quantizers.plan.points[name], *quantizers.tensors(name))
            assert (integers[~mask] == 0).all()
            looked_at += 1
    assert looked_at > 10
    save_checkpoint(quantized, tmp_path / "quantized", {})
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        again = load_checkpoint(tmp_path / "quantized").network(images)
        assert all(torch.equal(a, b) for a, b in zip(quantized.network(images), again))
    trained = Distill(epochs=1, batch_size=4, teacher="none").apply(
        quantized, context(data, quantized, tmp_path / "distill")
    )
    assert all_zero_where_masked(trained)


def test_the_graph_and_the_exported_file_show_no_masks(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    sparse = Sparsify(sparsity=0.5, images=4).apply(detector, context(data, detector, tmp_path))
    assert trace(sparse.network, 64).ops == trace(detector.network, 64).ops
    planes = np.random.default_rng(3).random((1, 3, 64, 64), dtype=np.float32)
    check_float_export(sparse, planes, tmp_path / "sparse.onnx")
    export_onnx(detector, tmp_path / "dense.onnx", 64)
    assert (tmp_path / "sparse.onnx").stat().st_size == (tmp_path / "dense.onnx").stat().st_size


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give sparsity or pattern, one of them"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "one of them"),
        ({"sparsity": 1.0}, r"between 0 and 1 \(both excluded\); got 1.0"),
        ({"pattern": "4:2"}, 'such as "2:4"; got "4:2"'),
        ({"pattern": "half"}, 'got "half"'),
        ({"sparsity": 0.5, "scope": "block"}, "unknown scope 'block'; known are global, layer"),
        ({"sparsity": 0.5, "schedule": "slow"}, "unknown schedule 'slow'"),
        ({"sparsity": 0.5, "schedule": "gradual"}, "needs minutes or epochs"),
        ({"sparsity": 0.5, "epochs": 3}, '"one_shot" has neither'),
        ({"sparsity": 0.5, "ramp": 0.0}, "ramp must lie"),
        ({"sparsity": 0.5, "schedule": "gradual", "epochs": 0}, "at least 1 epoch"),
        ({"sparsity": math.nan}, "between 0 and 1"),
        ({"sparsity": 0.5, "ramp": math.nan}, "ramp must lie"),
        ({"sparsity": 0.5, "learning_rate": math.nan}, "^sparsify: Training needs .* finite learning_rate > 0"),
        ({"sparsity": 0.5, "batch_size": 0}, "^sparsify: Training needs batch_size >= 1"),
        ({"sparsity": 0.5, "only": ("",)}, r"only is a list of module paths; got \(''"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sparsify(**settings)  # type: ignore[arg-type]


def test_wrong_layers_are_refused(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only names 'nowhere', and the network has no such module"):
        Sparsify(sparsity=0.5, only=("backbone", "nowhere")).apply(detector, context(data, detector, tmp_path))
    with pytest.raises(ValueError, match=r"'backbone.stem.conv' cannot be 2:4: 4 does not divide its 3 input channels"):
        Sparsify(pattern="2:4", only=("backbone.stem.conv",)).apply(detector, context(data, detector, tmp_path))
    with pytest.raises(ValueError, match="no weight at 'nowhere'"):
        MaskWeights(("nowhere",)).redo(nn.Sequential())


def test_the_order_is_kept(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    sparse = Sparsify(sparsity=0.5, images=0).apply(detector, context(data, detector, tmp_path))
    for later in (Prune(macs_ratio=0.5), Sparsify(sparsity=0.7)):
        with pytest.raises(TechniqueOrderError, match="cannot follow sparsify"):
            later.apply(sparse, context(data, detector, tmp_path))


def test_a_stand_in_does_not_train() -> None:
    cheap = Sparsify(pattern="2:4", schedule="gradual", minutes=30).stand_in()
    assert (cheap.schedule, cheap.minutes, cheap.pattern) == ("one_shot", None, "2:4")
    assert kept_and_block("1:16") == (1, 16)


def test_download_size_by_hand() -> None:
    """1000 zeros pack to next to nothing; random mantissas do not pack."""
    network = nn.Conv2d(10, 10, (1, 10), bias=False)
    network.weight.data.zero_()
    size = download_size(network)
    assert (size.plain_bytes, size.zeros) == (4000, 1.0)
    assert size.packed_bytes < 50
    network.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    assert 0.8 < download_size(network, "lzma").ratio < 1.05
    with pytest.raises(ValueError, match="Unknown packer 'rar'; known are zlib, lzma"):
        download_size(network, "rar")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "yolo11n",
        *(
            pytest.param(n, marks=pytest.mark.matrix)
            for n in ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo12n", "yolo26n")
        ),
    ],
)
def test_every_family(name: str, data: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    yolo = alive(new_ultralytics(name, _CLASSES, input_size=64))
    sparse = Sparsify(pattern="2:4", images=4).apply(yolo, context(data, yolo, tmp_path))
    assert all_zero_where_masked(sparse)
    trained = finetune(sparse, data, FitSettings(64, 1, batch_size=4), 0, tmp_path / "fit", Lines())
    assert all_zero_where_masked(trained)
    quantized = Quantize(pictures=4, ranges="min_max").apply(sparse, context(data, yolo, tmp_path))
    save_checkpoint(quantized, tmp_path / "quantized", {})
    load_checkpoint(tmp_path / "quantized")
    assert all_zero_where_masked(quantized)


@pytest.mark.slow
def test_branches_that_are_merged_later_stay_whole(data: Dataset, tmp_path: Path) -> None:
    """A mask of one branch would be lost in the merged kernel of every file."""
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    yolo, log = alive(new_ultralytics("yolov9t", _CLASSES, input_size=64)), Lines()
    merging = parallel_paths(yolo)
    assert len(merging) > 20
    sparse = Sparsify(sparsity=0.5, images=0).apply(yolo, context(data, yolo, tmp_path, log))
    assert not merging & set(masks_of(sparse.network).paths)
    assert any("branches that are merged later stay whole" in line for line in log)
    merged = merge_parallel_convs(fold_batchnorm(sparse))
    assert len(masked_weights(merged)) == len(masks_of(sparse.network).paths)  # none is lost
    assert all_zero_where_masked(merged)
    with pytest.raises(ValueError, match="is a branch that is merged with another one; it must stay whole"):
        Sparsify(sparsity=0.5, only=(sorted(merging)[0],)).apply(yolo, context(data, yolo, tmp_path))
