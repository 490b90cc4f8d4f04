"""CVAT's own format, "CVAT for images 1.1": one XML for all pictures, boxes in pixels.

    annotations.xml   what "Upload annotations" takes as "CVAT 1.1"; pictures are found by their file names
    labels.json       the labels, for the "Raw" field when the task is made

An export does not say which frames anybody opened: one whose boxes are as they were uploaded is either right or not
looked at yet.

Source: docs.cvat.ai, "XML annotation format", version 1.1, images.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.parsers import expat

from helmlite.data.labels import number_fault, read_text
from helmlite.files import write_whole
from helmlite.mine.corners import NamedBox, around_ellipse, box_around, turned

if TYPE_CHECKING:
    from helmlite.mine.mined_set import MinedSet

XML_NAME, LABELS_NAME = "annotations.xml", "labels.json"
_SHAPES = ("box", "polygon", "polyline", "ellipse")
_NO_SHAPES = ("points", "tag")  # which mark no area


def write_cvat(folder: Path, described: MinedSet) -> None:
    """Writes annotations.xml and labels.json."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    for key, value in (("name", "helmlite mine"), ("size", str(len(described.pictures))), ("mode", "annotation")):
        ElementTree.SubElement(task, key).text = value
    labels = ElementTree.SubElement(task, "labels")
    for item in described.classes:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = item.name
        ElementTree.SubElement(label, "type").text = "rectangle"
        ElementTree.SubElement(label, "attributes")
    for number, picture in enumerate(described.pictures):
        width, height = map(str, picture.size)
        about = {"id": str(number), "name": picture.picture, "width": width, "height": height}
        image = ElementTree.SubElement(root, "image", about)
        for suggestion in picture.labels:
            sides = zip(("xtl", "ytl", "xbr", "ybr"), suggestion.box_xyxy)
            place = {key: f"{value:.2f}" for key, value in sides}
            shape = {"label": suggestion.class_name, "source": "auto", "occluded": "0", **place, "z_order": "0"}
            ElementTree.SubElement(image, "box", shape)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    write_whole(folder / XML_NAME, f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')
    raw = [{"name": item.name, "type": "rectangle", "attributes": []} for item in described.classes]
    write_whole(folder / LABELS_NAME, json.dumps(raw, ensure_ascii=False, indent=1) + "\n")


def read_cvat(path: Path) -> dict[str, tuple[NamedBox, ...]]:
    """File name of each picture -> its boxes; a polygon, polyline, ellipse or turned box as the upright box around it.

    Points and tags are left out.  Raises ValueError for what is no "CVAT for images 1.1", for a box that is none, and
    for another shape (mask, cuboid, skeleton): it marks something that would be lost.
    """
    root = _parsed(path)
    if root.tag != "annotations" or root.find("track") is not None:
        raise ValueError(f'{path}: expected an export as "CVAT for images 1.1"; got one of a video or of another tool.')
    found: dict[str, tuple[NamedBox, ...]] = {}
    for image in root.iter("image"):
        name = Path((image.get("name") or "").replace("\\", "/")).name
        if not name or name in found:
            raise ValueError(f"{path}: an <image> {'twice: ' + name if name else 'without a name'}.")
        found[name] = tuple(_box(shape, path, name) for shape in image if shape.tag not in _NO_SHAPES)
    return found


def _parsed(path: Path) -> ElementTree.Element:
    """The XML tree; declarations of entities, which can grow without end, are refused."""
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise ValueError(f"{path}: declares entities, which no export of CVAT does.")

    parser.StartElementHandler = lambda tag, values: builder.start(tag, values)
    parser.EndElementHandler = lambda tag: builder.end(tag)
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(read_text(path), True)  # text, not bytes: the declared encoding no longer counts
    except expat.ExpatError as error:
        raise ValueError(f"{path}: not readable as XML ({error}).") from error
    return builder.close()


def _box(shape: ElementTree.Element, path: Path, name: str) -> NamedBox:
    if shape.tag not in _SHAPES:
        raise ValueError(f"{path}: {name}: a <{shape.tag}> is no box; draw a rectangle in its place and export again.")
    try:
        if shape.tag in ("polygon", "polyline"):
            pairs = [point.split(",") for point in (shape.get("points") or "").split(";")]
            across, down = zip(*((float(x), float(y)) for x, y in pairs))
            box = box_around(across, down)
        elif shape.tag == "ellipse":
            x, y, *radii = _numbers(shape, ("cx", "cy", "rx", "ry"))
            box = around_ellipse((x, y), (radii[0], radii[1]), float(shape.get("rotation") or 0))
        else:
            left, top, right, bottom = _numbers(shape, ("xtl", "ytl", "xbr", "ybr"))
            box = turned((left, top, right, bottom), float(shape.get("rotation") or 0))
    except ValueError as error:
        raise ValueError(f"{path}: {name}: a <{shape.tag}> whose corners are not all numbers.") from error
    if fault := number_fault(box):
        raise ValueError(f"{path}: {name}: a number of a <{shape.tag}> {fault}.")
    return NamedBox(shape.get("label") or "", box)


def _numbers(shape: ElementTree.Element, keys: Sequence[str]) -> list[float]:
    return [float(shape.get(key) or "") for key in keys]
