"""A network whose answers are known, pictures that it knows, and the command line as a function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.cli import main
from helmlite.data.roles import with_roles
from helmlite.runtime.bundle import Manifest, Thresholds, describe_file, write_manifest
from helmlite.runtime.decode import HeadLayout

onnx = pytest.importorskip("onnx")

SIZE = 64
RED, BLUE = (0, 0, 255), (255, 0, 0)  # as OpenCV writes them


def toy_network() -> onnx.ModelProto:
    """One box at (4, 4, 32, 32), whose two scores are 0.9 times the mean red and the mean blue of the picture."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "which": np.array([0, 2]),
        "row": np.array([1, 1, 2]),
        "weight": np.array([0.9], np.float32),
        "fixed": np.array([[[4, 4, 32, 32]]], np.float32),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["rgb"]),
        helper.make_node("Gather", ["rgb", "which"], ["red_blue"], axis=1),
        helper.make_node("Reshape", ["red_blue", "row"], ["row_scores"]),
        helper.make_node("Mul", ["weight", "row_scores"], ["scores"]),
        helper.make_node("Identity", ["fixed"], ["boxes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 1, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, 2]),
        ],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three red pictures (helmet) and one blue (未戴头盔); the box of the last red one lies elsewhere."""
    (tmp_path / "images" / "test").mkdir(parents=True)
    (tmp_path / "labels" / "test").mkdir(parents=True)
    there, elsewhere = "0.28125 0.28125 0.4375 0.4375", "0.75 0.75 0.4 0.4"
    for number, (colour, line) in enumerate(
        [(RED, f"0 {there}"), (RED, f"0 {there}"), (RED, f"0 {elsewhere}"), (BLUE, f"1 {there}")]
    ):
        cv2.imwrite(str(tmp_path / "images" / "test" / f"{number}.png"), np.full((SIZE, SIZE, 3), colour, np.uint8))
        (tmp_path / "labels" / "test" / f"{number}.txt").write_text(line + "\n")
    text = "path: .\ntest: images/test\nnames:\n  0: helmet\n  1: 未戴头盔\n"
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "data.yaml"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(toy_network(), str(tmp_path / "toy.onnx"))
    return tmp_path / "toy.onnx"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    onnx.save(toy_network(), str(folder / "model.onnx"))
    write_manifest(
        folder,
        Manifest(
            name="toy",
            classes=with_roles(["helmet", "bare"], {"bare": "no_helmet"}),
            input_size=SIZE,
            output_kind="decoded",
            layout=HeadLayout((), 1, 2),
            thresholds=Thresholds((0.5, 0.4), "by hand"),
            files={"model.onnx": describe_file(folder / "model.onnx")},
            runtime_files={"onnxruntime": ("model.onnx",)},
            runtime="onnxruntime",
        ),
    )
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """run(*words) -> exit code, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["helmlite", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        shown = capsys.readouterr()
        return int(stop.value.code or 0), shown.out, shown.err

    return call
