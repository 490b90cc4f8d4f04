"""Quantized detectors as ONNX and OpenVINO files: the plan's numbers, integer weights, and PyTorch's answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import helmlite.export.onnx
import helmlite.export.openvino
from helmlite.compress.activation import ReplaceActivation
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.quantize import Quantize
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers, quantizers_of
from helmlite.compress.rounding.quantization_plan import IMAGES, QuantizationPlan, QuantPoint
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import Image
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helmlite.export.decoded import DecodedDetector, cell_grid
from helmlite.export.onnx import export_onnx, node_counts
from helmlite.export.openvino import execution_of, export_openvino
from helmlite.export.parity import Parity, measure_parity
from helmlite.export.qdq import stored_integers
from helmlite.runtime.decode import HeadLayout, decode_maps
from helmlite.runtime.machine import int8_weight_bits, read_machine
from helmlite.runtime.preprocess import network_input
from helmlite.runtime.session import open_session
from helpers import alive

onnx = pytest.importorskip("onnx")

_CLASSES = with_roles(["helmet", "no_helmet"])
_SIZE = 64
_WEIGHT_BITS = int8_weight_bits(read_machine())  # what this machine's runtimes add without overflow
_YOLOS = ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo12n", "yolo26n")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    samples = []
    for index in range(6):
        picture = cv2.resize(random.integers(0, 255, (6, 6, 3), dtype=np.uint8), (64, 48))
        cv2.imwrite(str(folder / f"{index}.png"), picture)
        boxes = np.array([[4, 4, 20, 24]], np.float32)
        samples.append(Sample(folder / f"{index}.png", boxes, np.array([index % 2], np.int64)))
    return dataset_of(samples, _CLASSES)


@pytest.fixture(scope="module")
def images(data: Dataset) -> list[Image]:
    return [sample.read_image() for sample in data]


def context(data: Dataset, detector: Detector) -> Context:
    return Context(data, detector, _SIZE, 0, Path("unused"), log=lambda line: None)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return alive(new_tiny(_CLASSES, _SIZE))


@pytest.fixture(scope="module")
def quantized(detector: Detector, data: Dataset) -> Detector:
    return Quantize(weight_bits=_WEIGHT_BITS).apply(detector, context(data, detector))


def plan_of(detector: Detector) -> QuantizationPlan:
    return quantizers_of(detector.network).plan


def test_decoding_in_pytorch_is_that_of_the_runtime() -> None:
    for reg_max in (1, 16):
        layout = HeadLayout((8, 16), reg_max, 3)
        random = torch.Generator().manual_seed(reg_max)
        maps = [
            torch.randn(1, channels, 64 // stride, 64 // stride, generator=random) * 3
            for stride in layout.strides
            for channels in (4 * reg_max, 3)
        ]
        network = nn.Module()
        network.forward = lambda images, maps=maps: tuple(maps)  # type: ignore[method-assign]
        boxes, scores = DecodedDetector(network, layout, 64)(torch.zeros(1, 3, 64, 64))
        expected_boxes, expected_scores = decode_maps([item.numpy() for item in maps], layout)
        assert np.abs(boxes[0].numpy() - expected_boxes).max() < 1e-4
        assert np.abs(scores[0].numpy() - expected_scores).max() < 1e-6


def test_the_grid_by_hand() -> None:
    centres, strides = cell_grid(HeadLayout((8, 16), 1, 1), 16)
    assert centres[0].T.tolist() == [[0.5, 0.5], [1.5, 0.5], [0.5, 1.5], [1.5, 1.5], [0.5, 0.5]]
    assert strides.flatten().tolist() == [8, 8, 8, 8, 16]


def test_stored_integers_by_hand() -> None:
    weight = torch.tensor([[1.27, -0.5], [-0.254, 0.001]]).view(2, 2, 1, 1)
    point = QuantPoint(8, (0.01, 0.002), (0, 0), axis=0, signed=True)
    made = stored_integers(weight, point, torch.tensor(point.scales), torch.zeros(2, dtype=torch.int32))
    assert made.dtype == torch.int8
    assert made.flatten().tolist() == [127, -50, -127, 0]  # 0.001 / 0.002 is half way: to even


def initializers(path: Path) -> dict[str, Any]:
    graph = onnx.load(str(path)).graph
    return {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}


def test_the_file_has_every_point_of_the_plan_with_its_numbers(quantized: Detector, tmp_path: Path) -> None:
    plan = plan_of(quantized)
    export_onnx(quantized, tmp_path / "lean.onnx", _SIZE, repeat_carried=False)
    stored, graph = initializers(tmp_path / "lean.onnx"), onnx.load(str(tmp_path / "lean.onnx")).graph
    values = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    written = Counter((float(stored[node.input[1]]), int(stored[node.input[2]])) for node in values)
    assert written == Counter((point.scales[0], point.zero_points[0]) for point in plan.edges().values())
    assert all(stored[node.input[2]].dtype == np.uint8 for node in values)
    weights = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored]
    assert all(stored[node.input[0]].dtype == np.int8 for node in weights)
    scales = Counter(tuple(stored[node.input[1]].tolist()) for node in weights)
    assert scales == Counter(point.scales for point in plan.weights().values())
    assert not any(array.dtype == np.float32 and array.ndim == 4 for array in stored.values())  # no float kernel left


def test_a_file_without_a_point_of_the_plan_is_refused(
    quantized: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of quantizers and of INT8 weights is asserted: an exporter that loses one is not believed."""
    monkeypatch.setattr(helmlite.export.onnx, "_drop_unused_initializers", _without_first_rounding)
    with pytest.raises(ValueError, match=r"QuantizeLinear nodes; the quantization plan asks for"):
        export_onnx(quantized, tmp_path / "model.onnx", _SIZE)
    monkeypatch.undo()
    pytest.importorskip("openvino")
    weights = len(plan_of(quantized).weights())
    monkeypatch.setattr(helmlite.export.openvino, "_quantized_weights", lambda detector: weights + 1)
    said = f"stores {weights} weights as integers; the quantization plan has {weights + 1}"
    with pytest.raises(ValueError, match=said):
        export_openvino(quantized, tmp_path / "model.xml", _SIZE)


def _without_first_rounding(graph: Any) -> None:
    nodes = list(graph.node)
    rounding = next(node for node in nodes if node.op_type == "QuantizeLinear")
    back = next(node for node in nodes if node.op_type == "DequantizeLinear" and node.input[0] == rounding.output[0])
    for node in nodes:
        node.input[:] = [rounding.input[0] if name == back.output[0] else name for name in node.input]
    graph.node.remove(back)
    graph.node.remove(rounding)


def test_what_is_carried_is_rounded_again_for_onnx_runtime_only(quantized: Detector, tmp_path: Path) -> None:
    plan = plan_of(quantized)
    for repeat in (False, True):
        export_onnx(quantized, tmp_path / "model.onnx", _SIZE, repeat_carried=repeat)
        found = node_counts(tmp_path / "model.onnx")["QuantizeLinear"]
        assert found == len(plan.edges()) + (len(plan.carried) if repeat else 0)


def test_every_convolution_stands_between_integers(quantized: Detector, tmp_path: Path) -> None:
    export_onnx(quantized, tmp_path / "model.onnx", _SIZE, output="maps")
    graph = onnx.load(str(tmp_path / "model.onnx")).graph
    maker = {name: node for node in graph.node for name in node.output}
    results = {item.name for item in graph.output}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convs) == len(plan_of(quantized).weights())
    for node in convs:
        assert maker[node.input[0]].op_type == maker[node.input[1]].op_type == "DequantizeLinear"
    assert sum(node.output[0] in results for node in convs) == 6  # the head's maps: float, unrounded


def test_changed_scales_are_what_is_exported(quantized: Detector, tmp_path: Path) -> None:
    changed = quantized.copy()
    with torch.no_grad():
        quantizers_of(changed.network).tensors(IMAGES)[0].fill_(0.5)
    export_onnx(changed, tmp_path / "model.onnx", _SIZE)
    stored, graph = initializers(tmp_path / "model.onnx"), onnx.load(str(tmp_path / "model.onnx")).graph
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "images")
    assert float(stored[first.input[1]]) == 0.5
    assert quantizers_of(quantized.network).plan.points[IMAGES].scales[0] != 0.5


def close(parity: Parity) -> bool:
    """Rounding at a boundary may fall on either side in another runtime, so single cells differ; most must not."""
    return parity.score_mean < 2e-3 and parity.box_mean_pixels < 0.5


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("output", ["decoded", "maps"])
def test_artifacts_answer_as_pytorch_does(
    detector: Detector, quantized: Detector, images: list[Image], tmp_path: Path, runtime: str, output: str
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    for subject, is_float in ((detector, True), (quantized, False)):
        path = tmp_path / ("model.onnx" if runtime == "onnxruntime" else "model.xml")
        (export_onnx if runtime == "onnxruntime" else export_openvino)(subject, path, _SIZE, output)
        parity = measure_parity(subject, path, images, runtime, threads=1)
        assert parity.pictures == len(images)
        assert close(parity)
        if is_float:
            assert (parity.box_pixels, parity.score) < (0.01, 1e-4)
            assert parity.matched == 1.0


def test_float_and_quantized_files_differ(
    detector: Detector, quantized: Detector, images: list[Image], tmp_path: Path
) -> None:
    export_onnx(quantized, tmp_path / "int8.onnx", _SIZE)
    same = measure_parity(quantized, tmp_path / "int8.onnx", images, threads=1)
    other = measure_parity(detector, tmp_path / "int8.onnx", images, threads=1)
    assert other.score_mean > 3 * same.score_mean  # the comparison can fail


def test_openvino_runs_every_convolution_in_integers_and_stores_them(
    detector: Detector, quantized: Detector, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    export_openvino(detector, tmp_path / "float.xml", _SIZE)
    export_openvino(quantized, tmp_path / "int8.xml", _SIZE)
    count = len(plan_of(quantized).weights())
    execution = execution_of(tmp_path / "int8.xml")
    assert (execution.count("Convolution", integer=True), execution.count("Convolution", integer=False)) == (count, 0)
    assert all("decode" in part["name"] or "Concat" in part["name"] for part in execution.in_float())
    assert execution_of(tmp_path / "float.xml").count("Convolution", integer=True) == 0
    sizes = {name: (tmp_path / f"{name}.bin").stat().st_size for name in ("float", "int8")}
    assert sizes["int8"] < 0.35 * sizes["float"]


def test_openvino_half_weights_are_half_as_large(detector: Detector, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    export_openvino(detector, tmp_path / "full.xml", _SIZE)
    export_openvino(detector, tmp_path / "half.xml", _SIZE, half_weights=True)
    assert (tmp_path / "half.bin").stat().st_size < 0.6 * (tmp_path / "full.bin").stat().st_size


def test_relu_and_rounding_before_the_activation_export(
    detector: Detector, data: Dataset, images: list[Image], tmp_path: Path
) -> None:
    """The file as it is written, run node by node: fused kernels round biases too, which random kernels amplify.

    They amplify too what lies halfway between two integers and is rounded either way: the typical picture counts.
    """
    relu = ReplaceActivation("relu").apply(detector, context(data, detector))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for subject in (
        Quantize().apply(relu, context(data, relu)),
        Quantize(before_activation=True).apply(detector, context(data, detector)),
    ):
        export_onnx(subject, tmp_path / "model.onnx", _SIZE, output="maps")
        session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), options, ["CPUExecutionProvider"])
        noises = []
        for planes, _ in (network_input(image, _SIZE) for image in images):
            with torch.no_grad():
                expected = subject.network(torch.from_numpy(planes))
            for ours, theirs in zip(expected, session.run(None, {"images": planes})):
                noises.append(np.linalg.norm(ours.numpy() - theirs) / np.linalg.norm(ours.numpy()))
        assert np.median(noises) < 1e-5


def test_a_dead_channel_keeps_its_bias_in_fused_kernels(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    """With a scale as tiny as its weights, ONNX Runtime's 32-bit bias overflows and the channel answers nonsense."""
    sick = ReplaceActivation("relu").apply(detector, context(data, detector))
    last, logits = (sick.network.get_submodule(f"heads.0.{path}") for path in ("score.1.pointwise.norm", "logits"))
    assert isinstance(last, nn.BatchNorm2d)
    assert isinstance(logits, nn.Conv2d)
    with torch.no_grad():
        last.weight.mul_(1e-3)
        last.weight[0], last.bias[0] = 0.0, 3.0  # a channel that always answers 3
        logits.weight.zero_()
        logits.weight[:, 0] = 1.0
        logits.bias.zero_()  # type: ignore[union-attr]
    subject = Quantize(correct_biases=False).apply(sick, context(data, sick))
    export_onnx(subject, tmp_path / "model.onnx", _SIZE, output="maps")
    planes, _ = network_input(data[0].read_image(), _SIZE)
    found = open_session(tmp_path / "model.onnx", "onnxruntime", 1).run_named(planes)["class_8"]
    assert found == pytest.approx(np.full_like(found, 3.0), abs=0.05)


def test_wrong_wishes(detector: Detector, quantized: Detector, images: list[Image], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unknown output 'end2end'"):
        export_onnx(detector, tmp_path / "model.onnx", _SIZE, output="end2end")
    with pytest.raises(ValueError, match="multiple of 32 pixels; got 100"):
        export_onnx(detector, tmp_path / "model.onnx", 100)
    assert not (tmp_path / "model.onnx").exists()
    export_onnx(detector, tmp_path / "model.onnx", _SIZE)
    with pytest.raises(ValueError, match="at least one picture"):
        measure_parity(detector, tmp_path / "model.onnx", [])


def test_few_bits_are_kept_in_wide_containers_with_pytorchs_numbers(
    detector: Detector, data: Dataset, images: list[Image], tmp_path: Path
) -> None:
    """Weights of 4 bits, and the picture itself in 4: a value outside must be cut before it is rounded."""
    edit = Quantize(weight_bits=4).apply(detector, context(data, detector)).edits[-1]
    assert isinstance(edit, InsertQuantizers)
    coarse = InsertQuantizers(replace(edit.plan, points={**edit.plan.points, IMAGES: QuantPoint(4, (0.5 / 15,), (0,))}))
    folded = fold_batchnorm(detector)
    network = folded.copy().network
    coarse.redo(network)
    subject = folded.edited(coarse, network)
    export_onnx(subject, tmp_path / "four.onnx", _SIZE, output="maps")
    model = onnx.load(str(tmp_path / "four.onnx"))
    said = {item.key: item.value for item in model.metadata_props}
    assert said == {"helmlite.weight_bits": "4", "helmlite.value_bits": "4, 8"}
    stored = initializers(tmp_path / "four.onnx")
    kernels = [array for array in stored.values() if array.ndim == 4]
    assert {array.dtype for array in kernels} == {np.dtype(np.int8)}
    assert max(int(np.abs(array).max()) for array in kernels) == 7
    assert close(measure_parity(subject, tmp_path / "four.onnx", images, threads=1))
    wide = measure_parity(detector, tmp_path / "four.onnx", images, threads=1)
    assert wide.score_mean > 2e-3  # the comparison can fail


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("yolo11n", marks=pytest.mark.slow),
        *(pytest.param(name, marks=pytest.mark.matrix) for name in _YOLOS),
    ],
)
def test_every_family(name: str, data: Dataset, images: list[Image], tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    pytest.importorskip("openvino")
    from helmlite.detector.ultralytics import new_ultralytics

    detector = alive(new_ultralytics(name, _CLASSES))
    quantized = Quantize(pictures=4).apply(detector, context(data, detector))
    for subject, is_float in ((detector, True), (quantized, False)):
        export_onnx(subject, tmp_path / "model.onnx", _SIZE)
        export_openvino(subject, tmp_path / "model.xml", _SIZE)
        for path, runtime in ((tmp_path / "model.onnx", "onnxruntime"), (tmp_path / "model.xml", "openvino")):
            parity = measure_parity(subject, path, images, runtime, threads=1)
            if is_float:
                assert (parity.box_pixels, parity.score) < (0.01, 1e-4)
            else:
                assert (parity.score_mean, parity.box_mean_pixels) < (2e-3, 1.0)
    execution = execution_of(tmp_path / "model.xml")
    assert execution.count("Convolution", integer=False) == 0
