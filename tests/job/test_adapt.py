"""A whole adaptation: what is used, what is judged, what is written, and what is refused before any work."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from helmlite.compress.checkpoint import load_checkpoint, read_provenance, save_checkpoint
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.shipped import load_demo_detector
from helmlite.compress.technique import Context
from helmlite.compress.weight_only import WeightOnly
from helmlite.data.dataset import dataset_of
from helmlite.data.load import load_dataset, match_classes
from helmlite.data.scenes import draw_scene
from helmlite.detector.fit_state import detector_sha256
from helmlite.evaluate.gate import GateCheck, GateVerdict
from helmlite.job.adapt import BETTER, UNDECIDED, UNKNOWN, WORSE, AdaptSettings, adapt, verdict_of_gate
from helpers import Lines
from written_data import CLASSES

SIZE = 160


def write_place(folder: Path, weather: str, seed: int, splits: Sequence[tuple[str, int]]) -> Path:
    """Drawn streets of one weather as a YOLO data set; the path of its data.yaml."""
    for number, (split, count) in enumerate(splits):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for index in range(count):
            scene = draw_scene((seed, number, index), (320, 240), weather)
            path = folder / "images" / split / f"{split}{index}.png"
            cv2.imwrite(str(path), cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
            x1, y1, x2, y2 = scene.boxes_xyxy.T
            rows = np.stack([scene.labels, (x1 + x2) / 640, (y1 + y2) / 480, (x2 - x1) / 320, (y2 - y1) / 240], axis=1)
            text = "".join(f"{int(row[0])} {' '.join(f'{value:.6f}' for value in row[1:])}\n" for row in rows)
            (folder / "labels" / split / f"{split}{index}.txt").write_text(text)
    lines = "".join(f"{split}: images/{split}\n" for split, _ in splits)
    (folder / "data.yaml").write_text(f"{lines}names: [helmet, no_helmet]\n")
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`day` and `night`, the detector that ships as `model`, `grey`: a folder of pictures that show nothing."""
    folder = tmp_path_factory.mktemp("places")
    write_place(folder / "day", "day", 1, [("train", 4), ("val", 3)])
    write_place(folder / "night", "night", 2, [("train", 6), ("val", 4), ("test", 2)])
    write_place(folder / "no-val", "night", 3, [("train", 3)])
    save_checkpoint(load_demo_detector(), folder / "model", {"data_sha256": "of the day"})
    save_checkpoint(fold_batchnorm(load_demo_detector()), folder / "folded", {})
    context = Context(dataset_of([], CLASSES), load_demo_detector(), SIZE, 0, folder, log=Lines())
    save_checkpoint(WeightOnly(pictures=0).apply(load_demo_detector(), context), folder / "rounded", {})
    (folder / "grey").mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / "grey" / f"{index}.png"), np.full((240, 320, 3), 100, np.uint8))
    return folder


def _settings(made: Path, out: Path, **more: object) -> AdaptSettings:
    base = AdaptSettings(str(made / "model"), out, made / "night" / "data.yaml", input_size=SIZE, device="cpu")
    return replace(base, **more)  # type: ignore[arg-type]


def _first_mean(folder: Path) -> torch.Tensor:
    norm = next(item for item in load_checkpoint(folder).network.modules() if isinstance(item, nn.BatchNorm2d))
    assert norm.running_mean is not None
    return norm.running_mean


def test_the_statistics_of_a_night_are_written_and_judged_on_its_val(made: Path, tmp_path: Path) -> None:
    log = Lines()
    found = adapt(_settings(made, tmp_path / "out"), log)
    assert found.verdict == UNDECIDED and found.place == tmp_path / "out", "four pictures prove nothing"
    assert found.says[0] == f"norms: 6 unlabelled, at {SIZE} px."
    assert found.says[1] == "norms: BatchNorm statistics of 6 pictures, those of before counting as 16."
    assert found.says[2].startswith("On 4 pictures of its val: mAP50-95 ") and found.says[2].endswith("undecided.")
    assert any("no interval can be trusted on 4 independent pictures" in line for line in found.says)
    assert not torch.equal(_first_mean(tmp_path / "out"), _first_mean(made / "model"))
    record = read_provenance(tmp_path / "out")
    assert (record["technique"], record["ways"], record["verdict"]) == ("adapt", ["norms"], "undecided")
    assert record["data_sha256"] == "of the day" and len(record["target_sha256"]) == 64
    again = adapt(_settings(made, tmp_path / "out"), log)
    assert detector_sha256(again.detector) == detector_sha256(found.detector)
    with pytest.raises(ValueError, match=r"out: holds a checkpoint made otherwise \(other prior_pictures\)"):
        adapt(_settings(made, tmp_path / "out", prior_pictures=3.0), log)


def test_what_was_adapted_is_stored_with_the_input_size_of_its_new_place(made: Path, tmp_path: Path) -> None:
    adapt(_settings(made, tmp_path / "out", input_size=2 * SIZE), Lines())
    assert load_checkpoint(tmp_path / "out").architecture.input_size == 2 * SIZE


def test_without_a_labelled_val_nothing_is_called_better(made: Path, tmp_path: Path) -> None:
    found = adapt(_settings(made, tmp_path / "a", data=made / "no-val" / "data.yaml"), Lines())
    assert found.verdict == UNKNOWN and found.gate is None
    assert found.says[-1].startswith("The new place has no labelled val: whether this is better is unknown")
    alone = adapt(_settings(made, tmp_path / "b", data=None, unlabelled=made / "night" / "images" / "train"), Lines())
    assert alone.verdict == UNKNOWN and alone.says[0] == f"norms: 6 unlabelled, at {SIZE} px."


def test_a_detector_that_died_is_not_written(made: Path, tmp_path: Path) -> None:
    """Pictures of nothing, and the old statistics forgotten: every later layer divides by no variance at all."""
    settings = _settings(made, tmp_path / "out", unlabelled=made / "grey", prior_pictures=0.0)
    found = adapt(settings, Lines())
    assert found.verdict == WORSE and found.place == tmp_path / "out.work" / WORSE
    assert not (tmp_path / "out").exists() and (found.place / "architecture.json").is_file()


@pytest.mark.slow
def test_all_ways_together_from_two_places(made: Path, tmp_path: Path) -> None:
    log = Lines()
    settings = _settings(made, tmp_path / "out", labelled=2, source=made / "day" / "data.yaml", epochs=1, rounds=1)
    found = adapt(settings, log)
    assert found.says[0] == (
        "norms + few-shot + self-training: 2 labelled, 4 unlabelled, 4 labelled of the place it comes from, at "
        f"{SIZE} px."
    )
    assert any("not provably worse on val, so they were kept" in line for line in found.says)
    assert any(line.startswith("Where it comes from, on 3 pictures: mAP50-95: ") for line in found.says)
    assert any(line.startswith("round 1 of 1: in 4 pictures the teacher is sure of") for line in log)
    trained = [line for line in log if line.startswith("epoch ")]
    assert len(trained) == 1 and "kd_boxes" in trained[0]
    log.clear()
    again = adapt(settings, log)
    assert detector_sha256(again.detector) == detector_sha256(found.detector)
    assert not any(line.startswith("epoch ") for line in log), "what was trained is taken up again"
    assert "source_sha256" in read_provenance(found.place)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"data": None}, "adapt needs pictures of the new place"),
        ({"model": "gone.pt"}, "gone.pt: no such file"),
        ({"model": "folded"}, r"no BatchNorm statistics \(they were folded into the convolutions\)"),
        ({"model": "rounded"}, "is quantized, and its scales hold for the values that it has; adapt the float"),
        ({"labelled": 7, "epochs": 1}, "--labelled 7: the train split has 6 readable pictures"),
        ({"labelled": -1}, "--labelled is a number of pictures, at least 0; got -1"),
        ({"labelled": 2}, "few-shot trains: give --minutes or --epochs"),
        ({"labelled": 2, "ways": ("norms",)}, "--labelled N is for the way few-shot"),
        ({"ways": ("few-shot",), "epochs": 1}, "few-shot needs --labelled N"),
        ({"ways": ("norms",), "epochs": 1}, "Nothing is trained with these ways"),
        ({"ways": ("magic",)}, "Unknown way 'magic'. The ways are norms, few-shot, self-training"),
        ({"ways": ("self-training",)}, "self-training trains: give --minutes or --epochs"),
        ({"ways": ("self-training", "few-shot"), "labelled": 6, "epochs": 2}, "needs pictures without labels"),
        ({"epochs": 1}, "an epoch for each; got 2 rounds and 1 epochs"),
        ({"prior_pictures": -1.0}, "prior_pictures is at least 0"),
        ({"source": "day"}, "--source is shown while training"),
        ({"unlabelled": "night/images/val"}, "4 of the pictures to adapt with are also in val, the first is val0.png"),
        ({"unlabelled": "nowhere"}, "nowhere: no such folder"),
        ({"seed": -1}, "--seed must be 0 or more"),
        ({"input_size": 100}, "multiple of 32"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    made: Path, tmp_path: Path, more: dict[str, object], message: str
) -> None:
    known = {"folded": str(made / "folded"), "rounded": str(made / "rounded"), "day": made / "day" / "data.yaml"}
    places = {key: made / str(more[key]) for key in ("unlabelled",) if key in more}
    given = {key: known.get(str(value), value) for key, value in more.items()} | places
    with pytest.raises(ValueError, match=message):
        adapt(_settings(made, tmp_path / "out", **given), Lines())
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.work").exists()


def test_another_ones_workspace_is_left_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work" / "diary.txt").write_text("dear diary")
    with pytest.raises(ValueError, match="is not the workspace of this command"):
        adapt(_settings(made, tmp_path / "out"), Lines())


def test_a_kill_before_its_first_file_keeps_nobody_out(made: Path, tmp_path: Path) -> None:
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work" / ".lock").touch()
    (tmp_path / "out.work" / ".adapt.json.part").write_text("{")
    assert adapt(_settings(made, tmp_path / "out"), Lines()).place == tmp_path / "out"


def test_pictures_that_judge_the_old_place_are_not_adapted_to(made: Path, tmp_path: Path) -> None:
    settings = _settings(
        made,
        tmp_path / "out",
        data=None,
        unlabelled=made / "day" / "images" / "val",
        source=made / "day" / "data.yaml",
        epochs=2,
    )
    with pytest.raises(ValueError, match=r"3 of the pictures to adapt with are also in val, the first is val0\.png"):
        adapt(settings, Lines())


def test_another_val_is_not_judged_by_what_was_found_in_the_old_one(made: Path, tmp_path: Path) -> None:
    place = write_place(tmp_path / "place", "night", 5, [("train", 3), ("val", 2)])
    settings = _settings(made, tmp_path / "out", data=place)
    record = read_provenance(adapt(settings, Lines()).place)
    val = match_classes(load_dataset(place, "val"), CLASSES)
    assert (record["val_sha256"], record["source_val_sha256"]) == (val.sha256(), None)
    more = tmp_path / "place" / "labels" / "val" / "val0.txt"
    more.write_text(more.read_text() + "0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ValueError, match=r"made otherwise \(other val_sha256\)"):
        adapt(settings, Lines())
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(ValueError, match=r"made otherwise \(other val_sha256\)"):
        adapt(settings, Lines())


def _gate(verdict: str, interval: tuple[float, float] | None) -> GateVerdict:
    check = GateCheck("mAP50-95", verdict, "", 0.5, 0.5, 0.0, interval)
    return GateVerdict(verdict, (check,), None, "val", 80, 80, 1000, 0, ())


def test_a_verdict_needs_a_proof_but_a_dead_detector_does_not() -> None:
    assert verdict_of_gate(_gate("passed", (-3.0, -0.1)), 0.5, 0.52) == BETTER
    assert verdict_of_gate(_gate("passed", (0.0, 0.0)), 0.5, 0.5) == UNDECIDED, "the same is not better"
    assert verdict_of_gate(_gate("undecided", (-3.0, 1.0)), 0.5, 0.52) == UNDECIDED
    assert verdict_of_gate(_gate("failed", (0.1, 1.0)), 0.5, 0.49) == WORSE
    assert verdict_of_gate(_gate("undecided", None), 0.5, 0.24) == WORSE
    assert verdict_of_gate(_gate("undecided", None), 0.5, 0.26) == UNDECIDED
    assert verdict_of_gate(_gate("not judged", None), None, None) == UNDECIDED
