"""The pre-labelled set on the disk, for each tool, and read again."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.check import check_dataset
from helmlite.data.dataset import read_image
from helmlite.data.load import load_dataset
from helmlite.data.roles import with_roles
from helmlite.mine.mine import Mined, MineSettings, mine
from helmlite.mine.mined_set import read_mined, write_mined
from helmlite.mine.seen import Watcher
from helmlite.runtime.sources import Source, open_source
from numbered_pictures import patchy
from written_data import make_found

HELMET, BARE = (8, 6, 24, 30), (32, 12, 48, 36)


@pytest.fixture
def source(folder_of: Callable[..., Source]) -> Source:
    return folder_of(1, 2, 3)


@pytest.fixture
def mined(source: Source, watcher_of: Callable[..., Watcher]) -> Mined:
    """1: two heads, one of them at the threshold.  2: one that only b reports.  3: nothing but doubt."""
    first = {1: make_found([HELMET, BARE], [0.9, 0.5], [0, 1]), 3: make_found([BARE], [0.45], [1])}
    second = {1: make_found([HELMET, BARE], [0.9, 0.9], [0, 1]), 2: make_found([BARE], [0.8], [1])}
    return mine(source, [watcher_of("a", first), watcher_of("b", second)], MineSettings())


def test_the_set_is_a_yolo_data_set_that_can_be_checked_and_read(mined: Mined, source: Source, tmp_path: Path) -> None:
    written = write_mined(mined, source, tmp_path / "set")
    data = load_dataset(tmp_path / "set" / "data.yaml", "train")
    assert [path.name for path in data.image_paths] == [item.picture for item in written.pictures]
    assert [item.name for item in data.classes] == ["helmet", "no_helmet"]
    boxes = {sample.image_path.name: (sample.boxes_xyxy.round(2).tolist(), sample.labels.tolist()) for sample in data}
    assert boxes == {
        "001.png": ([list(HELMET), list(BARE)], [0, 1]),
        "002.png": ([list(BARE)], [1]),
        "003.png": ([], []),
    }
    assert (tmp_path / "set/images/train/001.png").read_bytes() == source.paths[0].read_bytes()
    assert not [item for item in check_dataset(tmp_path / "set").findings if item.kind.startswith(("not", "box", "un"))]


def test_mined_json_is_read_as_it_was_written(mined: Mined, source: Source, tmp_path: Path) -> None:
    written = write_mined(mined, source, tmp_path / "set")
    assert read_mined(tmp_path / "set") == written
    # 2 and then 1 by disagreement or doubt, 3 by doubt: 1 - 4 * 0.05
    assert [(item.picture, item.chosen_for) for item in written.pictures] == [
        ("002.png", "disagreement"),
        ("001.png", "low confidence"),
        ("003.png", "low confidence"),
    ]
    assert [item.score for item in written.pictures] == pytest.approx([0.8, 1.0, 0.8], abs=1e-6)
    assert written.detectors[1].name == "b" and written.detectors[1].thresholds == {"helmet": 0.5, "no_helmet": 0.5}


def test_the_table_has_a_row_for_each_suggestion_and_one_for_a_picture_without(
    mined: Mined, source: Source, tmp_path: Path
) -> None:
    write_mined(mined, source, tmp_path / "set")
    rows = list(csv.DictReader((tmp_path / "set/mined.csv").read_text().splitlines()))
    assert [(row["picture"], row["class"], row["class_score"], row["by"]) for row in rows] == [
        ("002.png", "no_helmet", "0.8000", "b"),
        ("001.png", "helmet", "0.9000", "a + b"),
        ("001.png", "no_helmet", "0.9000", "a + b"),
        ("003.png", "", "", ""),
    ]
    assert rows[0]["says"] == "no_helmet for b only" and rows[0]["reasons"] == "disagreement 0.800"
    assert [float(rows[0][key]) for key in ("left", "top", "right", "bottom")] == list(BARE)


def test_a_name_in_the_table_is_no_formula(watcher_of: Callable[..., Watcher], tmp_path: Path) -> None:
    (tmp_path / "=a.png").write_bytes(cv2.imencode(".png", patchy(1)[:, :, ::-1])[1].tobytes())
    source = open_source(str(tmp_path))
    classes = with_roles(["+cap", "no_helmet"], {"+cap": "helmet"})
    mined = mine(source, [watcher_of("-m", {1: make_found([HELMET], [0.5], [0])}, classes=classes)], MineSettings())
    write_mined(mined, source, tmp_path / "set")
    (row,) = csv.DictReader((tmp_path / "set/mined.csv").read_text().splitlines())
    assert (row["picture"], row["class"], row["by"]) == ("'=a.png", "'+cap", "'-m")
    assert row["says"] == "'+cap at 0.50 for -m" and float(row["class_score"]) == 0.5


def test_for_cvat(mined: Mined, source: Source, tmp_path: Path) -> None:
    write_mined(mined, source, tmp_path / "set", "cvat")
    root = ElementTree.parse(tmp_path / "set/annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert [item.text for item in root.iterfind("meta/task/labels/label/name")] == ["helmet", "no_helmet"]
    image = root.findall("image")[1]
    assert image.attrib == {"id": "1", "name": "001.png", "width": "64", "height": "48"}
    box = image.findall("box")[1].attrib
    assert [float(box[key]) for key in ("xtl", "ytl", "xbr", "ybr")] == list(BARE)
    assert (box["label"], box["source"], box["occluded"], box["z_order"]) == ("no_helmet", "auto", "0", "0")
    labels = json.loads((tmp_path / "set/labels.json").read_text())
    assert labels[0] == {"name": "helmet", "type": "rectangle", "attributes": []}


def test_for_label_studio(mined: Mined, source: Source, tmp_path: Path) -> None:
    write_mined(mined, source, tmp_path / "my set", "label-studio")
    tasks = json.loads((tmp_path / "my set/tasks.json").read_text())
    assert tasks[1]["data"]["image"] == "/data/local-files/?d=my%20set/images/train/001.png"
    (prediction,) = tasks[1]["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("a + b", 1.0)
    result = prediction["result"][1]
    assert result["value"] == {  # in percent of 64 x 48
        "x": 50.0,
        "y": 25.0,
        "width": 25.0,
        "height": 50.0,
        "rotation": 0,
        "rectanglelabels": ["no_helmet"],
    }
    assert (result["type"], result["original_width"], result["original_height"]) == ("rectanglelabels", 64, 48)
    config = ElementTree.parse(tmp_path / "my set/config.xml").getroot()
    rectangles = config.find("RectangleLabels")
    assert rectangles is not None and rectangles.get("name") == result["from_name"]
    assert rectangles.get("toName") == result["to_name"] == config.find("Image").get("name")
    assert [item.get("value") for item in rectangles] == ["helmet", "no_helmet"]


def test_frames_of_a_video_are_written_as_they_were_seen(watcher_of: Callable[..., Watcher], tmp_path: Path) -> None:
    path = tmp_path / "gate.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for number in range(12):
        video.write(np.full((48, 64, 3), 20 * number, np.uint8))
    video.release()
    answers = {number: make_found([HELMET], [0.5], [0]) for number in range(256)}
    source = open_source(str(path))
    mined = mine(source, [watcher_of("a", answers)], MineSettings(count=2, gap_s=0.5))
    written = write_mined(mined, source, tmp_path / "set")
    assert {item.group for item in written.pictures} == {"gate"}
    for item in written.pictures:
        assert item.picture == f"gate_{item.frame:06d}.jpg"
        image = read_image(tmp_path / "set/images/train" / item.picture)
        assert abs(float(image.mean()) - 20 * item.frame) < 6


def test_pictures_whose_names_differ_in_their_ending_only_stay_two(
    watcher_of: Callable[..., Watcher], tmp_path: Path
) -> None:
    for number, name in ((1, "a.png"), (2, "a.bmp")):
        (tmp_path / name).write_bytes(cv2.imencode(Path(name).suffix, patchy(number)[:, :, ::-1])[1].tobytes())
    answers = {number: make_found([HELMET], [0.5], [0]) for number in (1, 2)}
    source = open_source(str(tmp_path))
    written = write_mined(mine(source, [watcher_of("a", answers)], MineSettings()), source, tmp_path / "set")
    assert sorted(item.picture for item in written.pictures) == ["a.bmp", "a_2.png"]


def test_wrong_input_leaves_nothing_behind(
    mined: Mined, source: Source, watcher_of: Callable[..., Watcher], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"Unknown tool 'paint'. A mined set is written for yolo, cvat, label-studio"):
        write_mined(mined, source, tmp_path / "set", "paint")
    nothing = mine(source, [watcher_of("a", {})], MineSettings())
    with pytest.raises(ValueError, match=r"Nothing in .* is worth labelling: 3 looked at, 0 of interest"):
        write_mined(nothing, source, tmp_path / "set")
    source.paths[0].unlink()
    with pytest.raises(OSError, match=r"001.png"):
        write_mined(mined, source, tmp_path / "set")
    assert {path.name for path in tmp_path.iterdir()} == {"pictures"}
    (tmp_path / "used").mkdir()
    (tmp_path / "used/mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="the folder is not empty"):
        write_mined(mined, source, tmp_path / "used")


def test_a_folder_that_holds_no_mined_set(mined: Mined, source: Source, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no mined.json in it; give the --out folder of `helmlite mine`"):
        read_mined(tmp_path)
    write_mined(mined, source, tmp_path / "set")
    path = tmp_path / "set/mined.json"
    whole = path.read_text()
    for text, message in (
        (whole[:100], "damaged"),
        (whole.replace('"format": 1', '"format": 9'), "of format 9, this version reads 1"),
        (whole.replace('"twins": 0', '"other": 0'), "'twins' is missing"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_mined(tmp_path / "set")
