"""What comes back from a person: a YOLO folder, CVAT's XML, or Label Studio's JSON; pictures are known by their names.

    folder, data.yaml    YOLO, also CVAT's "Ultralytics YOLO Detection 1.0", with or without its pictures
    .xml                 "CVAT for images 1.1"
    .json                Label Studio, exported as JSON
    .zip                 of any of these

What nobody has looked at is not taken for correct: a picture that an export does not hold is left out, and of Label
Studio's tasks those without an annotation.  A YOLO folder cannot say more than which pictures it holds: a picture of it
without a label file, or with an empty one, shows nothing.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from helmlite.data.labels import SPLITS, is_picture, read_text
from helmlite.data.yolo import read_yolo_config, read_yolo_labels
from helmlite.mine.corners import NamedBox
from helmlite.mine.cvat import XML_NAME, read_cvat
from helmlite.mine.label_studio import read_label_studio
from helmlite.mine.mined_set import MinedSet

_CONFIG_NAME = "data.yaml"
_LISTS = frozenset(f"{split}.txt" for split in (*SPLITS, "valid", "classes"))


@dataclass(frozen=True)
class Corrected:
    """Labels of the mined pictures as a person left them.

    boxes:   file name of the picture -> its boxes;  not_seen: mined pictures that nobody has looked at
    unknown: pictures of the export that were not mined, which are left out
    """

    boxes: Mapping[str, tuple[NamedBox, ...]]
    not_seen: tuple[str, ...]
    unknown: tuple[str, ...]


def read_corrected(path: Path, mined: MinedSet) -> Corrected:
    """The corrected labels of a mined set.

    Raises ValueError where nothing is there, it is of no known format, a label cannot be read, or it holds none of the
    mined pictures.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder.")
    found = _read(path, mined)
    known = {item.picture for item in mined.pictures}
    boxes = {name: own for name, own in found.items() if name in known}
    unknown = tuple(sorted(found.keys() - known))
    if not boxes:
        others = f"; it has {len(unknown)} others, such as {unknown[0]}" if unknown else ""
        raise ValueError(f"{path}: holds labels of none of the {len(known)} mined pictures{others}.")
    return Corrected(boxes, tuple(item.picture for item in mined.pictures if item.picture not in boxes), unknown)


def _read(path: Path, mined: MinedSet) -> dict[str, tuple[NamedBox, ...]]:
    kind = path.suffix.lower()
    if path.is_dir():
        if (path / _CONFIG_NAME).is_file() or not (path / XML_NAME).is_file():
            return _read_yolo(path, mined)
        return read_cvat(path / XML_NAME)
    if kind in (".yaml", ".yml"):
        return _read_yolo(path.parent, mined, path)
    if kind == ".xml":
        return read_cvat(path)
    if kind == ".json":
        return read_label_studio(path, {item.picture: item.size for item in mined.pictures})[0]
    if kind == ".zip":
        return _read_zip(path, mined)
    raise ValueError(
        f"{path}: corrected labels are a YOLO folder, CVAT's .xml, Label Studio's .json, or a .zip of one."
    )


def _read_zip(path: Path, mined: MinedSet) -> dict[str, tuple[NamedBox, ...]]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            with zipfile.ZipFile(path) as archive:
                names = [item for item in archive.namelist() if not is_picture(Path(item))]
                names += [item for item in archive.namelist() if is_picture(Path(item))]
                for name in names:
                    if is_picture(Path(name)):  # only that it is there matters
                        place = folder / "pictures" / Path(name).name
                        place.parent.mkdir(exist_ok=True)
                        place.touch()
                    else:
                        archive.extract(name, folder)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # damaged, encrypted, unknown method
            raise ValueError(f"{path}: not readable as a zip ({error}).") from error
        try:
            files = [item for item in folder.rglob("*") if item.suffix.lower() == ".json"]
            inside = folder if len(files) != 1 or (folder / _CONFIG_NAME).is_file() else files[0]
            return _read(inside, mined)
        except ValueError as error:
            raise ValueError(str(error).replace(f"{folder}", f"{path}")) from error


def _read_yolo(folder: Path, mined: MinedSet, config: Path | None = None) -> dict[str, tuple[NamedBox, ...]]:
    config = config or folder / _CONFIG_NAME
    names = read_yolo_config(config).names if config.is_file() else tuple(item.name for item in mined.classes)
    files = _label_files(folder)
    present = {item.stem for item in folder.rglob("*") if is_picture(item)} | _listed(folder) | files.keys()
    picture_of = {Path(item.picture).stem: item for item in mined.pictures}
    found: dict[str, tuple[NamedBox, ...]] = {}
    for stem in sorted(present):
        picture = picture_of.get(stem)
        if picture is None:
            found[stem] = ()
            continue
        labels = read_yolo_labels(files.get(stem, folder / f"{stem}.txt"), len(names))
        if labels.problems:
            raise ValueError(str(labels.problems[0]))
        boxes = labels.in_pixels(picture.size).tolist()
        found[picture.picture] = tuple(
            NamedBox(names[label], (box[0], box[1], box[2], box[3]))
            for box, label in zip(boxes, labels.labels.tolist(), strict=True)
        )
    return found


def _label_files(folder: Path) -> dict[str, Path]:
    """Stem -> label file.  Raises ValueError where two pictures of one name are labelled."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.txt")):
        if path.name.lower() in _LISTS:
            continue
        if path.stem in files:
            raise ValueError(f"{path}: labels of '{path.stem}' stand in {files[path.stem]} too; keep one of them.")
        files[path.stem] = path
    return files


def _listed(folder: Path) -> set[str]:
    """Stems of the pictures that the lists of the splits name."""
    lists = [folder / f"{split}.txt" for split in SPLITS]
    lines = [line.strip() for item in lists if item.is_file() for line in read_text(item).splitlines()]
    return {Path(line.replace("\\", "/")).stem for line in lines if line}
