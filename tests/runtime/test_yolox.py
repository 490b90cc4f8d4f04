"""YOLOX files: its letterbox, its colours, and boxes of a graph whose answers are worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helmlite.data.load import load_dataset
from helmlite.data.roles import with_roles
from helmlite.runtime.bundle import BundlePredictor, open_predictor
from helmlite.runtime.manifest import Preprocessing
from helmlite.runtime.yolox import decode_yolox, yolox_input, yolox_strides

onnx = pytest.importorskip("onnx")

SIZE, CELLS = 64, 64 + 16 + 4
# a cell of each scale -> its place in the output, and its centre and size in network pixels
OF_SCALE = {"8: column 3, row 1": 11, "16: column 2, row 3": 78, "32: column 1, row 0": 81}
BOXES = np.array([[26, 12, 16, 24], [40, 56, 16, 8], [48, 8, 32, 16]], np.float32)  # centre format
LOGITS = np.array(
    [
        [26 / 8 - 3, 12 / 8 - 1, np.log(2), np.log(3)],
        [40 / 16 - 2, 56 / 16 - 3, 0, np.log(0.5)],
        [48 / 32 - 1, 8 / 32 - 0, 0, np.log(0.5)],
    ],
    np.float32,
)
CORNERS = np.array([[18, 0, 34, 24], [32, 52, 48, 60], [32, 0, 64, 16]], np.float32)


def save_yolox(path: Path, boxes: np.ndarray, cells: int = CELLS) -> Path:  # type: ignore[type-arg]
    """Rows of one box per scale: objectness 0.8, 0.5, 0.25; classes are the mean of channel 0 and of channel 2, / 255.

    The mean is taken over the whole square, border included.
    """
    from onnx import TensorProto, helper, numpy_helper

    rows = np.zeros((1, cells, 5), np.float32)
    rows[0, list(OF_SCALE.values()), :4] = boxes
    rows[0, list(OF_SCALE.values()), 4] = (0.8, 0.5, 0.25)
    constants = {
        "which": np.array([0, 2]),
        "shape": np.array([1, 1, 2]),
        "many": np.array([1, cells, 2]),
        "scale": np.array([1 / 255], np.float32),
        "rows": rows,
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["channels"]),
        helper.make_node("Gather", ["channels", "which"], ["first_and_last"], axis=1),
        helper.make_node("Mul", ["first_and_last", "scale"], ["shares"]),
        helper.make_node("Reshape", ["shares", "shape"], ["row"]),
        helper.make_node("Expand", ["row", "many"], ["classes"]),
        helper.make_node("Concat", ["rows", "classes"], ["output"], axis=2),
    ]
    graph = helper.make_graph(
        nodes,
        "yolox",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, cells, 7])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def opened(path: Path, layout: str, runtime: str = "onnxruntime") -> BundlePredictor:
    return open_predictor(path, runtime, 1, classes=with_roles(["helmet", "no_helmet"]), layout=layout)


def test_the_picture_lies_in_the_upper_left_corner_in_blue_green_red() -> None:
    picture = np.zeros((30, 60, 3), np.uint8)
    picture[:, :30] = (250, 20, 3)
    planes, placement = yolox_input(picture, 120)
    assert planes.shape == (1, 3, 120, 120) and planes.dtype == np.float32
    assert planes[0, :, 10, 10].tolist() == [3, 20, 250]
    assert planes[0, :, 59, 119].tolist() == [0, 0, 0] and planes[0, :, 60, 0].tolist() == [114, 114, 114]
    assert (placement.scale, placement.left, placement.top) == (2.0, 0, 0)
    odd, _ = yolox_input(np.zeros((100, 33, 3), np.uint8), 64)  # 21.12 x 64: cut off to 21
    assert (odd[0, 0] == 0).sum() == 21 * 64


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("layout", "boxes"), [("yolox", LOGITS), ("yolox-decoded", BOXES)])
def test_boxes_and_scores_worked_by_hand(
    tmp_path: Path,
    runtime: str,
    layout: str,
    boxes: np.ndarray,  # type: ignore[type-arg]
) -> None:
    pytest.importorskip(runtime)
    predictor = opened(save_yolox(tmp_path / "x.onnx", boxes), layout, runtime)
    blue = np.full((2 * SIZE, 2 * SIZE, 3), (0, 0, 255), np.uint8)  # so that boxes come out doubled
    found = predictor(blue)
    np.testing.assert_allclose(found.boxes_xyxy, 2 * CORNERS, atol=1e-3)
    np.testing.assert_allclose(found.scores, [0.8, 0.5, 0.25], rtol=1e-5)
    assert found.labels.tolist() == [0, 0, 0], "channel 0 is blue"
    assert predictor(blue[:, :, ::-1]).labels.tolist() == [1, 1, 1]


def test_a_wide_picture_gives_its_boxes_from_the_corner(tmp_path: Path) -> None:
    wide = np.full((SIZE, 2 * SIZE, 3), 255, np.uint8)
    found = opened(save_yolox(tmp_path / "x.onnx", LOGITS), "yolox")(wide)
    half_grey = (255 + 114) / 2 / 255
    np.testing.assert_allclose(found.boxes_xyxy[0], 2 * CORNERS[0], atol=1e-3)
    assert found.scores[0] == pytest.approx(0.8 * half_grey, rel=1e-4)


def test_the_manifest_says_how_pictures_are_given(tmp_path: Path) -> None:
    manifest = opened(save_yolox(tmp_path / "x.onnx", LOGITS), "yolox").bundle.manifest
    assert (manifest.preprocessing.colour, manifest.preprocessing.divisor) == ("BGR", 1.0)
    assert manifest.preprocessing != Preprocessing() and manifest.output_kind == "decoded"
    real = opened(save_yolox(tmp_path / "x.onnx", LOGITS), "yolox").in_real_use(0.4)
    assert len(real(np.full((SIZE, SIZE, 3), (0, 0, 255), np.uint8))) == 2


def test_the_wrong_one_of_the_two_is_refused(tmp_path: Path) -> None:
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    with pytest.raises(ValueError, match=r"declare it with --layout yolox-decoded\."):
        opened(save_yolox(tmp_path / "x.onnx", BOXES), "yolox")(picture)
    with pytest.raises(ValueError, match=r"declare it with --layout yolox\."):
        opened(save_yolox(tmp_path / "x.onnx", LOGITS), "yolox-decoded")(picture)


def test_cells_tell_the_strides(tmp_path: Path) -> None:
    assert yolox_strides(None, 416) == yolox_strides(3549, 416) == (8, 16, 32)
    assert yolox_strides(8400 + 100, 640) == (8, 16, 32, 64)
    with pytest.raises(ValueError, match=r"one output \(1, 84, 7\) at 64 pixels\. Its outputs are output \(1, 90, 7\)"):
        opened(save_yolox(tmp_path / "x.onnx", LOGITS, 90), "yolox")
    with pytest.raises(ValueError, match="90 cells come; strides"):
        decode_yolox(np.zeros((90, 7), np.float32), SIZE, (8, 16, 32), False)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_published_weights_find_the_people_under_the_heads(shared: Path, runtime: str) -> None:
    """YOLOX-nano as published: a labelled head lies in the upper part of somebody, one put upside down does not.

    Measured on all 76 pictures: 124 of 127 heads of 24 pixels and more.  Boxes from a wrong cell, stride or corner, or
    scores without objectness, would miss most.
    """
    pytest.importorskip(runtime)
    found, upside_down, heads = _heads_on_people(shared, "bikes_helmets", runtime)
    assert heads > 20 and found >= 0.9 * heads
    assert upside_down < 0.2 * heads


def test_published_weights_know_their_colours(shared: Path) -> None:
    """Measured on all 93 pictures: 270 of 377 heads, with red and blue swapped 207."""
    found, _, heads = _heads_on_people(shared, "india_traffic", "onnxruntime")
    swapped, _, _ = _heads_on_people(shared, "india_traffic", "onnxruntime", is_swapped=True)
    assert heads > 20 and found > 1.1 * swapped


def _heads_on_people(shared: Path, name: str, runtime: str, is_swapped: bool = False) -> tuple[int, int, int]:
    """On 20 pictures: heads in the upper part of a person that was found, the same upside down, and all heads."""
    names = ["person", *(f"coco {index}" for index in range(1, 80))]
    weights = shared / "weights" / "yolox_nano_coco_416.onnx"
    predictor = open_predictor(weights, runtime, 1, classes=with_roles(names), layout="yolox")
    found, upside_down, heads = 0, 0, 0
    for sample in load_dataset(shared / "data" / name / "data.yaml", "test").subset(list(range(20))):
        picture = sample.read_image()
        answer = predictor(np.ascontiguousarray(picture[:, :, ::-1]) if is_swapped else picture)
        people = answer.boxes_xyxy[(answer.labels == 0) & (answer.scores > 0.3)]
        for left, top, right, bottom in sample.boxes_xyxy:
            if bottom - top >= 24:
                x, y = (left + right) / 2, (top + bottom) / 2
                found += _in_the_upper_part(people, x, y)
                upside_down += _in_the_upper_part(people, x, len(picture) - y)
                heads += 1
    return found, upside_down, heads


def _in_the_upper_part(people: np.ndarray, x: float, y: float) -> bool:  # type: ignore[type-arg]
    left, top, right, bottom = people.T
    return bool(((left <= x) & (x <= right) & (top <= y) & (y <= top + 0.4 * (bottom - top))).any())
