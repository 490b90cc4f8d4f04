"""Pascal VOC data sets: one XML file for each picture, with optional lists of stems (train.txt ...) for each split.

VOC counts pixels from 1 and includes the last one: `xmin 1, xmax 10` covers ten pixels and becomes x 0 to 10 here,
where boxes are counted from 0 and end after their last pixel.  Objects marked `difficult` are ordinary boxes.

Understood layouts: `annotations/` or `Annotations/` beside `images/` or `JPEGImages/`; XML beside the pictures; lists
in the set's folder, `ImageSets/` or `ImageSets/Main/`; or one folder for each split (`train/`, `valid/`, `test/`).
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import escape

from helmlite.data.dataset import Dataset, Sample
from helmlite.data.labels import (
    SPLITS,
    Labels,
    Problem,
    SplitFiles,
    dataset_from_files,
    groups_of,
    is_picture,
    labels_of_rows,
    number_fault,
    read_text,
)

_XML_FOLDERS = ("annotations", "Annotations")
_IMAGE_FOLDERS = ("images", "JPEGImages")
_LIST_FOLDERS = ("ImageSets/Main", "ImageSets", "", *_XML_FOLDERS)
_SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class VocObject:
    """One labelled object of an XML file; box in pixels counted from 0, right and bottom excluded."""

    name: str
    box_xyxy: tuple[float, float, float, float]
    line: int = 0


@dataclass(frozen=True)
class VocFile:
    """One XML file: what it says about its picture, its objects, and what in it is not one."""

    path: Path
    objects: tuple[VocObject, ...]
    problems: tuple[Problem, ...] = ()
    file_name: str = ""
    size: tuple[int, int] | None = None


def is_voc(folder: Path) -> bool:
    """Whether the folder holds XML files of labels."""
    return folder.is_dir() and next(iter(_Layout(folder).xml_paths), None) is not None


def voc_splits(folder: Path) -> tuple[str, ...]:
    """Splits that have a list or a folder; `train` alone where there is none."""
    layout = _Layout(folder)
    found = tuple(split for split in SPLITS if layout.list_of(split) or layout.xml_in_split_folder(split))
    return found or ("train",)


def load_voc(folder: Path, split: str, roles: Mapping[str, str] | None = None) -> Dataset:
    """One split of a Pascal VOC data set.  Raises ValueError for a split that is unknown, empty or without any XML.

    Classes are numbered as in `classes.txt` where the folder has one, then in alphabetical order.
    """
    return dataset_from_files(open_voc(folder, split), roles)


def open_voc(folder: Path, split: str) -> SplitFiles:
    """The pictures of one split and a way to their labels.  A listed picture without XML has no boxes."""
    layout = _Layout(folder)
    pairs = layout.pairs_of(split)
    if not any(xml for _, xml in pairs):
        raise ValueError(f"{folder}: no picture of the split '{split}' has an XML file.")
    files = {path: read_voc_file(path) for path in layout.xml_paths}
    names = _names(folder, files)
    number = {name: index for index, name in enumerate(names)}
    image_paths = tuple(image or layout.image_of(files[xml]) for image, xml in pairs if image or xml)  # type: ignore[index]

    def read(index: int) -> Labels:
        xml = pairs[index][1]
        if xml is None:
            return labels_of_rows([], None)
        found = files[xml]
        rows = [(item.box_xyxy, number[item.name], item.line) for item in found.objects]
        return labels_of_rows(rows, xml, found.problems, stated_size=found.size)

    return SplitFiles(folder, split, names, image_paths, read, groups_of(folder, image_paths))


def read_voc_file(path: Path) -> VocFile:
    """The labelled objects of one XML file in UTF-8 or GBK, whatever it declares."""
    try:
        root = _parsed(read_text(path))
    except expat.ExpatError as error:
        return VocFile(path, (), (Problem("not-a-box", path, error.lineno, f"not well-formed XML ({error})"),))
    except ValueError as error:
        return VocFile(path, (), (Problem("not-a-box", path, None, str(error)),))
    objects: list[VocObject] = []
    problems: list[Problem] = []
    for item in root.iter("object"):
        found = _object(item)
        if isinstance(found, VocObject):
            objects.append(found)
        else:
            problems.append(Problem("not-a-box", path, int(item.attrib[_LINE]), found))
    file_name = (root.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
    return VocFile(path, tuple(objects), tuple(problems), file_name, _stated_size(root))


def voc_strays(folder: Path) -> tuple[Problem, ...]:
    """XML files whose picture does not exist, and pictures in the image folders that have no XML."""
    layout = _Layout(folder)
    strays, used = [], set()
    for path in layout.xml_paths:
        image = layout.image_of(read_voc_file(path))
        used.add(image.stem)
        if not image.is_file():
            strays.append(Problem("label-without-picture", path, None, f"no picture '{image.name}' for it"))
    for image in layout.pictures:
        if image.stem not in used:
            strays.append(Problem("picture-without-labels", image, None, "no XML file for it; it is not in use"))
    return tuple(strays)


def write_voc_file(path: Path, sample: Sample, size: tuple[int, int], names: Sequence[str], image_name: str) -> None:
    """The XML file of one picture: whole pixels counted from 1, as VOC has them, at most half a pixel away.

    A box thinner than a pixel gets one pixel.
    """
    lines = [
        "<annotation>",
        f"  <filename>{escape(image_name)}</filename>",
        f"  <size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>",
        "  <segmented>0</segmented>",
    ]
    for label, box in zip(sample.labels.tolist(), sample.boxes_xyxy.tolist()):
        left, top = (math.floor(value + 0.5) for value in box[:2])
        right, bottom = (max(math.floor(value + 0.5), low + 1) for value, low in zip(box[2:], (left, top)))
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (left + 1, top + 1, right, bottom))
        lines += [
            "  <object>",
            f"    <name>{escape(names[label])}</name>",
            "    <difficult>0</difficult>",
            "    <bndbox>" + "".join(f"<{key}>{value}</{key}>" for key, value in corners) + "</bndbox>",
            "  </object>",
        ]
    path.write_text("\n".join([*lines, "</annotation>", ""]), encoding="utf-8")


class _Layout:
    """Where a folder keeps its XML files, pictures and lists."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.parent if folder.name in _XML_FOLDERS else folder

    @cached_property
    def xml_paths(self) -> list[Path]:
        """Every XML file of the set."""
        for name in _XML_FOLDERS:
            if found := sorted((self.folder / name).rglob("*.xml")):
                return found
        beside = sorted(self.folder.glob("*.xml"))
        return beside or [path for split in SPLITS for path in self.xml_in_split_folder(split)]

    @cached_property
    def pictures(self) -> list[Path]:
        """Every picture that may belong to it."""
        places = [self.folder / name for name in _IMAGE_FOLDERS if (self.folder / name).is_dir()]
        places = places or sorted({self.folder, *(path.parent for path in self.xml_paths)})
        deep = [path for place in places for path in (place.iterdir() if place == self.folder else place.rglob("*"))]
        return sorted({path for path in deep if is_picture(path)})

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self.pictures:
            found.setdefault(path.stem, []).append(path)
        return found

    def list_of(self, split: str) -> Path | None:
        """The list of a split's pictures."""
        candidates = (self.folder / name / f"{split}.txt" for name in _LIST_FOLDERS)
        return next((path for path in candidates if path.is_file()), None)

    def xml_in_split_folder(self, split: str) -> list[Path]:
        """XML files in a folder that has the split's name."""
        places = [self.folder / top / name for name in _SPLIT_FOLDERS[split] for top in ("", *_XML_FOLDERS)]
        return sorted({path for place in places for path in place.rglob("*.xml")})

    def pairs_of(self, split: str) -> list[tuple[Path | None, Path | None]]:
        """(picture, XML) of each sample; the picture is None where it is found through the XML, the XML where a
        listed picture has none.
        """
        listed = self.list_of(split)
        if listed:
            stems = [line.strip() for line in read_text(listed).splitlines() if line.strip()]
            pairs = [self._listed(line) for line in stems]
        elif in_folder := self.xml_in_split_folder(split) if split in SPLITS else []:
            pairs = [(None, path) for path in in_folder]
        elif split == "train":
            pairs = [(None, path) for path in self.xml_paths]
        else:
            raise ValueError(f"{self.folder}: no list of pictures for the split '{split}' (looked for {split}.txt).")
        if not pairs:
            raise ValueError(f"{self.folder}: the split '{split}' has no pictures.")
        return pairs

    def image_of(self, found: VocFile) -> Path:
        """The picture with the XML's stem, else the one that it names; the expected place where there is none."""
        for name in (found.path.stem, Path(found.file_name).stem):
            images = self._by_stem.get(name, [])
            same_folder = [path for path in images if path.parent.name == found.path.parent.name]
            if images:
                return (same_folder or images)[0]
        place = next(
            (self.folder / name for name in _IMAGE_FOLDERS if (self.folder / name).is_dir()), found.path.parent
        )
        return place / (found.file_name or f"{found.path.stem}.jpg")

    @cached_property
    def _xml_by_stem(self) -> dict[str, Path]:
        return {path.stem: path for path in reversed(self.xml_paths)}

    def _listed(self, line: str) -> tuple[Path | None, Path | None]:
        """A line is a stem, a stem and a number (per-class lists have them), or a path."""
        for text in (line, line.rpartition(" ")[0].strip()):
            name = text.replace("\\", "/").rpartition("/")[2]
            for stem in (name, Path(name).stem):
                if stem in self._xml_by_stem:
                    return None, self._xml_by_stem[stem]
                if stem in self._by_stem:
                    return self._by_stem[stem][0], None
        name = line.replace("\\", "/").rpartition("/")[2]
        place = next((self.folder / top for top in _IMAGE_FOLDERS if (self.folder / top).is_dir()), self.folder)
        return place / (name if is_picture(Path(name)) else f"{name}.jpg"), None


_LINE = "line of the file"  # an attribute name that no XML file can have


def _parsed(text: str) -> ElementTree.Element:
    """The XML tree, each element with the line where it begins."""
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

    def start(tag: str, _: dict[str, str]) -> None:
        builder.start(tag, {_LINE: str(parser.CurrentLineNumber)})

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(text, True)  # text, not bytes: the declared encoding no longer counts
    return builder.close()


def _object(item: ElementTree.Element) -> VocObject | str:
    """One object, or what is wrong with it."""
    name, box = (item.findtext("name") or "").strip(), item.find("bndbox")
    if not name or box is None:
        return "an <object> without <name> or <bndbox>"
    try:
        left, top, right, bottom = (float(box.findtext(key) or "") for key in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        return "a <bndbox> whose xmin, ymin, xmax, ymax are not all numbers"
    if fault := number_fault((left, top, right, bottom)):
        return f"a number of the <bndbox> {fault}"
    return VocObject(name, (left - 1, top - 1, right, bottom), int(item.attrib[_LINE]))


def _stated_size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(float(root.findtext(f"size/{key}") or 0)) for key in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _names(folder: Path, files: Mapping[Path, VocFile]) -> tuple[str, ...]:
    listed = folder / "classes.txt"
    first = [line.strip() for line in read_text(listed).splitlines() if line.strip()] if listed.is_file() else []
    found = sorted({item.name for file in files.values() for item in file.objects})
    return tuple(dict.fromkeys([*first, *found]))
