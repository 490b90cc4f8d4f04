from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helmlite.data.dataset import UnreadableImageError
from helmlite.data.load import load_dataset, splits_of
from helmlite.data.voc import read_voc_file, voc_strays

WritePicture = Callable[..., object]

Object = tuple[str, object, object, object, object]


def xml(objects: list[Object], declaration: str = "", file_name: str = "") -> str:
    boxes = "".join(
        f"\n<object><name>{name}</name>\n<bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for name, left, top, right, bottom in objects
    )
    return f"{declaration}<annotation><filename>{file_name}</filename>{boxes}\n</annotation>\n"


@pytest.fixture
def voc_set(tmp_path: Path, write_picture: WritePicture) -> Path:
    """Pictures a, b and c; a has two heads, b and c one each."""
    for name, objects in {
        "a": [("helmet", 1, 1, 10, 20), ("rider", 5, 5, 40, 50)],
        "b": [("no_helmet", 2.5, 3, 4, 5)],
        "c": [("helmet", 1, 1, 80, 60)],
    }.items():
        write_picture(tmp_path / "images" / f"{name}.jpg")
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"{name}.xml").write_text(xml(objects), encoding="utf-8")
    return tmp_path


def test_pixels_count_from_one_and_include_the_last(voc_set: Path) -> None:
    dataset = load_dataset(voc_set, "train")
    assert [item.name for item in dataset.classes] == ["helmet", "no_helmet", "rider"]
    # xmin 1, xmax 10 covers ten pixels: x from 0 to 10
    np.testing.assert_array_equal(dataset[0].boxes_xyxy, [[0, 0, 10, 20], [4, 4, 40, 50]])
    assert dataset[0].labels.tolist() == [0, 2]
    np.testing.assert_array_equal(dataset[2].boxes_xyxy, [[0, 0, 80, 60]])


def test_classes_txt_gives_the_order(voc_set: Path) -> None:
    (voc_set / "classes.txt").write_text("no_helmet\nplate\n", encoding="utf-8")
    assert [item.name for item in load_dataset(voc_set).classes] == ["no_helmet", "plate", "helmet", "rider"]


@pytest.mark.parametrize("place", ["", "ImageSets/Main"])
def test_lists_name_stems_paths_or_stems_with_a_number(voc_set: Path, place: str) -> None:
    (voc_set / place).mkdir(parents=True, exist_ok=True)
    (voc_set / place / "train.txt").write_text("c\n./images/a.jpg\n")
    (voc_set / place / "val.txt").write_text("b  1\n")
    assert splits_of(voc_set) == ("train", "val")
    assert [path.stem for path in load_dataset(voc_set, "train").image_paths] == ["c", "a"]
    assert [path.stem for path in load_dataset(voc_set, "val").image_paths] == ["b"]
    with pytest.raises(ValueError, match=r"no list of pictures for the split 'test' \(looked for test\.txt\)"):
        load_dataset(voc_set, "test")


def test_names_with_spaces_and_dots(voc_set: Path, write_picture: WritePicture) -> None:
    write_picture(voc_set / "images" / "my photo.v2 1.jpg")
    (voc_set / "annotations" / "my photo.v2 1.xml").write_text(xml([("helmet", 1, 1, 9, 9)]))
    (voc_set / "train.txt").write_text("my photo.v2 1\n")
    dataset = load_dataset(voc_set, "train")
    assert [path.name for path in dataset.image_paths] == ["my photo.v2 1.jpg"]
    assert len(dataset[0].labels) == 1


def test_a_listed_picture_without_xml_has_no_boxes(voc_set: Path, write_picture: WritePicture) -> None:
    write_picture(voc_set / "images" / "street.png")
    (voc_set / "train.txt").write_text("a\nstreet\n")
    dataset = load_dataset(voc_set, "train")
    assert dataset.image_paths[1].name == "street.png"
    assert dataset[1].boxes_xyxy.shape == (0, 4)


def test_xml_beside_the_pictures_and_one_folder_for_each_split(tmp_path: Path, write_picture: WritePicture) -> None:
    for folder, name in (("flat", "x"), ("split/train", "a"), ("split/valid", "a"), ("split/test", "b")):
        write_picture(tmp_path / folder / f"{name}.jpg")
        (tmp_path / folder / f"{name}.xml").write_text(xml([("head", 1, 1, 5, 5)]))
    assert load_dataset(tmp_path / "flat").image_paths == (tmp_path / "flat" / "x.jpg",)
    assert splits_of(tmp_path / "split") == ("train", "val", "test")
    for split, folder in (("train", "train"), ("val", "valid")):
        assert load_dataset(tmp_path / "split", split).image_paths == (tmp_path / "split" / folder / "a.jpg",)


@pytest.mark.parametrize(
    ("declared", "written"),
    [("utf-8", "utf-8"), ("gb2312", "gbk"), ("utf-8", "gbk"), ("GBK", "utf-8"), ("", "gbk"), ("utf-16", "utf-16")],
)
def test_encodings_declared_and_misdeclared(voc_set: Path, declared: str, written: str) -> None:
    declaration = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    text = xml([("未戴头盔", 1, 1, 5, 5)], declaration)
    (voc_set / "annotations" / "b.xml").write_bytes(text.encode(written))
    dataset = load_dataset(voc_set)
    names = {item.name: item.role for item in dataset.classes}
    assert names["未戴头盔"] == "no_helmet"
    assert dataset.classes[dataset[1].labels[0]].name == "未戴头盔"


def test_non_ascii_paths(tmp_path: Path, write_picture: WritePicture) -> None:
    folder = tmp_path / "头盔 数据"
    write_picture(folder / "JPEGImages" / "路口一.jpg", 40, 30)
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "路口一.xml").write_text(xml([("头盔", 1, 1, 5, 5)]), encoding="utf-8")
    sample = load_dataset(folder)[0]
    assert sample.read_image().shape == (30, 40, 3)


def test_a_broken_file_is_named_when_it_is_asked_for_and_not_before(voc_set: Path) -> None:
    broken = {
        "a": ("<annotation><object>", r"a\.xml:1: not well-formed XML"),
        "b": (xml([("helmet", 1, 1, 5, 5), ("helmet", "?", 1, 5, 5)]), r"b\.xml:4: a <bndbox> whose xmin"),
        "c": (xml([("", 1, 1, 5, 5)]), r"c\.xml:2: an <object> without <name> or <bndbox>"),
    }
    for name, (content, _) in broken.items():
        (voc_set / "annotations" / f"{name}.xml").write_text(content)
    dataset = load_dataset(voc_set)
    for index, (_, message) in enumerate(broken.values()):
        with pytest.raises(ValueError, match=message):
            dataset[index]
    (voc_set / "annotations" / "b.xml").write_text(xml([("helmet", "nan", 1, 5, 5)]))
    assert (
        read_voc_file(voc_set / "annotations" / "b.xml").problems[0].message == "a number of the <bndbox> is not finite"
    )
    (voc_set / "annotations" / "b.xml").write_text(xml([("helmet", 1, 1, "1e300", 5)]))
    (problem,) = read_voc_file(voc_set / "annotations" / "b.xml").problems
    assert problem.message == "a number of the <bndbox> is beyond 1000000, farther than any picture reaches"


def test_a_missing_picture_is_unreadable_when_read(voc_set: Path) -> None:
    (voc_set / "images" / "b.jpg").unlink()
    dataset = load_dataset(voc_set)
    assert len(dataset) == 3
    with pytest.raises(UnreadableImageError, match=r"images/b\.jpg"):
        dataset[1].read_image()


def test_the_stem_wins_over_a_stale_file_name(voc_set: Path) -> None:
    (voc_set / "annotations" / "a.xml").write_text(xml([("helmet", 1, 1, 5, 5)], file_name="C:\\old\\b.jpg"))
    (voc_set / "annotations" / "c.xml").rename(voc_set / "annotations" / "renamed.xml")
    (voc_set / "annotations" / "renamed.xml").write_text(xml([("helmet", 1, 1, 5, 5)], file_name="D:\\pics\\c.jpg"))
    assert [path.name for path in load_dataset(voc_set).image_paths] == ["a.jpg", "b.jpg", "c.jpg"]


def test_strays_are_xml_without_picture_and_picture_without_xml(voc_set: Path, write_picture: WritePicture) -> None:
    assert voc_strays(voc_set) == ()
    (voc_set / "images" / "a.jpg").unlink()
    write_picture(voc_set / "images" / "new.jpg")
    found = [(item.kind, item.file.name) for item in voc_strays(voc_set)]
    assert found == [("label-without-picture", "a.xml"), ("picture-without-labels", "new.jpg")]


def test_a_list_of_other_pictures_is_refused(voc_set: Path) -> None:
    (voc_set / "train.txt").write_text("nobody\n")
    with pytest.raises(ValueError, match="no picture of the split 'train' has an XML file"):
        load_dataset(voc_set)
    (voc_set / "train.txt").write_text("\n")
    with pytest.raises(ValueError, match="the split 'train' has no pictures"):
        load_dataset(voc_set)
