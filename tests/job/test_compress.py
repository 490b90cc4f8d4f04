"""The whole run on `tiny`: bundle, report, verdict, and going on after an interruption."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helmlite.compress.checkpoint import save_checkpoint
from helmlite.data.load import load_dataset, match_classes
from helmlite.data.roles import with_roles
from helmlite.data.scenes import write_scenes
from helmlite.detector.tiny import new_tiny
from helmlite.evaluate.accuracy import load_predictions
from helmlite.evaluate.pages.translate import untranslated
from helmlite.evaluate.report_files import read_report
from helmlite.evaluate.thresholds import choose_thresholds
from helmlite.job.explain import explain
from helmlite.job.plan import plan
from helmlite.job.prepare import CompressSettings
from helmlite.runtime.bundle import read_bundle

pytestmark = pytest.mark.slow

_RECIPE = """
name = "small"
input_size = 96

[[step]]
technique = "activation"
to = "relu"

[[step]]
technique = "prune"
macs_ratio = 0.6
importance = "l2"
rounds = 1
images = 8

[[step]]
technique = "distill"
epochs = 1
batch_size = 8

[[step]]
technique = "quantize"
pictures = 16
"""


def _compress(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(folder, folder / "out", *more), capture_output=True, text=True, check=False)


def _command(folder: Path, out: Path, *more: str) -> list[str]:
    words = ["compress", str(folder / "model"), "--data", str(folder / "scenes" / "data.yaml"), *more]
    words += ["--recipe", str(folder / "small.toml"), "--out", str(out)]
    return [sys.executable, "-W", "ignore", "-c", "from helmlite.cli import main; main()", *words]


def _kept_predictions(out: Path, row: str, split: str) -> Path:
    """The file of this row alone: another row's name may begin with its name ("3. distill in BF16")."""
    name, key = row.replace(" ", "-").replace(".", "").lower(), "[0-9a-f]" * 12
    (found,) = (out / "predictions").glob(f"{name}-{key}/{split}.json")
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("run")
    write_scenes(folder / "scenes", train=16, val=24, test=24, seed=0)
    save_checkpoint(new_tiny(with_roles(["helmet", "no_helmet"]), input_size=160), folder / "model", {})
    (folder / "small.toml").write_text(_RECIPE)
    trained = _compress(folder, "--max-drop", "1.0", "--train-only", "--device", "cpu")
    assert trained.returncode == 0, trained.stderr
    return folder, _compress(folder, "--max-drop", "1.0")


def test_it_ends_with_a_verdict_and_its_exit_code(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = run
    assert done.returncode in (0, 3, 4), done.stderr
    report = json.loads((folder / "out" / "report.json").read_text())
    assert {0: "passed", 3: "failed", 4: "undecided"}[done.returncode] == report["gate"]["verdict"]
    assert (folder / "out" / "report.html").stat().st_size > 5000


def test_a_run_that_was_only_trained_goes_on_from_there(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    assert run[1].stdout.count("already done") == 4
    assert "speed: all artifacts in turn" in run[1].stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_line(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    refused = _compress(run[0], "--device", "cuda")
    assert refused.returncode == 2
    assert "finds no NVIDIA GPU here" in refused.stderr


def test_the_report_has_what_later_work_builds_on(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    report = json.loads((run[0] / "out" / "report.json").read_text())
    for side in ("baseline", "result"):
        keys = {"map", "map50", "recall_no_helmet", "latency_ms_median", "size_bytes", "macs", "params"}
        assert keys <= report[side].keys()
    assert {"data", "speedup", "speedup_factors", "size_ratio", "map_drop", "map_drop_ci95", "gate"} <= report.keys()
    assert report["result"]["macs"] < 0.25 * report["baseline"]["macs"]  # 0.36 by size, 0.6 by pruning
    assert report["result"]["size_bytes"] < report["baseline"]["size_bytes"]
    for row in (report["baseline"], *report["steps"], report["result"], *report["references"]):
        assert 0 < row["compressed_bytes"] < row["size_bytes"], row["name"]
    assert report["steps"][0]["name"] == "FP32 at 96"
    assert len(report["steps"]) in (4, 5)  # the result has a row of its own


def test_every_file_was_held_against_its_detector_and_the_copy_against_its_original(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    report = json.loads((run[0] / "out" / "report.json").read_text())
    rows = {item["name"]: item for item in (report["baseline"], *report["steps"], report["result"])}
    for item in (*rows.values(), *report["references"]):
        is_copy = item["precision"] != "FP32"
        assert (item["fidelity"] is not None) == is_copy, item["name"]
        if item["precision"] == "FP32":
            assert item["parity"]["pictures"] == 4
            assert item["parity"]["score_mean"] < 1e-4
    if "4. quantize" in rows:
        assert rows["4. quantize"]["fidelity"]["against"] == "3. distill"
    assert "What the files give" in (run[0] / "out" / "report.html").read_text(encoding="utf-8")


def test_the_page_of_a_real_run_has_no_english_left_in_chinese(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """Every note, remark and reason that a run stores is known to the catalogue."""
    report = read_report(run[0] / "out")
    page = (run[0] / "out" / "report.html").read_text(encoding="utf-8")
    outside = {report.model, report.target, "data.yaml", "scenes/data.yaml", "Apache-2.0", *report.versions}
    left = [text for text in untranslated(page, outside) if text not in report.measured_on["CPU"]]
    assert [text for text in left if not text.endswith(".jpg")] == []
    assert "由 helmlite 生成。" in (run[0] / "out" / "report.zh-CN.html").read_text(encoding="utf-8")


def test_the_factors_multiply_to_the_whole(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    report = json.loads((run[0] / "out" / "report.json").read_text())
    assert report["speedup_factors"].keys() >= {"input size", "structure", "activation"}
    apart = math.prod(report["speedup_factors"].values()) / report["speedup"]
    assert 0.5 < apart < 2, "two timings of a tiny network, other tests beside them"
    assert math.prod(report["speedup_factors"].values()) != report["speedup"]


def test_the_bundle_runs(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    manifest = read_bundle(run[0] / "out" / "bundle").manifest
    assert manifest.input_size == 96
    assert len(manifest.thresholds.by_class) == 2
    assert "val" in manifest.thresholds.rule


def test_the_thresholds_are_chosen_on_what_the_result_finds(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out = run[0] / "out"
    bundle, report = read_bundle(out / "bundle"), json.loads((out / "report.json").read_text())
    val = match_classes(load_dataset(run[0] / "scenes" / "data.yaml", "val"), bundle.manifest.classes)
    found = _kept_predictions(out, report["result"]["name"], "val")
    assert bundle.manifest.thresholds == choose_thresholds(load_predictions(found, val), val)
    metrics = bundle.manifest.metrics
    assert metrics["test_map"] == report["result"]["map"]
    assert metrics["size_bytes"] == report["result"]["size_bytes"]
    assert metrics["times_faster"] == report["speedup"]


def test_the_report_shows_what_stands_behind_its_figures(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out = run[0] / "out"
    report = json.loads((out / "report.json").read_text())
    evidence = report["evidence"]
    rows = [report["baseline"], report["result"]]
    for shown, row in zip(evidence["models"], rows, strict=True):
        for key in ("name", "map", "map50", "latency_ms_median", "size_bytes", "macs"):
            assert shown["measured"][key] == row[key]
        assert shown["measured"]["recall_no_helmet"] == pytest.approx(row["recall_no_helmet"])
    assert evidence["differences"][0]["heads"] == report["heads"]
    assert evidence["differences"][0]["map_loss_ci95"] is report["map_drop_ci95"] is None, "24 pictures are too few"
    assert any(note.startswith("24 independent pictures of test are too few") for note in report["notes"])
    page = (out / "report.html").read_text(encoding="utf-8")
    for title in ("Kinds of errors", "Curves", "What is taken for what", "Thresholds", "Why heads are missed"):
        assert title in page
    assert (out / "label-mistakes.csv").is_file()


def test_bad_conditions_are_looked_at_where_asked_and_once(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out = run[0] / "out"
    assert json.loads((out / "report.json").read_text())["evidence"]["models"][0]["robustness"] is None
    asked = _compress(run[0], "--max-drop", "1.0", "--robustness")
    assert asked.returncode in (0, 3, 4), asked.stderr
    evidence = json.loads((out / "report.json").read_text())["evidence"]
    assert [len(item["robustness"]["cases"]) for item in evidence["models"]] == [27, 27]
    assert "In bad conditions" in (out / "report.html").read_text(encoding="utf-8")
    kept = {path: path.stat().st_mtime_ns for path in (out / "predictions").glob("*/worse/*.json")}
    assert len(kept) == 54
    assert _compress(run[0], "--max-drop", "1.0", "--robustness").returncode == asked.returncode
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_the_training_is_drawn(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    (curve,) = json.loads((run[0] / "out" / "report.json").read_text())["curves"]
    assert curve["title"] == "3. distill"
    assert len(curve["lines"]) > 3  # of the task and of the teacher
    assert "loss" not in curve["lines"]
    assert all(len(points) == 1 for points in curve["lines"].values())  # one epoch


def test_a_latency_is_not_measured_on_the_machine_that_only_trains(
    run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(_RECIPE.replace("macs_ratio", "latency_ratio"))
    words = ["compress", run[0] / "model", "--data", run[0] / "scenes" / "data.yaml", "--recipe", recipe]
    start = [sys.executable, "-W", "ignore", "-c", "from helmlite.cli import main; main()"]
    command = [*start, *map(str, words), "--out", str(tmp_path / "out"), "--train-only"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "step 2 (prune) goes by latency" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_same_command_takes_up_what_is_done(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    again = _compress(run[0], "--max-drop", "1.0")
    assert again.returncode == run[1].returncode
    assert again.stdout.count("already done") == 4
    assert "export:" not in again.stdout


def test_killed_in_every_step_it_goes_on_to_the_same_bits(
    run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, _ = run
    command = _command(folder, tmp_path / "out", "--max-drop", "1.0", "--device", "cpu")
    for line in ("activation:", "prune: round 1", "epochs of", "quantize:", "export:", "accuracy:", "speed:"):
        _kill_at(command, line)
    assert subprocess.run(command, capture_output=True, check=False).returncode == run[1].returncode
    for whole in sorted((folder / "out" / "steps").glob("*/weights.safetensors")):
        again = tmp_path / "out" / "steps" / whole.parent.name / whole.name
        assert again.read_bytes() == whole.read_bytes(), whole.parent.name
    for name in ("val", "test"):
        for whole in sorted((folder / "out" / "predictions").rglob(f"{name}*")):
            assert (tmp_path / "out" / whole.relative_to(folder / "out")).read_bytes() == whole.read_bytes(), whole.name


def _kill_at(command: list[str], said: str) -> None:
    """kill -9 as soon as a line of the run's output says this; the run must not end before."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(said in line for line in process.stdout), f"'{said}' was never said"
        process.kill()
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    "blocks", [pytest.param(100, marks=pytest.mark.matrix), 2400]
)  # of 1024 bytes: fails at the first step, and within the training
def test_a_disk_that_fills_up_costs_one_line_and_nothing_else(
    run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, blocks: int
) -> None:
    command = _command(run[0], tmp_path / "out", "--max-drop", "1.0", "--device", "cpu")
    full = subprocess.run(
        ["bash", "-c", f'ulimit -f {blocks}; exec "$@"', "bash", *command], capture_output=True, text=True, check=False
    )
    assert full.returncode == 2, full.stderr
    assert full.stderr.startswith("helmlite: ") and len(full.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.part"))
    assert subprocess.run(command, capture_output=True, check=False).returncode in (0, 3, 4)


def test_a_runtime_without_bf16_is_measured_without_it(
    run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    command = _command(run[0], tmp_path / "out", "--target", "x86-onnxruntime", "--device", "cpu", "--max-drop", "90")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3, 4), done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    rows = [report["result"], *report["steps"], *report["references"]]
    assert {row["precision"] for row in rows} <= {"FP32", "INT8"}
    assert {row["runtime"] for row in rows} == {"onnxruntime"}


def test_other_pictures_to_judge_by_are_looked_at_again(
    run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """More val pictures train nothing anew, and no old prediction is taken for a new one."""
    shutil.copytree(run[0] / "scenes", tmp_path / "scenes")
    shutil.copytree(run[0] / "out", tmp_path / "out")
    for name in ("model", "small.toml"):
        (tmp_path / name).symlink_to(run[0] / name)
    gone = sorted((tmp_path / "scenes").glob("images/val/*.jpg"))[0]
    gone.unlink()
    again = _compress(tmp_path, "--max-drop", "1.0")
    assert again.returncode in (0, 3, 4), again.stderr
    assert again.stdout.count("already done") == 4
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {item["split"]: item["pictures"] for item in report["data"]}["val"] == 23


def test_a_changed_last_step_is_the_only_one_that_is_done_again(
    run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Of the steps before it nothing is trained, exported or looked at anew; a cache that is damaged costs one line."""
    shutil.copytree(run[0] / "out", tmp_path / "out")
    for name in ("model", "scenes"):
        (tmp_path / name).symlink_to(run[0] / name)
    (tmp_path / "small.toml").write_text(_RECIPE.replace("pictures = 16", "pictures = 8"))
    kept = _kept_predictions(tmp_path / "out", "3. distill", "test")
    kept.write_bytes(b"cut")
    again = _compress(tmp_path, "--max-drop", "1.0", "--device", "cpu")
    assert again.returncode in (0, 3, 4), again.stderr
    assert again.stdout.count("already done") == 3
    assert [line.partition(" ")[2] for line in again.stdout.splitlines() if "export:" in line] == [
        "export: 4. quantize"
    ]
    assert again.stdout.count("damaged, and made again") == 1
    assert len(list((tmp_path / "out" / "artifacts").glob("4-quantize-*"))) == 2
    assert '"pictures": 8' in "\n".join(explain(tmp_path / "out"))


def test_other_inputs_are_not_mixed_into_the_folder(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    other = _compress(run[0], "--seed", "1")
    assert other.returncode == 2
    assert "holds another run (other seed)" in other.stderr


def test_explain_retells_every_step(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    lines = explain(run[0] / "out")
    text = "\n".join(lines)
    for part in (
        "1. activation",
        "2. prune",
        "3. distill",
        "gate: ",
        "of the multiply-accumulates",
        '"macs_ratio": 0.6',
    ):
        assert part in text


def test_explain_of_something_else_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no report\.json there"):
        explain(tmp_path)


def test_the_plan_has_a_row_for_each_step_that_changes_speed(
    run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder = run[0]
    settings = CompressSettings(
        str(folder / "model"), folder / "scenes" / "data.yaml", tmp_path / "never", recipe=str(folder / "small.toml")
    )
    found = plan(settings, log=lambda line: None)
    assert [row.name for row in found.steps] == [
        "FP32 at 160", "FP32 at 96", "1. activation", "2. prune", "3. quantize"
    ]  # fmt: skip
    assert found.steps[3].macs <= 0.6 * found.steps[1].macs
    assert found.steps[-1].size_bytes < found.steps[-2].size_bytes
    assert found.resolution.pictures == 24
    assert not (tmp_path / "never").exists()
