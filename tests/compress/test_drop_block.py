"""Leaving blocks out: what may go, which goes, and that the others answer as if it had been skipped by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.drop_block import DropBlock, DropBlocks
from helmlite.compress.drop_candidates import block_candidates
from helmlite.compress.prune import Prune
from helmlite.compress.quantize import Quantize
from helmlite.compress.shipped import load_demo_detector
from helmlite.compress.technique import Context, TechniqueOrderError
from helmlite.data.dataset import Dataset, dataset_of
from helmlite.data.load import load_dataset
from helmlite.data.roles import with_roles
from helmlite.data.scenes import write_scenes
from helmlite.detector.batches import plain_batches
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.detector.macs import count_macs
from helmlite.detector.tiny import new_tiny
from helmlite.evaluate.accuracy import evaluate
from helmlite.export.onnx import export_onnx
from helmlite.runtime.session import open_session
from helpers import Lines, alive, patchy_data

_CLASSES = with_roles(["helmet", "no_helmet"])
_OTHERS = ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo12n", "yolo26n")


_NO_BOXES, _NO_LABELS = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return patchy_data(tmp_path_factory.mktemp("pictures"), height=48)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return alive(new_tiny(_CLASSES, 64))


def context(data: Dataset, detector: Detector, folder: Path, log: Lines | None = None) -> Context:
    return Context(data, detector, 64, 0, folder, log=Lines() if log is None else log)


def maps(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return tuple(network.eval()(images))


class _Block(nn.Module):
    """x + conv(x); wider: gives twice the channels."""

    def __init__(self, wider: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6 if wider else 3, 1)
        self.wider = wider

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if self.wider else x + self.conv(x)  # type: ignore[no-any-return]


class _Used(nn.Module):
    """A block that runs twice, one that runs once, an activation, a wider block, and a block in a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Sequential(_Block(), _Block())
        self.blocks = nn.Sequential(_Block(), nn.SiLU(), nn.Sequential(_Block()), _Block(wider=True))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.blocks(self.twice(self.twice(x))),)


def test_candidates_by_hand() -> None:
    """Not: `twice` (runs twice), the SiLU (no convolution), `blocks.3` (wider), `blocks.2.0` (does as `blocks.2`)."""
    assert [item.path for item in block_candidates(_Used())] == ["blocks.0", "blocks.2"]


def test_candidates_of_tiny(detector: Detector) -> None:
    found = {item.path: item for item in block_candidates(detector.network)}
    assert {"backbone.mix.1", "backbone.mix.1.blocks.0", "backbone.mix.1.blocks.1", "backbone.context"} <= set(found)
    assert found["backbone.mix.1.blocks.0"].convolutions == 2
    assert found["backbone.mix.1.blocks.0"].shape == (32, 8, 8)
    assert not {"backbone.down.1", "neck.down_fine", "backbone.mix.1.enter", "heads.0"} & set(found)


def test_it_is_as_if_skipped_by_hand(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    """The residual block x + f(x) with f made zero is what is left; statistics measured on the same pictures."""
    before = {name: item.clone() for name, item in detector.network.state_dict().items()}
    dropped = DropBlock(paths=("backbone.mix.1.blocks.1",)).apply(detector, context(data, detector, tmp_path))
    assert all(torch.equal(before[name], item) for name, item in detector.network.state_dict().items())
    assert detector.edits == ()
    by_hand = detector.copy().network
    with torch.no_grad():
        norm = by_hand.get_submodule("backbone.mix.1.blocks.1.second.norm")
        norm.weight.zero_(), norm.bias.zero_()
        by_hand.get_submodule("backbone.mix.1.blocks.1.second").act = nn.Identity()
        own = dropped.network.state_dict()
        for name, item in by_hand.state_dict().items():
            if name in own and "running" in name:
                item.copy_(own[name])
    images = torch.rand(2, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(maps(dropped.network, images), maps(by_hand, images)))
    assert count_macs(dropped.network, 64) == count_macs(detector.network, 64) - 2 * 8 * 8 * 9 * 32 * 32


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(write_scenes(tmp_path_factory.mktemp("scenes"), 4, 4, 0, seed=0, size=(160, 120)), "train")


def _prices_by_hand(detector: Detector, data: Dataset, size: int) -> dict[str, tuple[float, int]]:
    """For each candidate the loss that it costs by the multiply-accumulates that it saves, and these, negative."""
    family = family_of(detector)
    batches = list(plain_batches(data, size, 4, 8, seed=0))
    losses, macs = {}, {}
    for path in ("", *(item.path for item in block_candidates(detector.network))):
        network = detector.copy().network
        if path:
            DropBlocks((path,)).redo(network)
        with torch.no_grad():
            task = family.task_loss(detector.architecture, network, 1)
            losses[path] = float(task(family.training_maps(network, batches[0].images), batches[0])[0])
        macs[path] = count_macs(network, size)
    saved = {path: macs[""] - macs[path] for path in macs if path}
    return {path: (max(losses[path] - losses[""], 0.0) / saved[path], -saved[path]) for path in saved}


@pytest.mark.slow
def test_the_lowest_price_goes_first(scenes: Dataset, tmp_path: Path) -> None:
    """On the trained demonstration detector; and the search goes on from what it noted."""
    trained = load_demo_detector()
    prices = _prices_by_hand(trained, scenes, 160)
    assert sum(price > 0 for price, _ in prices.values()) > len(prices) / 2
    log, settings = Lines(), DropBlock(count=2, images=4, shortlist=3)
    about = Context(scenes, trained, 160, 0, tmp_path, log=log)
    dropped = settings.apply(trained, about)
    paths = dropped.edits[-1].to_json()["paths"]
    assert paths[0] == min(prices, key=lambda path: prices[path])
    assert f"({len(prices)} measured)" in log[0] and "(3 measured)" in log[1]
    (notes,) = tmp_path.glob("drop-block-*.json")
    asked = json.loads(notes.read_text())
    assert len(asked) == 1 + len(prices) + 3  # the first network, all without one, three without two
    notes.write_text(json.dumps(dict(list(asked.items())[:5])))  # as if stopped after five measurements
    assert settings.apply(trained, about).edits == dropped.edits
    assert json.loads(notes.read_text()) == asked


@pytest.mark.slow
def test_by_mean_average_precision(scenes: Dataset, tmp_path: Path) -> None:
    trained, log = load_demo_detector(), Lines()
    about = Context(scenes, trained, 160, 0, tmp_path, log=log)
    dropped = DropBlock(count=1, measure="map", images=4).apply(trained, about)
    assert len(dropped.edits[-1].to_json()["paths"]) == 1
    lost = 1 - (evaluate(trained.predictor(160), scenes).map or 0.0)
    assert f"from {lost:.4g}" in log[0]


@pytest.mark.slow
def test_a_share_of_the_work_and_what_is_nested(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    dropped = DropBlock(macs_ratio=0.6, measure="none", images=4).apply(detector, context(data, detector, tmp_path))
    assert count_macs(dropped.network, 64) <= 0.6 * count_macs(detector.network, 64)
    paths = dropped.edits[-1].to_json()["paths"]
    assert len(paths) > 1
    assert not any(path.startswith(f"{other}.") for path in paths for other in paths)


def test_edit_survives_json_a_checkpoint_and_export(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    chosen = ("backbone.mix.1.blocks.0", "backbone.mix.3", "heads.0.box.0")
    dropped = DropBlock(paths=chosen, images=4).apply(detector, context(data, detector, tmp_path))
    edit = dropped.edits[-1]
    assert DropBlocks.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    save_checkpoint(dropped, tmp_path / "dropped", {})
    images = torch.rand(1, 3, 64, 64)
    again = load_checkpoint(tmp_path / "dropped")
    assert all(torch.equal(a, b) for a, b in zip(maps(dropped.network, images), maps(again.network, images)))
    export_onnx(dropped, tmp_path / "dropped.onnx", 64, "maps")
    found = open_session(tmp_path / "dropped.onnx", "onnxruntime", 1, "f32").run_named(images.numpy())
    for map_found, map_here in zip(found.values(), maps(dropped.network, images)):
        assert np.abs(map_found - map_here.numpy()).max() < 1e-4 * float(map_here.abs().max())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give count, macs_ratio or paths, one of them"),
        ({"count": 1, "macs_ratio": 0.5}, "one of them"),
        ({"count": 0}, "count must be at least 1; got 0"),
        ({"macs_ratio": 1.0}, r"between 0 and 1 \(both excluded\); got 1.0"),
        ({"count": 1, "measure": "luck"}, "unknown measure 'luck'; known are loss, map, none"),
        ({"count": 1, "images": 0}, "images must be at least 1"),
        ({"paths": ("",)}, "drop_block: paths is a list of module paths"),
        ({"paths": (("neck",),)}, "drop_block: paths is a list of module paths"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DropBlock(**settings)  # type: ignore[arg-type]


@pytest.mark.slow
def test_wrong_blocks_and_targets_are_refused(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'neck' is not one of the \d+ blocks that can be left out"):
        DropBlock(paths=("neck",)).apply(detector, context(data, detector, tmp_path))
    with pytest.raises(ValueError, match=r"'backbone.mix.1.blocks.0' lies inside 'backbone.mix.1'"):
        DropBlock(paths=("backbone.mix.1.blocks.0", "backbone.mix.1")).apply(
            detector, context(data, detector, tmp_path)
        )
    with pytest.raises(ValueError, match=r"remain when \d+ blocks are left out, and no other can be"):
        DropBlock(macs_ratio=0.01, measure="none").apply(detector, context(data, detector, tmp_path))
    bare = dataset_of([replace(item, boxes_xyxy=_NO_BOXES, labels=_NO_LABELS) for item in data], data.classes)
    for measure in ("loss", "map"):
        with pytest.raises(ValueError, match="none of the pictures that it would measure on has a label"):
            DropBlock(count=1, measure=measure).apply(detector, context(bare, detector, tmp_path))
    quantized = Quantize(pictures=4).apply(detector, context(data, detector, tmp_path))
    with pytest.raises(TechniqueOrderError, match="drop_block cannot follow quantize"):
        DropBlock(count=1).apply(quantized, context(data, detector, tmp_path))


def test_pruning_after_it(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    _pruned_after(detector, data, tmp_path, ("backbone.mix.1.blocks.0", "backbone.mix.3.blocks.0.first"))


def _pruned_after(detector: Detector, data: Dataset, folder: Path, paths: tuple[str, ...]) -> None:
    dropped = DropBlock(paths=paths, images=4).apply(detector, context(data, detector, folder))
    pruned = Prune(macs_ratio=0.6, rounds=1, images=4).apply(dropped, context(data, dropped, folder))
    save_checkpoint(pruned, folder / "pruned", {})
    again, images = load_checkpoint(folder / "pruned"), torch.rand(1, 3, 64, 64)
    assert [edit.kind for edit in again.edits] == ["drop_block", "keep_channels"]
    assert all(torch.equal(a, b) for a, b in zip(maps(pruned.network, images), maps(again.network, images)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo11n", *(pytest.param(name, marks=pytest.mark.matrix) for name in _OTHERS)])
def test_every_family_without_many_blocks(name: str, data: Dataset, tmp_path: Path) -> None:
    """Every second candidate that does not lie inside another goes; then pruned, saved, loaded and quantized."""
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    yolo = alive(new_ultralytics(name, _CLASSES, input_size=64))
    inner: list[str] = []
    for item in reversed(block_candidates(yolo.network)):
        if not any(path.startswith(f"{item.path}.") for path in inner):
            inner.append(item.path)
    _pruned_after(yolo, data, tmp_path, tuple(inner[::2]))
    found = DropBlock(macs_ratio=0.8, images=4, shortlist=1).apply(yolo, context(data, yolo, tmp_path))
    assert count_macs(found.network, 64) <= 0.8 * count_macs(yolo.network, 64)
    Quantize(pictures=4, ranges="min_max").apply(found, context(data, yolo, tmp_path))
