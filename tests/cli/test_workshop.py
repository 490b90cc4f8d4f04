"""Commands that train, as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from helmlite.compress.checkpoint import load_checkpoint, read_provenance, save_checkpoint
from helmlite.data.roles import with_roles
from helmlite.detector.tiny import new_tiny
from helmlite.job.prepare import lock_folder
from helpers import helmlite_command


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint `model` and a data set `data.yaml` of four pictures."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for index in range(4):
        cv2.imwrite(str(folder / "images" / f"{index}.png"), np.full((64, 64, 3), 60 * index, np.uint8))
        (folder / "labels" / f"{index}.txt").write_text(f"{index % 2} 0.5 0.5 0.4 0.4\n")
    (folder / "data.yaml").write_text("train: images\nnames: [helmet, no_helmet]\n")
    save_checkpoint(new_tiny(with_roles(["helmet", "no_helmet"]), input_size=64), folder / "model", {})
    return folder


@pytest.mark.slow
def test_finetune_writes_a_checkpoint_that_says_where_it_comes_from(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = helmlite_command(
        "finetune", made / "model", "--data", made / "data.yaml", "--epochs", "1", "--out", out, "--input-size", "96"
    )
    assert done.returncode == 0, done.stderr
    assert "trained on 4 pictures at 96 px" in done.stdout
    assert load_checkpoint(out).edits == () and load_checkpoint(out).architecture.input_size == 96
    assert read_provenance(out)["epochs"] == 1
    assert len(read_provenance(out)["data_sha256"]) == 64


@pytest.mark.parametrize("words", [("--minutes", "nan"), ("--minutes", "0"), ("--seed", "-1")])
def test_the_demo_draws_nothing_for_numbers_that_cannot_be(tmp_path: Path, words: tuple[str, str]) -> None:
    done = helmlite_command("demo", "--out", tmp_path / "demo", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"helmlite: {words[0]} must be")
    assert not (tmp_path / "demo").exists()


def test_finetune_writes_over_no_other_checkpoint(made: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    save_checkpoint(load_checkpoint(made / "model"), precious, {"technique": "finetune", "seed": 0, "epochs": 40})
    before = {path.name: path.read_bytes() for path in precious.iterdir()}
    for out in (precious, made / "model"):
        done = helmlite_command("finetune", made / "model", "--data", made / "data.yaml", "--epochs", "1", "--out", out)
        assert done.returncode == 2
        assert "holds a checkpoint made otherwise" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert {path.name: path.read_bytes() for path in precious.iterdir()} == before


def test_two_finetunes_do_not_train_in_one_folder(made: Path, tmp_path: Path) -> None:
    lock_folder(tmp_path / "out.work")  # as one that is at work has it
    words = ("finetune", made / "model", "--data", made / "data.yaml", "--epochs", "1", "--out", tmp_path / "out")
    done = helmlite_command(*words)
    assert done.returncode == 2
    assert done.stderr == f"helmlite: {tmp_path / 'out.work'}: another helmlite is at work in this folder.\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["MODEL", "--data", "DATA", "--minutes", "1e308"], "at most those of a year; got None epochs, 1e+308 minutes"),
        (["MODEL", "--data", "DATA", "--minutes", "inf"], "at most those of a year; got None epochs, inf minutes"),
        (["MODEL", "--data", "DATA", "--epochs", "1", "--input-size", "100"], "--input-size must be a multiple of 32"),
        (["none.pt", "--data", "DATA", "--epochs", "1"], "none.pt: no such file"),
        (["MODEL", "--data", "none.yaml", "--epochs", "1"], "none.yaml: no such file"),
        (["MODEL", "--data", "DATA"], "needs --minutes or --epochs"),
        (["MODEL", "--data", "DATA", "--epochs", "1", "--role", "no_helmet=cat"], "no class is called 'cat'"),
        (["MODEL", "--data", "DATA", "--epochs", "1", "--role", "hat"], "--role wants ROLE=CLASS"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(made: Path, tmp_path: Path, words: list[str], message: str) -> None:
    places = {"MODEL": str(made / "model"), "DATA": str(made / "data.yaml")}
    done = helmlite_command("finetune", *[places.get(word, word) for word in words], "--out", tmp_path / "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


class _Command:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


@pytest.fixture(scope="module")
def bad(made: Path) -> Path:
    """Things that no run should begin with."""
    ultralytics_tasks = pytest.importorskip("ultralytics.nn.tasks")
    torch.save({"model": _Command()}, made / "evil.pt")
    (made / "truncated.pt").write_bytes((made / "evil.pt").read_bytes()[:200])
    segmenting = ultralytics_tasks.SegmentationModel("yolo11n-seg.yaml", nc=2, verbose=False)
    torch.save({"model": segmenting}, made / "segments.pt")
    (made / "empty").mkdir()
    (made / "nothing.yaml").write_text("train: empty\nval: empty\ntest: empty\nnames: [helmet, no_helmet]\n")
    (made / "cats.yaml").write_text("train: images\nval: images\ntest: images\nnames: [cat, dog]\n")
    (made / "all.yaml").write_text("train: images\nval: images\ntest: images\nnames: [helmet, no_helmet]\n")
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.pt", "--data", "all.yaml"], "none.pt: no such file"),
        (["truncated.pt", "--data", "all.yaml"], "truncated"),
        (["evil.pt", "--data", "all.yaml"], "system', which is not a layer of a known detector"),
        (["segments.pt", "--data", "all.yaml"], "SegmentationModel with a Segment head"),
        (["model", "--data", "none.yaml"], "none.yaml: no such file"),
        (["model", "--data", "nothing.yaml"], "has no pictures"),
        (["model", "--data", "cats.yaml"], "the data's classes are cat, dog; the model's are helmet, no_helmet"),
        (["model", "--data", "all.yaml", "--role", "no_helmet=bare"], "no class is called 'bare'"),
        (["model", "--data", "all.yaml", "--max-drop", "-1"], "cannot be negative"),
        (
            ["model", "--data", "all.yaml", "--recipe", "magic"],
            "Unknown recipe 'magic'. Known: balanced, careful, demo, fast, half-hour, ",
        ),
        (["model", "--data", "all.yaml", "--target", "toaster"], "Unknown target 'toaster'"),
        (["model", "--data", "all.yaml", "--export", "onnx"], "--export knows ultralytics-pt only"),
    ],
)
def test_compress_refuses_wrong_input_in_one_line(bad: Path, tmp_path: Path, words: list[str], message: str) -> None:
    known = {"model", "evil.pt", "truncated.pt", "segments.pt", "all.yaml", "cats.yaml", "nothing.yaml"}
    done = helmlite_command(
        "compress", *[str(bad / word) if word in known else word for word in words], "--out", tmp_path / "out"
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert not Path("pwned").exists()


def test_help_imports_no_pytorch() -> None:
    probe = "import sys, helmlite.cli; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
