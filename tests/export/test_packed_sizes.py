"""What packing makes of real exports: a clustered detector's download is a fraction of the float one's."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.compress.cluster import Cluster
from helmlite.compress.quantize import Quantize
from helmlite.compress.shipped import load_demo_detector
from helmlite.compress.technique import Context
from helmlite.data.dataset import Sample, dataset_of
from helmlite.export.pack import write_bundle
from helmlite.runtime.packing import pack_bundle, unpack_bundle

pytest.importorskip("onnx")
pytest.importorskip("openvino")


@pytest.mark.slow
def test_float_clustered_and_int8_bundles(tmp_path: Path) -> None:
    detector = load_demo_detector()
    picture = np.random.default_rng(0).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "0.png"), cv2.resize(picture, (64, 64)))
    sample = Sample(tmp_path / "0.png", np.array([[4, 4, 20, 24]], np.float32), np.array([0], np.int64))
    context = Context(dataset_of([sample], detector.classes), detector, 64, 0, tmp_path, log=lambda line: None)
    made = {
        "float": detector,
        "clustered": Cluster(bits=4, head_bits=None).apply(detector, context),
        "int8": Quantize(pictures=1).apply(detector, context),
    }
    plain, packed = {}, {}
    for name, item in made.items():
        bundle = write_bundle(tmp_path / name, item, 64)
        sizes = pack_bundle(bundle, tmp_path / f"{name}.hlz")
        plain[name], packed[name] = sizes.plain_bytes, sizes.packed_bytes
        again = unpack_bundle(tmp_path / f"{name}.hlz", tmp_path / f"{name}-again")
        for relative in (*bundle.manifest.files, "manifest.json"):
            assert (again.folder / relative).read_bytes() == (bundle.folder / relative).read_bytes()
    assert packed["clustered"] < packed["float"] / 6
    assert packed["clustered"] < plain["float"] / 15
    assert packed["clustered"] < packed["int8"] / 1.5
    assert packed["float"] < plain["float"] / 2  # two runtimes, one copy of the weights
