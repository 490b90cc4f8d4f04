"""A disk that fills up: one error that names the file, nothing half-written, and what was there before is kept."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from helmlite.cli.errors import EXIT_WRONG_INPUT, one_line_errors
from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.data.roles import with_roles
from helmlite.detector.tiny import new_tiny
from helmlite.export.openvino import export_openvino, save_ir
from helmlite.export.pack import write_bundle
from helmlite.files import write_whole
from helmlite.runtime.bundle import read_bundle
from helmlite.runtime.output import VideoFile
from helmlite.runtime.sources import open_source

FullDisk = Callable[[int], AbstractContextManager[None]]
_CLASSES = with_roles(["helmet", "no_helmet"])


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_whole_or_the_older_one(tmp_path: Path, full_disk: FullDisk) -> None:
    path = tmp_path / "report.json"
    write_whole(path, "before")
    with full_disk(1000), pytest.raises(OSError, match=r"report\.json"):
        write_whole(path, "x" * 2000)
    assert path.read_text() == "before"
    assert _names(tmp_path) == ["report.json"]


def test_a_checkpoint_is_whole_or_the_older_one(tmp_path: Path, full_disk: FullDisk) -> None:
    first = new_tiny(_CLASSES, input_size=64)
    save_checkpoint(first, tmp_path / "model", {})
    with full_disk(50_000), pytest.raises(OSError, match=r"weights\.safetensors"):
        save_checkpoint(new_tiny(_CLASSES, input_size=64, seed=1), tmp_path / "model", {})
    assert _names(tmp_path) == ["model"]
    kept = load_checkpoint(tmp_path / "model").network.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in first.network.state_dict().items())


def test_a_bundle_is_whole_or_the_older_one(tmp_path: Path, full_disk: FullDisk) -> None:
    detector = new_tiny(_CLASSES, input_size=64)
    write_bundle(tmp_path / "bundle", detector, 64, runtimes=("onnxruntime",), name="before")
    with full_disk(200_000), pytest.raises(OSError, match=r"model\.onnx"):
        write_bundle(tmp_path / "bundle", detector, 64, runtimes=("onnxruntime",), name="after")
    assert _names(tmp_path) == ["bundle"]
    assert read_bundle(tmp_path / "bundle").manifest.name == "before"


def test_openvino_says_which_file(tmp_path: Path, full_disk: FullDisk) -> None:
    openvino = pytest.importorskip("openvino")
    export_openvino(new_tiny(_CLASSES, input_size=64), tmp_path / "model.xml", 64)
    model = openvino.Core().read_model(str(tmp_path / "model.xml"))
    with full_disk(200_000), pytest.raises(OSError, match=r"could not write it whole.*again\.xml"):
        save_ir(model, tmp_path / "again.xml")


def test_a_video_that_could_not_be_written_is_not_called_done(tmp_path: Path, full_disk: FullDisk) -> None:
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 255, (240, 320, 3), dtype=np.uint8) for _ in range(30)]
    writer = cv2.VideoWriter(str(tmp_path / "in.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (320, 240))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    source = open_source(str(tmp_path / "in.mp4"))
    frame = next(source.frames(print))
    output = VideoFile(tmp_path / "out", source)
    with full_disk(100_000):
        for picture in pictures:
            output.write(frame, picture)
        with pytest.raises(OSError, match="of 30 frames could be written"):
            output.close()
    assert not list((tmp_path / "out").glob("*.mp4"))


def test_the_line_tells_the_file_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise OSError(errno.ENOSPC, "No space left on device", "out/report.json")
    assert ended.value.code == EXIT_WRONG_INPUT
    line = "helmlite: out/report.json: No space left on device. Make room and give the same command again.\n"
    assert capsys.readouterr().err == line


def test_a_missing_extra_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), one_line_errors():
        raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")
    assert capsys.readouterr().err == 'helmlite: this command needs torch: pip install "helmlite[compress]"\n'
