from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helmlite.runtime.bundle import Bundle, BundleError, Manifest, StayedFloat, Thresholds, describe_file, read_bundle
from helmlite.runtime.decode import Selection


def test_manifest_survives_json(make_bundle: Callable[..., Bundle]) -> None:
    manifest = replace(
        make_bundle("maps").manifest,
        precision="int8",
        target="x86-openvino",
        selection=Selection(0.01, 0.6, 100, 1000),
        metrics={"val": {"map": 0.5}},
        stayed_float=(StayedFloat("model.22/softmax", "the box distribution"),),
        quantization={"points": 12},
        provenance={"seed": 0},
    )
    text = json.dumps(manifest.to_json(), ensure_ascii=False)
    assert Manifest.from_json(json.loads(text)) == manifest
    assert "未戴头盔" in text


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("name",), None),
        (("metrics",), [1]),
        (("input_size",), "320"),
        (("input_size",), True),
        (("provenance",), "mine"),
        (("selection", "min_score"), "x"),
        (("thresholds", "by_class"), ["0.5", "0.2"]),
        (("classes", 0, "name"), 7),
        (("files", "model.onnx", "size_bytes"), "x"),
        (("stayed_float",), {}),
    ],
)
def test_a_value_of_a_wrong_kind_is_one_line(
    make_bundle: Callable[..., Bundle], place: tuple[str | int, ...], value: object
) -> None:
    bundle = make_bundle()
    path = bundle.folder / "manifest.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(BundleError, match="holds a value of a wrong kind") as caught:
        read_bundle(bundle.folder)
    assert "\n" not in str(caught.value)


def test_size_counts_only_what_the_runtime_loads(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    sizes = {name: (bundle.folder / name).stat().st_size for name in bundle.manifest.files}
    assert bundle.manifest.size_bytes() == sizes["model.onnx"]
    assert bundle.manifest.size_bytes("openvino") == sizes["openvino/model.xml"] + sizes["openvino/model.bin"]


def test_describe_file_gives_hash_and_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    described = describe_file(path)
    assert (described.sha256, described.size_bytes) == (hashlib.sha256(b"abc").hexdigest(), 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_kind": "heads"}, "Unknown output kind 'heads'. Known: maps, decoded, end2end"),
        ({"precision": "int4"}, "Unknown precision 'int4'"),
        ({"runtime": "openvino", "runtime_files": {"onnxruntime": ("model.onnx",)}}, "'openvino' has no files"),
        ({"runtime_files": {"onnxruntime": ("other.onnx",)}}, "no hash for other.onnx"),
        ({"runtime_files": {"onnxruntime": ()}}, "no file for onnxruntime"),
        ({"thresholds": Thresholds((0.5,), "one")}, r"Classes \(2\), head layout \(2\) and thresholds \(1\)"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    make_bundle: Callable[..., Bundle], changes: dict[str, object], message: str
) -> None:
    manifest = make_bundle().manifest
    with pytest.raises(ValueError, match=message):
        replace(manifest, **changes)


def test_thresholds_are_scores() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1; got \[1.5\]"):
        Thresholds((1.5,), "wrong")


@pytest.mark.parametrize("outside", ["../model.onnx", "/etc/passwd", "a/../../b"])
def test_a_manifest_cannot_point_outside_of_its_folder(make_bundle: Callable[..., Bundle], outside: str) -> None:
    bundle = make_bundle()
    values = bundle.manifest.to_json()
    values["files"][outside] = {"sha256": "0", "size_bytes": 1}
    (bundle.folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match="lie inside its folder"):
        read_bundle(bundle.folder)


def test_missing_truncated_and_altered_files_are_named(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    path = bundle.folder / "model.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(BundleError, match=f"model.onnx is cut short: 100 of {len(whole)} bytes. Copy the bundle again"):
        read_bundle(bundle.folder)
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(BundleError, match=r"model\.onnx was altered"):
        read_bundle(bundle.folder)
    assert read_bundle(bundle.folder, verify=False).manifest == bundle.manifest
    path.write_bytes(whole + b"more")
    with pytest.raises(BundleError, match=r"model\.onnx was altered"):
        read_bundle(bundle.folder, verify=False)
    path.unlink()
    with pytest.raises(BundleError, match=r"model\.onnx is missing from the bundle"):
        read_bundle(bundle.folder)


def test_newer_format_is_refused(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    values = {**bundle.manifest.to_json(), "format_version": 2}
    (bundle.folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match=r"newer helmlite \(bundle format 2, this one reads 1\)"):
        read_bundle(bundle.folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cut short or not JSON"),
        ('{"format_version": 1, "name"', "cut short or not JSON"),
        ("[1]", "holds no mapping"),
        ("{}", "no format_version"),
        ('{"format_version": 1}', "no entry 'name'"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        read_bundle(tmp_path)


def test_a_manifest_entry_of_a_wrong_kind_is_refused(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    values = {**bundle.manifest.to_json(), "layout": {"strides": 8}}
    (bundle.folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match="a value of a wrong kind"):
        read_bundle(bundle.folder)


def test_another_preprocessing_is_refused(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    values = bundle.manifest.to_json()
    values["preprocessing"]["pad_value"] = 0
    (bundle.folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match="a preprocessing that this helmlite does not know"):
        read_bundle(bundle.folder)


def test_no_folder_and_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such folder"):
        read_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"not a helmlite bundle: it has no manifest\.json"):
        read_bundle(tmp_path)


def test_model_path_of_a_runtime_without_files(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    only = Bundle(bundle.folder, replace(bundle.manifest, runtime_files={"onnxruntime": ("model.onnx",)}))
    assert only.model_path() == bundle.folder / "model.onnx"
    with pytest.raises(ValueError, match="holds nothing for openvino; it holds files for onnxruntime"):
        only.model_path("openvino")
