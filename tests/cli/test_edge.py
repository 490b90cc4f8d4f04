from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.cli import main
from helmlite.data.roles import with_roles
from helmlite.runtime.bundle import Manifest, Thresholds, describe_file, write_manifest
from helmlite.runtime.decode import HeadLayout

onnx = pytest.importorskip("onnx")


def toy_network(kind: str) -> onnx.ModelProto:
    """Two boxes with fixed places; their scores are the mean red and the mean blue of the picture, 64 x 64."""
    from onnx import TensorProto, helper, numpy_helper

    boxes = np.array([[4, 4, 32, 32], [36, 36, 60, 60]], dtype=np.float32)
    initializers = [
        numpy_helper.from_array(np.array([0, 2]), "which"),
        numpy_helper.from_array(np.array([1, 1, 2]), "row"),
        numpy_helper.from_array(np.array([0.9, 0.5], np.float32).reshape(1, 2, 1), "weights"),
    ]
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["rgb"]),
        helper.make_node("Gather", ["rgb", "which"], ["red_blue"], axis=1),
        helper.make_node("Reshape", ["red_blue", "row"], ["row_scores"]),
        helper.make_node("Mul", ["weights", "row_scores"], ["scores"]),
    ]
    if kind == "decoded":
        initializers.append(numpy_helper.from_array(boxes[None], "fixed"))
        nodes.append(helper.make_node("Identity", ["fixed"], ["boxes"]))
        outputs = [("boxes", [1, 2, 4]), ("scores", [1, 2, 2])]
    else:  # as Ultralytics writes it
        half = (boxes[:, 2:] - boxes[:, :2]) / 2
        centred = np.concatenate([boxes[:, :2] + half, 2 * half], axis=1)
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(centred.T)[None], "fixed"))
        nodes.append(helper.make_node("Transpose", ["scores"], ["by_class"], perm=[0, 2, 1]))
        nodes.append(helper.make_node("Concat", ["fixed", "by_class"], ["output0"], axis=1))
        outputs = [("output0", [1, 6, 2])]
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    onnx.save(toy_network("decoded"), str(folder / "model.onnx"))
    manifest = Manifest(
        name="toy",
        classes=with_roles(["戴头盔", "未戴头盔"]),
        input_size=64,
        output_kind="decoded",
        layout=HeadLayout((), 1, 2),
        thresholds=Thresholds((0.6, 0.4), "by hand"),
        files={"model.onnx": describe_file(folder / "model.onnx")},
        runtime_files={"onnxruntime": ("model.onnx",)},
        runtime="onnxruntime",
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "foreign.onnx"
    onnx.save(toy_network("ultralytics"), str(path))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in (("red.png", (0, 0, 255)), ("blue.png", (255, 0, 0))):
        picture = np.full((64, 64, 3), colour, dtype=np.uint8)
        (folder / name).write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return folder


@dataclass(frozen=True)
class Run:
    returncode: int
    stdout: str
    stderr: str


Helmlite = Callable[..., Run]
Refused = Callable[..., str]


@pytest.fixture
def helmlite(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Helmlite:
    """The command as a user runs it, in a folder; what native libraries write to the terminal is seen too."""

    def run(*arguments: object, folder: Path) -> Run:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr("sys.argv", ["helmlite", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capfd.readouterr()
        return Run(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def refused(helmlite: Helmlite) -> Refused:
    """The one line with which the command refuses."""

    def run(*arguments: object, folder: Path) -> str:
        ended = helmlite(*arguments, folder=folder)
        assert ended.returncode == 2, ended.stdout + ended.stderr
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, ended.stderr
        return lines[0]

    return run


def test_detect_a_folder(helmlite: Helmlite, bundle: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.jpg").write_bytes(b"x")
    run = helmlite("detect", pictures, "--model", bundle, "--out", "seen", "--json", "seen.jsonl", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "2 frames" in run.stdout
    assert "broken.jpg" in run.stdout
    records = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text("utf-8").splitlines()]
    # blue: both boxes are bare heads above 0.4; red: one helmet above 0.6
    assert [[item["role"] for item in record["detections"]] for record in records] == [
        ["no_helmet", "no_helmet"],
        ["helmet"],
    ]
    assert {path.name for path in (tmp_path / "seen").iterdir()} >= {"red.png", "blue.png"}


def test_detect_writes_to_detections_by_default_and_again(
    helmlite: Helmlite, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        run = helmlite("detect", pictures / "red.png", "--model", bundle, folder=tmp_path)
        assert run.returncode == 0, run.stderr
    assert (tmp_path / "detections" / "red.png").is_file()
    (tmp_path / "lines").mkdir()
    run = helmlite(
        "detect", pictures, "--model", bundle, "--json", "only.jsonl", "--limit", 1, folder=tmp_path / "lines"
    )
    assert run.returncode == 0, run.stderr
    assert not (tmp_path / "lines" / "detections").exists()
    assert len((tmp_path / "lines" / "only.jsonl").read_text().splitlines()) == 1


def test_detect_writes_nothing_into_a_bundle(refused: Refused, bundle: Path, pictures: Path, tmp_path: Path) -> None:
    before = sorted(bundle.rglob("*"))
    for option, name, kind in (("--json", "new.jsonl", "file"), ("--out", "seen", "folder")):
        line = refused("detect", pictures, "--model", bundle, option, bundle / name, folder=tmp_path)
        assert f"which this command reads; give {option} a {kind} outside of it." in line
    assert "give --out a folder outside of it." in refused("detect", pictures, "--model", bundle, folder=bundle)
    assert sorted(bundle.rglob("*")) == before


def test_detect_versus_a_foreign_file(
    helmlite: Helmlite, bundle: Path, foreign: Path, pictures: Path, tmp_path: Path
) -> None:
    run = helmlite(
        "detect", pictures, "--model", bundle, "--versus", foreign, "--layout", "ultralytics", "--show-scores",
        folder=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    # thresholds of the foreign file are 0.25: in the red picture it finds the helmet of 0.5 as well
    assert "Disagreement in 1 of 2 frames: 3 boxes agree, 0 only left, 1 only right" in run.stdout
    assert (tmp_path / "detections" / "red.png").is_file()


def test_detect_min_score_instead_of_the_thresholds(
    helmlite: Helmlite, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    command = ("detect", pictures / "red.png", "--model", bundle, "--json", "a.jsonl", "--min-score", 0.3)
    assert helmlite(*command, folder=tmp_path).returncode == 0
    assert len(json.loads((tmp_path / "a.jsonl").read_text("utf-8"))["detections"]) == 2


def test_detect_a_video(helmlite: Helmlite, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "ride.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 64))
    for _ in range(5):
        writer.write(np.full((64, 64, 3), (255, 0, 0), dtype=np.uint8))
    writer.release()
    before = path.read_bytes()
    run = helmlite("detect", path, "--model", bundle, "--out", "seen", "--json", "v.jsonl", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    records = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text("utf-8").splitlines()]
    assert [(record["frame"], record["time_s"]) for record in records] == [(i, i / 10) for i in range(5)]
    assert cv2.VideoCapture(str(tmp_path / "seen" / "ride.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert path.read_bytes() == before


def test_detect_refuses_in_one_line(
    refused: Refused, bundle: Path, foreign: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    cases = [
        (("nowhere", "--model", bundle), "No picture, folder, video or camera at 'nowhere'"),
        (("empty", "--model", bundle), "No pictures in the folder empty"),
        ((97, "--model", bundle), "'97' does not answer"),
        ((pictures, "--model", "none"), "No bundle at none"),
        ((pictures, "--model", foreign, "--classes", "a,b"), "--layout helmlite|ultralytics|end2end"),
        ((pictures, "--model", foreign, "--layout", "ultralytics"), "output0 (1, 6, 2)"),
        ((pictures, "--model", bundle, "--classes", "a,b"), "a bundle says all of this itself"),
        ((pictures, "--model", bundle, "--out", pictures), "holds other things"),
        ((pictures, "--model", bundle, "--runtime", "tensorrt"), "tensorrt"),
        ((pictures, "--model", bundle, "--json", pictures / "red.png"), "would be written over"),
    ]
    for arguments, message in cases:
        assert message in refused("detect", *arguments, folder=tmp_path)
    assert not (tmp_path / "detections").exists() or not list((tmp_path / "detections").glob("*.png"))


def test_an_unreadable_video_is_one_line_in_a_fresh_process(bundle: Path, tmp_path: Path) -> None:
    # FFmpeg inside OpenCV takes its log level once in a process, so this one cannot run beside the others
    (tmp_path / "bad.mp4").write_bytes(b"x" * 5000)
    command = [sys.executable, "-c", "from helmlite.cli import main; main()", "detect", "bad.mp4", "--model", bundle]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 2
    assert run.stderr == "helmlite: bad.mp4 is neither a picture nor a video that OpenCV can read.\n"


def test_bench_against_a_foreign_file(helmlite: Helmlite, bundle: Path, foreign: Path, tmp_path: Path) -> None:
    run = helmlite(
        "bench", bundle, "--baseline", foreign, "--layout", "ultralytics", "--rounds", 5, "--seconds", 0,
        "--threads", 1, "--json", "bench.json",
        folder=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "bench.json").read_text("utf-8"))
    assert set(report["models"]) == {"toy", "foreign"}
    assert report["models"]["toy"]["network"]["rounds"] == 5
    assert report["models"]["toy"]["threads"] == 1
    assert set(report["times_as_fast"]) == {"foreign"}
    assert "toy is" in run.stdout
    assert "end to end (from picture to boxes)" in run.stdout


def test_bench_alone_and_with_itself(
    helmlite: Helmlite, refused: Refused, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    quick = ("--rounds", 3, "--seconds", 0, "--warmup", 0)
    alone = helmlite("bench", bundle, *quick, "--pictures", pictures, folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert "(2 pictures)" in alone.stdout
    itself = helmlite("bench", bundle, *quick, "--baseline", bundle, folder=tmp_path)
    assert "toy (baseline)" in itself.stdout
    assert "of the same size" in itself.stdout
    assert "No bundle at none" in refused("bench", "none", folder=tmp_path)


def test_results_are_not_written_into_a_bundle(refused: Refused, bundle: Path, foreign: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (*bundle.iterdir(), foreign)}
    bare = ("--layout", "ultralytics", "--classes", "a,b")
    for words in (
        ("bench", bundle, "--json", bundle / "manifest.json"),
        ("bench", bundle, "--json", bundle / "bench.json"),
        ("bench", foreign, *bare, "--baseline", bundle, "--json", bundle / "bench.json"),
        ("bench", foreign, *bare, "--json", foreign),
    ):
        assert "this command" in refused(*words, folder=tmp_path)
    assert {path: path.read_bytes() for path in (*bundle.iterdir(), foreign)} == before


def test_a_picture_s_name_that_is_not_utf8_is_written_as_it_is_read(
    helmlite: Helmlite, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    name = os.fsdecode(b"\xcd\xb7\xbf\xf8.png")  # as a machine with GBK wrote it
    (pictures / "red.png").rename(pictures / name)
    for _ in range(2):
        run = helmlite("detect", pictures, "--model", bundle, "--json", "found.jsonl", folder=tmp_path)
        assert run.returncode == 0, run.stderr
    records = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text("utf-8").splitlines()]
    assert sorted(record["source"] for record in records) == sorted(["blue.png", name])


def test_doctor_in_words_and_as_json(helmlite: Helmlite, tmp_path: Path) -> None:
    words = helmlite("doctor", "--seconds", 0.2, folder=tmp_path)
    assert words.returncode == 0, words.stderr
    assert "helmlite would try" in words.stdout
    values = json.loads(helmlite("doctor", "--json", "--seconds", 0.2, folder=tmp_path).stdout)
    assert values["choice"]["precision"] in ("f32", "bf16", "int8")
