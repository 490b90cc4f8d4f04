"""The set to train on: whose pictures and labels it holds, what they weigh, and whose classes count."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import yaml

from helmlite.data.convert import convert_dataset
from helmlite.data.load import load_dataset
from helmlite.mine.corners import NamedBox
from helmlite.mine.corrected import Corrected, read_corrected
from helmlite.mine.mine import MineSettings, mine
from helmlite.mine.mined_set import MinedSet, write_mined
from helmlite.mine.seen import Watcher
from helmlite.mine.take_back import take_back
from helmlite.runtime.sources import Source
from numbered_pictures import patchy
from written_data import make_found

HELMET, BARE = (8.0, 6.0, 24.0, 30.0), (32.0, 12.0, 48.0, 36.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mined"


@pytest.fixture
def mined(folder_of: Callable[..., Source], watcher_of: Callable[..., Watcher], folder: Path) -> MinedSet:
    """Four pictures: a bare head at the threshold is suggested in each."""
    answers = {number: make_found([BARE], [0.5], [1]) for number in (1, 2, 3, 4)}
    source = folder_of(1, 2, 3, 4)
    return write_mined(mine(source, [watcher_of("a", answers)], MineSettings()), source, folder)


@pytest.fixture
def corrected() -> Corrected:
    """1 is right, 2 shows nothing, 3 shows a helmet beside it, 4 has not come back."""
    boxes = {
        "001.png": (NamedBox("no_helmet", BARE),),
        "002.png": (),
        "003.png": (NamedBox("no_helmet", BARE), NamedBox("helmet", HELMET)),
    }
    return Corrected(boxes, ("004.png",), ("other.png",))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The user's own set: classes in another order and under other names, scenes, and a table of weights."""
    for number, split in ((11, "train"), (12, "train"), (13, "val")):
        for kind in ("images", "labels"):
            (tmp_path / "own" / kind / split).mkdir(parents=True, exist_ok=True)
        picture = cv2.imencode(".png", patchy(number)[:, :, ::-1])[1].tobytes()
        (tmp_path / f"own/images/{split}/{number}.png").write_bytes(picture)
        (tmp_path / f"own/labels/{split}/{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "own/weights.csv").write_text("picture,weight\nimages/train/12.png,2\n")
    (tmp_path / "own/meta.csv").write_text("stem,group\n11,gate\n13,road\n")
    text = "train: images/train\nval: images/val\nweights: weights.csv\nnames: [without helmet, with helmet]\n"
    (tmp_path / "own/data.yaml").write_text(text)
    return tmp_path / "own/data.yaml"


def contents(data: Path, split: str = "train") -> dict[str, tuple[list[list[float]], list[int], float, str | None]]:
    return {
        sample.image_path.name: (
            sample.boxes_xyxy.round(2).tolist(), sample.labels.tolist(), sample.weight, sample.group
        )
        for sample in load_dataset(data, split)
    }  # fmt: skip


def test_the_set_alone(mined: MinedSet, corrected: Corrected, folder: Path, tmp_path: Path) -> None:
    taken = take_back(corrected, mined, folder, tmp_path / "set")
    assert contents(tmp_path / "set/data.yaml") == {
        "001.png": ([list(BARE)], [1], 1.0, None),
        "002.png": ([], [], 3.0, None),
        "003.png": ([list(BARE), list(HELMET)], [1, 0], 3.0, None),
    }
    assert (taken.pictures, taken.hard) == (3, 2)
    assert taken.count_kinds() == {"hard negative": 1, "hard positive": 1, "confirmed": 2}
    assert taken.remarks() == (
        "1 of 3 pictures came back exactly as suggested.",
        "1 mined pictures have not come back; they are left out.",
        "1 pictures were not mined (other.png ...); they are left out.",
    )


def test_together_with_the_users_own(
    mined: MinedSet, corrected: Corrected, folder: Path, own: Path, tmp_path: Path
) -> None:
    take_back(corrected, mined, folder, tmp_path / "set", own, weight=5.0)
    data = tmp_path / "set/data.yaml"
    found = contents(data)
    assert {name: (labels, weight, group) for name, (_, labels, weight, group) in found.items()} == {
        "11.png": ([0], 1.0, "gate"),
        "12.png": ([0], 2.0, None),
        "001.png": ([0], 1.0, None),
        "002.png": ([], 5.0, None),
        "003.png": ([0, 1], 5.0, None),
    }
    assert contents(data, "val")["13.png"][1:] == ([0], 1.0, "road")
    assert [item.name for item in load_dataset(data).classes] == ["without helmet", "with helmet"]
    places = yaml.safe_load(data.read_text())
    assert places["train"] == [str(own.parent.resolve() / "images/train"), "images/train"]


def test_a_set_whose_pictures_lie_behind_a_link_keeps_its_labels(
    mined: MinedSet, corrected: Corrected, folder: Path, own: Path, tmp_path: Path
) -> None:
    """Labels lie beside the link, not where it leads."""
    (tmp_path / "pool").mkdir()
    (own.parent / "images" / "train").rename(tmp_path / "pool" / "jpegs")
    (own.parent / "images" / "train").symlink_to(tmp_path / "pool" / "jpegs")
    take_back(corrected, mined, folder, tmp_path / "set", own)
    found = contents(tmp_path / "set/data.yaml")
    assert {name: (found[name][1], found[name][2]) for name in ("11.png", "12.png")} == {
        "11.png": ([0], 1.0),
        "12.png": ([0], 2.0),
    }


def test_what_was_decided_is_written_box_by_box(
    mined: MinedSet, corrected: Corrected, folder: Path, tmp_path: Path
) -> None:
    take_back(corrected, mined, folder, tmp_path / "set")
    values = json.loads((tmp_path / "set/outcomes.json").read_text())
    assert values["counts"] == {"hard negative": 1, "hard positive": 1, "confirmed": 2}
    assert (values["hard"], values["not_seen"]) == (2, ["004.png"])
    rows = list(csv.DictReader((tmp_path / "set/outcomes.csv").read_text().splitlines()))
    assert {(row["picture"], row["kind"], row["class"], row["suggested"]) for row in rows} == {
        ("001.png", "confirmed", "no_helmet", "no_helmet"),
        ("002.png", "hard negative", "", "no_helmet"),
        ("003.png", "hard positive", "helmet", ""),
        ("003.png", "confirmed", "no_helmet", "no_helmet"),
    }


def test_a_name_in_the_table_is_no_formula(mined: MinedSet, folder: Path, tmp_path: Path) -> None:
    odd = Corrected({"001.png": (NamedBox("@cap", (-1.0, 0.0, 5.0, 5.0)),)}, (), ())
    take_back(odd, mined, folder, tmp_path / "set")
    rows = list(csv.DictReader((tmp_path / "set/outcomes.csv").read_text().splitlines()))
    assert [(row["class"], row["left"], row["says"]) for row in rows if row["class"]] == [
        ("'@cap", "-1.0", "'@cap added by the person")
    ]


UNTOUCHED = (
    "4 of 4 pictures came back exactly as suggested.",
    "No label differs from what was suggested: is this the corrected set?",
)


def test_a_set_in_which_nothing_was_changed_says_so(mined: MinedSet, folder: Path, tmp_path: Path) -> None:
    same = Corrected({item.picture: (NamedBox("no_helmet", BARE),) for item in mined.pictures}, (), ())
    taken = take_back(same, mined, folder, tmp_path / "set")
    assert taken.remarks() == UNTOUCHED
    assert {weight for _, _, weight, _ in contents(tmp_path / "set/data.yaml").values()} == {1.0}


def test_what_only_the_second_detector_suggested_is_no_sign_of_a_person(
    folder_of: Callable[..., Source], watcher_of: Callable[..., Watcher], tmp_path: Path
) -> None:
    source = folder_of(1, 2, 3, 4)
    answers = {number: make_found([BARE], [0.9], [1]) for number in (1, 2, 3, 4)}
    watchers = [watcher_of("a", {}), watcher_of("b", answers)]
    written = write_mined(mine(source, watchers, MineSettings()), source, tmp_path / "two")
    untouched = read_corrected(tmp_path / "two", written)
    taken = take_back(untouched, written, tmp_path / "two", tmp_path / "set")
    assert taken.hard == 4  # whoever said so, "a" did not report them
    assert taken.remarks() == UNTOUCHED
    assert json.loads((tmp_path / "set/outcomes.json").read_text())["unchanged"] == 4


def test_classes_that_nobody_was_asked_for_are_named(
    mined: MinedSet, corrected: Corrected, folder: Path, own: Path, tmp_path: Path
) -> None:
    names = "[without helmet, rider, bare passenger, with helmet, two_wheeler, bare head]"
    own.write_text(own.read_text().replace("[without helmet, with helmet]", names))
    taken = take_back(corrected, mined, folder, tmp_path / "set", own)
    assert taken.not_asked == ("rider", "bare passenger", "two_wheeler")  # a bare head is `without helmet` to a person
    assert (
        "Nobody was asked for rider, bare passenger, two_wheeler: where the corrected pictures show any, training "
        "takes it for background. `helmlite mine --classes-of DATA` offers every class of your set."
    ) in taken.remarks()
    drawn = {**corrected.boxes, "002.png": (NamedBox("rider", BARE),)}  # the person has added the class
    taken = take_back(replace(corrected, boxes=drawn), mined, folder, tmp_path / "drawn", own)
    assert taken.not_asked == ("bare passenger", "two_wheeler")


def test_a_class_of_the_persons_own(mined: MinedSet, folder: Path, own: Path, tmp_path: Path) -> None:
    capped = Corrected({"001.png": (NamedBox("cap", BARE),), "002.png": (NamedBox("bare head", BARE),)}, (), ())
    take_back(capped, mined, folder, tmp_path / "alone")
    names = [item.name for item in load_dataset(tmp_path / "alone/data.yaml").classes]
    assert names == ["helmet", "no_helmet", "cap", "bare head"]
    with pytest.raises(ValueError, match=r"'cap' in the corrected labels is no class of .*data.yaml \(without helmet"):
        take_back(capped, mined, folder, tmp_path / "both", own)
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan"), 1001.0])
def test_a_weight_that_is_none(
    mined: MinedSet, corrected: Corrected, folder: Path, tmp_path: Path, weight: float
) -> None:
    with pytest.raises(ValueError, match="The weight of hard pictures is above 0 and at most 1000"):
        take_back(corrected, mined, folder, tmp_path / "set", weight=weight)
    assert not (tmp_path / "set").exists()


def test_wrong_input_leaves_nothing_behind(
    mined: MinedSet, corrected: Corrected, folder: Path, own: Path, tmp_path: Path
) -> None:
    convert_dataset(own, "coco", tmp_path / "coco")
    with pytest.raises(ValueError, match=r"is not in YOLO format.*helmlite data convert"):
        take_back(corrected, mined, folder, tmp_path / "set", tmp_path / "coco")
    with pytest.raises(ValueError, match="the folder is not empty"):
        take_back(corrected, mined, folder, folder)
    (folder / "images/train/001.png").unlink()
    with pytest.raises(OSError, match=r"001.png"):
        take_back(corrected, mined, folder, tmp_path / "set")
    assert not (tmp_path / "set").exists() and not list(tmp_path.glob(".set-*"))
