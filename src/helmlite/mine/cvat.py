"""CVAT's own format, "CVAT for images 1.1": one XML for all pictures, boxes in pixels.

    annotations.xml   what "Upload annotations" takes as "CVAT 1.1"; pictures are found by their file names
    labels.json       the labels, for the "Raw" field when the task is made

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
from helmlite.mine.corners import Box, NamedBox, box_around, turned

if TYPE_CHECKING:
    from helmlite.mine.mined_set import MinedSet

XML_NAME, LABELS_NAME = "annotations.xml", "labels.json"
_SHAPES = ("box", "polygon")


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
    """File name of each picture -> its boxes; a polygon, or a box that was turned, as the upright box around it.

    Raises ValueError for what is no "CVAT for images 1.1", and for a box that is none.
    """
    root = _parsed(path)
    if root.tag != "annotations" or root.find("track") is not None:
        raise ValueError(f'{path}: expected an export as "CVAT for images 1.1"; got one of a video or of another tool.')
    found: dict[str, tuple[NamedBox, ...]] = {}
    for image in root.iter("image"):
        name = Path((image.get("name") or "").replace("\\", "/")).name
        if not name or name in found:
            raise ValueError(f"{path}: an <image> {'twice: ' + name if name else 'without a name'}.")
        found[name] = tuple(_box(shape, path, name) for shape in image if shape.tag in _SHAPES)
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
    try:
        if shape.tag == "polygon":
            pairs = [point.split(",") for point in (shape.get("points") or "").split(";")]
            numbers = [float(value) for pair in pairs for value in pair]
            box = box_around(numbers[0::2], numbers[1::2])
        else:
            numbers = [float(shape.get(key) or "") for key in ("xtl", "ytl", "xbr", "ybr")]
            box = turned(_four(numbers), float(shape.get("rotation") or 0))
    except ValueError as error:
        raise ValueError(f"{path}: {name}: a <{shape.tag}> whose corners are not all numbers.") from error
    if fault := number_fault(box):
        raise ValueError(f"{path}: {name}: a number of a <{shape.tag}> {fault}.")
    return NamedBox(shape.get("label") or "", box)


def _four(numbers: Sequence[float]) -> Box:
    left, top, right, bottom = numbers
    return left, top, right, bottom
