"""The ONNX file answers what PyTorch answers, float and INT8, before anything else is built on it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.compress.quantize import Quantize
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.tiny import new_tiny
from helmlite.export.onnx import export_onnx, node_counts
from helmlite.runtime.decode import decode_maps
from helmlite.runtime.session import open_session

_CLASSES = with_roles(["helmet", "no_helmet"])


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    random = np.random.default_rng(0)
    samples = []
    for index in range(8):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), random.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        samples.append(Sample(path, np.array([[10, 10, 40, 40]], np.float32), np.array([index % 2], np.int64)))
    return dataset_of(samples, _CLASSES)


def test_float_boxes_and_scores(tmp_path: Path) -> None:
    detector = new_tiny(_CLASSES, input_size=64)
    export_onnx(detector, tmp_path / "model.onnx", 64)
    planes = np.random.default_rng(1).random((1, 3, 64, 64), dtype=np.float32)
    found = open_session(tmp_path / "model.onnx", "onnxruntime", 1).run_named(planes)
    boxes, scores = detector.predictor(64).decode(planes)
    assert np.abs(found["boxes"][0] - boxes).max() < 0.01
    assert np.abs(found["scores"][0] - scores).max() < 1e-4


def test_maps_are_those_of_the_head(tmp_path: Path) -> None:
    detector = new_tiny(_CLASSES, input_size=64)
    export_onnx(detector, tmp_path / "model.onnx", 64, output="maps")
    planes = np.random.default_rng(1).random((1, 3, 64, 64), dtype=np.float32)
    session = open_session(tmp_path / "model.onnx", "onnxruntime", 1)
    assert session.output_names == tuple(f"{kind}_{stride}" for stride in (8, 16, 32) for kind in ("box", "class"))
    boxes, _ = decode_maps(session.run(planes), detector.architecture.layout)
    assert np.abs(boxes - detector.predictor(64).decode(planes)[0]).max() < 0.01


def test_int8_weights_are_stored_as_integers(data: Dataset, tmp_path: Path) -> None:
    detector = new_tiny(_CLASSES, input_size=64)
    context = Context(data, detector, 64, 0, tmp_path, log=lambda line: None)
    quantized = Quantize(pictures=8).apply(detector, context)
    export_onnx(detector, tmp_path / "float.onnx", 64)
    export_onnx(quantized, tmp_path / "int8.onnx", 64)
    assert (tmp_path / "int8.onnx").stat().st_size < 0.45 * (tmp_path / "float.onnx").stat().st_size
    assert node_counts(tmp_path / "int8.onnx")["QuantizeLinear"] > 0
    planes = np.random.default_rng(1).random((1, 3, 64, 64), dtype=np.float32)
    found = open_session(tmp_path / "int8.onnx", "onnxruntime", 1, "int8").run_named(planes)
    _, scores = quantized.predictor(64).decode(planes)
    assert np.abs(found["scores"][0] - scores).max() < 0.01
