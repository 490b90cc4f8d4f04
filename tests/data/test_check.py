from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.check import CheckReport, check_dataset
from helmlite.data.convert import convert_dataset
from helmlite.data.findings import Finding

WritePicture = Callable[..., object]


def found(report: CheckReport, kind: str) -> list[tuple[str, int | None, str]]:
    return [(item.file.name, item.line, item.message) for item in report.findings if item.kind == kind]


def only(report: CheckReport, kind: str) -> Finding:
    (item,) = [item for item in report.findings if item.kind == kind]
    return item


def label(yolo_set: Path, name: str, text: str) -> None:
    (yolo_set.parent / "labels" / name).with_suffix(".txt").write_text(text, encoding="utf-8")


@pytest.fixture
def coco_splits(tmp_path: Path, yolo_set: Path) -> Path:
    """The YOLO set as COCO; its folder."""
    return convert_dataset(yolo_set, "coco", tmp_path / "coco").folder


def test_a_sound_set_has_statistics_and_only_one_warning(yolo_set: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check_dataset(yolo_set, progress=lambda done, total: seen.append((done, total)))
    assert [(item.severity, item.kind) for item in report.findings] == [("warning", "few-training-pictures")]
    assert not report.misleads
    train = report.splits[0]
    assert (train.split, train.pictures, train.boxes, train.empty, train.unreadable) == ("train", 6, (6, 6), 0, 0)
    assert train.sizes == (0, 12, 0, 0, 0)  # all boxes are 10 x 10 px
    assert seen[-1] == (10, 10)


@pytest.mark.parametrize(
    ("line", "kind", "severity", "message"),
    [
        ("0 0.5 0.5 nan 0.1", "not-a-box", "error", "a number is not finite"),
        ("0 1.7e308 0.5 0.1 0.1", "not-a-box", "error", "a number is beyond 1000000"),
        ("helmet", "not-a-box", "error", "not a row of numbers: 'helmet'"),
        ("5 0.5 0.5 0.1 0.1", "unknown-class", "error", "class 5, but data.yaml names 2 classes"),
        ("0 1.5 0.5 0.1 0.2", "box-outside", "error", "x 145 to 155, y 20 to 30"),
        ("0 1.0 0.5 0.08 0.2", "box-over-edge", "warning", "x 96 to 104, y 20 to 30"),
        ("0 0.5 0.5 0.0 0.2", "box-without-area", "error", "box of 0.0 x 10.0 px"),
        ("0 0.5 0.5 -0.1 0.2", "box-without-area", "error", "box of -10.0 x 10.0 px"),
        ("0 0.25 0.51 0.1 0.2", "doubled-box", "warning", "the same box of 'helmet' as in line 1"),
        ("1 0.25 0.5 0.1 0.2", "contradicting-boxes", "error", "'no_helmet' here, 'helmet' in line 1"),
    ],
)
def test_a_bad_box_is_found_with_file_and_line(
    yolo_set: Path, line: str, kind: str, severity: str, message: str
) -> None:
    label(yolo_set, "train/train_2", f"0 0.25 0.5 0.1 0.2\n\n{line}\n1 0.75 0.5 0.1 0.2\n")
    report = check_dataset(yolo_set)
    item = only(report, kind)
    assert (item.severity, item.file.name, item.line) == (severity, "train_2.txt", 3)
    assert message in item.message
    assert report.misleads == (severity == "error")
    assert len(report.findings) == 2  # this one, and that there are few pictures


def test_a_box_that_ends_a_pixel_after_the_picture_is_rounding(yolo_set: Path) -> None:
    label(yolo_set, "train/train_2", "0 0.96 0.5 0.1 0.2\n1 0.75 0.5 0.1 0.2\n")  # x up to 101 of 100
    assert [item.kind for item in check_dataset(yolo_set).findings] == ["few-training-pictures"]


def test_missing_cut_and_unlabelled_pictures(yolo_set: Path) -> None:
    images = yolo_set.parent / "images" / "train"
    (yolo_set.parent / "list.txt").write_text("".join(f"images/train/train_{n}.jpg\n" for n in (0, 1, 2, 3, 3, 4)))
    yolo_set.write_text("train: list.txt\nval: images/val\ntest: images/test\nnames: [helmet, no_helmet]\n")
    (images / "train_0.jpg").unlink()
    (images / "train_1.jpg").write_bytes((images / "train_1.jpg").read_bytes()[:-60])
    (yolo_set.parent / "labels/train/train_2.txt").unlink()
    label(yolo_set, "train/train_4", "")
    label(yolo_set, "train/lost", "0 0.5 0.5 0.1 0.1\n")
    report = check_dataset(yolo_set)
    assert found(report, "missing-picture") == [("train_0.jpg", None, "No such file or directory")]
    assert found(report, "unreadable-picture")[0][0] == "train_1.jpg"
    assert "cut off" in found(report, "unreadable-picture")[0][2]
    assert [name for name, _, _ in found(report, "no-label-file")] == ["train_2.jpg"]
    assert [name for name, _, _ in found(report, "no-boxes")] == ["train_4.jpg"]
    assert [name for name, _, _ in found(report, "listed-twice")] == ["train_3.jpg"]
    assert [name for name, _, _ in found(report, "label-without-picture")] == ["lost.txt"]
    train = report.splits[0]
    assert (train.pictures, train.unreadable, train.empty) == (6, 2, 2)


def test_the_same_picture_in_two_splits(yolo_set: Path, write_picture: WritePicture) -> None:
    images = yolo_set.parent / "images"
    write_picture(images / "val" / "val_0.png", 200, 100, seed=3)  # train_3 at another size, in another format
    label(yolo_set, "val/val_0", "0 0.25 0.5 0.1 0.2\n1 0.75 0.5 0.1 0.2\n")
    (images / "val" / "val_0.jpg").unlink()
    yolo_set.write_text("train: images/train\nval: [images/val, images/train/]\nnames: [helmet, no_helmet]\n")
    (yolo_set.parent / "list.txt").write_text("images/test/test_0.jpg\nimages/train/train_5.jpg\n")
    yolo_set.write_text("train: images/train\nval: images/val\ntest: list.txt\nnames: [helmet, no_helmet]\n")
    report = check_dataset(yolo_set)
    assert found(report, "duplicate-across-splits") == [
        ("train_3.jpg", None, "in train, looks the same as val_0.png in val")
    ]
    assert found(report, "in-two-splits") == [("train_5.jpg", None, "both in train and in test")]
    assert report.misleads


def test_classes_and_splits_that_are_missing(yolo_set: Path) -> None:
    yolo_set.write_text("train: images/train\nval: images/val\nnames: [helmet, no_helmet, plate, rider]\n")
    label(yolo_set, "val/val_0", "0 0.25 0.5 0.1 0.2\n")
    label(yolo_set, "val/val_1", "0 0.25 0.5 0.1 0.2\n2 0.75 0.5 0.1 0.2\n")
    report = check_dataset(yolo_set)
    assert only(report, "no-such-split").message.startswith("there is no split 'test'")
    assert only(report, "role-not-in-split").message == "no box of class 'no_helmet' in val"
    assert only(report, "class-not-in-split").message == "no box of class 'plate' in train"
    assert only(report, "class-without-boxes").message == "no box of class 'rider' anywhere"
    assert report.misleads


def test_roles_that_are_not_told(yolo_set: Path) -> None:
    yolo_set.write_text("train: images/train\nval: images/val\ntest: images/test\nnames: [A, B]\n")
    messages = [message for _, _, message in found(check_dataset(yolo_set), "no-role")]
    assert messages == [
        "no class has the role helmet (A, B): give --role helmet=CLASS",
        "no class has the role no_helmet (A, B): give --role no_helmet=CLASS",
    ]
    assert found(check_dataset(yolo_set, {"A": "helmet", "B": "no_helmet"}), "no-role") == []
    with pytest.raises(ValueError, match="No class is called 'C'"):
        check_dataset(yolo_set, {"C": "helmet"})


def test_a_split_that_cannot_be_opened_is_an_error_and_the_others_are_checked(yolo_set: Path) -> None:
    yolo_set.write_text("train: images/train\nval: gone\nnames: [helmet, no_helmet]\n")
    report = check_dataset(yolo_set)
    assert "no such folder or list" in only(report, "split-unusable").message
    assert [split.split for split in report.splits] == ["train"]
    yolo_set.write_text("train: gone\nnames: [helmet, no_helmet]\n")
    with pytest.raises(ValueError, match=r"split 'train': .*gone: no such folder"):
        check_dataset(yolo_set)
    yolo_set.write_text("names: [helmet, no_helmet]\n")
    with pytest.raises(ValueError, match="names no split"):
        check_dataset(yolo_set)


def test_xml_that_speaks_of_another_size(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "a.jpg", 80, 60)
    (tmp_path / "a.xml").write_text(
        "<annotation>\n<size><width>160</width><height>120</height></size>\n<object><name>helmet</name>\n"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    report = check_dataset(tmp_path)
    assert only(report, "size-differs").message == "it says that a.jpg is 160 x 120; the picture is 80 x 60"
    assert only(report, "size-differs").file.name == "a.xml"


def test_boxes_of_a_missing_picture_are_checked_as_far_as_possible(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        "<annotation>\n<object><name>helmet</name>\n"
        "<bndbox><xmin>9</xmin><ymin>1</ymin><xmax>3</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    report = check_dataset(tmp_path)
    assert only(report, "box-without-area").line == 2
    assert only(report, "missing-picture").file.name == "a.jpg"


def test_a_name_that_is_not_utf8_is_found_and_can_be_printed(badly_named: Path, yolo_set: Path) -> None:
    (badly_named.parent.parent.parent / "labels/train" / badly_named.with_suffix(".txt").name).write_text("0 0.5\n")
    report = check_dataset(yolo_set)
    assert found(report, "name-not-utf8") == [("caf\\udce9.jpg", None, "its name is not UTF-8; rename it")]
    assert only(report, "not-a-box").file.name == "caf\\udce9.txt"
    assert report.misleads
    json.dumps(report.to_json(), ensure_ascii=False).encode("utf-8")


def test_a_number_of_classes_that_differs_from_the_names_is_a_warning(yolo_set: Path) -> None:
    yolo_set.write_text("nc: 5\n" + yolo_set.read_text())
    report = check_dataset(yolo_set)
    item = only(report, "class-count-differs")
    assert (item.severity, item.file.name) == ("warning", "data.yaml")
    assert item.message == "'nc' says 5 classes, 'names' has 2; correct one of them"


def test_a_picture_too_large_to_decode_is_one_finding(yolo_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (yolo_set.parent / "images/train/train_1.jpg").write_bytes(b"too large")
    decode = cv2.imdecode

    def refusing(encoded: np.ndarray, flags: int) -> np.ndarray:
        if encoded.tobytes() == b"too large":
            raise cv2.error("Validation failed: more pixels than CV_IO_MAX_IMAGE_PIXELS")
        return decode(encoded, flags)

    monkeypatch.setattr(cv2, "imdecode", refusing)
    report = check_dataset(yolo_set)
    assert only(report, "unreadable-picture").file.name == "train_1.jpg"
    assert only(report, "unreadable-picture").message == "damaged, or too large to decode (9 bytes)"


def test_coco_with_two_pictures_of_one_id_misleads(coco_splits: Path) -> None:
    path = coco_splits / "annotations" / "instances_train.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["images"][1]["id"] = values["images"][0]["id"]
    path.write_text(json.dumps(values), encoding="utf-8")
    report = check_dataset(coco_splits)
    assert "image id 1 stands for two pictures (train_0.jpg, train_1.jpg)" in only(report, "split-unusable").message
    assert [split.split for split in report.splits] == ["val", "test"]
    assert report.misleads


def test_coco_that_is_not_json_is_an_error_and_the_other_splits_are_checked(coco_splits: Path) -> None:
    (coco_splits / "annotations" / "instances_val.json").write_text('{"images": [', encoding="utf-8")
    report = check_dataset(coco_splits)
    assert "not readable as JSON" in only(report, "split-unusable").message
    assert [split.split for split in report.splits] == ["train", "test"]


def test_coco_sizes_written_as_texts_are_the_pictures_own(coco_splits: Path) -> None:
    path = coco_splits / "annotations" / "instances_train.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    for image, width in zip(values["images"], ["100", 100.0, "99"]):
        image["width"] = width
    path.write_text(json.dumps(values), encoding="utf-8")
    message = "it says that train_2.jpg is 99 x 50; the picture is 100 x 50"
    assert only(check_dataset(coco_splits), "size-differs").message == message


def test_the_report_is_json_with_the_worst_first(yolo_set: Path) -> None:
    label(yolo_set, "train/train_2", "0 0.25 0.5\n")
    label(yolo_set, "train/train_3", "")
    values = json.loads(json.dumps(check_dataset(yolo_set).to_json()))
    assert [item["severity"] for item in values["findings"]] == ["error", "warning", "note"]
    assert values["counts"] == {"error": 1, "warning": 1, "note": 1}
    assert values["findings"][0]["file"].endswith("train_2.txt") and values["findings"][0]["line"] == 1
    assert values["classes"][1] == {"name": "no_helmet", "role": "no_helmet"}
    assert values["splits"][0]["boxes"] == [4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bikes_helmets", "india_traffic", "hardhat"])
def test_the_real_sets_are_fit_to_run_on(shared: Path, name: str) -> None:
    report = check_dataset(shared / "data" / name)
    assert {item.kind for item in report.findings} <= {"duplicates-in-split"}


@pytest.mark.slow
def test_the_real_set_of_one_camera_is_recognized_as_such(shared: Path) -> None:
    report = check_dataset(shared / "data" / "thai_cctv")
    assert not report.misleads
    scenes = found(report, "scene-across-splits")
    assert sum(int(message.split()[0]) for _, _, message in scenes) > 100
