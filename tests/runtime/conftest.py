"""Tiny networks whose answers can be worked out by hand: scores are the mean red and the mean blue of the picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helmlite.data.roles import with_roles
from helmlite.runtime.bundle import Bundle, Manifest, Thresholds, describe_file, read_bundle, write_manifest
from helmlite.runtime.decode import HeadLayout

onnx = pytest.importorskip("onnx")

SIZE = 64
# In network pixels: one box in each half, and a second one over the first (IoU 24/28 = 0.857 with it).
BOXES = np.array([[4, 4, 32, 32], [36, 36, 60, 60], [8, 4, 32, 32]], dtype=np.float32)
WEIGHTS = np.array([0.9, 0.5, 0.8], dtype=np.float32)  # score of box n, class c = WEIGHTS[n] * mean of channel c


def toy_graph(kind: str, size: int | str = SIZE) -> onnx.ModelProto:
    """`decoded`, `end2end` and `maps` as our exporter names them; `ultralytics` and `rows6` as a foreign file."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, values: np.ndarray) -> onnx.TensorProto:
        return numpy_helper.from_array(values, name)

    initializers = [constant("which", np.array([0, 2])), constant("weights", WEIGHTS.reshape(1, 3, 1))]
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["rgb"]),
        helper.make_node("Gather", ["rgb", "which"], ["red_blue"], axis=1),
        helper.make_node("Reshape", ["red_blue", "row"], ["row_scores"]),
    ]
    initializers.append(constant("row", np.array([1, 1, 2])))
    outputs: list[tuple[str, list[int], int]] = []
    if kind == "decoded":
        nodes += [
            helper.make_node("Mul", ["weights", "row_scores"], ["scores"]),
            helper.make_node("Identity", ["fixed"], ["boxes"]),
        ]
        initializers.append(constant("fixed", BOXES[None]))
        outputs = [("boxes", [1, 3, 4], TensorProto.FLOAT), ("scores", [1, 3, 2], TensorProto.FLOAT)]
    elif kind == "end2end":
        # rows 0 and 1 are class 0 and 1; row 2 is empty (label -1)
        initializers += [
            constant("fixed", BOXES[None]),
            constant("fixed_labels", np.array([[0, 1, -1]])),
            constant("pick", np.array([0, 1, 0])),
        ]
        nodes += [
            helper.make_node("Gather", ["red_blue", "pick"], ["scores"], axis=1),
            helper.make_node("Identity", ["fixed"], ["boxes"]),
            helper.make_node("Identity", ["fixed_labels"], ["labels"]),
        ]
        outputs = [
            ("boxes", [1, 3, 4], TensorProto.FLOAT),
            ("scores", [1, 3], TensorProto.FLOAT),
            ("labels", [1, 3], TensorProto.INT64),
        ]
    elif kind == "ultralytics":
        half = (BOXES[:, 2:] - BOXES[:, :2]) / 2
        centred = np.concatenate([BOXES[:, :2] + half, 2 * half], axis=1)
        initializers.append(constant("fixed", np.ascontiguousarray(centred.T)[None]))
        nodes += [
            helper.make_node("Mul", ["weights", "row_scores"], ["by_box"]),
            helper.make_node("Transpose", ["by_box"], ["by_class"], perm=[0, 2, 1]),
            helper.make_node("Concat", ["fixed", "by_class"], ["output0"], axis=1),
        ]
        outputs = [("output0", [1, 6, 3], TensorProto.FLOAT)]
    elif kind == "rows6":
        initializers += [
            constant("fixed", BOXES[None]),
            constant("fixed_labels", np.array([0, 1, 1], dtype=np.float32).reshape(1, 3, 1)),
            constant("pick", np.array([0, 1, 1])),
            constant("column", np.array([1, 3, 1])),
        ]
        nodes += [
            helper.make_node("Gather", ["red_blue", "pick"], ["picked"], axis=1),
            helper.make_node("Reshape", ["picked", "column"], ["scores"]),
            helper.make_node("Concat", ["fixed", "scores", "fixed_labels"], ["output0"], axis=2),
        ]
        outputs = [("output0", [1, 3, 6], TensorProto.FLOAT)]
    elif kind == "maps":
        # one scale of stride 32 (2 x 2 cells), distances of half a cell: each box is its own cell
        initializers += [
            constant("distances", np.full((1, 4, 2, 2), 0.5, dtype=np.float32)),
            constant("logits", np.full((1, 2, 2, 2), -20, dtype=np.float32)),
            constant("one_cell", np.array([1, 0, 0, 0], dtype=np.float32).reshape(1, 1, 2, 2) * 40),
            constant("channels", np.array([1, 2, 1, 1])),
        ]
        nodes += [
            helper.make_node("Identity", ["distances"], ["box_32"]),
            helper.make_node("Reshape", ["red_blue", "channels"], ["tall"]),
            helper.make_node("Mul", ["tall", "one_cell"], ["lift"]),
            helper.make_node("Add", ["logits", "lift"], ["class_32"]),
        ]
        outputs = [("box_32", [1, 4, 2, 2], TensorProto.FLOAT), ("class_32", [1, 2, 2, 2], TensorProto.FLOAT)]
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info(name, element, shape) for name, shape, element in outputs],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def toy_layout(kind: str) -> HeadLayout:
    return {
        "decoded": HeadLayout((), 1, 2),
        "end2end": HeadLayout((), 1, 2, needs_nms=False),
        "maps": HeadLayout((32,), 1, 2),
    }[kind]


@pytest.fixture
def make_onnx(tmp_path: Path) -> Callable[..., Path]:
    """make_onnx(kind, size=64) -> path of the toy network."""

    def make(kind: str, size: int | str = SIZE) -> Path:
        path = tmp_path / f"{kind}.onnx"
        onnx.save(toy_graph(kind, size), str(path))
        return path

    return make


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """make_bundle(kind, **changes of the manifest) -> a bundle for both runtimes, classes helmet and 未戴头盔."""
    openvino = pytest.importorskip("openvino")

    def make(kind: str = "decoded", folder: str = "bundle", **changes: object) -> Bundle:
        place = tmp_path / folder
        (place / "openvino").mkdir(parents=True)
        onnx.save(toy_graph(kind), str(place / "model.onnx"))
        model = openvino.Core().read_model(place / "model.onnx")
        openvino.save_model(model, place / "openvino" / "model.xml", compress_to_fp16=False)
        names = ("model.onnx", "openvino/model.xml", "openvino/model.bin")
        values: dict[str, object] = {
            "name": f"toy-{kind}",
            "classes": with_roles(["helmet", "未戴头盔"]),
            "input_size": SIZE,
            "output_kind": kind,
            "layout": toy_layout(kind),
            "thresholds": Thresholds((0.5, 0.2), "chosen by hand"),
            "files": {name: describe_file(place / name) for name in names},
            "runtime_files": {"onnxruntime": names[:1], "openvino": names[1:]},
            "runtime": "onnxruntime",
            **changes,
        }
        write_manifest(place, Manifest(**values))  # type: ignore[arg-type]
        return read_bundle(place)

    return make


@pytest.fixture
def red() -> np.ndarray:
    """A square picture of pure red, twice the network's size, so that boxes come out doubled."""
    return np.full((2 * SIZE, 2 * SIZE, 3), (255, 0, 0), dtype=np.uint8)
