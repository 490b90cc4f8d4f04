from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helmlite.data.coco import coco_strays
from helmlite.data.load import load_dataset, open_split, splits_of

WritePicture = Callable[..., object]


def content() -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 80, "height": 60}, {"id": 9, "file_name": "b.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 12, "bbox": [1, 2, 10.5, 20], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5]},
            {"id": 3, "image_id": 7, "category_id": 3, "bbox": [0, 0, 80, 60], "iscrowd": 1},
        ],
        "categories": [{"id": 12, "name": "未戴头盔"}, {"id": 3, "name": "helmet"}],
    }


@pytest.fixture
def coco_file(tmp_path: Path, write_picture: WritePicture) -> Path:
    for name in "ab":
        write_picture(tmp_path / "images" / f"{name}.jpg")
    path = tmp_path / "annotations" / "instances_train.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content(), ensure_ascii=False), encoding="utf-8")
    return path


def test_boxes_are_corners_and_classes_are_numbered_by_id(coco_file: Path) -> None:
    dataset = load_dataset(coco_file)
    assert [(item.name, item.role) for item in dataset.classes] == [("helmet", "helmet"), ("未戴头盔", "no_helmet")]
    np.testing.assert_allclose(dataset[0].boxes_xyxy, [[1, 2, 11.5, 22], [0, 0, 5, 5]])  # the crowd is left out
    assert dataset[0].labels.tolist() == [1, 0]
    assert dataset[1].boxes_xyxy.shape == (0, 4)
    assert dataset[1].read_image().shape == (60, 80, 3)


def test_a_folder_and_a_file_find_the_other_splits(coco_file: Path) -> None:
    coco_file.with_name("instances_val.json").write_text(coco_file.read_text(encoding="utf-8"), encoding="utf-8")
    (coco_file.parent / "captions.json").write_text("{}")
    assert splits_of(coco_file.parent.parent) == splits_of(coco_file) == ("train", "val")
    assert len(load_dataset(coco_file.parent.parent, "val")) == len(load_dataset(coco_file, "val")) == 2
    with pytest.raises(ValueError, match="no COCO JSON for the split 'test'; found train, val"):
        load_dataset(coco_file, "test")


def test_one_folder_for_each_split_with_equal_file_names(coco_file: Path, write_picture: WritePicture) -> None:
    root = coco_file.parent.parent / "export"
    for split in ("train", "valid"):
        write_picture(root / split / "a.jpg")
        write_picture(root / split / "b.jpg")
        (root / split / "_annotations.coco.json").write_text(coco_file.read_text(encoding="utf-8"), encoding="utf-8")
    assert splits_of(root) == ("train", "val")
    assert load_dataset(root, "val").image_paths[0] == root / "valid" / "a.jpg"
    assert load_dataset(root / "train" / "_annotations.coco.json", "val").image_paths[0] == root / "valid" / "a.jpg"


def test_a_name_without_a_split_is_train_and_nothing_else(coco_file: Path) -> None:
    alone = coco_file.parent / "strained.json"
    coco_file.rename(alone)
    assert splits_of(alone) == ("train",)
    with pytest.raises(ValueError, match="no COCO JSON for the split 'val'"):
        load_dataset(alone, "val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 99}, "annotation 2: category 99 is not among the categories"),
        ({"category_id": [1]}, r"annotation 2: category \[1\] is not among"),
        ({"bbox": [1, 2, 3]}, "annotation 2: 'bbox' must be four numbers"),
        ({"bbox": None}, "annotation 2: 'bbox' must be four numbers"),
        ({"bbox": ["x", 1, 2, 3]}, "annotation 2: 'bbox' must be four numbers"),
        ({"bbox": [float("nan"), 1, 2, 3]}, "annotation 2: a number of the 'bbox' is not finite"),
        ({"bbox": [1, 2, 1e300, 3]}, "annotation 2: a number of the 'bbox' is beyond 1000000"),
        ({"bbox": [10**400, 1, 2, 3]}, "annotation 2: a number of the 'bbox' has hundreds of digits"),
        ({"category_id": None}, "annotation 2: category None is not among"),
        ({"category_id": True}, "annotation 2: category True is not among"),
    ],
)
def test_a_bad_annotation_is_named_with_its_line(coco_file: Path, change: dict[str, Any], message: str) -> None:
    broken = content()
    broken["annotations"][1].update(change)
    text = json.dumps(broken, indent=1, ensure_ascii=False)
    coco_file.write_text(text, encoding="utf-8")
    annotations_at = text.index('"annotations"')
    line = text.count("\n", 0, text.index('"id": 2', annotations_at)) + 1
    dataset = load_dataset(coco_file)
    with pytest.raises(ValueError, match=rf"instances_train\.json:{line}: {message}"):
        dataset[0]
    assert len(dataset[1].labels) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "needs images, annotations and categories"),
        ('{"images": [], "annotations": []}', "missing: categories"),
        ('{"images": [], "annotations": [], "categories": []}', "the split 'train' has no pictures"),
        ('{"images": [1], "annotations": [], "categories": []}', "must be lists of objects"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "needs 'id' and 'file_name'"),
        ('{"images": [{}], "annotations": [], "categories": [{"id": 1}]}', "a category needs 'id' and 'name'"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [],'
            ' "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]}',
            "two categories have the same name",
        ),
        (
            '{"images": [{"id": 2, "file_name": "a.jpg"}, {"id": "2", "file_name": "b.jpg"}], "annotations": [],'
            ' "categories": []}',
            r"train\.json: image id 2 stands for two pictures \(a\.jpg, b\.jpg\); give each its own id",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [],'
            ' "categories": [{"id": 1, "name": "x"}, {"id": 1.0, "name": "y"}]}',
            r"train\.json: category id 1 stands for two classes \(x, y\); give each its own id",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": null, "name": "x"}]}',
            r"a category's 'id' must be a number or a text; 'x' has null",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": [1], "name": "x"}, {"id": 2, "name": "y"}]}',
            r"a category's 'id' must be a number or a text; 'x' has \[1\]",
        ),
        (
            '{"images": [{"id": false, "file_name": "a.jpg"}], "annotations": [], "categories": []}',
            "an image's 'id' must be a number or a text; image number 0 has false",
        ),
        (
            '{"images": [{"id": NaN, "file_name": "a.jpg"}], "annotations": [], "categories": []}',
            "image number 0 has NaN",
        ),
        (
            r'{"images": [{"id": 1, "file_name": "a\u0000.jpg"}], "annotations": [], "categories": []}',
            r"train\.json: image number 0 has the 'file_name' 'a\\x00\.jpg', which no file can be called",
        ),
        (
            r'{"images": [{"id": 1, "file_name": "\ud800.jpg"}], "annotations": [], "categories": []}',
            "image number 0 has the 'file_name' .* which no file can be called",
        ),
        (f'{{"images": [{"9" * 5000}], "annotations": [], "categories": []}}', r"train\.json: not readable as JSON"),
        ("[" * 100_000, r"train\.json: not readable as JSON"),
    ],
)
def test_what_is_not_coco_says_so(coco_file: Path, text: str, message: str) -> None:
    coco_file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_dataset(coco_file)


def test_annotations_of_no_picture_are_strays(coco_file: Path) -> None:
    changed = content()
    changed["annotations"][1]["image_id"] = 70
    coco_file.write_text(json.dumps(changed, ensure_ascii=False), encoding="utf-8")
    assert [str(item).rpartition("/")[2] for item in coco_strays(coco_file)] == [
        "instances_train.json:1: annotation 2: no picture with id 70"
    ]


@pytest.mark.parametrize("as_written", [str, float, lambda value: f"{value}.0"])
def test_ids_of_another_json_type_are_the_same_ids(coco_file: Path, as_written: Callable[[int], object]) -> None:
    before = [(sample.boxes_xyxy.tolist(), sample.labels.tolist()) for sample in load_dataset(coco_file)]
    changed = content()
    for annotation in changed["annotations"]:
        annotation["id"] = as_written(annotation["id"])
        annotation["image_id"] = as_written(annotation["image_id"])
        annotation["category_id"] = as_written(annotation["category_id"])
    text = json.dumps(changed, indent=1)
    coco_file.write_text(text, encoding="utf-8")
    assert [(sample.boxes_xyxy.tolist(), sample.labels.tolist()) for sample in load_dataset(coco_file)] == before
    assert coco_strays(coco_file) == ()
    lines = open_split(coco_file, "train").read(0).lines.tolist()
    assert [text.splitlines()[line - 1].strip() for line in lines] == [
        f'"id": {json.dumps(as_written(number))},' for number in (1, 2)
    ]


def test_the_same_picture_listed_twice_is_not_two_pictures(coco_file: Path) -> None:
    changed = content()
    changed["images"].append(changed["images"][0])
    coco_file.write_text(json.dumps(changed), encoding="utf-8")
    assert [len(sample.labels) for sample in load_dataset(coco_file)] == [2, 0, 2]


def test_ids_of_digits_number_the_classes_as_numbers_do(coco_file: Path) -> None:
    changed = content()
    changed["categories"] = [{"id": "12", "name": "no_helmet"}, {"id": "3", "name": "helmet"}]
    coco_file.write_text(json.dumps(changed), encoding="utf-8")
    assert [item.name for item in load_dataset(coco_file).classes] == ["helmet", "no_helmet"]


def test_annotations_of_no_picture_at_all_are_refused(coco_file: Path) -> None:
    changed = content()
    for annotation in changed["annotations"]:
        annotation["image_id"] = f"img{annotation['image_id']}"
    coco_file.write_text(json.dumps(changed), encoding="utf-8")
    expected = r"train\.json: none of its 2 annotations belongs to a picture: the 'image_id' img7 and so on .* \(7 and"
    with pytest.raises(ValueError, match=expected):
        load_dataset(coco_file)


@pytest.mark.parametrize(
    ("width", "expected"), [("80", (80, 60)), (80.0, (80, 60)), (None, None), ("wide", None), (0, None), (True, None)]
)
def test_a_size_may_be_written_as_text(coco_file: Path, width: object, expected: tuple[int, int] | None) -> None:
    changed = content()
    changed["images"][0].update(width=width)
    coco_file.write_text(json.dumps(changed), encoding="utf-8")
    assert open_split(coco_file, "train").read(0).stated_size == expected


def test_lines_are_those_of_the_annotations_wherever_the_lists_stand(coco_file: Path) -> None:
    whole = content()
    whole["images"][1]["id"] = 2
    for keys in (("images", "annotations", "categories"), ("categories", "annotations", "images")):
        text = "{\n" + ",\n".join(f'"{key}": {json.dumps(whole[key])}' for key in keys) + "\n}"
        coco_file.write_text(text, encoding="utf-8")
        assert open_split(coco_file, "train").read(0).lines.tolist() == [3, 3]


def test_groups_are_read(coco_file: Path) -> None:
    changed = content()
    changed["images"][0]["video_id"] = 4
    coco_file.write_text(json.dumps(changed, ensure_ascii=False), encoding="utf-8")
    assert [sample.group for sample in load_dataset(coco_file)] == ["4", None]
