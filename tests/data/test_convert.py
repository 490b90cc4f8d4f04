from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmlite.data.convert import convert_dataset, write_dataset
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.load import load_dataset, splits_of
from helmlite.data.roles import with_roles

WritePicture = Callable[..., object]

WIDTH, HEIGHT = 640, 480
side = st.floats(1, 300, width=32)
boxes = st.tuples(st.floats(0, 340, width=32), st.floats(0, 180, width=32), side, side).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)
labelled = st.lists(st.tuples(boxes, st.integers(0, 2)), max_size=4)
names = st.lists(
    st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=8),
    min_size=3,
    max_size=3,
    unique=True,
)


@settings(max_examples=25, deadline=None)
@given(pictures=st.lists(labelled, min_size=1, max_size=3), class_names=names)
def test_yolo_voc_coco_yolo_keeps_boxes_and_classes(
    pictures: list[list[tuple[tuple[float, float, float, float], int]]], class_names: list[str]
) -> None:
    pictures = [*pictures, [((1.0, 1.0, 9.0, 9.0), 0)]]  # a set without any label is no set
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        encoded = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))[1].tobytes()
        samples = []
        for number, rows in enumerate(pictures):
            path = root / f"图{number}.jpg"
            path.write_bytes(encoded)
            box_array = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
            samples.append(Sample(path, box_array, np.array([label for _, label in rows], np.int64)))
        write_dataset({"train": dataset_of(samples, with_roles(class_names))}, "yolo", root / "yolo")
        chain = ["yolo", "voc", "coco", "yolo2"]
        for before, after in pairwise(chain):
            convert_dataset(root / before, after.rstrip("2"), root / after)
        start, end = load_dataset(root / "yolo"), load_dataset(root / "yolo2")
        assert start.classes == end.classes == with_roles(class_names)
        for original, first, last in zip(samples, start, end):
            np.testing.assert_allclose(first.boxes_xyxy, original.boxes_xyxy, atol=0.01)
            np.testing.assert_allclose(last.boxes_xyxy, original.boxes_xyxy, atol=0.51)
            np.testing.assert_array_equal(last.labels, original.labels)
            assert last.image_path.read_bytes() == encoded


@pytest.mark.parametrize("to", ["yolo", "voc", "coco"])
def test_splits_groups_and_empty_pictures_are_kept(tmp_path: Path, yolo_set: Path, to: str) -> None:
    (yolo_set.parent / "meta.csv").write_text("stem,group\ntrain_0,street\nval_1,yard\n")
    (yolo_set.parent / "labels/train/train_5.txt").write_text("")
    written = convert_dataset(yolo_set, to, tmp_path / "out")
    assert written.pictures == {"train": 6, "val": 2, "test": 2} and written.skipped == ()
    assert splits_of(tmp_path / "out") == ("train", "val", "test")
    for split in ("train", "val", "test"):
        before, after = load_dataset(yolo_set, split), load_dataset(tmp_path / "out", split)
        assert before.classes == after.classes
        assert [sample.group for sample in before] == [sample.group for sample in after]
        assert [len(sample.labels) for sample in before] == [len(sample.labels) for sample in after]
        assert [path.name for path in before.image_paths] == [path.name for path in after.image_paths]


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path, yolo_set: Path) -> None:
    (yolo_set.parent / "images/val/val_0.jpg").write_bytes(b"broken")
    written = convert_dataset(yolo_set, "coco", tmp_path / "out")
    assert written.pictures["val"] == 1
    assert len(written.skipped) == 1 and "val_0.jpg: not a readable picture" in written.skipped[0]


@pytest.mark.parametrize("to", ["yolo", "voc"])
def test_annotations_of_no_picture_are_named_and_ids_may_be_texts(tmp_path: Path, yolo_set: Path, to: str) -> None:
    coco = convert_dataset(yolo_set, "coco", tmp_path / "coco").folder
    path = coco / "annotations" / "instances_train.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    for annotation in values["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
    for annotation in values["annotations"][:3]:
        annotation["image_id"] = "gone"
    path.write_text(json.dumps(values), encoding="utf-8")
    written = convert_dataset(coco, to, tmp_path / "out")
    assert written.pictures == {"train": 6, "val": 2, "test": 2}
    assert written.skipped == (f"{path}: annotation 1: no picture with id gone (and 2 more like this)",)
    assert sum(len(sample.labels) for sample in load_dataset(tmp_path / "out", "train")) == 12 - 3


def test_label_files_of_no_picture_are_named(tmp_path: Path, yolo_set: Path) -> None:
    stray = yolo_set.parent / "labels" / "val" / "lost.txt"
    stray.write_text("0 0.5 0.5 0.1 0.1\n")
    assert convert_dataset(yolo_set, "voc", tmp_path / "out").skipped == (f"{stray}: no picture 'lost' for it",)


def test_coco_none_of_whose_annotations_has_a_picture_is_refused(tmp_path: Path, yolo_set: Path) -> None:
    coco = convert_dataset(yolo_set, "coco", tmp_path / "coco").folder
    path = coco / "annotations" / "instances_val.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"image_id": ', '"image_id": 9'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"instances_val\.json: none of its 4 annotations belongs to a picture"):
        convert_dataset(coco, "yolo", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["yolo", "voc", "coco"])
def test_a_name_that_is_not_utf8_is_refused_before_anything_is_written(
    tmp_path: Path, yolo_set: Path, badly_named: Path, to: str
) -> None:
    assert badly_named.is_file()
    with pytest.raises(ValueError, match=r"images/train/caf\\udce9\.jpg: its name is not UTF-8; rename it\.$"):
        convert_dataset(yolo_set, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["yolo", "voc", "coco"])
def test_numbers_that_no_picture_reaches_are_skipped(tmp_path: Path, yolo_set: Path, to: str) -> None:
    (yolo_set.parent / "labels/train/train_3.txt").write_text("0 1e300 0.5 0.1 0.1\n")
    written = convert_dataset(yolo_set, to, tmp_path / "out")
    assert written.pictures["train"] == 5
    assert "train_3.txt:1: a number is beyond 1000000" in written.skipped[0]


@pytest.mark.parametrize("to", ["yolo", "voc", "coco"])
def test_equal_names_in_different_folders_stay_apart(tmp_path: Path, write_picture: WritePicture, to: str) -> None:
    samples = []
    for number, name in enumerate(["a/x.jpg", "b/x.png", "c/X.jpg", "d/x_2.jpg"]):
        write_picture(tmp_path / name, 20 + number, 20, number)
        samples.append(Sample(tmp_path / name, np.array([[0, 0, 5 + number, 5]], np.float32), np.zeros(1, np.int64)))
    classes = with_roles(["helmet"])
    write_dataset(
        {"train": dataset_of(samples[:2], classes), "val": dataset_of(samples[2:], classes)}, to, tmp_path / "o"
    )
    after = [*load_dataset(tmp_path / "o", "train"), *load_dataset(tmp_path / "o", "val")]
    assert len({sample.image_path.stem.casefold() for sample in after}) == 4
    for before, sample in zip(samples, after):
        assert sample.image_path.read_bytes() == before.image_path.read_bytes()
        np.testing.assert_allclose(sample.boxes_xyxy, before.boxes_xyxy, atol=1e-3)


def test_a_box_thinner_than_a_pixel_gets_one_in_voc(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "a.jpg", 80, 60)
    sample = Sample(tmp_path / "a.jpg", np.array([[10.2, 5.5, 10.4, 7.5]], np.float32), np.zeros(1, np.int64))
    write_dataset({"train": dataset_of([sample], with_roles(["helmet"]))}, "voc", tmp_path / "voc")
    text = (tmp_path / "voc/Annotations/a.xml").read_text()
    assert "<xmin>11</xmin><ymin>7</ymin><xmax>11</xmax><ymax>8</ymax>" in text
    np.testing.assert_array_equal(load_dataset(tmp_path / "voc")[0].boxes_xyxy, [[10, 6, 11, 8]])


def test_names_with_signs_of_xml_survive(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "a & <b>.jpg")
    sample = Sample(tmp_path / "a & <b>.jpg", np.array([[1, 1, 5, 5]], np.float32), np.array([1]))
    write_dataset({"train": dataset_of([sample], with_roles(["<x>", "a & b"]))}, "voc", tmp_path / "voc")
    dataset = load_dataset(tmp_path / "voc")
    assert [item.name for item in dataset.classes] == ["<x>", "a & b"]
    assert dataset[0].labels.tolist() == [1] and dataset[0].image_path.name == "a & <b>.jpg"


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path: Path, yolo_set: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert convert_dataset(yolo_set, "voc", out).folder == out  # an empty one will do
    before = sorted(path.name for path in out.rglob("*"))
    with pytest.raises(ValueError, match="out: the folder is not empty"):
        convert_dataset(yolo_set, "coco", out)
    assert sorted(path.name for path in out.rglob("*")) == before
    with pytest.raises(ValueError, match=r"data\.yaml: a file; give --out a new folder"):
        convert_dataset(yolo_set, "coco", yolo_set)
    with pytest.raises(ValueError, match=r"Unknown data format 'csv'\. The formats are yolo, voc, coco"):
        convert_dataset(yolo_set, "csv", tmp_path / "other")


def test_nothing_is_left_after_a_failure(tmp_path: Path, yolo_set: Path) -> None:
    dataset = load_dataset(yolo_set, "train")

    def failing(index: int) -> Sample:
        sample = dataset[index]
        return replace(sample, image_path=tmp_path / "gone.jpg") if index == 3 else sample

    parent = tmp_path / "deep" / "er"
    with pytest.raises((OSError, ValueError), match="gone"):
        write_dataset({"train": Dataset(dataset.classes, dataset.image_paths, failing)}, "yolo", parent / "out")
    full = replace(dataset, load=lambda index: replace(dataset[index], labels=np.array([0, 9])))  # fails in writing XML
    with pytest.raises(IndexError):
        write_dataset({"train": full}, "voc", parent / "out")
    assert not parent.exists() or list(parent.iterdir()) == []


def test_classes_must_be_the_same_in_all_splits(tmp_path: Path, yolo_set: Path) -> None:
    train = load_dataset(yolo_set, "train")
    other = replace(train, classes=with_roles(["x", "y"]))
    with pytest.raises(ValueError, match="the same classes and roles in every split"):
        write_dataset({"train": train, "val": other}, "yolo", tmp_path / "out")
    with pytest.raises(ValueError, match="at least one split"):
        write_dataset({}, "yolo", tmp_path / "out")
