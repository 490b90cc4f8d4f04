from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helmlite.data.dataset import UnreadableImageError
from helmlite.data.load import load_dataset, splits_of
from helmlite.data.yolo import label_path_of, load_yolo, read_yolo_config, yolo_strays

WritePicture = Callable[..., object]


def test_boxes_are_pixels_and_classes_have_roles(yolo_set: Path) -> None:
    dataset = load_dataset(yolo_set, "train")
    assert len(dataset) == 6
    assert [(item.name, item.role) for item in dataset.classes] == [("helmet", "helmet"), ("no_helmet", "no_helmet")]
    # 100 x 50: centre 25, 25, size 10 x 10
    np.testing.assert_allclose(dataset[0].boxes_xyxy, [[20, 20, 30, 30], [70, 20, 80, 30]], atol=1e-4)
    assert dataset[0].labels.tolist() == [0, 1]
    assert dataset[0] is dataset[0]  # read once, kept


def test_a_folder_with_a_data_yaml_is_yolo(yolo_set: Path) -> None:
    assert len(load_dataset(yolo_set.parent, "val")) == 2
    assert splits_of(yolo_set.parent) == ("train", "val", "test")


def test_lists_count_dot_slash_from_their_own_folder(yolo_set: Path) -> None:
    folder = yolo_set.parent
    (folder / "lists").mkdir()
    (folder / "lists" / "a.txt").write_text("../images/train/train_0.jpg\n\n../images/train/train_1.jpg\n")
    (folder / "b.txt").write_text(f"./images/train/train_2.jpg\r\n{folder / 'images/val/val_0.jpg'}\r\n")
    (folder / "c.txt").write_text(".\\images\\train\\train_3.jpg\n")
    (folder / "lists.yaml").write_text(
        "train: [lists/a.txt, b.txt, c.txt, images/test]\nnames: {0: helmet, 1: no_helmet}\n"
    )
    dataset = load_dataset(folder / "lists.yaml", "train")
    stems = [path.stem for path in dataset.image_paths]
    assert stems == ["train_0", "train_1", "train_2", "val_0", "train_3", "test_0", "test_1"]
    assert all(len(sample.labels) == 2 for sample in dataset)


def test_path_is_the_root_and_valid_is_val(yolo_set: Path) -> None:
    other = yolo_set.parent.parent / "elsewhere"
    other.mkdir()
    for stated in (yolo_set.parent, "../yolo"):
        (other / "data.yaml").write_text(f"path: {stated}\ntrain: images/train\nvalid: images/val\nnames: [a, b]\n")
        assert len(load_dataset(other / "data.yaml", "train")) == 6
        assert len(load_dataset(other / "data.yaml", "val")) == 2


def test_roboflows_parent_folder_is_understood(yolo_set: Path) -> None:
    yolo_set.write_text("train: ../images/train\nnames: [helmet, no_helmet]\n")
    assert len(load_dataset(yolo_set, "train")) == 6


def test_labels_beside_the_picture(tmp_path: Path, write_picture: WritePicture) -> None:
    write_picture(tmp_path / "pics" / "a.png", 10, 10)
    (tmp_path / "pics" / "a.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "data.yaml").write_text("train: pics\nnames: [helmet]\n")
    np.testing.assert_allclose(load_dataset(tmp_path / "data.yaml")[0].boxes_xyxy, [[0, 0, 10, 10]])


def test_the_last_images_folder_is_replaced() -> None:
    assert label_path_of(Path("/images/set/images/train/a.b.jpg")) == Path("/images/set/labels/train/a.b.txt")
    assert label_path_of(Path("/set/images.jpg")) == Path("/set/images.txt")


def test_names_in_any_language_and_gbk(yolo_set: Path) -> None:
    text = "train: images/train\nnames: [戴头盔, 未戴头盔]\n"
    for encoding in ("utf-8", "utf-8-sig", "gbk"):
        yolo_set.write_bytes(text.encode(encoding))
        classes = load_dataset(yolo_set, "train").classes
        assert [(item.name, item.role) for item in classes] == [("戴头盔", "helmet"), ("未戴头盔", "no_helmet")]


def test_polygons_are_read_as_their_bounds(yolo_set: Path) -> None:
    label = yolo_set.parent / "labels" / "train" / "train_0.txt"
    label.write_text("1 0.1 0.2 0.5 0.4 0.3 0.8\n")
    np.testing.assert_allclose(load_dataset(yolo_set, "train")[0].boxes_xyxy, [[10, 10, 50, 40]], atol=1e-4)


def test_no_label_file_or_an_empty_one_means_no_boxes(yolo_set: Path) -> None:
    labels = yolo_set.parent / "labels" / "train"
    (labels / "train_0.txt").unlink()
    (labels / "train_1.txt").write_text("\n")
    dataset = load_dataset(yolo_set, "train")
    assert dataset[0].boxes_xyxy.shape == dataset[1].boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", r"train_0\.txt:2: expected 'class cx cy width height', got 4 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", r"train_0\.txt:2: .* got 6 numbers"),
        ("helmet 0.5 0.5 0.1 0.1", r"train_0\.txt:2: not a row of numbers: 'helmet 0\.5"),
        ("0 nan 0.5 0.1 0.1", r"train_0\.txt:2: a number is not finite"),
        ("0 inf 0.5 0.1 0.1", r"train_0\.txt:2: a number is not finite"),
        ("0 1e300 0.5 0.1 0.1", r"train_0\.txt:2: a number is beyond 1000000, farther than any picture reaches"),
        ("0 0.1 -1.7e308 0.5 0.4 0.3 0.8", r"train_0\.txt:2: a number is beyond 1000000"),
        ("2 0.5 0.5 0.1 0.1", r"train_0\.txt:2: class 2, but data\.yaml names 2 classes"),
        ("-1 0.5 0.5 0.1 0.1", r"train_0\.txt:2: class -1"),
        ("0.5 0.5 0.5 0.1 0.1", r"train_0\.txt:2: class 0\.5"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line(yolo_set: Path, line: str, message: str) -> None:
    label = yolo_set.parent / "labels" / "train" / "train_0.txt"
    label.write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    dataset = load_dataset(yolo_set, "train")
    with pytest.raises(ValueError, match=message):
        dataset[0]
    assert len(dataset[1].labels) == 2


def test_a_missing_picture_with_labels_is_unreadable(yolo_set: Path) -> None:
    dataset = load_dataset(yolo_set, "train")
    dataset.image_paths[2].unlink()
    with pytest.raises(UnreadableImageError, match="train_2"):
        dataset[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a]\n", "no split 'train'; it has none"),
        ("names: [a]\nval: images/val\n", "no split 'train'; it has val"),
        ("train: images/train\n", "needs 'names'"),
        ("- a\n- b\n", "needs 'names'"),
        ("names: [a\n", r"data\.yaml:2: not readable as YAML \(expected ',' or ']'"),
        (
            "names:\n\t- a\n",
            r"data\.yaml:2: not readable as YAML \(found character '\\t' that cannot start any token\)",
        ),
        ("names: a\0b\n", r"data\.yaml: not readable as YAML \(unacceptable character"),
        ("names: [a]\ntrain: 2024-13-45\n", r"data\.yaml: not readable as YAML \(.*: month"),
        ("names: [a]\ntrain: !!bool maybe\n", r"data\.yaml: not readable as YAML \(a value does not suit its tag"),
        ("names: [a]\ntrain: !!timestamp soon\n", r"data\.yaml: not readable as YAML \(a value does not suit its tag"),
        ("[" * 3000, r"data\.yaml: not readable as YAML \(maximum recursion depth"),
        ("names: {0: a, 2: b}\ntrain: images/train\n", "numbered 0, 1, 2"),
        ("names: {}\ntrain: images/train\n", "must be a list or a mapping"),
        ("names: [a, a]\ntrain: images/train\n", "holds a name twice"),
        ("names: [a]\ntrain: nowhere\n", "nowhere: no such folder or list"),
        ("names: [a]\ntrain: labels\n", "'train' has no pictures"),
        ("names: [a]\ntrain: images/train/train_0.jpg\n", "a picture, where a folder or a list"),
    ],
)
def test_a_bad_data_yaml_says_what_is_wrong(yolo_set: Path, text: str, message: str) -> None:
    yolo_set.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_yolo(yolo_set, "train")


def test_a_split_without_any_label_file_is_refused(yolo_set: Path) -> None:
    (yolo_set.parent / "labels").rename(yolo_set.parent / "lables")
    with pytest.raises(ValueError, match=r"no picture of the split 'val' has a label file \(looked for .*val_0\.txt"):
        load_dataset(yolo_set, "val")


def test_labels_without_a_picture_are_strays(yolo_set: Path) -> None:
    assert yolo_strays(yolo_set) == ()
    (yolo_set.parent / "labels" / "val" / "lost.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (yolo_set.parent / "labels" / "val" / "classes.txt").write_text("helmet\n")
    assert [(item.kind, item.file.name) for item in yolo_strays(yolo_set)] == [("label-without-picture", "lost.txt")]


@pytest.mark.parametrize(("stated", "said"), [("5", ["5"]), ("two", ["two"]), ("2", []), ("'2'", []), ("", [])])
def test_a_number_of_classes_that_differs_from_the_names_is_told(yolo_set: Path, stated: str, said: list[str]) -> None:
    yolo_set.write_text(f"nc: {stated}\ntrain: images/train\nnames: [helmet, no_helmet]\n")
    assert [(item.kind, item.file, item.message) for item in yolo_strays(yolo_set)] == [
        ("class-count-differs", yolo_set, f"'nc' says {word} classes, 'names' has 2; correct one of them")
        for word in said
    ]


def test_a_listed_name_that_no_file_can_have_is_refused(yolo_set: Path) -> None:
    (yolo_set.parent / "list.txt").write_text("images/train/a\0b.jpg\n")
    yolo_set.write_text("train: list.txt\nnames: [helmet, no_helmet]\n")
    with pytest.raises(ValueError, match=r"the split 'train' names the picture 'a\\x00b\.jpg', which no file can"):
        load_dataset(yolo_set)


def test_groups_come_from_meta_csv(yolo_set: Path) -> None:
    (yolo_set.parent / "meta.csv").write_text("stem,group,note\ntrain_0,street 1,x\ntrain_1,,y\n", encoding="utf-8")
    dataset = load_dataset(yolo_set, "train")
    assert [sample.group for sample in dataset][:3] == ["street 1", None, None]
    assert read_yolo_config(yolo_set).names == ("helmet", "no_helmet")
