"""What comes back from a person, in every format: exports as the tools write them, and what is wrong in them."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helmlite.data.roles import with_roles
from helmlite.evaluate.plain import to_plain
from helmlite.mine.corrected import Corrected, read_corrected
from helmlite.mine.mined_set import Detector, MinedPicture, MinedSet

CLASSES = with_roles(["helmet", "no_helmet"])
# as CVAT exports "CVAT for images 1.1"; picture c.jpg was not in the task
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><job><id>7</id><size>2</size><mode>annotation</mode></job><dumped>2026-11-28 10:00:00</dumped></meta>
  <image id="0" name="images/train/a.jpg" width="100" height="50">
    <box label="no_helmet" source="manual" occluded="0" xtl="10.00" ytl="5.00" xbr="30.00" ybr="25.00" z_order="0">
      <attribute name="note">cap</attribute>
    </box>
    <polygon label="helmet" source="manual" occluded="0" points="50.0,10.0;60.0,12.0;55.0,20.0" z_order="0"></polygon>
    <points label="helmet" source="manual" occluded="0" points="1.0,1.0" z_order="0"></points>
  </image>
  <image id="1" name="b.jpg" width="100" height="50"></image>
</annotations>
"""


def picture(name: str) -> MinedPicture:
    return MinedPicture(name, (100, 50), name, 0, None, None, "low confidence", 0.5, {"low confidence": 0.5}, (), ())


@pytest.fixture
def mined() -> MinedSet:
    detectors = (Detector("a", {"helmet": 0.5, "no_helmet": 0.5}),)
    pictures = tuple(picture(name) for name in ("a.jpg", "b.jpg", "c.jpg"))
    return MinedSet(1, "street", "yolo", CLASSES, detectors, pictures, 3, 3, 0, 0)


def boxes(corrected: Corrected, name: str) -> list[tuple[str, tuple[float, ...]]]:
    return [(item.class_name, tuple(round(value, 3) for value in item.box_xyxy)) for item in corrected.boxes[name]]


def yolo(folder: Path, names: str, **labels: str) -> Path:
    """A YOLO folder without pictures, as CVAT exports it."""
    (folder / "labels/train").mkdir(parents=True)
    (folder / "data.yaml").write_text(f"path: .\ntrain: train.txt\nnames: {names}\n")
    (folder / "train.txt").write_text("".join(f"images/train/{stem}.jpg\n" for stem in labels))
    for stem, text in labels.items():
        if text:
            (folder / f"labels/train/{stem}.txt").write_text(text + "\n")
    return folder


def task(image: str, *annotations: Any, **data: str) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image, **data}, "annotations": list(annotations), "predictions": []}


def annotation(*results: Any, **about: Any) -> dict[str, Any]:
    return {"id": 5, "was_cancelled": False, "updated_at": "2026-11-28T10:00:00Z", "result": list(results), **about}


def rectangle(label: str, x: float, y: float, width: float, height: float, **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label], **more}
    about = {"from_name": "label", "to_name": "image", "original_width": 100, "original_height": 50}
    return {**about, "type": "rectanglelabels", "value": value}


BARE = rectangle("no_helmet", 10, 10, 20, 40)


def test_cvat_xml(mined: MinedSet, tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text(CVAT)
    for place in (tmp_path / "annotations.xml", tmp_path):
        corrected = read_corrected(place, mined)
        assert boxes(corrected, "a.jpg") == [("no_helmet", (10, 5, 30, 25)), ("helmet", (50, 10, 60, 20))]
        assert boxes(corrected, "b.jpg") == []
        assert (corrected.not_seen, corrected.unknown) == (("c.jpg",), ())


def test_a_turned_box_of_cvat(mined: MinedSet, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(CVAT.replace('z_order="0">\n      <att', 'rotation="90" z_order="0">\n      <att'))
    assert boxes(read_corrected(tmp_path / "a.xml", mined), "a.jpg")[0] == ("no_helmet", (10, 5, 30, 25))  # a square
    (tmp_path / "a.xml").write_text(CVAT.replace('xbr="30.00"', 'xbr="40.00" rotation="90"'))
    assert boxes(read_corrected(tmp_path / "a.xml", mined), "a.jpg")[0] == ("no_helmet", (15, 0, 35, 30))


def test_yolo_with_classes_in_another_order(mined: MinedSet, tmp_path: Path) -> None:
    folder = yolo(tmp_path / "y", "[no_helmet, helmet]", a="0 0.2 0.3 0.2 0.4", b="", x="0 0.5 0.5 0.1 0.1")
    for place in (folder, folder / "data.yaml"):
        corrected = read_corrected(place, mined)
        assert boxes(corrected, "a.jpg") == [("no_helmet", (10, 5, 30, 25))]
        assert boxes(corrected, "b.jpg") == []  # listed, without a label file: looked at, nothing there
        assert (corrected.not_seen, corrected.unknown) == (("c.jpg",), ("x",))


ROW = "0 0.2 0.3 0.2 0.4\n"  # (10, 5, 30, 25) of 100 x 50
SWAPPED = "no_helmet\nhelmet\n"


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for item in folder.rglob("*"):
            archive.write(item, str(item.relative_to(folder)))
    return path


@pytest.mark.parametrize(
    "files",
    [
        {"classes.txt": SWAPPED, "labels/a.txt": ROW, "images/a.jpg": "", "notes.json": '{"categories": []}'},
        {"obj.names": SWAPPED, "obj.data": "classes = 2\n", "obj_train_data/a.txt": ROW, "train.txt": "data/a.jpg\n"},
        {"export/data.yaml": "names: [no_helmet, helmet]\n", "export/labels/train/a.txt": ROW},
        {"data.yml": "names: [no_helmet, helmet]\n", "classes.txt": SWAPPED, "a.txt": ROW},
        {"deep/down/dataset.yaml": "names: {0: no_helmet, 1: helmet}\n", "a.txt": ROW, "._classes.txt": "helmet\n"},
    ],
    ids=["label-studio", "yolo-1.1", "one-down", "two-that-agree", "two-down"],
)
@pytest.mark.parametrize("is_zip", [False, True])
def test_classes_are_those_that_the_export_names(
    mined: MinedSet, tmp_path: Path, files: dict[str, str], is_zip: bool
) -> None:
    for name, text in files.items():
        (tmp_path / "e" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "e" / name).write_text(text)
    corrected = read_corrected(zipped(tmp_path / "e") if is_zip else tmp_path / "e", mined)
    assert boxes(corrected, "a.jpg") == [("no_helmet", (10, 5, 30, 25))]
    assert corrected.unknown == ()


def test_classes_that_nothing_names_are_not_guessed(mined: MinedSet, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    folder.mkdir()
    (folder / "a.txt").write_text(ROW)
    for place in (folder, zipped(folder)):
        with pytest.raises(ValueError, match=rf"{place.name}: says nowhere which class each number means; add"):
            read_corrected(place, mined)
    (folder / "a.txt").rename(folder / "a.jpg")  # pictures alone: nobody said that they show nothing
    with pytest.raises(ValueError, match="says nowhere which class each number means"):
        read_corrected(folder, mined)
    (folder / "a.jpg").rename(folder / "a.txt")
    (folder / "mined.json").write_text(json.dumps(to_plain(mined)))  # the mined set itself, in its own numbers
    assert boxes(read_corrected(folder, mined), "a.jpg") == [("helmet", (10, 5, 30, 25))]
    (folder / "data.yaml").write_text("names: [helmet, no_helmet]\n")
    (folder / "classes.txt").write_text(SWAPPED)  # as labelImg leaves one
    for place in (folder, folder / "data.yaml"):
        with pytest.raises(ValueError, match=r"data.yaml: names the classes helmet, no_helmet, and .*classes.txt"):
            read_corrected(place, mined)
    (folder / "data.yaml").unlink()
    for text in ("", "\n", "helmet\n\nno_helmet\n", "helmet\nhelmet\n"):
        (folder / "classes.txt").write_text(text)
        with pytest.raises(ValueError, match=r"classes.txt: expected a class name in each line, none of them twice"):
            read_corrected(folder, mined)


def test_pictures_that_are_called_like_lists_keep_their_labels(mined: MinedSet, tmp_path: Path) -> None:
    stems = ("train", "val", "test", "valid", "classes")
    called = replace(mined, pictures=tuple(picture(f"{stem}.jpg") for stem in stems))
    folder = yolo(tmp_path / "y", "[helmet, no_helmet]", **dict.fromkeys(stems, "1 0.2 0.3 0.2 0.4"))
    (folder / "classes.txt").write_text("helmet\nno_helmet\n")
    (folder / "labels/train/valid.txt").write_text("")
    for place in (folder, zipped(folder)):
        corrected = read_corrected(place, called)
        assert {name: len(own) for name, own in corrected.boxes.items()} == {
            "train.jpg": 1,
            "val.jpg": 1,
            "test.jpg": 1,
            "valid.jpg": 0,
            "classes.jpg": 1,
        }
        assert (corrected.not_seen, corrected.unknown) == ((), ())


def test_label_studio(mined: MinedSet, tmp_path: Path) -> None:
    older = annotation(rectangle("helmet", 1, 1, 2, 2), updated_at="2026-11-27T10:00:00Z")
    cancelled = annotation(updated_at="2026-11-29T10:00:00Z", was_cancelled=True)
    newest = annotation(
        rectangle("no_helmet", 10, 10, 20, 40),
        {"type": "choices", "value": {"choices": ["dark"]}},
    )
    tasks = [
        task("/data/local-files/?d=set/images/train/a.jpg", older, newest, cancelled),
        task("/data/upload/3/0123abcd-b.jpg", annotation()),
        task("/data/local-files/?d=set/images/train/c.jpg"),
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    corrected = read_corrected(tmp_path / "export.json", mined)
    assert boxes(corrected, "a.jpg") == [("no_helmet", (10, 5, 30, 25))]
    assert boxes(corrected, "b.jpg") == []
    assert corrected.not_seen == ("c.jpg",)


def test_label_studio_knows_a_picture_by_the_name_that_we_wrote(mined: MinedSet, tmp_path: Path) -> None:
    turned = rectangle("helmet", 50, 10, 20, 20, rotation=90)  # 20 x 10 pixels at (50, 5), about that corner
    (tmp_path / "e.json").write_text(json.dumps([task("s3://x/1.jpg", annotation(turned), picture="b.jpg")]))
    assert boxes(read_corrected(tmp_path / "e.json", mined), "b.jpg") == [("helmet", (40, 5, 50, 25))]


def ellipse(label: str, rotation: float) -> dict[str, Any]:
    value = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": rotation, "ellipselabels": [label]}
    return {"type": "ellipselabels", "value": value}


def test_other_shapes_of_label_studio(mined: MinedSet, tmp_path: Path) -> None:
    polygon = {
        "type": "polygonlabels",
        "value": {"points": [[10, 10], [30, 20], [20, 50]], "polygonlabels": ["helmet"]},
    }
    point = {"type": "keypointlabels", "value": {"x": 1, "y": 1, "width": 1, "keypointlabels": ["helmet"]}}
    shapes = [polygon, ellipse("no_helmet", 0), ellipse("no_helmet", 90), point]  # 20 x 5 pixels about (50, 25)
    (tmp_path / "e.json").write_text(json.dumps([task("a.jpg", annotation(*shapes))]))
    assert boxes(read_corrected(tmp_path / "e.json", mined), "a.jpg") == [
        ("helmet", (10, 5, 30, 25)),
        ("no_helmet", (30, 20, 70, 30)),
        ("no_helmet", (45, 5, 55, 45)),
    ]


def test_other_shapes_of_cvat(mined: MinedSet, tmp_path: Path) -> None:
    shapes = (
        '<polyline label="helmet" points="1,2;3,8"/><ellipse label="helmet" cx="50" cy="25" rx="20" ry="10"/>'
        '<ellipse label="helmet" cx="50" cy="25" rx="20" ry="10" rotation="90"/><tag label="dark"/>'
        '<box label="helmet" xtl="40" ytl="9" xbr="10" ybr="5"/>'
        '<box label="helmet" xtl="-5" ytl="40" xbr="120" ybr="60"/>'
    )
    text = f'<annotations><image name="a.jpg" width="100" height="50">{shapes}</image></annotations>'
    (tmp_path / "a.xml").write_text(text)
    assert [box for _, box in boxes(read_corrected(tmp_path / "a.xml", mined), "a.jpg")] == [
        (1, 2, 3, 8),
        (30, 15, 70, 35),
        (40, 5, 60, 45),
        (10, 5, 40, 9),  # drawn from the right
        (0, 40, 100, 50),  # beyond the edges
    ]


@pytest.mark.parametrize("inside", ["xml", "yolo", "json"])
def test_a_zip_of_any_of_them(mined: MinedSet, tmp_path: Path, inside: str) -> None:
    if inside == "xml":
        (tmp_path / "annotations.xml").write_text(CVAT)
        files = {"annotations.xml": tmp_path / "annotations.xml"}
    elif inside == "yolo":
        folder = yolo(tmp_path / "y", "[helmet, no_helmet]", a="1 0.2 0.3 0.2 0.4\n0 0.55 0.3 0.1 0.2", b="")
        files = {str(item.relative_to(folder)): item for item in folder.rglob("*") if item.is_file()}
    else:
        (tmp_path / "e.json").write_text(
            json.dumps(
                [
                    task(
                        "a.jpg", annotation(rectangle("no_helmet", 10, 10, 20, 40), rectangle("helmet", 50, 20, 10, 20))
                    ),
                    task("b.jpg", annotation()),
                ]
            )
        )
        files = {"project-1.json": tmp_path / "e.json"}
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for name, file in files.items():
            archive.write(file, name)
        archive.writestr("images/b.jpg", b"")
    corrected = read_corrected(tmp_path / "export.zip", mined)
    assert boxes(corrected, "a.jpg") == [("no_helmet", (10, 5, 30, 25)), ("helmet", (50, 10, 60, 20))]
    assert boxes(corrected, "b.jpg") == []


def test_a_picture_in_a_zip_without_labels_was_looked_at(mined: MinedSet, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("data.yaml", "train: images/train\nnames: [helmet, no_helmet]\n")
        archive.writestr("images/train/c.jpg", b"not read")
    assert read_corrected(tmp_path / "export.zip", mined).boxes == {"c.jpg": ()}


VIDEO = '<annotations><version>1.1</version><track id="0" label="helmet"></track></annotations>'
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xml", "<annotations", "a.xml: not readable as XML"),
        ("a.xml", VIDEO, 'expected an export as "CVAT for images 1.1"'),
        ("a.xml", "<annotation><object/></annotation>", 'expected an export as "CVAT for images 1.1"'),
        ("a.xml", BOMB, "declares entities"),
        ("a.xml", CVAT.replace("b.jpg", "a.jpg"), "an <image> twice: a.jpg"),
        ("a.xml", CVAT.replace('xtl="10.00"', 'xtl="left"'), "a.jpg: a <box> whose corners are not all numbers"),
        ("a.xml", CVAT.replace('xtl="10.00" ', ""), "a.jpg: a <box> whose corners are not all numbers"),
        ("a.xml", CVAT.replace('xtl="10.00"', 'xtl="inf"'), "a number of a <box> is not finite"),
        ("a.xml", CVAT.replace("polygon", "mask"), "a.jpg: a <mask> is no box; draw a rectangle in its place"),
        ("a.xml", CVAT.replace("50.0,10.0;", "50.0,10.0,1;"), "a <polygon> whose corners are not all numbers"),
        (
            "a.xml",
            CVAT.replace("50.0,10.0;60.0,12.0;55.0,20.0", "50,10"),
            "a.jpg: a box of 'helmet' has no area in",
        ),
        ("a.xml", CVAT.replace('ytl="5.00"', 'ytl="25.00"'), "a.jpg: a box of 'no_helmet' has no area in the picture"),
        (
            "a.xml",
            CVAT.replace('xtl="10.00"', 'xtl="110"').replace('xbr="30.00"', 'xbr="120"'),
            "(110.0, 5.0, 120.0, 25.0 in pixels); remove or correct it",
        ),
        (
            "a.xml",
            CVAT.replace(".jpg", ".png"),
            "holds labels of none of the 3 mined pictures; it has 2 others, such as",
        ),
        ("a.json", "[{", "damaged"),
        ("a.json", "{}", "does not hold a list"),
        ("a.json", '[{"image": "a.jpg", "label": []}]', 'expected an export of Label Studio as "JSON"'),
        ("a.json", "[]", "holds labels of none of the 3 mined pictures"),
        (
            "a.json",
            json.dumps([task("a.jpg", annotation({"type": "rectanglelabels", "value": {"x": 1}}))]),
            "a.jpg: a shape (rectanglelabels) without x, y, width, height and one label",
        ),
        (
            "a.json",
            json.dumps([task("a.jpg", annotation(rectangle("helmet", 1e9, 1, 1, 1)))]),
            "a number of a shape (rectanglelabels) is beyond",
        ),
        (
            "a.json",
            json.dumps([task("a.jpg", annotation(rectangle("helmet", 10**400, 1, 1, 1)))]),
            "a.jpg: a shape (rectanglelabels) without x, y",
        ),
        (
            "a.json",
            json.dumps([task("a.jpg", annotation({"type": "brushlabels", "value": {"rle": [1]}}))]),
            "a.jpg: what was drawn as 'brushlabels' is no box; draw a rectangle in its place, with config.xml as",
        ),
        (
            "a.json",
            json.dumps([task("a.jpg", annotation(BARE)), task("b.jpg"), task("x/a.jpg", annotation())]),
            "a.jpg: annotated in two tasks; delete one of them",
        ),
        ("a.json", json.dumps([{**task("a.jpg"), "annotations": 5}]), "a.jpg: 'annotations' is not a list of objects"),
        ("a.json", json.dumps([task("a.jpg", 5)]), "a.jpg: 'annotations' is not a list of objects"),
        ("a.json", json.dumps([task("a.jpg", {"result": 5})]), "a.jpg: 'result' is not a list of objects"),
        ("a.json", json.dumps([task("a.jpg", annotation({**BARE, "type": [1]}))]), "what was drawn as '[1]' is no box"),
        ("a.json", json.dumps([{**task("x.jpg"), "data": {"picture": [1]}}]), "holds labels of none of the 3 mined"),
        ("a.zip", "no zip", "a.zip: not readable as a zip"),
        ("a.pdf", "", "corrected labels are a YOLO folder, CVAT's .xml"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(
    mined: MinedSet, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_corrected(tmp_path / name, mined)


def test_a_second_task_that_nobody_annotated_does_not_matter(mined: MinedSet, tmp_path: Path) -> None:
    tasks = [task("a.jpg"), task("a.jpg", annotation(BARE)), task("a.jpg"), task("x.jpg", annotation())]
    (tmp_path / "e.json").write_text(json.dumps([*tasks, task("x.jpg", annotation())]))
    assert boxes(read_corrected(tmp_path / "e.json", mined), "a.jpg") == [("no_helmet", (10, 5, 30, 25))]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_that_was_damaged_on_its_way(mined: MinedSet, tmp_path: Path, method: int) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("annotations.xml", CVAT * 20)
    whole = path.read_bytes()
    start = whole.index(b"annotations.xml") + len("annotations.xml")
    path.write_bytes(whole[: start + 12] + b"\xff" * 40 + whole[start + 52 :])
    with pytest.raises(ValueError, match=r"export.zip: not readable as a zip"):
        read_corrected(path, mined)


def test_wrong_yolo_labels(mined: MinedSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        read_corrected(tmp_path / "nowhere", mined)
    folder = yolo(tmp_path / "y", "[helmet]", a="3 0.5 0.5 0.1 0.1")
    with pytest.raises(ValueError, match=r"a.txt:1: class 3, but data.yaml names 1 classes"):
        read_corrected(folder, mined)
    (folder / "more").mkdir()
    (folder / "more/a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ValueError, match=r"labels of 'a' stand in .* too; keep one of them"):
        read_corrected(folder, mined)
