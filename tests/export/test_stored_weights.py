"""Files with integer weights and float arithmetic: bytes worked by hand, sizes, and PyTorch's answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from helmlite.compress.technique import Context
from helmlite.compress.weight_only import WeightOnly
from helmlite.data.dataset import dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helmlite.export.onnx import export_onnx, node_counts
from helmlite.export.openvino import execution_of, export_openvino
from helmlite.export.stored_weights import fits_4_bits, packed, pairs_of_a_byte
from helpers import alive, check_float_answers

onnx = pytest.importorskip("onnx")

_CLASSES = with_roles(["helmet", "no_helmet"])
_SIZE = 64
_YOLOS = ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo12n", "yolo26n")


def context(detector: Detector) -> Context:
    return Context(dataset_of([], _CLASSES), detector, _SIZE, 0, Path("unused"), log=lambda line: None)


def planes() -> np.ndarray:  # type: ignore[type-arg]
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    return nn.functional.interpolate(coarse, size=(_SIZE, _SIZE), mode="bilinear").numpy()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return alive(new_tiny(_CLASSES, _SIZE))


def test_two_integers_to_a_byte_by_hand() -> None:
    integers = np.array([[1, -1, 7, -7], [0, 5, -3, 2]], np.int8)
    # 1 and -1: 0x1 below 0xf; 7 and -7: 0x7 below 0x9; 0 and 5; -3 and 2: 0xd below 0x2
    assert packed(integers).tolist() == [0xF1, 0x97, 0x50, 0x2D]
    assert pairs_of_a_byte()[[0xF1, 0x97, 0x50, 0x2D]].flatten().tolist() == integers.flatten().tolist()


def test_what_fits_4_bits() -> None:
    assert fits_4_bits(np.array([7, -7], np.int8))
    assert not fits_4_bits(np.array([7, -8], np.int8))
    assert not fits_4_bits(np.array([7, 1, 1], np.int8))  # no whole bytes


@pytest.mark.parametrize(("bits", "group_size"), [(8, 0), (4, 16), (4, 0)])
def test_files_answer_as_pytorch_does(detector: Detector, tmp_path: Path, bits: int, group_size: int) -> None:
    pytest.importorskip("openvino")
    changed = WeightOnly(bits, group_size, pictures=0).apply(detector, context(detector))
    _check_files(detector, changed, tmp_path)


def _check_files(detector: Detector, changed: Detector, folder: Path) -> None:
    export_onnx(changed, folder / "model.onnx", _SIZE)
    export_openvino(changed, folder / "model.xml", _SIZE)
    check_float_answers(changed, planes(), folder / "model.onnx", "onnxruntime")
    check_float_answers(changed, planes(), folder / "model.xml", "openvino")
    float_scores, scores = (item.predictor(_SIZE).decode(planes())[1] for item in (detector, changed))
    assert np.abs(float_scores - scores).max() > 2e-3 * scores.max()  # rounding shows: the comparisons can fail


def test_runtimes_compute_in_float_and_unpack_once(detector: Detector, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    export_onnx(detector, tmp_path / "float.onnx", _SIZE)
    export_openvino(detector, tmp_path / "float.xml", _SIZE)
    changed = WeightOnly(4, pictures=0).apply(detector, context(detector))
    export_onnx(changed, tmp_path / "int4.onnx", _SIZE)
    export_openvino(changed, tmp_path / "int4.xml", _SIZE)
    assert "DequantizeLinear" not in node_counts(tmp_path / "int4.onnx")
    loaded = {}
    for name in ("float", "int4"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{name}.loaded.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"), options, ["CPUExecutionProvider"])
        loaded[name] = node_counts(tmp_path / f"{name}.loaded.onnx")
    assert loaded["int4"] == loaded["float"]
    kinds = {name: sorted(kind for _, kind, _ in execution_of(tmp_path / f"{name}.xml").operators) for name in loaded}
    assert kinds["int4"] == kinds["float"]


@pytest.mark.slow
def test_file_sizes_of_a_yolo(tmp_path: Path) -> None:
    """Integer weights of a YOLO11n in ONNX and OpenVINO, beside the float file, and its attention's answers."""
    pytest.importorskip("ultralytics")
    pytest.importorskip("openvino")
    from helmlite.detector.ultralytics import new_ultralytics

    detector = alive(new_ultralytics("yolo11n", _CLASSES))
    export_onnx(detector, tmp_path / "float.onnx", _SIZE)
    export_openvino(detector, tmp_path / "float.xml", _SIZE)
    whole = _sizes(tmp_path, "float")
    for bits, most in ((8, 0.3), (4, 0.2)):
        changed = WeightOnly(bits, pictures=0).apply(detector, context(detector))
        _check_files(detector, changed, tmp_path)
        assert all(part < most * of for part, of in zip(_sizes(tmp_path, "model"), whole))


def _sizes(folder: Path, name: str) -> tuple[int, int]:
    onnx_file, xml, weights = (folder / f"{name}.{ending}" for ending in ("onnx", "xml", "bin"))
    return onnx_file.stat().st_size, xml.stat().st_size + weights.stat().st_size


@pytest.mark.matrix
@pytest.mark.parametrize("name", _YOLOS)
def test_every_family(name: str, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    pytest.importorskip("openvino")
    from helmlite.detector.ultralytics import new_ultralytics

    detector = alive(new_ultralytics(name, _CLASSES))
    for bits in (8, 4):
        _check_files(detector, WeightOnly(bits, pictures=0).apply(detector, context(detector)), tmp_path)
