"""NNCF's own INT8 is made once; what is damaged of it is made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helmlite.data.roles import with_roles
from helmlite.detector.tiny import new_tiny
from helmlite.export.pack import write_bundle
from helmlite.job.candidates import Candidate
from helmlite.job.peers import stock_nncf
from helmlite.runtime.bundle import BundlePredictor
from helpers import alive, patchy_data

pytest.importorskip("openvino")
pytest.importorskip("nncf")


@pytest.mark.slow
def test_a_damaged_reference_is_made_again(tmp_path: Path) -> None:
    detector = alive(new_tiny(with_roles(["helmet", "no_helmet"]), input_size=64))
    bundle = write_bundle(tmp_path / "baseline", detector, 64, runtimes=("openvino",))
    predictor = BundlePredictor(bundle, "openvino", threads=1)
    baseline = Candidate("FP32 at 64", "", detector, bundle, predictor, 10, 20, 30, "f32", 64)
    data, lines, place = patchy_data(tmp_path, count=2), list[str](), tmp_path / "artifacts" / "nncf"

    def reference() -> Any:
        return stock_nncf(baseline, data, 0, place, lines.append)

    first = reference()
    files = {path.name: path.read_bytes() for path in place.iterdir()}
    assert first.size_bytes == len(files["model.xml"]) + len(files["model.bin"])
    assert (first.precision, first.predictor.session.precision) == ("int8", "int8")
    assert reference().bundle.manifest == first.bundle.manifest
    assert lines == ["reference: stock NNCF INT8 at 64"]
    for name in ("model.xml", "model.bin"):
        (place / name).write_bytes(files[name][: len(files[name]) // 2])
        again = reference().bundle.manifest.files  # the XML holds names that NNCF counts on
        assert again["model.bin"] == first.bundle.manifest.files["model.bin"]
        assert lines[-2:] == [f"{place}: damaged, and made again", "reference: stock NNCF INT8 at 64"]
    assert [path.name for path in place.parent.iterdir()] == ["nncf"]
