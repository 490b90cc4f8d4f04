"""`helmlite data` from the outside: what is printed, written and returned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.cli import main
from helmlite.data.load import load_dataset, splits_of

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("check", ...)` runs `helmlite data check ...`: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["helmlite", "data", *(str(item) for item in arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A YOLO set of 12 + 4 + 4 pictures with Chinese class names; the path of its data.yaml."""
    folder = tmp_path / "数据 [1]"
    for split, count, first in (("train", 12, 0), ("val", 4, 20), ("test", 4, 40)):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for number in range(first, first + count):
            coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3)).astype(np.uint8)
            image = cv2.resize(coarse, (96, 72), interpolation=cv2.INTER_CUBIC)
            (folder / f"images/{split}/图{number}.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
            (folder / f"labels/{split}/图{number}.txt").write_text("0 0.25 0.5 0.2 0.4\n1 0.75 0.5 0.2 0.4\n")
    text = "train: images/train\nval: images/val\ntest: images/test\nnames: [戴头盔, 裸头]\n"
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return folder / "data.yaml"


def test_check_prints_a_table_and_the_findings(run: Run, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    code, out, _ = run("check", data, "--role", "no_helmet=裸头", "--json", report)
    assert code == 0
    assert "戴头盔 helmet" in out and "裸头 no_helmet" in out and "12 (50%)" in out
    assert "few-training-pictures: 1" in out and "Fit to run on." in out
    assert json.loads(report.read_text(encoding="utf-8"))["splits"][0]["boxes"] == [12, 12]


def test_check_exits_1_where_a_run_would_be_misled(run: Run, data: Path) -> None:
    for number in range(7):
        (data.parent / f"labels/train/图{number}.txt").write_text("0 0.25 0.5 0.2 0.4\n9 0.5 0.5 0.1 0.1\n")
    code, out, _ = run("check", data.parent, "--show", 2)
    assert code == 1
    assert "unknown-class: 7" in out
    assert "labels/train/图0.txt:2: class 9, but data.yaml names 2 classes" in out
    assert "and 5 more" in out and "图3.txt" not in out
    assert "A run on this data would be misled. 7 errors, 2 warnings, 0 notes" in out
    assert "no class has the role no_helmet (戴头盔, 裸头): give --role no_helmet=CLASS" in out


def test_convert_and_back(run: Run, data: Path, tmp_path: Path) -> None:
    code, out, _ = run("convert", data, "--to", "voc", "--out", tmp_path / "voc")
    assert (code, out.strip()) == (0, f"12 train, 4 val, 4 test pictures, written as voc: {tmp_path / 'voc'}")
    code, out, _ = run("convert", tmp_path / "voc", "--to", "coco", "--out", tmp_path / "coco")
    assert code == 0 and splits_of(tmp_path / "coco") == ("train", "val", "test")
    before, after = load_dataset(data, "val"), load_dataset(tmp_path / "coco", "val")
    assert [item.name for item in after.classes] == ["戴头盔", "裸头"]
    for old, new in zip(before, after):
        np.testing.assert_allclose(new.boxes_xyxy, old.boxes_xyxy, atol=0.51)


def test_convert_names_what_it_skips(run: Run, data: Path, tmp_path: Path) -> None:
    (data.parent / "images/val/图20.jpg").write_bytes(b"")
    code, out, _ = run("convert", data, "--to", "yolo", "--out", tmp_path / "new")
    assert code == 0
    assert "skipped: " in out and "图20.jpg: not a readable picture (0 bytes)" in out
    assert "12 train, 3 val, 4 test pictures; 1 skipped" in out


def test_split_spreads_anew_in_the_format_of_the_source(run: Run, data: Path, tmp_path: Path) -> None:
    code, out, _ = run("split", data, "--out", tmp_path / "new", "--val", 0.2, "--test", 0.3, "--seed", 5)
    assert code == 0
    assert "10 train, 4 val, 6 test pictures, written as yolo" in out
    assert "20 pictures in 20 groups that were kept together" in out
    assert len(load_dataset(tmp_path / "new", "test")) == 6
    code, out, _ = run("split", data, "--out", tmp_path / "coco", "--test", 0, "--to", "coco")
    assert code == 0 and splits_of(tmp_path / "coco") == ("train", "val")


def test_preview_writes_a_sheet(run: Run, data: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "样张.png"
    code, out, _ = run("preview", data, "--out", sheet, "--split", "val", "--count", 3, "--role", "no_helmet=裸头")
    assert code == 0
    assert "class 1 裸头: no_helmet" in out and "3 of 4 pictures of val" in out
    image = cv2.imdecode(np.fromfile(sheet, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[1] == 3 * 266


def test_results_are_not_written_over_the_data(run: Run, data: Path, tmp_path: Path) -> None:
    picture, label = data.parent / "images/train/图0.jpg", data.parent / "labels/train/图0.txt"
    before = {path: path.read_bytes() for path in (data, picture, label)}
    for file in (data, label):
        code, _, err = run("check", data.parent, "--json", file)
        assert code == 2
        assert err.strip().endswith("exists and holds other things; give --json a new file.")
    for file in (picture, data.parent / "images/val/new.png"):
        code, _, err = run("preview", data, "--out", file)
        assert code == 2
        assert "which this command reads; give --out a file outside of it." in err and err.count("\n") == 1
    assert all(path.read_bytes() == content for path, content in before.items())
    for _ in range(2):  # what we wrote may be written anew, beside the data too
        assert run("check", data, "--json", data.parent / "report.json")[0] == 0
        assert run("preview", data, "--out", data.parent / "sheet.png", "--count", 1)[0] == 0


def test_a_terminal_that_cannot_show_a_name_ends_nothing(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from helmlite.cli import main; main()", "data", "preview", str(data)]
    words = [*command, "--out", str(tmp_path / "sheet.png"), "--count", "1"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "class 1 \\u88f8\\u5934: " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "{nowhere}"), "nowhere: no such file or folder."),
        (("check", "{empty}"), "no data set found. Looked for a YOLO data.yaml"),
        (("check", "{data}", "--role", "no_helmet=光头"), "No class is called '光头'. The classes are 戴头盔, 裸头."),
        (("check", "{data}", "--role", "bald"), "--role wants ROLE=CLASS"),
        (("check", "{data}", "--role", "bald=裸头"), "Unknown role 'bald'"),
        (("convert", "{data}", "--to", "csv", "--out", "{new}"), "Unknown data format 'csv'"),
        (("convert", "{data}", "--to", "voc", "--out", "{used}"), "the folder is not empty"),
        (("split", "{data}", "--out", "{used}"), "the folder is not empty"),
        (("split", "{data}", "--out", "{new}", "--val", "0.9", "--test", "0.2"), "together below 1; got 0.9 and 0.2"),
        (("split", "{data}", "--out", "{new}", "--to", "csv"), "Unknown data format 'csv'"),
        (("preview", "{data}", "--out", "{new}.gif"), "--out is a picture, for instance sheet.png"),
        (("preview", "{data}", "--out", "{new}.png", "--split", "dev"), "no split 'dev'; it has train, val, test."),
        (
            ("preview", "{data}", "--out", "{used}/mine.txt/b.png"),
            "b.png cannot be written: part of its path is a file",
        ),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    run: Run, data: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("keep")
    places = {name: str(tmp_path / name) for name in ("nowhere", "empty", "used", "new")} | {"data": str(data)}
    code, _, err = run(*(item.format(**places) for item in arguments))
    assert code == 2
    assert len(err.strip().splitlines()) == 1 and message in err
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["mine.txt"]
    assert not (tmp_path / "new").exists()
