"""A detector of PyTorch, opened as the runtimes will run it."""

from pathlib import Path

import pytest

from helmlite.data.roles import with_roles
from helmlite.models.opened import open_model
from helmlite.runtime.bundle import BundlePredictor


def test_an_exported_detector_knows_the_bytes_that_its_runtime_loads(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from helmlite.compress.checkpoint import save_checkpoint
    from helmlite.detector.tiny import new_tiny
    from helmlite.export.onnx import export_onnx

    detector = new_tiny(with_roles(["helmet", "no helmet"]), input_size=64, seed=1)
    save_checkpoint(detector, tmp_path / "checkpoint", {})
    export_onnx(detector, tmp_path / "model.onnx", 64, repeat_carried=True)
    weights = sum(tensor.numel() for tensor in detector.network.parameters())
    opened = open_model(str(tmp_path / "checkpoint"), runtime="onnxruntime", threads=1)
    assert isinstance(opened.predict, BundlePredictor)
    assert opened.predict.size_bytes == (tmp_path / "model.onnx").stat().st_size > 4 * weights
