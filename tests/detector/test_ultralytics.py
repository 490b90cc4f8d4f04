"""Ultralytics checkpoints: opened as data, forks mapped, anything else refused."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from helmlite.data.roles import with_roles
from helmlite.detector.detector import Batch
from helmlite.detector.families import family_of
from helmlite.detector.untrusted import UntrustedCheckpointError, open_checkpoint

pytest.importorskip("ultralytics")
from helmlite.detector.ultralytics import (
    _interleaved_heads,
    as_ultralytics_model,
    load_ultralytics,
    new_ultralytics,
)

_CLASSES = with_roles(["helmet", "no_helmet"])


def _saved(model: nn.Module, path: Path) -> Path:
    torch.save({"model": model.half(), "ema": None, "train_args": {"imgsz": 320, "data": "mine.yaml"}}, path)
    return path


def test_a_stock_checkpoint_gives_the_stock_model_s_maps(tmp_path: Path) -> None:
    detector = new_ultralytics("yolo11n", _CLASSES)
    model = as_ultralytics_model(detector)
    loaded = load_ultralytics(_saved(model, tmp_path / "model.pt"))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.float()(images)[1]
        maps = loaded.network(images)
    boxes = torch.cat([item.flatten(2) for item in maps[0::2]], dim=2)
    assert torch.allclose(boxes, expected["boxes"], atol=1e-5)
    assert loaded.architecture.input_size == 320
    assert [item.role for item in loaded.classes] == ["helmet", "no_helmet"]
    assert loaded.architecture.notes["training_data"] == "mine.yaml"


def test_the_attention_of_yolov12_s_own_repository_is_mapped(tmp_path: Path) -> None:
    """There q and k of all heads are one convolution and v another: the same answers, whichever way they are stored."""
    detector = new_ultralytics("yolo12n", _CLASSES)
    generator = torch.Generator().manual_seed(1)
    for module in detector.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    model = as_ultralytics_model(detector)
    attentions = [module for module in model.modules() if type(module).__name__ == "AAttn"]
    for attention in attentions:
        _store_as_the_fork_does(attention)
    loaded = load_ultralytics(_saved(model, tmp_path / "fork.pt"))
    images = torch.rand(1, 3, 64, 64, generator=generator)
    rounded = load_ultralytics(_saved(as_ultralytics_model(detector), tmp_path / "stock.pt"))  # to FP16, as the other
    with torch.no_grad():
        pairs = list(zip(loaded.network(images), rounded.network(images), strict=True))
    assert len(attentions) > 2
    assert all(torch.equal(a, b) for a, b in pairs)


def _store_as_the_fork_does(attention: nn.Module) -> None:
    """`qkv` (q, k, v of each 32-channel head in turn) as `qk` (q of all heads, then k of all heads) and `v`."""
    whole: Any = attention.qkv
    rows: dict[str, list[int]] = {"q": [], "k": [], "v": []}
    for start in range(0, whole.conv.out_channels, 32):
        rows["qkv"[start // 32 % 3]] += range(start, start + 32)
    attention.qk = _rows_of(whole, rows["q"] + rows["k"])
    attention.v = _rows_of(whole, rows["v"])
    del attention.qkv


def _rows_of(whole: Any, rows: list[int]) -> nn.Module:
    part = copy.deepcopy(whole)
    part.conv.weight = nn.Parameter(whole.conv.weight[rows])
    part.conv.out_channels = part.bn.num_features = len(rows)
    for name in ("weight", "bias"):
        setattr(part.bn, name, nn.Parameter(getattr(whole.bn, name)[rows]))
    for name in ("running_mean", "running_var"):
        setattr(part.bn, name, getattr(whole.bn, name)[rows])
    return part


def test_a_layer_that_nobody_listed_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.nn.modules import block

    unheard = type("Unheard", (nn.Module,), {"__module__": block.__name__, "__qualname__": "Unheard"})
    monkeypatch.setattr(block, "Unheard", unheard, raising=False)
    model = as_ultralytics_model(new_ultralytics("yolov8n", _CLASSES))
    model.extra = unheard()
    with pytest.raises(UntrustedCheckpointError, match=r"ultralytics\.nn\.modules\.block\.Unheard"):
        load_ultralytics(_saved(model, tmp_path / "model.pt"))


@pytest.mark.parametrize(
    ("name", "bins", "needs_nms"), [("yolov8n", 16, True), ("yolov10n", 16, False), ("yolo26n", 1, False)]
)
def test_the_loss_falls_on_one_batch(name: str, bins: int, needs_nms: bool) -> None:
    detector = new_ultralytics(name, _CLASSES)
    layout = detector.architecture.layout
    assert (layout.reg_max, layout.needs_nms, layout.strides) == (bins, needs_nms, (8, 16, 32))
    family, network = family_of(detector), detector.network.train()
    loss_of = family.task_loss(detector.architecture, network, epochs=1)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    batch = Batch(pictures, torch.tensor([[0, 0, 0.5, 0.5, 0.5, 0.5], [1, 1, 0.4, 0.4, 0.3, 0.3]]))
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.001)
    losses = []
    for _ in range(12):
        loss, _ = loss_of(family.training_maps(network, batch.images), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-4:]) < losses[0]


def test_heads_are_interleaved() -> None:
    assert _interleaved_heads(4, head_size=2).tolist() == [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11]


class _Command:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo pwned",)


def test_a_checkpoint_that_wants_a_command_is_refused(tmp_path: Path) -> None:
    torch.save({"model": _Command()}, tmp_path / "evil.pt")
    with pytest.raises(UntrustedCheckpointError, match=r"'(posix|nt)\.system'.*none of its code was run"):
        open_checkpoint(tmp_path / "evil.pt")


def test_a_segmentation_checkpoint_is_refused(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import SegmentationModel

    path = _saved(SegmentationModel("yolo11n-seg.yaml", nc=2, verbose=False), tmp_path / "seg.pt")
    with pytest.raises(ValueError, match="SegmentationModel with a Segment head"):
        load_ultralytics(path)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "truncated"), (b"PK\x03\x04 nothing", "truncated|cannot be read")]
)
def test_broken_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_ultralytics(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_ultralytics(tmp_path / "none.pt")


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = _saved(as_ultralytics_model(new_ultralytics("yolov8n", _CLASSES)), tmp_path / "model.pt")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="truncated"):
        load_ultralytics(path)


def test_predictions_are_placed_in_the_picture() -> None:
    detector = new_ultralytics("yolov8n", _CLASSES)
    found = detector.predictor(64)(np.zeros((30, 90, 3), np.uint8))
    assert (found.boxes_xyxy[:, 0::2] <= 90).all()
    assert (found.boxes_xyxy[:, 1::2] <= 30).all()
