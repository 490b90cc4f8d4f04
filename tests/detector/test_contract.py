"""One contract for every kind of edit on every family: see CONTRIBUTING.md.

The input stays untouched, output shapes are kept, edits survive JSON, the detector rebuilt in a new process gives equal
outputs there, and the exported file agrees with PyTorch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from helmlite.compress.activation import ReplaceActivation
from helmlite.compress.checkpoint import EDITS, load_checkpoint, save_checkpoint
from helmlite.compress.cluster import Cluster
from helmlite.compress.drop_block import DropBlock
from helmlite.compress.drop_scale import DropScale
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.low_rank import LowRank
from helmlite.compress.quantize import Quantize
from helmlite.compress.separable import Separable
from helmlite.compress.sparsify import Sparsify
from helmlite.compress.technique import Context
from helmlite.compress.tie import Tie
from helmlite.compress.weight_only import WeightOnly
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helmlite.export.onnx import export_onnx
from helmlite.runtime.machine import int8_weight_bits, read_machine
from helmlite.runtime.session import open_session
from helpers import halved

_CLASSES = with_roles(["helmet", "no_helmet"])
_SIZE = 128
_FAMILIES = ("tiny", "yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n")
_ANSWER = """
import sys
import numpy as np
from pathlib import Path
from helmlite.compress.checkpoint import load_checkpoint
planes = np.load(sys.argv[2])
boxes, scores = load_checkpoint(Path(sys.argv[1])).predictor(planes.shape[-1]).decode(planes)
np.savez(sys.argv[3], boxes=boxes, scores=scores)
"""

Change = Callable[[Detector, Context], Detector]


def _halved(detector: Detector, context: Context) -> Detector:
    return halved(detector, _SIZE)[2]


_EDITS: dict[str, Change] = {
    "keep_channels": _halved,
    "replace_activation": ReplaceActivation("relu").apply,
    "fold_batchnorm": lambda detector, context: fold_batchnorm(detector),
    "merge_parallel_convs": lambda detector, context: merge_parallel_convs(fold_batchnorm(detector)),
    "insert_quantizers": Quantize(pictures=8, weight_bits=int8_weight_bits(read_machine())).apply,
    "drop_block": DropBlock(count=1, measure="none").apply,
    "drop_scale": DropScale(stride=32, max_share=1.0).apply,
    "factorize": LowRank(energy=0.8, min_gain=0.05, images=8).apply,
    "split_depthwise": Separable(images=8).apply,
    "tie_weights": Tie(what="all", images=8).apply,
    "mask_weights": Sparsify(sparsity=0.5, images=8).apply,
    "cluster_weights": Cluster(bits=5).apply,
    "round_weights": WeightOnly(bits=8).apply,
}
_DROPS_CELLS = ("drop_scale",)  # gives fewer boxes than the original, all others as many


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    samples = []
    for index in range(8):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), random.integers(0, 255, (_SIZE, _SIZE, 3), dtype=np.uint8))
        samples.append(Sample(path, np.array([[10, 10, 60, 70]], np.float32), np.array([index % 2], np.int64)))
    return dataset_of(samples, _CLASSES)


def _lively(name: str) -> Detector:
    """Random weights with BatchNorm statistics and biases that keep outputs from being constant."""
    if name == "tiny":
        detector = new_tiny(_CLASSES, input_size=_SIZE)
    else:
        pytest.importorskip("ultralytics")
        from helmlite.detector.ultralytics import new_ultralytics

        detector = new_ultralytics(name, _CLASSES, input_size=_SIZE)
    generator = torch.Generator().manual_seed(1)
    for module in detector.network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)
            module.running_var.uniform_(1.0, 3.0, generator=generator)  # logits of a usual size
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return detector


def _cases() -> list[object]:
    quick = {"tiny", "yolo11n"}
    return [
        pytest.param(family, kind, id=f"{family}-{kind}", marks=() if family == "tiny" else pytest.mark.slow)
        if family in quick
        else pytest.param(family, kind, id=f"{family}-{kind}", marks=pytest.mark.matrix)
        for family in _FAMILIES
        for kind in _EDITS
    ]


@pytest.mark.parametrize(("family", "kind"), _cases())
def test_an_edit_keeps_its_contract(family: str, kind: str, data: Dataset, tmp_path: Path) -> None:
    detector = _lively(family)
    before = {name: item.clone() for name, item in detector.network.state_dict().items()}
    context = Context(data, detector, _SIZE, 0, tmp_path, log=lambda line: None)

    changed = _EDITS[kind](detector, context)

    if kind == "merge_parallel_convs" and kind not in [edit.kind for edit in changed.edits]:
        assert family not in ("yolov9t", "yolov10n")  # the families that have parallel convolutions
        return
    assert changed.edits[-1].kind == kind
    assert detector.edits == ()
    assert all(torch.equal(before[name], item) for name, item in detector.network.state_dict().items())

    for edit in changed.edits:
        assert EDITS[edit.kind](json.loads(json.dumps(edit.to_json()))) == edit

    planes = np.random.default_rng(3).random((1, 3, _SIZE, _SIZE), dtype=np.float32)
    boxes, scores = changed.predictor(_SIZE).decode(planes)
    plain_boxes, plain_scores = detector.predictor(_SIZE).decode(planes)
    assert (boxes.shape, scores.shape) == (plain_boxes.shape, plain_scores.shape) or kind in _DROPS_CELLS
    assert len(boxes) == len(scores)
    assert scores.std() > 0

    save_checkpoint(changed, tmp_path / "checkpoint", {})
    again_boxes, again_scores = _in_a_new_process(tmp_path, planes)
    assert np.allclose(again_boxes, boxes, rtol=1e-5, atol=1e-3)
    assert np.allclose(again_scores, scores, rtol=1e-5, atol=1e-7)

    export_onnx(changed, tmp_path / "model.onnx", _SIZE)
    found = open_session(tmp_path / "model.onnx", "onnxruntime", 1, "int8" if kind == "insert_quantizers" else "f32")
    outputs = found.run_named(planes)
    if kind == "insert_quantizers":  # a value on the edge of a step may fall to the other side
        assert np.abs(outputs["scores"][0] - scores).mean() < 0.1 * scores.std()
        assert np.abs(outputs["boxes"][0] - boxes).mean() < 0.5
    else:
        assert np.allclose(outputs["scores"][0], scores, rtol=1e-3, atol=1e-6)
        assert np.abs(outputs["boxes"][0] - boxes).max() < 0.01


def test_every_kind_of_edit_is_under_the_contract() -> None:
    assert set(_EDITS) == set(EDITS)


def test_a_loaded_checkpoint_can_be_changed_again(data: Dataset, tmp_path: Path) -> None:
    detector = _lively("tiny")
    context = Context(data, detector, _SIZE, 0, tmp_path, log=lambda line: None)
    pruned = _EDITS["keep_channels"](detector, context)
    save_checkpoint(pruned, tmp_path / "checkpoint", {})
    twice = _EDITS["keep_channels"](load_checkpoint(tmp_path / "checkpoint"), context)
    assert [edit.kind for edit in twice.edits] == ["keep_channels", "keep_channels"]


def _in_a_new_process(folder: Path, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    np.save(folder / "planes.npy", planes)
    files = [str(folder / name) for name in ("checkpoint", "planes.npy", "answer.npz")]
    subprocess.run([sys.executable, "-W", "ignore", "-c", _ANSWER, *files], check=True)
    answer = np.load(folder / "answer.npz")
    return answer["boxes"], answer["scores"]
