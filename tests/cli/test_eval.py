"""`helmlite eval` from the outside: a network whose answers are known, and every way to ask wrongly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helmlite.data.load import load_dataset, match_classes
from helmlite.data.roles import with_roles
from helmlite.evaluate.accuracy import load_predictions, measure_accuracy


def _json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def test_figures_of_a_bundle_worked_by_hand(run, bundle: Path, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Two of three helmets found, one alarm, all with score 0.9; the blue head found.

    Helmet: true, true, false at equal scores, so that recall 2/3 comes at precision 1: 67 of 101 recall points.
    """
    file = tmp_path / "out.json"
    code, out, _ = run("eval", bundle, "--data", data, "--json", file, "--threads", 1)
    assert code == 0
    values = _json(file)
    assert values["per_class"][0]["ap50"] == pytest.approx(67 / 101)
    assert values["per_class"][1]["ap"] == pytest.approx(1.0)
    assert values["map50"] == pytest.approx((67 / 101 + 1) / 2)
    assert values["map"] == pytest.approx((67 / 101 + 1) / 2)
    assert (values["images"], values["boxes"], values["skipped"]) == (4, 4, [])
    assert (values["runtime"], values["input_size"], values["precision"], values["threads"]) == (
        "onnxruntime",
        64,
        "f32",
        1,
    )
    assert values["data_sha256"] == load_dataset(data, "test").sha256()
    assert {"helmlite", "python", "onnxruntime"} <= set(values["versions"])
    assert values["no_helmet"] == {
        "heads": 1,
        "found": 1,
        "recall": 1.0,
        "false_alarms_per_100": 0.0,
        "threshold": 0.4,
        "chosen": "stored in the bundle",
    }
    assert "toy, test: mAP50-95 83.2" in out
    assert "bare heads: 1 of 1 found with 0.0 false alarms per 100 pictures at 0.400 (stored in the bundle)" in out


def test_a_bare_file_with_declared_classes_gives_the_same(
    run, model: Path, bundle: Path, data: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    ours, bare = tmp_path / "a.json", tmp_path / "b.json"
    assert run("eval", bundle, "--data", data, "--json", ours)[0] == 0
    assert run("eval", model, "--data", data, "--json", bare, "--classes", "helmet,未戴头盔")[0] == 0
    for key in ("map", "map50", "images", "data_sha256", "by_size"):
        assert _json(ours)[key] == _json(bare)[key]
    assert _json(bare)["no_helmet"]["chosen"] == "best F1 on these very pictures"


def test_both_runtimes_agree(run, model: Path, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("openvino")
    figures = []
    for runtime in ("onnxruntime", "openvino"):
        file = tmp_path / f"{runtime}.json"
        words = ("eval", model, "--data", data, "--json", file, "--classes", "helmet,bare", "--role", "no_helmet=bare")
        assert run(*words, "--runtime", runtime)[0] == 0
        figures.append(_json(file))
    assert figures[0]["map"] == figures[1]["map"]
    assert [item["runtime"] for item in figures] == ["onnxruntime", "openvino"]


def test_a_role_may_name_a_class_of_either_side(run, model: Path, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The model calls it `bare`; without a role its class matches nothing, and one box is left out."""
    file = tmp_path / "out.json"
    assert run("eval", model, "--data", data, "--json", file, "--classes", "helmet,bare")[0] == 0
    alone = _json(file)
    assert (alone["boxes"], alone["no_helmet"]) == (3, None)
    assert alone["per_class"][1]["ap"] is None
    assert "1 labelled boxes are of classes that the model does not have; they were left out." in alone["remarks"]
    words = ("eval", model, "--data", data, "--json", file, "--classes", "helmet,bare", "--role", "no_helmet=bare")
    code, out, _ = run(*words)
    assert code == 0
    assert _json(file)["boxes"] == 4
    assert "left out" not in out


def test_a_corrupt_picture_is_skipped_counted_and_named(run, bundle: Path, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (data.parent / "images" / "test" / "1.png").write_bytes(b"\x89PNG broken")
    code, out, _ = run("eval", bundle, "--data", data, "--json", tmp_path / "out.json")
    values = _json(tmp_path / "out.json")
    assert code == 0
    assert values["images"] == 3
    assert [Path(item["path"]).name for item in values["skipped"]] == ["1.png"]
    assert "1 skipped:" in out
    assert "1.png" in out


def test_limit_and_predictions(run, bundle: Path, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files = tmp_path / "out.json", tmp_path / "found.json"
    assert run("eval", bundle, "--data", data, "--limit", 2, "--json", files[0], "--predictions", files[1])[0] == 0
    assert _json(files[0])["images"] == 2
    classes = with_roles(["helmet", "bare"], {"bare": "no_helmet"})
    dataset = match_classes(load_dataset(data, "test"), classes).subset([0, 1])
    assert measure_accuracy(load_predictions(files[1], dataset), dataset).map == _json(files[0])["map"]


@pytest.mark.parametrize("option", ["--json", "--predictions"])
def test_results_are_not_written_over_what_is_read(run, bundle: Path, data: Path, tmp_path: Path, option: str) -> None:  # type: ignore[no-untyped-def]
    for file in (bundle / "model.onnx", bundle / "manifest.json", bundle / "new.json", data):
        before = file.read_bytes() if file.exists() else None
        code, _, err = run("eval", bundle, "--data", data, option, file)
        assert code == 2
        assert len(err.strip().splitlines()) == 1 and f"give {option} a" in err
        assert (file.read_bytes() if file.exists() else None) == before
    for _ in range(2):  # what we wrote may be written anew
        assert run("eval", bundle, "--data", data, option, tmp_path / "out.json")[0] == 0
    other = "--json" if option == "--predictions" else "--predictions"
    code, _, err = run("eval", bundle, "--data", data, other, tmp_path / "out.json")
    assert code == 2 and "out.json exists and holds other things" in err
    code, _, err = run("eval", bundle, "--data", data, "--json", tmp_path / "b", "--predictions", tmp_path / "b")
    assert code == 2 and "--json and --predictions are two files; both are" in err


def test_pytorch_and_its_exports_agree(run, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("torch")
    from helmlite.compress.checkpoint import save_checkpoint
    from helmlite.detector.tiny import new_tiny

    folder = tmp_path / "checkpoint"
    save_checkpoint(new_tiny(with_roles(["helmet", "no helmet"]), input_size=64, seed=1), folder, {})
    dataset = match_classes(load_dataset(data, "test"), with_roles(["helmet", "no helmet"]))
    found = []
    for runtime in ("pytorch", "onnxruntime"):
        file, detections = tmp_path / f"{runtime}.json", tmp_path / f"{runtime}-found.json"
        words = ("eval", folder, "--data", data, "--input-size", 96, "--json", file, "--predictions", detections)
        code, _, err = run(*words, "--runtime", runtime)
        assert (code, err) == (0, "")
        assert (_json(file)["runtime"], _json(file)["input_size"]) == (runtime, 96)
        found.append(load_predictions(detections, dataset).detections)
    for ours, exported in zip(*found, strict=True):
        assert len(ours) == len(exported) > 10
        assert ours.scores == pytest.approx(exported.scores, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gone.pt",), "gone.pt: no such file, folder or public model"),
        (("{model}",), "does not say its classes"),
        (("{bundle}", "--runtime", "tpu"), "Unknown runtime 'tpu'"),
        (("{bundle}", "--runtime", "pytorch"), "--runtime pytorch is for a .pt or a checkpoint"),
        (("{bundle}", "--split", "dev"), "dev"),
        (("{bundle}", "--limit", "0"), "--limit is a number of pictures, at least 1; got 0"),
        (("{bundle}", "--input-size", "8"), "--input-size is the side of the input in pixels, at least 32; got 8"),
        (("{bundle}", "--input-size", "96"), "declares its classes, layout and input size itself"),
        (("{bundle}", "--role", "no_helmet=dog"), "--role no_helmet=dog: no class is called 'dog'"),
        (("{bundle}", "--role", "dog"), "--role wants ROLE=CLASS"),
        (("{model}", "--classes", "cat,dog"), "No class of the data"),
        (("gone.pt", "--classes", "a,b"), "--classes is for an .onnx file"),
        (("{bundle}", "--json", "{model}/out.json"), "toy.onnx/out.json cannot be written"),
        (("{bundle}", "--predictions", "{bundle}"), "is a folder; give the name of a file"),
        (("{bundle}", "--classes", "a,b"), "--classes is for an .onnx file; a bundle says this itself"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(  # type: ignore[no-untyped-def]
    run, bundle: Path, model: Path, data: Path, words: tuple[str, ...], message: str
) -> None:
    code, _, err = run("eval", "--data", data, *(word.format(bundle=bundle, model=model) for word in words))
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_missing_data_is_one_line(run, bundle: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run("eval", bundle, "--data", tmp_path / "gone" / "data.yaml")
    assert code == 2
    assert "gone" in err
    assert err.count("\n") == 1


_WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "ultralytics", "openvino", "onnx", "matplotlib", "nncf"):
    sys.modules[name] = None  # importing it raises ImportError, as in the base install
from helmlite.cli import main
main()
"""


def test_a_bundle_needs_no_torch_and_a_checkpoint_names_the_extra(bundle: Path, data: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-c", _WITHOUT_TORCH, "eval"]
    good = subprocess.run([*program, str(bundle), "--data", str(data)], capture_output=True, text=True)
    assert (good.returncode, good.stderr) == (0, "")
    assert "mAP50-95 83.2" in good.stdout
    (tmp_path / "some.pt").write_bytes(b"x")
    bad = subprocess.run([*program, str(tmp_path / "some.pt"), "--data", str(data)], capture_output=True, text=True)
    assert bad.returncode == 2
    assert 'pip install "helmlite[compress]"' in bad.stderr
    assert bad.stderr.count("\n") == 1


def test_robustness_is_measured_on_request(run, bundle: Path, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The network scores by mean colour, which blur leaves: nothing is lost by it."""
    file = tmp_path / "out.json"
    code, out, _ = run("eval", bundle, "--data", data, "--json", file, "--robustness")
    assert code == 0
    robustness = _json(file)["robustness"]
    assert len(robustness["cases"]) == 27
    blurred = [item for item in robustness["cases"] if item["condition"] == "motion blur"]
    assert [item["severity"] for item in blurred] == [1, 2, 3]
    assert [item["loss_points"] for item in blurred] == [pytest.approx(0.0)] * 3
    assert robustness["untouched"]["map"] == _json(file)["map"]
    assert robustness["untouched"]["recall_no_helmet"] == _json(file)["no_helmet"]["recall"]
    assert "severity 3" in out
    assert "interval unknown" in out  # so few pictures have none
