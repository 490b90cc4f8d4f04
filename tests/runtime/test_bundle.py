from __future__ import annotations

import builtins
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import helmlite.runtime.bundle
from helmlite.data.roles import with_roles
from helmlite.runtime.bundle import Bundle, BundleError, BundlePredictor, Thresholds, is_bundle, open_predictor
from helmlite.runtime.decode import Selection
from helmlite.runtime.preprocess import network_input

RUNTIMES = ["onnxruntime", "openvino"]
MakeBundle = Callable[..., Bundle]
MakeOnnx = Callable[..., Path]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_decoded_by_hand(make_bundle: MakeBundle, red: np.ndarray, runtime: str) -> None:
    found = BundlePredictor(make_bundle(), runtime, threads=1)(red)
    # Red 1, blue 0: class 0 alone.  Box 2 overlaps box 0 with IoU 0.857 > 0.7 and goes.  Network pixels doubled.
    np.testing.assert_allclose(found.boxes_xyxy, [[8, 8, 64, 64], [72, 72, 120, 120]], atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.9, 0.5], rtol=1e-6)
    assert found.labels.tolist() == [0, 0]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_maps_by_hand(make_bundle: MakeBundle, red: np.ndarray, runtime: str) -> None:
    found = BundlePredictor(make_bundle("maps"), runtime, threads=1)(red)
    # Only the cell at the top left gets the logit -20 + 40 * red = 20; its box is the cell, 32 pixels, doubled.
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 64, 64]], atol=1e-4)
    np.testing.assert_allclose(found.scores, [1.0], rtol=1e-6)
    assert found.labels.tolist() == [0]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_end2end_by_hand(make_bundle: MakeBundle, runtime: str) -> None:
    purple = np.full((64, 64, 3), (51, 0, 255), dtype=np.uint8)  # red 0.2, blue 1
    found = BundlePredictor(make_bundle("end2end"), runtime, threads=1)(purple)
    assert found.labels.tolist() == [1, 0]  # best first; the row with label -1 is left out
    np.testing.assert_allclose(found.scores, [1.0, 0.2], rtol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy, [[36, 36, 60, 60], [4, 4, 32, 32]], atol=1e-4)


def test_both_runtimes_agree_on_a_picture_with_borders(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    image = np.random.default_rng(0).integers(0, 256, (48, 100, 3)).astype(np.uint8)
    first, second = (BundlePredictor(bundle, runtime, threads=1)(image) for runtime in RUNTIMES)
    np.testing.assert_allclose(first.boxes_xyxy, second.boxes_xyxy, atol=1e-4)
    np.testing.assert_allclose(first.scores, second.scores, rtol=1e-5)
    assert len(first) == 4


def test_split_calls_give_what_the_whole_gives(make_bundle: MakeBundle, red: np.ndarray) -> None:
    predictor = BundlePredictor(make_bundle(), threads=1)
    planes, placement = network_input(red, predictor.input_size)
    outputs = predictor.planes_to_outputs(planes)
    assert set(outputs) == {"boxes", "scores"}
    parts, whole = predictor.outputs_to_detections(outputs, placement), predictor(red)
    np.testing.assert_array_equal(parts.boxes_xyxy, whole.boxes_xyxy)
    np.testing.assert_array_equal(parts.scores, whole.scores)


def test_real_use_keeps_each_class_above_its_own_threshold(make_bundle: MakeBundle) -> None:
    # red 0.5, blue 0.5: scores 0.45, 0.25, 0.4 for both classes; thresholds are 0.5 (helmet) and 0.2 (no helmet)
    grey = np.full((64, 64, 3), 127.5, dtype=np.float32).astype(np.uint8)
    predictor = BundlePredictor(make_bundle(), threads=1)
    assert len(predictor(grey)) == 4
    found = predictor.in_real_use()(grey)
    assert found.labels.tolist() == [1, 1]
    assert found.scores.min() >= 0.2
    assert len(predictor.in_real_use(min_score=0.3)(grey)) == 2  # one box of each class
    assert len(predictor.in_real_use(min_score=0.99)(grey)) == 0


def test_selection_is_the_manifests_unless_given(make_bundle: MakeBundle, red: np.ndarray) -> None:
    bundle = make_bundle(selection=Selection(iou_threshold=0.9))
    assert len(BundlePredictor(bundle, threads=1)(red)) == 3
    assert len(BundlePredictor(bundle, threads=1, selection=Selection(iou_threshold=0.5))(red)) == 2
    assert len(BundlePredictor(bundle, threads=1, selection=Selection(max_detections=1))(red)) == 1


def test_a_graph_that_breaks_its_manifests_promise_is_refused(make_bundle: MakeBundle) -> None:
    bundle = make_bundle("decoded")
    wrong = Bundle(bundle.folder, replace(bundle.manifest, output_kind="end2end"))
    with pytest.raises(BundleError, match=r"promises boxes, scores, labels \(end2end\)"):
        BundlePredictor(wrong, threads=1)


def test_a_wrong_input_size_in_the_manifest_is_refused(make_bundle: MakeBundle) -> None:
    bundle = make_bundle(input_size=128)
    with pytest.raises(ValueError, match="takes 64 x 64 pixels, not 128"):
        BundlePredictor(bundle, threads=1)


def test_without_the_preferred_runtime_the_other_one_runs_and_says_so(
    make_bundle: MakeBundle, red: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(runtime="openvino")
    assert BundlePredictor(bundle, threads=1).remarks == ()
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else real(name))
    predictor = BundlePredictor(bundle, threads=1)
    assert predictor.session.runtime == "onnxruntime"
    assert 'pip install "helmlite[openvino]"' in predictor.remarks[0]
    assert "Ran in onnxruntime" in predictor.remarks[0]
    assert len(predictor(red)) == 2
    assert predictor.in_real_use().remarks == predictor.remarks


def test_asking_for_a_runtime_that_is_missing_is_an_error(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_openvino(name: str, *args: object, **kwargs: object) -> object:
        if name == "openvino":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    bundle = make_bundle()
    monkeypatch.setattr(builtins, "__import__", without_openvino)
    with pytest.raises(ImportError, match=r'pip install "helmlite\[openvino\]"'):
        BundlePredictor(bundle, "openvino", threads=1)


def test_a_bf16_bundle_runs_in_f32_where_there_is_no_bf16(make_bundle: MakeBundle) -> None:
    predictor = BundlePredictor(make_bundle(precision="bf16"), "onnxruntime", threads=1)
    assert predictor.session.precision == "f32"
    assert predictor.remarks == (
        "The bundle asks for bf16, which onnxruntime does not have on this machine. Ran in f32.",
    )
    with pytest.raises(ValueError, match="no BF16"):
        BundlePredictor(make_bundle(folder="asked"), "onnxruntime", precision="bf16")


def test_an_int8_bundle_whose_rest_is_to_run_in_bf16_runs_in_int8_where_there_is_none(make_bundle: MakeBundle) -> None:
    predictor = BundlePredictor(make_bundle(precision="int8_bf16"), "onnxruntime", threads=1)
    assert predictor.session.precision == "int8"
    assert predictor.remarks == (
        "The bundle asks for bf16, which onnxruntime does not have on this machine. Ran in int8.",
    )


def test_eight_bit_weights_on_a_processor_whose_sums_overflow_are_said(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = make_bundle(precision="int8", runtime="openvino", quantization={"weight_bits": 8})
    safe = make_bundle(folder="safe", precision="int8", runtime="openvino", quantization={"weight_bits": 7})
    monkeypatch.setattr(helmlite.runtime.bundle, "int8_weight_bits", lambda machine: 7)
    assert "has no VNNI" in BundlePredictor(full, threads=1).remarks[0]
    mixed = make_bundle(folder="mixed", precision="int8_bf16", runtime="openvino", quantization={"weight_bits": 8})
    assert any("has no VNNI" in remark for remark in BundlePredictor(mixed, threads=1).remarks)
    assert BundlePredictor(full, "onnxruntime", threads=1).remarks == ()
    assert BundlePredictor(safe, threads=1).remarks == ()
    monkeypatch.setattr(helmlite.runtime.bundle, "int8_weight_bits", lambda machine: 8)
    assert BundlePredictor(full, threads=1).remarks == ()


@pytest.mark.parametrize(("verdict", "said"), [("failed", "Gate: failed"), ("undecided", "Gate: undecided")])
def test_a_bundle_that_did_not_pass_its_gate_says_so_wherever_it_runs(
    make_bundle: MakeBundle, verdict: str, said: str
) -> None:
    bundle = make_bundle()
    predictor = BundlePredictor(
        replace(bundle, manifest=replace(bundle.manifest, metrics={"gate": verdict})), threads=1
    )
    for opened in (predictor, predictor.in_real_use(), predictor.in_real_use(0.3).in_real_use()):
        assert sum(remark.startswith(said) for remark in opened.remarks) == 1


def test_open_predictor_verifies_a_bundle(make_bundle: MakeBundle, red: np.ndarray) -> None:
    bundle = make_bundle()
    assert is_bundle(bundle.folder)
    assert len(open_predictor(bundle.folder, threads=1)(red)) == 2
    with pytest.raises(ValueError, match="a bundle declares its classes"):
        open_predictor(bundle.folder, layout="ultralytics")
    (bundle.folder / "openvino/model.bin").unlink()
    with pytest.raises(BundleError, match=r"model\.bin is missing"):
        open_predictor(bundle.folder, "onnxruntime")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_bare_file_with_our_names_needs_only_classes(make_onnx: MakeOnnx, red: np.ndarray, runtime: str) -> None:
    predictor = open_predictor(make_onnx("decoded"), runtime, 1, classes=with_roles(["helmet", "head"]))
    np.testing.assert_allclose(predictor(red).scores, [0.9, 0.5], rtol=1e-6)
    assert predictor.name == "decoded"
    assert predictor.size_bytes == make_onnx("decoded").stat().st_size
    assert predictor.bundle.manifest.thresholds == Thresholds((0.25, 0.25), "none were chosen for a bare .onnx file")


def test_a_bare_file_with_maps(make_onnx: MakeOnnx, red: np.ndarray) -> None:
    predictor = open_predictor(make_onnx("maps"), threads=1, classes=with_roles(["helmet", "head"]))
    assert predictor.bundle.manifest.layout.strides == (32,)
    np.testing.assert_allclose(predictor(red).boxes_xyxy, [[0, 0, 64, 64]], atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_ultralytics_single_output(make_onnx: MakeOnnx, red: np.ndarray, runtime: str) -> None:
    classes = with_roles(["helmet", "head"])
    predictor = open_predictor(make_onnx("ultralytics"), runtime, 1, classes=classes, layout="ultralytics")
    found = predictor(red)
    np.testing.assert_allclose(found.boxes_xyxy, [[8, 8, 64, 64], [72, 72, 120, 120]], atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.9, 0.5], rtol=1e-6)


def test_rows_of_six(make_onnx: MakeOnnx) -> None:
    purple = np.full((64, 64, 3), (51, 0, 255), dtype=np.uint8)
    predictor = open_predictor(make_onnx("rows6"), threads=1, classes=with_roles(["helmet", "head"]), layout="end2end")
    found = predictor(purple)
    assert found.labels.tolist() == [1, 1, 0]
    np.testing.assert_allclose(found.scores, [1, 1, 0.2], rtol=1e-5)
    few = open_predictor(make_onnx("rows6"), threads=1, classes=with_roles(["helmet"]), layout="end2end")
    with pytest.raises(ValueError, match="reports class 1, but only 1 classes are declared"):
        few(purple)


@pytest.mark.parametrize(
    ("kind", "names", "layout", "message"),
    [
        ("ultralytics", ["a", "b"], None, r"--layout helmlite\|ultralytics\|end2end.*output0 \(1, 6, 3\)"),
        ("ultralytics", [], "ultralytics", r"--classes, a,b\. Its outputs are output0 \(1, 6, 3\)"),
        ("ultralytics", ["a"], "ultralytics", r"with 1 classes, which is one output \(1, 5, N\).*\(1, 6, 3\)"),
        ("ultralytics", ["a", "b"], "end2end", r"one output \(1, K, 6\).*\(1, 6, 3\)"),
        ("ultralytics", ["a", "b"], "helmlite", "does not fit --layout helmlite"),
        ("ultralytics", ["a", "b"], "ssd", "Unknown layout 'ssd'. Known: helmlite, ultralytics, end2end, yolox"),
        ("ultralytics", ["a", "b"], "yolox", r"one output \(1, 84, 7\) at 64 pixels.*\(1, 6, 3\)"),
        ("ultralytics", ["a", "b"], "yolox-decoded", r"does not fit --layout yolox with 2 classes"),
        ("decoded", ["a", "b", "c"], None, r"no scores for 3 classes.*scores \(1, 3, 2\)"),
        ("maps", ["a"], None, r"no class maps of 1 channels.*class_32 \(1, 2, 2, 2\)"),
    ],
)
def test_an_undeclared_or_wrong_layout_shows_the_shapes(
    make_onnx: MakeOnnx, kind: str, names: list[str], layout: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        open_predictor(make_onnx(kind), threads=1, classes=with_roles(names), layout=layout)
    assert "\n" not in str(caught.value)


def test_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "model.pt"
    other.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"neither a bundle's folder nor an \.onnx file"):
        open_predictor(other)
    with pytest.raises(FileNotFoundError, match="No model at"):
        open_predictor(tmp_path / "none.onnx")
