"""What the tests of techniques that train and then cut share: slim, admm, growing, gates."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.edits.keep_channels import KeepChannels
from helmlite.compress.technique import Context, Technique, TechniqueOrderError
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector, Log
from helmlite.detector.ema import every_tensor
from helmlite.detector.fit_state import EpochPlan
from helmlite.detector.macs import count_macs
from helmlite.detector.tiny import new_tiny
from helpers import alive, check_float_export

CLASSES = with_roles(["helmet", "no_helmet"])
SIZE = 64
MORE_YOLOS = tuple(
    pytest.param(name, marks=pytest.mark.matrix)
    for name in ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo12n", "yolo26n")
)

Make = Callable[..., Technique]  # settings -> technique


def small_detector(name: str = "tiny") -> Detector:
    if name == "tiny":
        return alive(new_tiny(CLASSES, SIZE, width=0.25))
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    return alive(new_ultralytics(name, CLASSES, input_size=SIZE))


def drawn_data(folder: Path, count: int = 8) -> Dataset:
    """Bright and dark discs on grey."""
    folder.mkdir(exist_ok=True, parents=True)
    samples = []
    for index in range(count):
        x, y = (int(value) for value in np.random.default_rng(index).integers(16, 48, size=2))
        image = np.full((SIZE, SIZE, 3), 120, dtype=np.uint8)
        cv2.circle(image, (x, y), 10, (250, 250, 250) if index % 2 == 0 else (10, 10, 10), -1)
        cv2.imwrite(str(folder / f"{index}.png"), image)
        box = np.array([[x - 10, y - 10, x + 11, y + 11]], dtype=np.float32)
        samples.append(Sample(folder / f"{index}.png", box, np.array([index % 2], dtype=np.int64)))
    return dataset_of(samples, CLASSES)


def silent(line: str) -> None:
    """Lines for the user that a test does not look at."""


def small_context(detector: Detector, folder: Path, name: str = "run", log: Log = silent, multiple: int = 2) -> Context:
    data = drawn_data(folder / "pictures")
    return Context(data, detector, SIZE, 0, folder / name, log=log, channel_multiple=multiple, device="cpu")


def plan_of(epochs: int, steps: int) -> EpochPlan:
    return EpochPlan(epochs, steps, False, 1, 0.0, 0.0, {})


def epochs_of(folder: Path) -> list[Mapping[str, float]]:
    """What training wrote down, epoch by epoch."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def maps_of(detector: Detector) -> list[torch.Tensor]:
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        return list(detector.network.eval()(images))


def check_contract(technique: Technique, detector: Detector, ratio: float, folder: Path, multiple: int = 2) -> Detector:
    """Applies it: input unchanged, target met, one cut as the last edit, checkpoint and export agree."""
    before = {name: item.clone() for name, item in detector.network.state_dict().items()}
    told: list[str] = []
    changed = technique.apply(detector, small_context(detector, folder, log=told.append, multiple=multiple))
    assert all(torch.equal(before[name], item) for name, item in detector.network.state_dict().items())
    assert [edit.kind for edit in changed.edits] == ["keep_channels"]
    assert 0.5 * ratio < count_macs(changed.network, SIZE) / count_macs(detector.network, SIZE) <= ratio
    assert told[-1].startswith(f"{technique.name}: ") and "% of the multiply-accumulates left" in told[-1]
    edit = changed.edits[-1]
    assert isinstance(edit, KeepChannels)
    assert KeepChannels.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    save_checkpoint(changed, folder / "checkpoint", {})
    expected = maps_of(changed)
    assert max(float(item.std()) for item in expected) > 1e-3
    assert all(torch.equal(a, b) for a, b in zip(maps_of(load_checkpoint(folder / "checkpoint")), expected))
    planes = np.random.default_rng(3).random((1, 3, SIZE, SIZE), dtype=np.float32)
    check_float_export(changed, planes, folder / "model.onnx")
    return changed


class StoppedError(Exception):
    """Stands in for a power cut."""


def check_resumes_bitwise(make: Make, folder: Path) -> None:
    """Two epochs at once equal one epoch, a stop, and one more from the files alone."""
    detector = small_detector()
    technique = make(macs_ratio=0.7, epochs=2, batch_size=4, images=4, teacher="none")
    whole = technique.apply(detector, small_context(detector, folder, "whole"))

    def stop(line: str) -> None:
        if line.startswith("epoch 1 of 2"):
            raise StoppedError

    with pytest.raises(StoppedError):
        technique.apply(detector, small_context(detector, folder, "cut", stop))
    told: list[str] = []
    resumed = technique.apply(detector, small_context(detector, folder, "cut", told.append))
    assert any("goes on after epoch 1 of 2" in line for line in told)
    assert resumed.edits == whole.edits
    first, second = dict(every_tensor(whole.network)), dict(every_tensor(resumed.network))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@dataclass(frozen=True)
class OtherEdit:
    """Stands for an edit that was made before."""

    kind: ClassVar[str] = "none"

    def redo(self, network: nn.Module) -> None: ...

    def to_json(self) -> dict[str, Any]:
        return {}


def check_order_errors(technique: Technique, folder: Path) -> None:
    for kind, earlier in (("insert_quantizers", "quantize"), ("factorize", "low_rank"), ("tie_weights", "tie")):
        edit = type("Edit", (OtherEdit,), {"kind": kind})()
        detector = replace(new_tiny(CLASSES, SIZE, width=0.25), edits=(edit,))
        message = f"{technique.name} cannot follow {earlier}: put {technique.name} before {earlier}"
        with pytest.raises(TechniqueOrderError, match=message):
            technique.apply(detector, small_context(detector, folder))


COMMON_MISTAKES = [
    ({"macs_ratio": 1.0}, "macs_ratio must lie between 0 and 1"),
    ({"macs_ratio": 0.0}, "macs_ratio must lie between 0 and 1"),
    ({"macs_ratio": 0.5, "teacher": "other"}, "teacher must be 'original' or 'none'; got 'other'"),
    ({"macs_ratio": 0.5, "images": 0}, "images must be at least 1"),
    ({"macs_ratio": 0.5, "min_keep": 0.0}, "min_keep in"),
    ({"macs_ratio": 0.5, "epochs": 0}, "at least 1 epoch"),
    ({"macs_ratio": 0.5, "learning_rate": 0.0}, "learning_rate > 0"),
    ({"macs_ratio": 0.5, "learning_rate": math.nan}, "learning_rate > 0"),
    ({"macs_ratio": math.nan}, "macs_ratio must lie between 0 and 1"),
    ({"macs_ratio": 0.5, "min_keep": math.nan}, "min_keep in"),
]


def check_mistake(make: Make, name: str, settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(**settings)
    assert str(caught.value).startswith(f"{name}: ") and "\n" not in str(caught.value)
