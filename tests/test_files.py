"""Files that are whole or not there: what is written over, what stays as it is, what is read back."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from helmlite.files import (
    check_can_write_to,
    check_new_folder,
    claim_file,
    holds_json,
    holds_picture,
    new_folder,
    read_json,
    write_whole,
)


def test_a_link_stays_a_link_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    for name in ("there.json", "to-be.json"):
        (tmp_path / name).symlink_to(Path("far") / name)
    (tmp_path / "far" / "there.json").write_text("before")
    for name in ("there.json", "to-be.json"):
        write_whole(tmp_path / name, "after")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "far" / name).read_text() == "after"
    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["there.json", "to-be.json"]


def test_a_pipe_stays_a_pipe_and_is_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_whole(pipe, "through it")
    reader.join(timeout=5)
    assert read == ["through it"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_and_its_error_names_it(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")  # a device by another name: the machine's own is not risked
    claim_file(tmp_path / "null", "--json", holds_json("splits"))
    write_whole(tmp_path / "null", "away")
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device.*full"):
        write_whole(tmp_path / "full", "x")
    assert stat.S_ISCHR((tmp_path / "full").stat().st_mode)


def test_a_name_that_is_not_utf8_comes_back_from_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xcd\xb7\xbf\xf8.jpg")  # a Chinese name in GBK
    write_whole(tmp_path / "found.json", json.dumps({"name": name, "class": "\u5934\u76d4"}, ensure_ascii=False))
    assert read_json(tmp_path / "found.json", dict) == {"name": name, "class": "\u5934\u76d4"}


def test_only_an_older_result_may_be_written_over(tmp_path: Path) -> None:
    ours = holds_json("splits", "findings")
    for name, content in {"ours": '{"splits": [], "findings": []}', "list": '[{"splits": 1, "findings": 2}]'}.items():
        (tmp_path / name).write_text(content)
        claim_file(tmp_path / name, "--json", ours)
    (tmp_path / "empty").touch()
    claim_file(tmp_path / "empty", "--json", ours)
    claim_file(tmp_path / "new" / "folder" / "report.json", "--json", ours)
    claim_file(None, "--json", ours)
    assert (tmp_path / "new" / "folder").is_dir()
    for content in (b"train: images", b"{}", b"[]", b"5", b"[[]]", b"\xff\xfe", b"[" * 100_000):
        (tmp_path / "mine").write_bytes(content)
        with pytest.raises(ValueError, match=r"mine exists and holds other things; give --json a new file\."):
            claim_file(tmp_path / "mine", "--json", ours)


def test_inputs_are_neither_written_over_nor_into(tmp_path: Path) -> None:
    (tmp_path / "bundle" / "openvino").mkdir(parents=True)
    (tmp_path / "also").symlink_to("bundle")
    (tmp_path / "model.onnx").touch()
    inputs = (tmp_path / "bundle", str(tmp_path / "model.onnx"))
    for inside in ("bundle/new.json", "bundle/openvino/new.json", "also/new.json"):
        with pytest.raises(ValueError, match=r"bundle, which this command reads; give --json a file outside of it\."):
            claim_file(tmp_path / inside, "--json", holds_json(), inputs)
    with pytest.raises(ValueError, match="is read by this command and would be written over"):
        claim_file(tmp_path / "model.onnx", "--json", holds_json(), inputs)
    claim_file(tmp_path / "bundle.json", "--json", holds_json(), inputs)


def test_a_file_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a folder; give the name of a file"):
        claim_file(tmp_path, "--json", holds_json())
    with pytest.raises(ValueError, match="part of its path is a file"):
        claim_file(tmp_path / "file" / "a" / "b.json", "--json", holds_json())


def test_a_picture_is_known_by_its_beginning(tmp_path: Path) -> None:
    for content, expected in ((b"\x89PNG\r\n\x1a\n...", True), (b"\xff\xd8\xff", True), (b"mine", False)):
        (tmp_path / "a.png").write_bytes(content)
        assert holds_picture(tmp_path / "a.png") is expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not JSON"),
        (b'{"a": ', "it is not JSON"),
        (b"\x80\xff", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"[1]", "it does not hold an object"),
        (b"5", "it does not hold an object"),
    ],
)
def test_what_is_damaged_is_named_with_what_to_do(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"run\.json: damaged \({reason}.*; remove it and give the command again\."):
        read_json(path, dict)
    path.write_text("{}")
    assert read_json(path, dict) == {}
    with pytest.raises(ValueError, match="does not hold a list"):
        read_json(path, list)


def test_a_new_folder_takes_its_name_when_all_is_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new/one", "empty"):
        check_new_folder(tmp_path / name)
        with new_folder(tmp_path / name) as folder:
            (folder / "a.txt").write_text("a")
            assert not (tmp_path / name / "a.txt").exists()
        assert [item.name for item in (tmp_path / name).iterdir()] == ["a.txt"]
    with pytest.raises(KeyError), new_folder(tmp_path / "failed") as folder:
        raise KeyError
    assert sorted(item.name for item in tmp_path.iterdir()) == ["empty", "new"]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_to_a_folder_stays_one_and_its_folder_is_made(tmp_path: Path, is_there: bool) -> None:
    (tmp_path / "far").mkdir()
    if is_there:
        (tmp_path / "far/set").mkdir()
    (tmp_path / "link").symlink_to("far/set")
    check_new_folder(tmp_path / "link")
    with new_folder(tmp_path / "link") as folder:
        (folder / "a.txt").write_text("a")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "far/set/a.txt").is_file()
    assert [item.name for item in (tmp_path / "far").iterdir()] == ["set"]


def test_a_folder_that_could_not_be_replaced_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(tmp_path / "here")
    for here in (Path("."), tmp_path / "here", tmp_path / "link"):
        with pytest.raises(ValueError, match="the folder that you are in; give --out a new folder"):
            check_new_folder(here)
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "disk")
    with pytest.raises(ValueError, match="a disk is mounted there; give --into a new folder in it"):
        check_new_folder(tmp_path / "disk", "--into")
    with pytest.raises(ValueError, match="cannot be made: part of its path is a file"):
        check_new_folder(tmp_path / "file/a/b")
    tried: list[Path] = []

    def read_only(dir: Path) -> None:  # as tempfile names it
        tried.append(dir)
        raise OSError("Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    with pytest.raises(ValueError, match=f"cannot be made: nothing can be written to {tmp_path}"):
        check_new_folder(tmp_path / "a/b")
    with pytest.raises(ValueError, match=f"a/b: nothing can be written to {tmp_path}; give --into another folder"):
        check_can_write_to(tmp_path / "a/b", "--into")
    with pytest.raises(ValueError, match="its folder cannot be written to"):
        claim_file(tmp_path / "new.json", "--json", lambda path: True)
    assert tried == [tmp_path] * 3


def test_trying_whether_a_folder_takes_files_leaves_none(tmp_path: Path) -> None:
    check_can_write_to(tmp_path / "a/b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="part of its path is a file"):
        check_can_write_to(tmp_path / "file/a")


def test_what_was_made_is_kept_where_it_cannot_take_its_name(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    making = new_folder(tmp_path / "set")
    folder = making.__enter__()
    (folder / "a.txt").write_text("hours of work")
    (tmp_path / "set/other.txt").touch()  # somebody else was quicker
    with pytest.raises(OSError, match=r"not empty; all is written, and lies in .*set-") as caught:
        making.__exit__(None, None, None)
    assert caught.value.filename == str(tmp_path / "set")
    assert str(folder) in str(caught.value) and (folder / "a.txt").read_text() == "hours of work"
