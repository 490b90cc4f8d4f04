"""Bundles: sealed, complete or not there, and never over something else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.compress.quantize import Quantize
from helmlite.compress.technique import Context
from helmlite.compress.weight_only import WeightOnly
from helmlite.data.dataset import Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helmlite.export import pack
from helmlite.export.pack import stored_bits, write_bundle
from helmlite.runtime.bundle import Thresholds, read_bundle

pytest.importorskip("onnx")
pytest.importorskip("openvino")
from helpers import patchy_data

_CLASSES = with_roles(["helmet", "no_helmet"])


@pytest.fixture(scope="module")
def detector() -> Detector:
    return new_tiny(_CLASSES, 64)


def test_a_float_bundle_reads_back(detector: Detector, tmp_path: Path) -> None:
    thresholds = Thresholds((0.3, 0.4), "by hand")
    bundle = write_bundle(
        tmp_path / "deep" / "bundle", detector, 64, target="x86-openvino", thresholds=thresholds,
        metrics={"map": 0.5}, provenance={"recipe": "none"},
    )  # fmt: skip
    again = read_bundle(tmp_path / "deep" / "bundle")
    assert again == bundle
    manifest = again.manifest
    assert set(manifest.files) == {"model.onnx", "openvino/model.xml", "openvino/model.bin"}
    assert (manifest.runtime, manifest.precision, manifest.input_size) == ("openvino", "f32", 64)
    assert (manifest.thresholds, manifest.metrics, manifest.stayed_float) == (thresholds, {"map": 0.5}, ())
    assert manifest.classes == _CLASSES
    assert manifest.provenance["recipe"] == "none"
    assert manifest.provenance["helmlite"]
    assert manifest.size_bytes("onnxruntime") == (bundle.folder / "model.onnx").stat().st_size
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["bundle"]


def test_a_quantized_bundle_says_what_stayed_float(detector: Detector, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "0.png"), picture)
    sample = Sample(tmp_path / "0.png", np.array([[4, 4, 20, 24]], np.float32), np.array([0], np.int64))
    context = Context(dataset_of([sample], _CLASSES), detector, 64, 0, tmp_path, log=lambda line: None)
    quantized = Quantize().apply(detector, context)
    manifest = write_bundle(tmp_path / "bundle", quantized, 64, runtimes=("onnxruntime",)).manifest
    assert (manifest.precision, manifest.runtime) == ("int8", "onnxruntime")
    assert "decode" in {part.name for part in manifest.stayed_float}
    assert all(part.why for part in manifest.stayed_float)
    assert manifest.quantization["calibration"]["pictures"] == 1
    assert manifest.provenance["edits"] == ["fold_batchnorm", "insert_quantizers"]
    assert manifest.thresholds.rule.endswith("not chosen on pictures")


@pytest.mark.parametrize("bits", [4, 8])
def test_a_bundle_with_stored_integers_is_labelled_so(bits: int, detector: Detector, tmp_path: Path) -> None:
    context = Context(dataset_of([], _CLASSES), detector, 64, 0, tmp_path, log=lambda line: None)
    stored = WeightOnly(bits=bits, pictures=0).apply(detector, context)
    manifest = write_bundle(tmp_path / "bundle", stored, 64, runtimes=("onnxruntime",)).manifest
    assert manifest.precision == "f32"  # in which it computes
    assert manifest.quantization == {"kind": "weights only", "weight_bits": bits}
    assert (stored_bits(stored), stored_bits(detector)) == (bits, None)


def test_the_manifest_says_how_many_bits_values_have(detector: Detector, tmp_path: Path) -> None:
    context = Context(patchy_data(tmp_path, 2), detector, 64, 0, tmp_path, log=lambda line: None)
    quantized = Quantize(pictures=2, value_bits=6, weight_bits=5).apply(detector, context)
    summary = write_bundle(tmp_path / "bundle", quantized, 64, runtimes=("onnxruntime",)).manifest.quantization
    assert (summary["kind"], summary["bits"], summary["weight_bits"]) == ("weights and values", 6, 5)


def test_an_older_bundle_is_replaced_and_anything_else_is_not(detector: Detector, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(folder, detector, 64, name="first", runtimes=("onnxruntime", "openvino"))
    second = write_bundle(folder, detector, 96, name="second", runtimes=("onnxruntime",))
    assert second.manifest.name == "second"
    assert not (folder / "openvino").exists()
    other = tmp_path / "photos"
    other.mkdir()
    (other / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(ValueError, match="photos is not empty and holds no bundle"):
        write_bundle(other, detector, 64)
    assert (other / "mine.jpg").read_bytes() == b"precious"
    with pytest.raises(ValueError, match="at least one runtime"):
        write_bundle(tmp_path / "new", detector, 64, runtimes=())
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_what_was_there(detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bundle"
    before = write_bundle(folder, detector, 64, runtimes=("onnxruntime",))

    def full(made: Path, manifest: object) -> Path:
        (made / "half").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack, "write_manifest", full)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(folder, detector, 96, runtimes=("onnxruntime",))
    assert read_bundle(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
