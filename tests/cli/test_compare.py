"""`helmlite compare` from the outside: a bundle and a bare file together, and every way to ask wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.cli.compare import WantedModel, named, parse_model


@pytest.fixture
def many(data: Path) -> Path:
    """So many pictures that there is an interval; the network finds every head in them."""
    for split, count in (("many", 78), ("val", 25)):
        images = data.parent / "images" / split
        labels = data.parent / "labels" / split
        images.mkdir(), labels.mkdir()
        for number in range(count):
            colour = (0, 0, 255) if number % 3 else (255, 0, 0)
            cv2.imwrite(str(images / f"{number}.png"), np.full((64, 64, 3), colour, np.uint8))
            label = 0 if number % 3 else 1
            (labels / f"{number}.txt").write_text(f"{label} 0.28125 0.28125 0.4375 0.4375\n")
    text = data.read_text("utf-8").replace("images/test", "images/many") + "val: images/val\n"
    data.write_text(text, encoding="utf-8")
    return data


def test_a_bundle_and_a_bare_file_are_one(run, bundle: Path, model: Path, many: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out"
    code, shown, error = run(
        "compare", f"{bundle},name=ours", f"{model},classes=helmet+未戴头盔,name=bare file", "--data", many,
        "--time", "--rounds", 2, "--threads", 1, "--out", out,
    )  # fmt: skip
    assert code == 0, error
    assert "bare file against ours: no difference in mAP50-95 shown" in shown
    values = json.loads((out / "comparison.json").read_text("utf-8"))
    first, second = (item["measured"] for item in values["models"])
    assert first["map"] == second["map"] == pytest.approx(1.0)
    assert first["recall_no_helmet"] == 1.0 and first["latency_ms_median"] > 0 and second["speedup"] > 0
    assert first["size_bytes"] == model.stat().st_size == second["size_bytes"]
    assert (values["tuned_on"], values["data"][0]["pictures"], values["data"][1]["pictures"]) == ("val", 78, 25)
    assert values["models"][0]["as_carried"]["threshold"] == pytest.approx(0.4)
    assert values["models"][1]["as_carried"] is None
    assert values["commands"][0].startswith("helmlite compare test_a_bundle_and_a_bare_file_0/bundle,name=ours ")
    assert (out / "label-mistakes.csv").read_text("utf-8").count("\n") == 1, "every label is right"
    for name in ("comparison.html", "comparison.zh-CN.html"):
        assert str(tmp_path) not in (out / name).read_text("utf-8")
    assert len((out / "pictures.csv").read_text("utf-8").splitlines()) == 1 + 2 * 78
    again = run("compare", bundle, f"{model},classes=helmet+未戴头盔,name=b", "--data", many, "--out", out)
    assert again[0] == 0, again[2]


def test_a_class_that_one_lacks_is_left_out(run, bundle: Path, model: Path, many: Path) -> None:  # type: ignore[no-untyped-def]
    code, shown, _ = run("compare", bundle, f"{model},classes=helmet+plate", "--data", many, "--threads", 1)
    assert code == 0
    assert "'未戴头盔' is left out: toy.onnx has no such class." in shown
    assert "No class has the role no_helmet: nothing can be said of bare heads" in shown


def test_three_pictures_prove_nothing(run, bundle: Path, model: Path, data: Path) -> None:  # type: ignore[no-untyped-def]
    code, shown, _ = run("compare", bundle, f"{model},classes=helmet+未戴头盔", "--data", data, "--limit", 3)
    assert code == 0
    assert "no interval, so nothing is proved" in shown and "too few pictures for an interval" in shown
    assert "chosen on the reported pictures themselves (test)" in shown


def test_it_refuses_in_one_line(run, bundle: Path, model: Path, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    bare = f"{model},classes=helmet+未戴头盔"
    cases = (
        ((bundle,), "compare wants two models or more"),
        ((bundle, bundle), "Give each model a name of its own"),
        ((bundle, model), "toy.onnx does not say its classes"),
        ((bundle, f"{model},classes=a+b+c"), "has no scores for 3 classes"),
        ((bundle, f"{model},classes=a+b,layout=ultralytics"), "Its outputs are boxes (1, 1, 4), scores (1, 1, 2)"),
        ((bundle, f"{model},classes=dog+cat"), "No class of the data is known to every model"),
        ((bundle, f"{bare},input_size=big"), "input_size is a number of pixels; got 'big'"),
        ((bundle, f"{bare},input_size=64,input_size=64"), "'input_size' is given twice"),
        ((bundle, f"{bare},name="), "'name' has no value"),
        ((bundle, bare, "--thresholds", "luck"), "'luck' is no rule for thresholds"),
        ((bundle, bare, "--split", "nowhere"), "no split 'nowhere'"),
        ((bundle, bare, "--out", tmp_path / "mine"), "holds other things (diary.txt)"),
        ((bundle, bare, "--out", bundle / "new"), "give --out a folder outside of it"),
        ((bundle, bare, "--out", model), "would be written over"),
        ((bundle, bare, "--role", "no_helmet=nobody"), "no class is called 'nobody'"),
        ((bundle, "gone.pt"), "gone.pt: no such file"),
    )
    for words, message in cases:
        code, _, error = run("compare", *words, "--data", data)
        lines = [line for line in error.splitlines() if line.strip()]
        assert (code, len(lines)) == (2, 1), (words, error)
        assert message in lines[0]
    assert not (bundle / "new").exists() and (tmp_path / "mine" / "diary.txt").is_file()


def test_a_model_with_its_settings() -> None:
    assert parse_model("a,b/best.onnx,layout=end2end,classes=x+ y,precision=bf16", "openvino") == WantedModel(
        "a,b/best.onnx", runtime="openvino", precision="bf16", layout="end2end", classes=("x", "y")
    )
    assert parse_model("odd,colour=red.onnx").model == "odd,colour=red.onnx"
    assert parse_model("m,runtime=pytorch", "openvino").runtime == "pytorch"


def test_names_that_tell_apart() -> None:
    def names(*models: WantedModel) -> list[str]:
        return [item.name for item in named(models)]

    assert names(WantedModel("runs/a/bundle"), WantedModel("runs/b/bundle")) == ["a", "b"]
    assert names(WantedModel("x/a.onnx"), WantedModel("y/a.onnx")) == ["x/a.onnx", "y/a.onnx"]
    assert names(WantedModel("m", input_size=640), WantedModel("m", input_size=416)) == ["m 640", "m 416"]
    assert names(WantedModel("m", name="big"), WantedModel("m")) == ["big", "m"]
