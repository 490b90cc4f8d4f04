"""Which ways of running a chain of stages are measured, and which of them may ship."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helmlite.data.roles import with_roles
from helmlite.detector.tiny import new_tiny
from helmlite.job import candidates as job
from helmlite.job.candidates import Candidate, bf16_copies, finished, in_bf16, precision_name
from helmlite.runtime.bundle import Bundle

ALL = ("f32", "bf16", "int8", "int8_bf16")


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictors that say how they were opened: this machine may have no BF16."""
    monkeypatch.setattr(
        job, "BundlePredictor", lambda bundle, runtime, precision: SimpleNamespace(opened=(bundle, runtime, precision))
    )


def stage(name: str, cause: str, precision: str = "f32", input_size: int = 416) -> Candidate:
    file: Any = f"{name}.bin"
    predictor: Any = SimpleNamespace(session=SimpleNamespace(runtime="openvino"))
    nothing: Any = None
    return Candidate(name, cause, nothing, file, predictor, 10, 20, 30, precision, input_size)


CHAIN = [
    stage("FP32 at 640", "", input_size=640),
    stage("FP32 at 416", "input size"),
    stage("1. prune", "structure"),
    stage("2. distill", "structure"),
    stage("3. quantize", "precision", "int8"),
]


def test_the_first_and_last_float_stage_and_the_rest_of_the_int8_one_run_in_bf16() -> None:
    copies = bf16_copies(CHAIN, 416)
    assert [(item.name, item.precision, item.copy_of) for item in copies] == [
        ("BF16 at 416", "bf16", "FP32 at 416"),
        ("2. distill in BF16", "bf16", "2. distill"),
        ("3. quantize, rest in BF16", "int8_bf16", "3. quantize"),
    ]
    opened: Any = [item.predictor for item in copies]
    assert [item.opened for item in opened] == [
        ("FP32 at 416.bin", "openvino", "bf16"),
        ("2. distill.bin", "openvino", "bf16"),
        ("3. quantize.bin", "openvino", "int8_bf16"),
    ]
    assert not any(item.in_chain for item in copies)
    assert [bool(item.note) for item in copies] == [True, False, False]  # the first needs no training


def test_a_chain_that_stays_float_has_no_int8_copy() -> None:
    assert [item.name for item in bf16_copies(CHAIN[:4], 416)] == ["BF16 at 416", "2. distill in BF16"]
    assert [item.name for item in bf16_copies(CHAIN[1:2], 416)] == ["BF16 at 416"]


def test_every_way_of_running_the_end_may_ship_and_nothing_that_was_not_trained() -> None:
    candidates = [*CHAIN, *bf16_copies(CHAIN, 416)]
    names = [item.name for item in finished(candidates, ALL)]
    assert names == ["3. quantize", "2. distill", "2. distill in BF16", "3. quantize, rest in BF16"]
    assert [item.name for item in finished(candidates, ("f32", "int8"))] == ["3. quantize", "2. distill"]


@pytest.mark.parametrize("last", ["distill", "weight_only", "cluster", "sparsify"])
def test_of_a_chain_that_ends_in_float_no_earlier_stage_may_ship(last: str) -> None:
    chain = [*CHAIN[:3], stage("2. distill", "structure"), stage(f"3. {last}", "precision")]
    names = [item.name for item in finished([*chain, *bf16_copies(chain, 416)], ALL)]
    assert names == [f"3. {last}", f"3. {last} in BF16"]


def test_what_needs_no_training_is_a_reference_and_nothing_more() -> None:
    small = [stage("FP32 at 416", ""), stage("1. prune", "structure")]
    peer = replace(stage("NNCF INT8 at 416", "precision", "int8"), in_chain=False, copy_of="FP32 at 416")
    candidates = [*small, *bf16_copies(small, 416), peer, in_bf16(peer, "NNCF INT8 at 416, rest in BF16")]
    assert [item.name for item in finished(candidates, ALL)] == ["1. prune", "1. prune in BF16"]


def test_a_row_that_stands_for_something_else_keeps_no_note() -> None:
    copy = in_bf16(stage("sparse", "structure"), "sparse in BF16")
    assert (copy.note, copy.cause, copy.size_bytes) == ("", "precision", 10)
    assert [precision_name(item) for item in ALL] == ["FP32", "BF16", "INT8", "INT8, rest BF16"]


@pytest.mark.parametrize(
    ("file", "content"),
    [("manifest.json", b""), ("manifest.json", b"[1]"), ("manifest.json", None), ("model.onnx", b"cut")],
)
def test_a_damaged_artifact_of_an_earlier_run_is_made_again(tmp_path: Path, file: str, content: bytes | None) -> None:
    lines: list[str] = []
    detector = new_tiny(with_roles(["helmet", "no_helmet"]), input_size=64)
    place = tmp_path / "artifacts" / "baseline"

    def bundle() -> Bundle:
        return job._bundle(place, detector, 64, "FP32 at 64", "onnxruntime", "f32", lines.append)

    first = bundle()
    assert bundle() == first
    assert lines == ["export: FP32 at 64"]
    (place / file).unlink()
    if content is not None:
        (place / file).write_bytes(content)
    assert bundle() == first
    assert lines[1:] == [f"{place}: damaged, and made again", "export: FP32 at 64"]
    assert [path.name for path in place.parent.iterdir()] == ["baseline"]
