"""`helmlite cross-domain` from the outside: two sets, a bundle and a bare file, and every way to ask wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import helmlite
from helmlite.data.load import load_dataset
from helmlite.runtime.bundle import read_manifest, write_manifest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another place, of which only every second head lies where the network says."""
    folder = tmp_path / "other"
    for split, count in (("train", 2), ("val", 8), ("test", 8)):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for number in range(count):
            picture = np.full((64, 64, 3), (200 + number, 0, 0), np.uint8)
            cv2.imwrite(str(folder / "images" / split / f"{number}.png"), picture)
            place = "0.28125 0.28125 0.4375 0.4375" if number % 2 else "0.75 0.75 0.4 0.4"
            (folder / "labels" / split / f"{number}.txt").write_text(f"1 {place}\n")
    splits = "".join(f"{split}: images/{split}\n" for split in ("train", "val", "test"))
    (folder / "data.yaml").write_text(f"{splits}names: [helmet, no_helmet]\n")
    return folder / "data.yaml"


def test_two_models_on_two_sets(run: Run, bundle: Path, model: Path, data: Path, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (
        "cross-domain", f"{bundle},trained_on=other,name=ours",
        f"{model},classes=helmet+未戴头盔,trained_on=home,name=bare",
        "--data", f"{data},name=home", "--data", other, "--threads", 1, "--out", out,
    )  # fmt: skip
    code, shown, error = run(*words)
    assert code == 0, error
    values = json.loads((out / "cross-domain.json").read_text("utf-8"))
    assert [(item["model"], item["tested_on"], item["at_home"]) for item in values["cells"]] == [
        ("ours", "home", False), ("ours", "other", True), ("bare", "home", True), ("bare", "other", False),
    ]  # fmt: skip
    assert [item["map_loss_points"] for item in values["cells"]] == [0.0, None, None, 0.0]
    assert [item["tuned_on"] for item in values["domains"]] == ["test", "val"]
    assert [item["best"] for item in values["domains"]] == ["bare", "ours"]
    assert len(values["domains"][1]["data"][0]["sha256"]) == 64 and values["commands"][0].startswith("helmlite cross-")
    assert "too few pictures for an interval" in shown and str(tmp_path) not in (out / "cross-domain.html").read_text()
    (out / "cross-domain.html").unlink()
    assert run("report", out)[0] == 0 and (out / "cross-domain.html").is_file()
    assert run("report", out, "--markdown")[1].startswith("## 2 models on 2 sets")
    assert run(*words)[0] == 0, "an older matrix may be written over"


def test_a_bundle_knows_what_it_was_trained_on(run: Run, bundle: Path, other: Path, data: Path) -> None:
    record = {"data": {"train": load_dataset(other, "train").sha256()}}
    write_manifest(bundle, replace(read_manifest(bundle), provenance=record))
    code, shown, error = run("cross-domain", bundle, "--data", other, "--data", data, "--threads", 1)
    assert code == 0, error
    assert "other (its own record)" in shown.replace("\n", "")
    code, shown, _ = run("cross-domain", bundle, "--data", data, "--threads", 1)
    assert code == 0 and "what it was trained on is not known" in shown, "its record names none of these sets"


def test_a_notebook_names_its_own_command_and_a_set_its_folder(
    bundle: Path, data: Path, other: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sets" / "hardhat.v2"
    folder.parent.mkdir()
    other.parent.rename(folder)
    found = helmlite.cross_domain_models([str(bundle)], [folder, f"{data},name=home"], threads=1, command="cell 3")
    assert [item.name for item in found.domains] == ["hardhat.v2", "home"] and found.commands == ("cell 3",)
    assert helmlite.cross_domain_models([str(bundle)], [f"{data},name=home"], threads=1).commands == ()


def test_a_set_without_a_known_class_is_refused_before_any_picture_is_looked_at(
    run: Run, bundle: Path, data: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.write_text(other.read_text().replace("helmet, no_helmet", "dog, cat"))
    monkeypatch.setattr("helmlite.models.look.predict_all", _never)
    code, _, error = run("cross-domain", bundle, "--data", data, "--data", other)
    assert code == 2 and "other: No class of the data is known to every model" in " ".join(error.split())


def _never(*_: object) -> None:
    raise AssertionError("a picture was looked at")


def test_it_refuses_in_one_line(run: Run, bundle: Path, data: Path, other: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    cases = (
        ((bundle, bundle, "--data", data), "Give each model a name of its own"),
        ((bundle, "--data", data, "--data", data), "Give each data set a name of its own"),
        ((bundle, "--data", f"{data},name=a", "--data", f"{other},name=a"), "Give each data set a name of its own"),
        ((f"{bundle},trained_on=", "--data", data), "'trained_on' has no value"),
        ((bundle, "--data", tmp_path / "gone.yaml"), "gone.yaml: no such file"),
        ((bundle, "--data", other, "--split", "night"), "no split 'night'"),
        (("gone.pt", "--data", other), "gone.pt: no such file"),
        ((bundle, "--data", other, "--out", tmp_path / "mine"), "holds other things (diary.txt)"),
        ((bundle, "--data", other, "--out", bundle / "new"), "give --out a folder outside of it"),
        ((bundle, "--data", other, "--role", "no_helmet=nobody"), "no class is called 'nobody'"),
    )
    for words, message in cases:
        code, _, error = run("cross-domain", *words)
        lines = [line for line in error.splitlines() if line.strip()]
        assert (code, len(lines)) == (2, 1), (words, error)
        assert message in lines[0]
