"""Leaving out a scale: which one by hand, and that the others' maps stay as they are on every family."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.distill import Distill
from helmlite.compress.drop_scale import DropScale, DropScaleAt, scale_of, scale_shares, with_scales_of, without_scale
from helmlite.compress.prune import Prune
from helmlite.compress.quantize import Quantize
from helmlite.compress.teaching.teacher import check_heads
from helmlite.compress.technique import Context, TechniqueOrderError
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.batches import plain_batches
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.detector.macs import count_macs, count_parameters
from helmlite.detector.tiny import new_tiny
from helmlite.export.onnx import export_onnx
from helpers import Lines, alive, check_float_export

_CLASSES = with_roles(["helmet", "no_helmet"])
_OTHERS = ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo12n", "yolo26n")
_STRIDES = (8, 16, 32)


def data_of(folder: Path, sides: list[int]) -> Dataset:
    """A picture of 128 x 96 pixels for each side, with one square box of it."""
    random = np.random.default_rng(0)
    samples = []
    for index, side in enumerate(sides):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), cv2.resize(random.integers(0, 255, (6, 6, 3), dtype=np.uint8), (128, 96)))
        box = np.array([[0, 0, side, side]], np.float32)
        samples.append(Sample(path, box, np.array([index % 2], np.int64)))
    return dataset_of(samples, _CLASSES)


@pytest.fixture(scope="module")
def small_boxes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return data_of(tmp_path_factory.mktemp("small"), [20] * 6 + [60] * 2)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return alive(new_tiny(_CLASSES, 128))


def context(data: Dataset, detector: Detector, folder: Path, log: Lines | None = None) -> Context:
    return Context(data, detector, 128, 0, folder, log=Lines() if log is None else log)


def maps(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return tuple(network.eval()(images))


def test_the_scale_of_a_box_by_hand() -> None:
    """4 * 8 = 32 and 4 * 16 = 64 meet at sqrt(32 * 64) = 45.25; 64 and 128 at 90.5."""
    sides = np.array([1.0, 45.2, 45.3, 90.5, 90.6, 600.0])
    assert scale_of(sides, _STRIDES).tolist() == [0, 0, 1, 1, 2, 2]
    assert scale_of(sides, (16, 32)).tolist() == [0, 0, 0, 0, 1, 1]
    assert scale_of(np.array([63.9, 64.1]), (8, 32)).tolist() == [0, 1]  # sqrt(32 * 128)


def test_shares_by_hand(tmp_path: Path) -> None:
    """Pictures are 128 pixels wide: at 128 a box of side 40 is one of 40, at 256 one of 80, at 512 one of 160."""
    data = data_of(tmp_path, [40, 40, 10, 10])
    assert scale_shares(data, _STRIDES, 128) == {8: 1.0, 16: 0.0, 32: 0.0}
    assert scale_shares(data, _STRIDES, 256) == {8: 0.5, 16: 0.5, 32: 0.0}
    assert scale_shares(data, _STRIDES, 512) == {8: 0.5, 16: 0.0, 32: 0.5}


@pytest.mark.parametrize("stride", [*(pytest.param(stride, marks=pytest.mark.slow) for stride in (8, 16)), 32])
def test_the_other_maps_stay_bit_by_bit(stride: int, detector: Detector, tmp_path: Path) -> None:
    _check_others_stay(detector, stride, tmp_path)


def _check_others_stay(detector: Detector, stride: int, folder: Path) -> Detector:
    before = {name: item.clone() for name, item in detector.network.state_dict().items()}
    dropped = without_scale(detector, stride)
    left = tuple(item for item in _STRIDES if item != stride)
    assert dropped.architecture.layout.strides == left
    assert detector.architecture.layout.strides == _STRIDES and detector.edits == ()
    assert all(torch.equal(before[name], item) for name, item in detector.network.state_dict().items())
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    full, found = maps(detector.network, images), maps(dropped.network, images)
    position = _STRIDES.index(stride)
    expected = [item for index, item in enumerate(full) if index // 2 != position]
    assert len(found) == 4
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
    assert count_macs(dropped.network, 128) < count_macs(detector.network, 128)
    assert count_parameters(dropped.network) < count_parameters(detector.network)

    save_checkpoint(dropped, folder / f"without-{stride}", {})
    again = load_checkpoint(folder / f"without-{stride}")
    assert again.architecture.layout == dropped.architecture.layout
    assert all(torch.equal(a, b) for a, b in zip(found, maps(again.network, images)))
    edit = dropped.edits[-1]
    assert DropScaleAt.from_json(json.loads(json.dumps(edit.to_json()))) == edit

    planes = images[:1].numpy()
    boxes, scores = dropped.predictor(128).decode(planes)
    assert len(boxes) == len(scores) == sum((128 // item) ** 2 for item in left)
    check_float_export(dropped, planes, folder / f"without-{stride}.onnx")
    return dropped


def test_nothing_that_only_the_coarsest_scale_read_is_left(detector: Detector) -> None:
    dropped = without_scale(detector, 32)
    names = set(detector.network.state_dict()) - set(dropped.network.state_dict())
    gone = {".".join(name.split(".")[:2]) for name in names}
    assert gone == {"neck.stride_middle", "neck.up_coarse", "heads.2"}
    with pytest.raises(ValueError, match="multiple of 32 pixels; got 80"):  # the backbone still halves five times
        export_onnx(dropped, Path("never.onnx"), 80)
    only_fine = without_scale(dropped, 16)
    assert only_fine.architecture.layout.strides == (8,)
    images = torch.rand(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(maps(only_fine.network, images), maps(detector.network, images)))


def test_the_scale_that_the_data_uses_least_goes(detector: Detector, small_boxes: Dataset, tmp_path: Path) -> None:
    log = Lines()
    dropped = DropScale().apply(detector, context(small_boxes, detector, tmp_path, log))
    assert dropped.architecture.layout.strides == (8, 16)
    assert "75.0% stride 8, 25.0% stride 16, 0.0% stride 32" in log[0]


@pytest.mark.slow
def test_training_and_teaching_go_on(detector: Detector, small_boxes: Dataset, tmp_path: Path) -> None:
    dropped = DropScale().apply(detector, context(small_boxes, detector, tmp_path))
    _check_trains(dropped, detector, small_boxes, tmp_path)


def _check_trains(dropped: Detector, original: Detector, data: Dataset, folder: Path) -> None:
    """Distilled by the original with its three scales, pruned and quantized."""
    about = Context(data, original, 128, 0, folder / "distill", log=Lines())
    trained = Distill(epochs=1, batch_size=4).apply(dropped, about)
    assert trained.architecture.layout == dropped.architecture.layout
    family, (batch,) = family_of(trained), list(plain_batches(data, 128, 4, 4, 0))
    task = family.task_loss(trained.architecture, trained.network, 1)
    loss, _ = task(family.training_maps(trained.network.train(), batch.images), batch)
    assert torch.isfinite(loss) and loss > 0
    trained.network.eval()
    pruned = Prune(macs_ratio=0.7, rounds=1, images=4).apply(trained, about)
    save_checkpoint(pruned, folder / "pruned", {})
    again, images = load_checkpoint(folder / "pruned"), torch.rand(1, 3, 128, 128)
    assert [edit.kind for edit in again.edits] == ["drop_scale", "keep_channels"]
    assert all(torch.equal(a, b) for a, b in zip(maps(pruned.network, images), maps(again.network, images)))
    quantized = Quantize(pictures=4, ranges="min_max").apply(alive(dropped.copy()), about)
    export_onnx(quantized, folder / "quantized.onnx", 128)


@pytest.mark.slow
def test_a_scale_may_go_after_pruning(detector: Detector, small_boxes: Dataset, tmp_path: Path) -> None:
    pruned = Prune(macs_ratio=0.7, rounds=1, images=4).apply(detector, context(small_boxes, detector, tmp_path))
    dropped = without_scale(pruned, 16)
    save_checkpoint(dropped, tmp_path / "dropped", {})
    images = torch.rand(1, 3, 64, 64)
    found = maps(load_checkpoint(tmp_path / "dropped").network, images)
    full = maps(pruned.network, images)
    assert all(torch.equal(a, b) for a, b in zip(found, (*full[:2], *full[4:])))


def test_a_teacher_answers_at_the_student_s_scales(detector: Detector) -> None:
    student = without_scale(detector, 8)
    assert with_scales_of(student, detector).architecture.layout.strides == (16, 32)
    assert with_scales_of(detector, detector) is detector
    with pytest.raises(ValueError, match="their cells do not meet"):
        check_heads(detector, student)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"stride": 0}, "such as 32; got 0"), ({"max_share": 1.5}, r"must lie in \[0, 1\]; got 1.5")],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DropScale(**settings)  # type: ignore[arg-type]


def test_what_cannot_go_is_told(detector: Detector, small_boxes: Dataset, tmp_path: Path) -> None:
    about = context(small_boxes, detector, tmp_path)
    with pytest.raises(ValueError, match="no scale of stride 64; it has 8, 16, 32"):
        DropScale(stride=64).apply(detector, about)
    with pytest.raises(ValueError, match=r"needs stride 16: of the boxes 75.0% stride 8.*at most 2.0% may"):
        DropScale(stride=16).apply(detector, about)
    assert DropScale(stride=16, max_share=0.25).apply(detector, about).architecture.layout.strides == (8, 32)
    with pytest.raises(ValueError, match="one scale left, of stride 8"):
        DropScale().apply(without_scale(without_scale(detector, 32), 16), about)
    with pytest.raises(ValueError, match="no labelled box"):
        DropScale().apply(detector, context(dataset_of([], _CLASSES), detector, tmp_path))
    with pytest.raises(ValueError, match="A Sequential cannot do without one of its scales"):
        DropScaleAt(0).redo(nn.Sequential())
    quantized = Quantize(pictures=4).apply(detector, about)
    with pytest.raises(TechniqueOrderError, match="drop_scale cannot follow quantize"):
        DropScale().apply(quantized, about)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo11n", *(pytest.param(name, marks=pytest.mark.matrix) for name in _OTHERS)])
def test_every_family(name: str, small_boxes: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    yolo = alive(new_ultralytics(name, _CLASSES, input_size=128))
    for stride in (8, 16):
        _check_others_stay(yolo, stride, tmp_path)
    dropped = _check_others_stay(yolo, 32, tmp_path)
    assert sum(isinstance(layer, nn.Identity) for layer in dropped.network.model) >= 3  # type: ignore[union-attr]
    _check_trains(dropped, yolo, small_boxes, tmp_path)


_STOCK = """
import json, sys
from ultralytics import YOLO
model = YOLO(sys.argv[1])
found = model.predict(sys.argv[2], imgsz=128, conf=0.001, rect=False, verbose=False, **json.loads(sys.argv[3]))[0].boxes
print(json.dumps({"scores": found.conf.tolist(), "boxes": found.xyxy.tolist()}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo11n", *(pytest.param(name, marks=pytest.mark.matrix) for name in _OTHERS)])
@pytest.mark.parametrize("stride", [*(pytest.param(stride, marks=pytest.mark.matrix) for stride in (8, 16)), 32])
def test_stock_ultralytics_predicts_what_we_do(name: str, stride: int, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics
    from helmlite.export.ultralytics_pt import save_ultralytics_pt

    yolo = new_ultralytics(name, _CLASSES, input_size=128)
    generator = torch.Generator().manual_seed(1)
    for module in yolo.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.3, 0.3, generator=generator)
    dropped = without_scale(yolo, stride)
    save_ultralytics_pt(dropped, tmp_path / "small.pt")
    image = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), image[:, :, ::-1])
    arguments = json.dumps({} if dropped.architecture.layout.needs_nms else {"end2end": True})
    files = [str(tmp_path / "small.pt"), str(tmp_path / "picture.png")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _STOCK, *files, arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    stock = json.loads(done.stdout.strip().splitlines()[-1])
    ours = dropped.predictor(128)(image)
    assert stock["scores"][0] == pytest.approx(float(ours.scores[0]), rel=1e-3)
    assert np.allclose(stock["boxes"][0], ours.boxes_xyxy[0], atol=0.05)
