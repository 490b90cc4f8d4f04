"""Bytes, ratios and factors."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from helmlite.evaluate.cost import Factor, compressed_bytes, file_bytes, product, ratio


def test_bytes_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "model.bin").write_bytes(b"x" * 700)
    (tmp_path / "model.onnx").write_bytes(b"y" * 50)
    assert file_bytes([tmp_path / "model.onnx"]) == 50
    assert file_bytes([tmp_path]) == 750
    assert file_bytes([]) == 0
    with pytest.raises(FileNotFoundError, match="gone: no such file"):
        file_bytes([tmp_path / "gone"])


def test_zeros_shrink_in_a_download_and_noise_does_not(tmp_path: Path) -> None:
    zeros, noise = tmp_path / "zeros", tmp_path / "noise"
    zeros.write_bytes(bytes(3_000_000))
    noise.write_bytes(os.urandom(100_000))
    assert compressed_bytes([zeros]) == len(zlib.compress(bytes(3_000_000), 9))
    assert compressed_bytes([zeros]) < 5_000
    assert compressed_bytes([noise]) >= 100_000


def test_factors_multiply_to_the_whole() -> None:
    chain = [Factor("input size", 300.0, 120.0), Factor("structure", 120.0, 60.0), Factor("precision", 60.0, 30.0)]
    assert [item.ratio for item in chain] == [2.5, 2.0, 2.0]
    assert product(chain) == 10.0
    assert product([]) == 1.0


@pytest.mark.parametrize("pair", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (float("nan"), 1.0)])
def test_a_factor_needs_latencies(pair: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="'structure' needs latencies above 0 ms"):
        Factor("structure", *pair)


def test_ratio_of_the_unknown_is_unknown() -> None:
    assert ratio(30, 10) == 3.0
    assert ratio(None, 10) is None
    assert ratio(30, None) is None
    assert ratio(30, 0) is None
