"""Packed bundles: restored bit for bit, refused when cut short or altered, and as small as they should be."""

from __future__ import annotations

import hashlib
import json
import lzma
import zlib
from pathlib import Path

import numpy as np
import pytest

from helmlite.data.roles import with_roles
from helmlite.runtime.bundle import (
    Bundle,
    BundleError,
    Manifest,
    Thresholds,
    describe_file,
    read_bundle,
    write_manifest,
)
from helmlite.runtime.constants import onnx_constants, openvino_constants
from helmlite.runtime.decode import HeadLayout
from helmlite.runtime.packing import download_size, pack_bundle, packed_form, restored, unpack_bundle
from helpers import helmlite_command

onnx = pytest.importorskip("onnx")

_RANDOM = np.random.default_rng(0)
_COUNT = 20_000
_FLOATS = _RANDOM.standard_normal(_COUNT).astype(np.float32)
_TENSORS: dict[str, np.ndarray] = {  # type: ignore[type-arg]
    "floats": _FLOATS,
    "sparse": np.where(_RANDOM.random(_COUNT) < 0.7, 0, _FLOATS).astype(np.float32),
    "clustered": np.linspace(-1, 1, 16, dtype=np.float32)[_RANDOM.integers(0, 16, _COUNT)],
    "int8": _RANDOM.integers(-127, 128, _COUNT, dtype=np.int8),
    "halves": _FLOATS.astype(np.float16),
    "longs": _RANDOM.integers(0, 2**60, 600),
    "odd": np.array([0.0, -0.0, np.nan, np.inf] * 100, np.float32),
    "tiny": np.array([1, 2], np.int64),
    "empty": np.zeros(0, np.float32),
}


def onnx_file(tensors: dict[str, np.ndarray]) -> bytes:  # type: ignore[type-arg]
    from onnx import helper, numpy_helper

    initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph([], "graph", [], [], initializers)
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


def openvino_files(tensors: dict[str, np.ndarray]) -> dict[str, bytes]:  # type: ignore[type-arg]
    names = {"float32": "f32", "float16": "f16", "int8": "i8", "int64": "i64"}
    content, tags = b"", ""
    for array in tensors.values():
        padding = b"\0" * (-len(content) % 64)
        content += padding
        kind = names[str(array.dtype)]
        tags += f'<layer><data element_type="{kind}" shape="1" offset="{len(content)}" size="{array.nbytes}"/></layer>'
        content += array.tobytes()
    return {"openvino/model.xml": f"<net>{tags}</net>".encode(), "openvino/model.bin": content}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = tmp_path / "bundle"
    contents = {"model.onnx": onnx_file(_TENSORS), **openvino_files(_TENSORS)}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    manifest = Manifest(
        name="yard",
        classes=with_roles(["helmet", "no_helmet"]),
        input_size=64,
        output_kind="decoded",
        layout=HeadLayout((8, 16, 32), 1, 2),
        thresholds=Thresholds((0.25, 0.25), "by hand"),
        files={name: describe_file(folder / name) for name in contents},
        runtime_files={"onnxruntime": ("model.onnx",), "openvino": ("openvino/model.xml", "openvino/model.bin")},
        runtime="openvino",
    )
    write_manifest(folder, manifest)
    return read_bundle(folder)


def test_large_constants_are_found_in_both_formats() -> None:
    content = onnx_file(_TENSORS)
    found = {content[item.start : item.start + item.size]: item.width for item in onnx_constants(content)}
    assert found == {array.tobytes(): array.itemsize for array in _TENSORS.values() if array.size}
    files = openvino_files(_TENSORS)
    packed = files["openvino/model.bin"]
    in_bin = [
        packed[item.start : item.start + item.size] for item in openvino_constants(files["openvino/model.xml"], 10**9)
    ]
    assert [item for item in in_bin if item] == [array.tobytes() for array in _TENSORS.values() if array.size]


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, b"not a model", b"\x3a\xff\xff\xff\xff\x0f", b"\x3a\x04\x2a\x7f\x00\x00"]
)
def test_what_is_no_onnx_file_has_no_constants(content: bytes) -> None:
    assert onnx_constants(content) == []
    assert restored(packed_form({"a.onnx": content}), "here") == {"a.onnx": content}


def test_ranges_that_lead_out_of_the_file_or_overlap_are_left_out() -> None:
    tag = '<data element_type="f32" offset="{}" size="{}"/>'
    xml = "".join(tag.format(*place) for place in [(0, 8), (4, 8), (8, 8), (12, 800)]).encode()
    assert [(item.start, item.size) for item in openvino_constants(xml, 16)] == [(0, 8), (8, 8)]


def test_a_bundle_comes_back_bit_for_bit(bundle: Bundle, tmp_path: Path) -> None:
    packed = pack_bundle(bundle, tmp_path / "out" / "yard.hlz")
    assert packed.packed_bytes == (tmp_path / "out" / "yard.hlz").stat().st_size == download_size(bundle)
    again = unpack_bundle(tmp_path / "out" / "yard.hlz", tmp_path / "again")
    assert again.manifest == bundle.manifest
    for name in (*bundle.manifest.files, "manifest.json"):
        assert (again.folder / name).read_bytes() == (bundle.folder / name).read_bytes()
    assert packed.plain_bytes == sum(file.stat().st_size for file in bundle.folder.rglob("*") if file.is_file())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_both_runtimes_load_is_packed_once(bundle: Bundle) -> None:
    one = download_size(bundle, "onnxruntime")
    assert download_size(bundle) - one < 0.05 * one
    assert download_size([bundle.folder / "model.onnx"]) == pytest.approx(one, abs=64)


@pytest.mark.parametrize(
    ("name", "bits"),
    [("clustered", 4.2), ("sparse", 0.3 * 30 + 1), ("int8", 8.2), ("floats", 29.5), ("halves", 16.2)],
)
def test_sizes_are_near_the_entropy(name: str, bits: float) -> None:
    """16 equally frequent numbers are 4 bits; a coin of 0.7 is 0.88 bits; a float's exponent is some 2.6 of its 8."""
    packed = len(packed_form({"model.onnx": onnx_file({name: _TENSORS[name]})}))
    assert packed * 8 / _COUNT < bits + 0.15  # header and the rest of the file


def test_codebooks_beat_plain_compressors() -> None:
    content = onnx_file({"clustered": _TENSORS["clustered"]})
    packed = len(packed_form({"model.onnx": content}))
    assert packed < 0.9 * min(len(zlib.compress(content, 9)), len(lzma.compress(content)))


def test_cut_short_or_altered_files_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    whole = packed_form({"model.onnx": (bundle.folder / "model.onnx").read_bytes()})
    for damaged in (whole[:-1], whole[:40], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], whole + b"\0"):
        with pytest.raises(BundleError, match=r"yard\.hlz is cut short or altered"):
            restored(damaged, "yard.hlz")
    for other in (b"", b"PK\3\4 a zip file"):
        with pytest.raises(BundleError, match="is not a packed bundle"):
            restored(other, "yard.hlz")
    with pytest.raises(BundleError, match="packed by a newer helmlite"):
        restored(b"HLZ2" + whole[4:], "yard.hlz")


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a\\b"])
def test_a_file_cannot_land_outside(path: str) -> None:
    with pytest.raises(BundleError, match="outside its folder"):
        restored(packed_form({path: b"x"}), "yard.hlz")


@pytest.mark.parametrize(
    "header",
    [
        {"files": [{"path": "a", "size": 9, "sha256": "", "constants": [[0, "again", 9, 1, 7]]}], "streams": {}},
        {"files": [], "streams": {"rest": ["lzma", 3, 3]}},
        {"files": [], "streams": {"rest": ["unheard of", 0, 0]}},
        {"files": [{"path": "a"}], "streams": {}},
        [],
    ],
)
def test_a_header_that_nobody_packed_is_one_line(header: object) -> None:
    coded = lzma.compress(
        json.dumps(header).encode(), lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6}]
    )
    body = len(coded).to_bytes(4, "big") + coded + b"abc"
    with pytest.raises(BundleError, match="was not packed by helmlite"):
        restored(b"HLZ1" + hashlib.sha256(body).digest() + body, "yard.hlz")


def test_nothing_is_overwritten(bundle: Bundle, tmp_path: Path) -> None:
    pack_bundle(bundle, tmp_path / "yard.hlz")
    with pytest.raises(ValueError, match="bundle is not empty; unpack into a new folder"):
        unpack_bundle(tmp_path / "yard.hlz", bundle.folder)
    (tmp_path / "empty").mkdir()
    assert unpack_bundle(tmp_path / "yard.hlz", tmp_path / "empty").manifest.name == "yard"


def test_packing_writes_over_nothing_but_a_packed_bundle(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "notes.hlz").write_text("mine")
    for inside in ("manifest.json", "model.onnx", "yard.hlz"):
        with pytest.raises(ValueError, match=r"lies in .*bundle, which this command reads"):
            pack_bundle(bundle, bundle.folder / inside)
    with pytest.raises(ValueError, match=r"notes\.hlz exists and holds other things"):
        pack_bundle(bundle, tmp_path / "notes.hlz")
    assert (tmp_path / "notes.hlz").read_text() == "mine"
    assert read_bundle(bundle.folder).manifest == bundle.manifest
    for _ in range(2):
        pack_bundle(bundle, tmp_path / "yard.hlz")


def test_an_altered_bundle_is_not_packed(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.folder / "model.onnx").write_bytes(b"something else")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        pack_bundle(bundle, tmp_path / "yard.hlz")
    assert not (tmp_path / "yard.hlz").exists()


def test_the_commands(bundle: Bundle, tmp_path: Path) -> None:
    packed = helmlite_command("pack", bundle.folder, tmp_path / "yard.hlz")
    assert packed.returncode == 0, packed.stderr
    assert "times smaller" in packed.stdout
    unpacked = helmlite_command("unpack", tmp_path / "yard.hlz", tmp_path / "again")
    assert unpacked.returncode == 0, unpacked.stderr
    assert "yard, 3 files as they were packed" in unpacked.stdout
    assert read_bundle(tmp_path / "again").manifest == bundle.manifest
    (tmp_path / "yard.hlz").write_bytes((tmp_path / "yard.hlz").read_bytes()[:-100])
    damaged = helmlite_command("unpack", tmp_path / "yard.hlz", tmp_path / "third")
    assert (damaged.returncode, damaged.stderr.count("\n")) == (2, 1)
    assert "cut short or altered. Download it again." in damaged.stderr
    assert not (tmp_path / "third").exists()
