"""`helmlite compare` from the outside: a bundle and a bare file together, and every way to ask wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest


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
        ((bundle, bare, "--rounds", 3), "--rounds 3 is for timing: give --time too"),
        ((bundle, bare, "--split", "nowhere"), "no split 'nowhere'"),
        ((bundle, bare, "--out", tmp_path / "mine"), "holds other things (diary.txt)"),
        ((bundle, bare, "--out", bundle / "new"), "give --out a folder outside of it"),
        ((bundle, bare, "--out", model), "would be written over"),
        ((bundle, bare, "--out", "/proc/1/x"), "nothing can be written to /proc/1"),
        ((bundle, bare, "--role", "no_helmet=nobody"), "no class is called 'nobody'"),
        ((bundle, "gone.pt"), "gone.pt: no such file"),
    )
    for words, message in cases:
        code, _, error = run("compare", *words, "--data", data)
        lines = [line for line in error.splitlines() if line.strip()]
        assert (code, len(lines)) == (2, 1), (words, error)
        assert message in lines[0]
    assert not (bundle / "new").exists() and (tmp_path / "mine" / "diary.txt").is_file()


def test_what_cannot_be_timed_is_refused_before_any_picture_is_looked_at(  # type: ignore[no-untyped-def]
    run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from helmlite.compress.checkpoint import save_checkpoint
    from helmlite.data.roles import with_roles
    from helmlite.detector.tiny import new_tiny

    def never(*_: object) -> None:
        raise AssertionError("a picture was looked at")

    for name in ("a", "b"):
        save_checkpoint(new_tiny(with_roles(["helmet", "no helmet"]), input_size=64, seed=1), tmp_path / name, {})
    monkeypatch.setattr("helmlite.models.look.predict_all", never)
    code, _, error = run("compare", tmp_path / "a", tmp_path / "b", "--data", data, "--time")
    assert code == 2 and "--time is for bundles and .onnx files" in " ".join(error.split())


def _coarse(seed: int) -> np.ndarray:  # type: ignore[type-arg]
    """A picture of its own: red and blue shapes by seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def leaking(data: Path) -> Path:
    """Four tested pictures, two of which are in train as well."""
    for split, seeds in (("test", range(4)), ("train", (9, 1, 3))):
        images, labels = data.parent / "images" / split, data.parent / "labels" / split
        images.mkdir(exist_ok=True), labels.mkdir(exist_ok=True)
        for number, seed in enumerate(seeds):
            cv2.imwrite(str(images / f"{number}.png"), _coarse(seed))
            (labels / f"{number}.txt").write_text("0 0.28125 0.28125 0.4375 0.4375\n")
    data.write_text(data.read_text("utf-8") + "train: images/train\n", encoding="utf-8")
    return data


def test_near_duplicates_of_train_are_said(run, bundle: Path, model: Path, leaking: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out"
    bare = f"{model},classes=helmet+未戴头盔,name=bare file"
    code, shown, error = run("compare", f"{bundle},name=ours", bare, "--data", leaking, "--out", out)
    assert code == 0, error
    sentence = "2 of 4 pictures of test look the same as pictures of train: 1.png ≈ 1.png, 3.png ≈ 2.png."
    assert f"finding  {sentence}" in shown
    leak = json.loads((out / "comparison.json").read_text("utf-8"))["leaks"][0]
    assert (leak["pictures"], leak["tested"], leak["learned"]) == (2, 4, 3)
    assert [side["name"] for side in leak["without"]] == ["ours", "bare file"]
    assert sentence in (out / "comparison.html").read_text("utf-8")
    assert sentence in (out / "comparison.md").read_text("utf-8")
    code, shown, _ = run("eval", bundle, "--data", leaking, "--json", tmp_path / "eval.json")
    assert code == 0 and f"finding: {sentence}" in shown
    assert json.loads((tmp_path / "eval.json").read_text("utf-8"))["leaks"][0]["pictures"] == 2


def test_a_model_tested_on_what_it_learned_from(run, bundle: Path, model: Path, leaking: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from dataclasses import replace

    from helmlite.data.load import load_dataset
    from helmlite.runtime.bundle import read_manifest, write_manifest

    sha256 = load_dataset(leaking, "train").sha256()
    own = replace(read_manifest(bundle), provenance={"data": {"train": sha256, "test": "other"}})
    bare = f"{model},classes=helmet+未戴头盔,name=bare file"
    code, shown, _ = run("compare", f"{bundle},name=ours", bare, "--data", leaking, "--split", "train")
    assert code == 0 and "learned from these very pictures" not in shown
    assert "These are pictures of train: what a model scores on pictures it learned from is no test of it." in shown
    write_manifest(bundle, own)
    code, shown, _ = run("compare", f"{bundle},name=ours", bare, "--data", leaking, "--split", "train", "--limit", 2)
    assert code == 0
    assert f"finding  ours learned from these very pictures (train, {sha256[:12]})" in shown
    code, shown, _ = run("eval", bundle, "--data", leaking, "--split", "train", "--json", tmp_path / "out.json")
    assert code == 0 and "finding: toy learned from these very pictures" in shown
    assert json.loads((tmp_path / "out.json").read_text("utf-8"))["own_pictures"][0]["split"] == "train"


def test_the_record_of_finetune_counts_in_the_classes_of_its_detector(  # type: ignore[no-untyped-def]
    run, bundle: Path, model: Path, leaking: Path
) -> None:
    from dataclasses import replace

    from helmlite.data.load import load_dataset, match_classes
    from helmlite.runtime.bundle import read_manifest, write_manifest

    learned = load_dataset(leaking, "train")
    manifest = read_manifest(bundle)
    sha256 = match_classes(learned, manifest.classes).sha256()
    assert sha256 != learned.sha256()
    write_manifest(bundle, replace(manifest, provenance={"data_sha256": sha256}))
    (leaking.parent / "images" / "train" / "9.png").write_bytes(b"broken")
    (leaking.parent / "labels" / "train" / "9.txt").write_text("")
    bare = f"{model},classes=helmet+未戴头盔,name=bare file"
    for words in (("eval", bundle), ("compare", bundle, bare), ("cross-domain", f"{bundle},name=toy", bare)):
        for limit in ((), ("--limit", 2)):
            code, shown, _ = run(*words, "--data", leaking, "--split", "train", *limit)
            assert code == 0 and "learned from these very pictures" in " ".join(shown.split()), (words, limit, shown)


def test_a_train_split_that_is_gone_is_no_error(run, bundle: Path, data: Path) -> None:  # type: ignore[no-untyped-def]
    data.write_text(data.read_text("utf-8") + "train: images/gone\n", encoding="utf-8")
    code, shown, _ = run("eval", bundle, "--data", data)
    assert code == 0 and "The train split cannot be opened, so near-duplicates of it were not looked for" in shown


def test_an_unknown_layout_shows_the_shapes_and_how_to_declare_it(  # type: ignore[no-untyped-def]
    run, bundle: Path, data: Path, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    nodes = [helper.make_node("GlobalAveragePool", ["images"], ["found"])]
    graph = helper.make_graph(
        nodes,
        "strange",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, [1, 3, 1, 1])],
    )
    file = tmp_path / "strange.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    for words in (("eval", file, "--classes", "helmet,x"), ("compare", bundle, f"{file},classes=helmet+x")):
        code, _, error = run(*words, "--data", data)
        assert code == 2 and error.count("\n") == 1
        assert "declare it with --layout helmlite|ultralytics|end2end|yolox|yolox-decoded. Its outputs are" in error
        assert "found (1, 3, 1, 1)." in error
    code, _, error = run("eval", file, "--classes", "helmet,x", "--layout", "ultralytics", "--data", data)
    assert code == 2 and "does not fit --layout ultralytics with 2 classes" in error and "(1, 3, 1, 1)" in error


def test_a_class_without_a_box_is_unknown_and_not_zero(  # type: ignore[no-untyped-def]
    run, bundle: Path, model: Path, data: Path, tmp_path: Path
) -> None:
    (data.parent / "labels" / "test" / "3.txt").write_text("")
    out = tmp_path / "out"
    bare = f"{model},classes=helmet+未戴头盔,name=b"
    code, shown, _ = run("compare", f"{bundle},name=a", bare, "--data", data, "--out", out)
    assert code == 0 and "No bare head is labelled." in shown
    values = json.loads((out / "comparison.json").read_text("utf-8"))["models"][0]
    assert values["measured"]["per_class"][1]["ap"] is None and values["measured"]["recall_no_helmet"] is None
    assert ">unknown<" in (out / "comparison.html").read_text("utf-8")
    code, shown, _ = run("eval", bundle, "--data", data)
    assert code == 0 and "bare no_helmet unknown unknown 0 0" in " ".join(shown.split())
    assert "bare heads: none is labelled here; 25.0 false alarms per 100 pictures at 0.400" in shown
