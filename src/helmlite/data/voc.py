"""Pascal VOC data sets: a folder of XML files, one for each picture, with optional lists of stems for each split.

VOC counts pixels from 1 and includes the last one: `xmin 1, xmax 10` covers ten pixels and becomes x 0 to 10.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helmlite.data.dataset import Dataset, Sample
from helmlite.data.roles import with_roles

_FOLDERS = ("annotations", "Annotations", "")
_IMAGE_FOLDERS = ("images", "JPEGImages", "")
_LIST_FOLDERS = ("", "ImageSets/Main", "ImageSets")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp")


@dataclass(frozen=True)
class VocObject:
    """One labelled object of an XML file; box in pixels counted from 0, right and bottom excluded."""

    name: str
    box_xyxy: tuple[float, float, float, float]


def is_voc(folder: Path) -> bool:
    """Whether the folder holds XML files of labels."""
    return folder.is_dir() and any(next((folder / name).glob("*.xml"), None) for name in _FOLDERS)


def voc_splits(folder: Path) -> tuple[str, ...]:
    """Splits that have a list; `train` alone where there is none."""
    found = tuple(split for split in ("train", "val", "test") if _list_of(folder, split))
    return found or ("train",)


def load_voc(folder: Path, split: str, roles: Mapping[str, str] | None = None) -> Dataset:
    """One split of a Pascal VOC data set.  Classes are numbered in alphabetical order of their names.

    Raises ValueError for an unknown split, an unreadable XML file, or a picture that is missing.
    """
    xml_folder = _xml_folder(folder)
    xml_paths = sorted(xml_folder.glob("*.xml"))
    listed = _list_of(folder, split)
    if listed:
        stems = {_stem(line) for line in listed.read_text(encoding="utf-8-sig").splitlines() if line.strip()}
        chosen = [path for path in xml_paths if path.stem in stems]
    elif split == "train":
        chosen = xml_paths
    else:
        raise ValueError(f"{folder}: no list of pictures for the split '{split}' (looked for {split}.txt).")
    if not chosen:
        raise ValueError(f"{folder}: the split '{split}' has no pictures.")
    names = tuple(sorted({item.name for path in xml_paths for item in read_voc_objects(path)}))
    number = {name: index for index, name in enumerate(names)}
    images = tuple(_image_of(folder, path) for path in chosen)

    def load(index: int) -> Sample:
        objects = read_voc_objects(chosen[index])
        boxes = np.array([item.box_xyxy for item in objects], np.float32).reshape(-1, 4)
        return Sample(images[index], boxes, np.array([number[item.name] for item in objects], np.int64))

    return Dataset(with_roles(names, roles), images, load, split, folder)


def read_voc_objects(path: Path) -> list[VocObject]:
    """The labelled objects of one XML file in UTF-8 or GBK, declared or not.  Raises ValueError naming the file."""
    root = _parsed(path)
    objects = []
    for item in root.iter("object"):
        name, box = (item.findtext("name") or "").strip(), item.find("bndbox")
        if not name or box is None:
            raise ValueError(f"{path}: an <object> without <name> or <bndbox>.")
        try:
            left, top, right, bottom = (float(box.findtext(key) or "") for key in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError as error:
            raise ValueError(f"{path}: a <bndbox> whose xmin, ymin, xmax, ymax are not all numbers.") from error
        objects.append(VocObject(name, (left - 1, top - 1, right, bottom)))
    return objects


def _parsed(path: Path) -> ElementTree.Element:
    content = path.read_bytes()
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        without_declaration = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)  # its encoding may be wrong
        try:
            return ElementTree.fromstring(without_declaration)
        except ElementTree.ParseError as error:
            raise ValueError(f"{path}: not well-formed XML ({error}).") from error
    raise ValueError(f"{path}: neither UTF-8 nor GBK text.")


def _xml_folder(folder: Path) -> Path:
    return next(folder / name for name in _FOLDERS if next((folder / name).glob("*.xml"), None))


def _list_of(folder: Path, split: str) -> Path | None:
    candidates = (folder / name / f"{split}.txt" for name in _LIST_FOLDERS)
    return next((path for path in candidates if path.is_file()), None)


def _stem(line: str) -> str:
    """A list's line is a stem, a stem and a number, or a path."""
    return Path(line.split()[0]).stem if Path(line.split()[0]).suffix in _SUFFIXES else Path(line.split()[0]).name


def _image_of(folder: Path, xml_path: Path) -> Path:
    stated = (_parsed(xml_path).findtext("filename") or "").strip()
    names = [stated] if stated else []
    names += [xml_path.stem + suffix for suffix in _SUFFIXES]
    for name in names:
        for place in _IMAGE_FOLDERS:
            if (folder / place / name).is_file():
                return folder / place / name
    raise ValueError(
        f"{xml_path}: its picture '{names[0]}' is not in {folder}/images, {folder}/JPEGImages or beside it."
    )
