from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.dataset import Sample, dataset_of
from helmlite.data.load import check_labelled, format_of, load_dataset, match_classes, merged, readable
from helmlite.data.roles import Class, check_given_roles, labels_of_role, with_roles


def dataset_with(names: list[str], labels: list[int], roles: dict[str, str] | None = None):  # type: ignore[no-untyped-def]
    boxes = np.arange(4 * len(labels), dtype=np.float32).reshape(-1, 4)
    sample = Sample(Path("a.jpg"), boxes, np.array(labels, np.int64))
    return dataset_of([sample], with_roles(names, roles))


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone", "gone: no such file or folder"), ("empty", "empty: no data set found. Looked for a YOLO data.yaml")],
)
def test_nothing_there_says_what_was_looked_for(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path / name)


def test_the_format_is_told_by_what_is_there(yolo_set: Path) -> None:
    assert format_of(yolo_set) == format_of(yolo_set.parent) == "yolo"


def test_a_role_for_no_class_is_refused(yolo_set: Path) -> None:
    with pytest.raises(ValueError, match=r"No class is called 'bareheaded'\. The classes are helmet, no_helmet"):
        load_dataset(yolo_set, "train", {"bareheaded": "no_helmet"})


def test_given_roles_win(yolo_set: Path) -> None:
    yolo_set.write_text("train: images/train\nnames: [A, B]\n")
    classes = load_dataset(yolo_set, "train", {"B": "no_helmet"}).classes
    assert classes == (Class("A"), Class("B", "no_helmet"))


def test_classes_meet_by_role_then_by_name_and_others_are_dropped() -> None:
    data = dataset_with(["未戴头盔", "plate", "戴头盔", "Dog", "cat"], [0, 1, 2, 3, 4, 0])
    model = (Class("helmet", "helmet"), Class("dog"), Class("bare", "no_helmet"))
    matched = match_classes(data, model)
    assert matched.classes == model
    assert matched[0].labels.tolist() == [2, 0, 1, 2]
    np.testing.assert_array_equal(matched[0].boxes_xyxy, data[0].boxes_xyxy[[0, 2, 3, 5]])


def test_of_several_classes_with_the_role_the_one_of_the_same_name_is_met() -> None:
    model = (Class("good helmet", "helmet"), Class("hard hat", "helmet"))
    data = dataset_with(["hard hat", "helmet"], [0, 1])
    assert match_classes(data, model)[0].labels.tolist() == [1, 0]


def test_equal_names_with_different_roles_do_not_meet() -> None:
    data = dataset_with(["hat", "helmet"], [0, 1], {"hat": "no_helmet"})
    assert match_classes(data, (Class("hat", "helmet"),))[0].labels.tolist() == [0]
    assert len(match_classes(data, (Class("hat", "helmet"),))[0].labels) == 1


def test_nothing_in_common_names_both_sides() -> None:
    expected = r"the data's classes are dog; the model's are helmet, head; give --role"
    with pytest.raises(ValueError, match=expected):
        match_classes(dataset_with(["dog"], [0]), with_roles(["helmet", "head"]))


def test_readable_leaves_out_what_cannot_be_read_and_says_why(yolo_set: Path) -> None:
    folder = yolo_set.parent
    whole = (folder / "images/train/train_1.jpg").read_bytes()
    (folder / "images/train/train_1.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "labels/train/train_3.txt").write_text("0 0.5\n")
    (folder / "images/train/train_4.jpg").write_bytes(b"")
    dataset, problems = readable(load_dataset(yolo_set, "train"))
    assert [path.stem for path in dataset.image_paths] == ["train_0", "train_2", "train_5"]
    assert [sample.image_path for sample in dataset] == list(dataset.image_paths)
    assert len(problems) == 3
    for problem, expected in zip(problems, ("train_1.jpg: the picture is cut off", "train_3.txt:1: ", "train_4.jpg: ")):
        assert expected in problem


def test_readable_keeps_a_good_set_and_refuses_one_without_pictures(yolo_set: Path) -> None:
    dataset = load_dataset(yolo_set, "val")
    same, problems = readable(dataset)
    assert same is dataset and problems == []
    for path in dataset.image_paths:
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"None of the 2 pictures can be read; the first: .*val_0\.jpg"):
        readable(load_dataset(yolo_set, "val"))


def test_merged_joins_in_order_and_wants_equal_classes(yolo_set: Path) -> None:
    train, val = load_dataset(yolo_set, "train"), load_dataset(yolo_set, "val")
    both = merged([val, train])
    assert len(both) == 8
    assert [sample.image_path for sample in both] == list(both.image_paths) == [*val.image_paths, *train.image_paths]
    with pytest.raises(ValueError, match="same classes"):
        merged([train, dataset_with(["x"], [0])])
    with pytest.raises(ValueError, match="same classes"):
        merged([])


def test_the_hash_counts_pictures_labels_and_classes(yolo_set: Path) -> None:
    before = load_dataset(yolo_set, "val").sha256()
    assert before == load_dataset(yolo_set, "val").sha256()
    assert before != load_dataset(yolo_set, "val", {"helmet": "person"}).sha256()
    label = yolo_set.parent / "labels/val/val_0.txt"
    label.write_text("0 0.25 0.5 0.1 0.2\n")
    changed = load_dataset(yolo_set, "val").sha256()
    assert changed != before
    (yolo_set.parent / "images/val/val_1.jpg").unlink()
    assert load_dataset(yolo_set, "val").sha256() not in (before, changed)


def test_a_role_that_was_given_is_taken_from_the_class_that_only_looked_like_it() -> None:
    given = with_roles(["head", "无盔"], {"无盔": "no_helmet"})
    assert [(item.name, item.role) for item in given] == [("head", None), ("无盔", "no_helmet")]
    assert labels_of_role(with_roles(["no helmet", "helmet", "bare head"]), "no_helmet") == (0, 2)
    with pytest.raises(ValueError, match="no class is called 'cat'"):
        check_given_roles({"cat": "helmet"}, given, given)


def test_a_split_without_one_box_of_the_detectors_classes_is_said(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((32, 32, 3), np.uint8))
    empty = Sample(tmp_path / "0.png", np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    classes = with_roles(["helmet", "no_helmet"])
    with pytest.raises(ValueError, match="has 1 pictures and not one box of helmet, no_helmet to train on"):
        check_labelled(dataset_of([empty], classes), "to train on")
    full = Sample(tmp_path / "0.png", np.array([[1, 1, 9, 9]], np.float32), np.array([1]))
    check_labelled(dataset_of([empty, full], classes), "to train on")
