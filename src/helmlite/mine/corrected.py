"""What comes back from a person: a YOLO folder, CVAT's XML, or Label Studio's JSON; pictures are known by their names.

    folder, data.yaml    YOLO with data.yaml (CVAT's "Ultralytics YOLO Detection 1.0"), classes.txt (Label Studio's
                         "YOLO") or obj.names (CVAT's "YOLO 1.1"), with or without its pictures
    .xml                 "CVAT for images 1.1"
    .json                Label Studio, exported as JSON
    folder, .zip         of any of these

Numbers of classes mean what the export itself says; only the mined set's own folder may leave that to mined.json.

What nobody has looked at is not taken for correct: a picture that an export does not hold is left out, and of Label
Studio's tasks those without an annotation.  A YOLO folder cannot say more than which pictures it holds: a picture of it
without a label file, or with an empty one, shows nothing.  Neither it nor CVAT says which pictures anybody opened: a
picture whose labels are as they were suggested may be right, or not have been looked at.
"""

from __future__ import annotations

import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from helmlite.data.labels import SPLITS, is_picture, read_text
from helmlite.data.yolo import read_yolo_config, read_yolo_labels
from helmlite.mine.corners import NamedBox, within
from helmlite.mine.cvat import XML_NAME, read_cvat
from helmlite.mine.label_studio import may_hold_tasks, read_label_studio
from helmlite.mine.mined_set import MINED_NAME, MinedSet, read_mined

_CONFIG_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
_CLASS_LISTS = ("classes.txt", "obj.names")
_PICTURE_LISTS = tuple(f"{split}.txt" for split in (*SPLITS, "valid"))
_DAMAGED_ZIP = (  # also encrypted ones, and such as Python cannot unpack
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class Corrected:
    """Labels of the mined pictures as a person left them.

    boxes:   file name of the picture -> its boxes, cut at its edges;  not_seen: mined pictures that nobody looked at
    unknown: pictures of the export that were not mined, which are left out
    """

    boxes: Mapping[str, tuple[NamedBox, ...]]
    not_seen: tuple[str, ...]
    unknown: tuple[str, ...]


def read_corrected(path: Path, mined: MinedSet) -> Corrected:
    """The corrected labels of a mined set.

    Raises ValueError where nothing is there, it is of no known format, it does not say which classes its numbers mean,
    a label cannot be read or has no area in its picture, or it holds none of the mined pictures.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder.")
    found = _read(path, mined)
    sizes = _sizes(mined)
    boxes = {name: _within_picture(own, sizes[name], path, name) for name, own in found.items() if name in sizes}
    unknown = tuple(sorted(found.keys() - sizes.keys()))
    if not boxes:
        others = f"; it has {len(unknown)} others, such as {unknown[0]}" if unknown else ""
        raise ValueError(f"{path}: holds labels of none of the {len(sizes)} mined pictures{others}.")
    return Corrected(boxes, tuple(item.picture for item in mined.pictures if item.picture not in boxes), unknown)


def _sizes(mined: MinedSet) -> dict[str, tuple[int, int]]:
    """File name -> width and height of every mined picture."""
    return {item.picture: item.size for item in mined.pictures}


def _within_picture(boxes: Sequence[NamedBox], size: tuple[int, int], path: Path, name: str) -> tuple[NamedBox, ...]:
    kept = []
    for item in boxes:
        inside = within(item.box_xyxy, size)
        if inside is None:
            corners = ", ".join(f"{value:.1f}" for value in item.box_xyxy)
            raise ValueError(
                f"{path}: {name}: a box of '{item.class_name}' has no area in the picture ({corners} in pixels); "
                "remove or correct it."
            )
        kept.append(NamedBox(item.class_name, inside))
    return tuple(kept)


def _read(path: Path, mined: MinedSet) -> dict[str, tuple[NamedBox, ...]]:
    kind = path.suffix.lower()
    if path.is_dir():
        return _read_folder(path, mined)
    if kind in (".yaml", ".yml"):
        return _read_yolo(path.parent, mined, path)
    if kind == ".xml":
        return read_cvat(path)
    if kind == ".json":
        return read_label_studio(path, _sizes(mined))[0]
    if kind == ".zip":
        return _read_zip(path, mined)
    raise ValueError(
        f"{path}: corrected labels are a YOLO folder, CVAT's .xml, Label Studio's .json, or a .zip of one."
    )


def _read_folder(folder: Path, mined: MinedSet) -> dict[str, tuple[NamedBox, ...]]:
    """YOLO where something names the classes, else the one XML of CVAT or the one JSON of tasks that lies in it."""
    if not _class_files(folder, _stems(mined)):
        exports = sorted(folder.rglob(XML_NAME))
        if len(exports) == 1:
            return read_cvat(exports[0])
        tasks = [item for item in _files(folder) if item.suffix.lower() == ".json"]
        if len(tasks) == 1 and may_hold_tasks(tasks[0]):
            return read_label_studio(tasks[0], _sizes(mined))[0]
    return _read_yolo(folder, mined)


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
        except _DAMAGED_ZIP as error:
            raise ValueError(f"{path}: not readable as a zip ({error}).") from error
        except OSError as error:
            if error.errno is not None:  # of the disk; bzip2 has none for what it cannot unpack
                raise
            raise ValueError(f"{path}: not readable as a zip ({error}).") from error
        try:
            return _read_folder(folder, mined)
        except ValueError as error:
            raise ValueError(str(error).replace(f"{folder}", f"{path}")) from error


def _read_yolo(folder: Path, mined: MinedSet, config: Path | None = None) -> dict[str, tuple[NamedBox, ...]]:
    stems = _stems(mined)
    files = _label_files(folder, stems)
    listed = _listed(folder, stems)
    present = {item.stem for item in folder.rglob("*") if is_picture(item)} | listed | files.keys()
    found: dict[str, tuple[NamedBox, ...]] = {stem: () for stem in sorted(present - stems)}
    if not present & stems:
        return found
    names = _class_names(folder, stems, config)
    for picture in mined.pictures:
        stem = Path(picture.picture).stem
        if stem not in present:
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


def _stems(mined: MinedSet) -> frozenset[str]:
    return frozenset(Path(item.picture).stem for item in mined.pictures)


def _files(folder: Path) -> list[Path]:
    return [item for item in sorted(folder.rglob("*")) if item.is_file() and not item.name.startswith(".")]


def _class_names(folder: Path, stems: Collection[str], config: Path | None) -> tuple[str, ...]:
    """What each number means.

    Raises ValueError where nothing says it, and where two files say different things: some tools leave a list of their
    own beside labels that count in another one.
    """
    files = [item for item in ([config] if config else []) if item.name.lower() not in _CONFIG_NAMES]
    files += _class_files(folder, stems)
    if not files and (folder / MINED_NAME).is_file():
        return tuple(item.name for item in read_mined(folder).classes)
    if not files:
        raise ValueError(
            f"{folder}: says nowhere which class each number means; add the data.yaml, classes.txt or obj.names of the "
            "export."
        )
    named = {item: _names_in(item) for item in files}
    first, *others = named
    for other in others:
        if named[other] != named[first]:
            raise ValueError(
                f"{other}: names the classes {', '.join(named[other])}, and {first} {', '.join(named[first])}; keep "
                "the one that the labels count in."
            )
    return named[first]


def _class_files(folder: Path, stems: Collection[str]) -> list[Path]:
    """Every file that says what the numbers of classes mean."""
    return [
        item
        for item in _files(folder)
        if item.name.lower() in _CONFIG_NAMES or (item.name.lower() in _CLASS_LISTS and not _is_label_file(item, stems))
    ]


def _names_in(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_yolo_config(path).names
    names = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if not names or not all(names) or len(set(names)) != len(names):
        raise ValueError(f"{path}: expected a class name in each line, none of them twice.")
    return tuple(names)


def _label_files(folder: Path, stems: Collection[str]) -> dict[str, Path]:
    """Stem -> label file.  Raises ValueError where two pictures of one name are labelled."""
    files: dict[str, Path] = {}
    for path in _files(folder):
        if not _is_label_file(path, stems):
            continue
        if path.stem in files:
            raise ValueError(f"{path}: labels of '{path.stem}' stand in {files[path.stem]} too; keep one of them.")
        files[path.stem] = path
    return files


def _is_label_file(path: Path, stems: Collection[str]) -> bool:
    """Whether a file is one of labels.  A mined picture may be called `train` or `classes`: then its rows tell."""
    if path.suffix.lower() != ".txt":
        return False
    if path.name.lower() not in (*_CLASS_LISTS, *_PICTURE_LISTS):
        return True
    return path.stem in stems and all(_is_row(line) for line in read_text(path).splitlines() if line.strip())


def _is_row(line: str) -> bool:
    words = line.split()
    try:
        return len([float(word) for word in words]) > 1
    except ValueError:
        return False


def _listed(folder: Path, stems: Collection[str]) -> set[str]:
    """Stems of the pictures that the lists of the splits name."""
    lists = [item for item in _files(folder) if item.name.lower() in _PICTURE_LISTS and not _is_label_file(item, stems)]
    lines = [line.strip() for item in lists for line in read_text(item).splitlines()]
    return {Path(line.replace("\\", "/")).stem for line in lines if line}
