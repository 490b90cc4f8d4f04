"""YOLO data sets: a `data.yaml`, and beside each picture's folder `images/` a folder `labels/` of text files.

A label file has one line a box: `class cx cy width height`, all but the class in parts of the picture's size.
Segmentation polygons (`class x1 y1 x2 y2 ...`) are read as their bounding boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from helmlite.boxes import xywh_to_xyxy, xyxy_to_xywh
from helmlite.data.dataset import Dataset, Sample
from helmlite.data.labels import (
    SPLITS,
    Labels,
    Problem,
    Row,
    SplitFiles,
    dataset_from_files,
    groups_of,
    is_picture,
    labels_of_rows,
    number_fault,
    read_text,
)
from helmlite.data.weights import WEIGHTED_SPLIT, WEIGHTS_KEY, read_weights

_OTHER_KEYS = {"val": ("valid", "validation")}


@dataclass(frozen=True)
class YoloConfig:
    """What a `data.yaml` says.

    splits: name -> the folders and list files that make it up, as absolute paths
    weights: tables of how often pictures are to be trained on (weights.py), as absolute paths
    stated_count: its `nc`, the number of classes, as it stands there; None where it has none
    """

    path: Path
    names: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]
    stated_count: object = None
    weights: tuple[Path, ...] = ()


def read_yolo_config(path: Path) -> YoloConfig:
    """The class names and splits of a `data.yaml`.  Raises ValueError where it is not one."""
    content = _parsed(path, read_text(path))
    if not isinstance(content, dict) or "names" not in content:
        raise ValueError(f"{path}: a YOLO data.yaml needs 'names' (class names) and 'train', 'val' or 'test'.")
    root = _root(path, content.get("path"))
    splits = {}
    for split in SPLITS:
        entry = next((content[key] for key in (split, *_OTHER_KEYS.get(split, ())) if content.get(key)), None)
        if entry:
            splits[split] = tuple(_place(root, str(item)) for item in _listed_entries(entry))
    weights = tuple(root / str(item) for item in _listed_entries(content.get(WEIGHTS_KEY) or []))
    return YoloConfig(path, _names(path, content["names"]), splits, content.get("nc"), weights)


def load_yolo(path: Path, split: str, roles: Mapping[str, str] | None = None) -> Dataset:
    """One split of a YOLO data set.  Raises ValueError for an unknown or empty split, or one without any label file."""
    files = open_yolo(path, split)
    if not any(label_path_of(image).is_file() for image in files.image_paths):
        expected = label_path_of(files.image_paths[0])
        raise ValueError(
            f"{path}: no picture of the split '{split}' has a label file (looked for {expected} and so on)."
        )
    return dataset_from_files(files, roles)


def open_yolo(path: Path, split: str) -> SplitFiles:
    """The pictures of one split and a way to their labels.

    Raises ValueError for an unknown or empty split, and for weights that do not fit its pictures (weights.py).
    """
    config = read_yolo_config(path)
    if split not in config.splits:
        known = ", ".join(config.splits) or "none"
        raise ValueError(f"{path}: no split '{split}'; it has {known}.")
    image_paths = tuple(image for entry in config.splits[split] for image in _images_of(entry))
    if not image_paths:
        raise ValueError(f"{path}: the split '{split}' has no pictures ({config.splits[split][0]}).")

    def read(index: int) -> Labels:
        return read_yolo_labels(label_path_of(image_paths[index]), len(config.names))

    groups = groups_of(path.parent, image_paths)
    weights = read_weights(config.weights, image_paths) if config.weights and split == WEIGHTED_SPLIT else ()
    return SplitFiles(path, split, config.names, image_paths, read, groups, weights)


def read_yolo_labels(label_path: Path, class_count: int) -> Labels:
    """The boxes of one label file, in parts of the picture; none where there is no such file."""
    if not label_path.is_file():
        return labels_of_rows([], None, in_parts=True)
    rows: list[Row] = []
    problems: list[Problem] = []
    try:
        lines = read_text(label_path).splitlines()
    except ValueError as error:
        return labels_of_rows([], label_path, [Problem("not-a-box", label_path, None, str(error))], in_parts=True)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = _row(line, class_count)
        if isinstance(found, tuple):
            rows.append((found[0], found[1], number))
        else:
            kind = "unknown-class" if found.startswith("class") else "not-a-box"
            problems.append(Problem(kind, label_path, number, found))
    return labels_of_rows(rows, label_path, problems, in_parts=True)


def label_path_of(image_path: Path) -> Path:
    """`.../images/a.jpg` -> `.../labels/a.txt` (the last folder called images); `a.txt` beside the picture where
    only that exists or no folder is called images.
    """
    beside = image_path.with_suffix(".txt")
    parts = list(image_path.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            in_labels = Path(*parts).with_suffix(".txt")
            return beside if beside.is_file() and not in_labels.is_file() else in_labels
    return beside


def yolo_strays(path: Path) -> tuple[Problem, ...]:
    """Label files, in the folders where labels are looked for, whose picture does not exist, and an `nc` that counts
    other classes than the names do.
    """
    config = read_yolo_config(path)
    lists = {entry for entries in config.splits.values() for entry in entries if entry.exists()}
    images = {image for entry in lists for image in _images_of(entry)}
    listed = {label_path_of(image) for image in images}
    on_disk = {item.with_suffix("") for folder in {image.parent for image in images} for item in _pictures_in(folder)}
    image_folder_of = {label_path_of(image).parent: image.parent for image in images}
    strays = []
    if config.stated_count is not None and str(config.stated_count) != str(len(config.names)):
        message = f"'nc' says {config.stated_count} classes, 'names' has {len(config.names)}; correct one of them"
        strays.append(Problem("class-count-differs", path, None, message))
    for label_folder, image_folder in sorted(image_folder_of.items()):
        for label in sorted(label_folder.glob("*.txt")) if label_folder.is_dir() else ():
            if label in listed or label in lists or label.name == "classes.txt":
                continue
            if image_folder / label.stem not in on_disk:
                strays.append(Problem("label-without-picture", label, None, f"no picture '{label.stem}' for it"))
    return tuple(strays)


def write_yolo_labels(path: Path, sample: Sample, size: tuple[int, int]) -> None:
    """The label file of one picture of this width and height: eight decimals, a hundredth pixel on any picture."""
    parts = xyxy_to_xywh(sample.boxes_xyxy.astype(np.float64)) / np.array([*size, *size], np.float64)
    rows = (" ".join([str(label), *(f"{value:.8f}" for value in box)]) for label, box in zip(sample.labels, parts))
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")


def write_yolo_config(
    path: Path, names: Sequence[str], splits: Mapping[str, str | list[str]], weights: str | list[str] | None = None
) -> None:
    """A `data.yaml`.

    splits:  name -> folder or list of pictures, or several of them, counted from the file's own folder or absolute
    weights: table of weights (weights.py), or several, in the same way
    """
    content = {**splits, **({WEIGHTS_KEY: weights} if weights else {}), "names": dict(enumerate(names))}
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")


def _parsed(path: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{path}{line}: not readable as YAML ({error.problem}).") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not readable as YAML ({str(error).splitlines()[0]}).") from error
    except RecursionError as error:  # a thousand brackets
        raise ValueError(f"{path}: not readable as YAML ({error}).") from error
    except (ValueError, LookupError, AttributeError, TypeError) as error:  # a date with a month 13; `!!bool maybe`
        raise ValueError(f"{path}: not readable as YAML (a value does not suit its tag or type: {error}).") from error


def _row(line: str, class_count: int) -> tuple[tuple[float, float, float, float], int] | str:
    """Box (xyxy, in parts) and class of one line, or what is wrong with it."""
    try:
        label, *rest = (float(word) for word in line.split())
    except ValueError:
        return f"not a row of numbers: '{line.strip()[:60]}'"
    if len(rest) != 4 and (len(rest) < 6 or len(rest) % 2):
        return f"expected 'class cx cy width height', got {len(rest) + 1} numbers"
    if fault := number_fault([label, *rest]):
        return f"a number {fault}"
    if not 0 <= label < class_count or label != int(label):
        return f"class {label:g}, but data.yaml names {class_count} classes"
    if len(rest) == 4:
        left, top, right, bottom = xywh_to_xyxy(np.array([rest]))[0].tolist()
    else:
        left, top, right, bottom = min(rest[0::2]), min(rest[1::2]), max(rest[0::2]), max(rest[1::2])
    return (left, top, right, bottom), int(label)


def _root(path: Path, stated: Any) -> Path:
    """`path:` in data.yaml, where such a folder exists; else the folder of the file."""
    if stated and (path.parent / str(stated)).is_dir():  # an absolute path stays itself
        return (path.parent / str(stated)).resolve()
    return path.parent.resolve()


def _place(root: Path, entry: str) -> Path:
    """A split's folder or list.  Roboflow writes `../train/images` where it means `train/images`: both are tried."""
    place = root / entry
    without = root / entry.removeprefix("../")
    return without if not place.exists() and without.exists() else place


def _listed_entries(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def _names(path: Path, stated: Any) -> tuple[str, ...]:
    if isinstance(stated, dict) and stated:
        if set(stated) != set(range(len(stated))):
            raise ValueError(f"{path}: 'names' must be numbered 0, 1, 2, ... without gaps; got {list(stated)}.")
        names = [str(stated[index]) for index in range(len(stated))]
    elif isinstance(stated, list) and stated:
        names = [str(name) for name in stated]
    else:
        raise ValueError(f"{path}: 'names' must be a list or a mapping of class names.")
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: 'names' holds a name twice: {', '.join(names)}.")
    return tuple(names)


def _images_of(entry: Path) -> list[Path]:
    """Pictures of a folder (searched through) or of a list file (`./` counts from the list's own folder)."""
    if entry.is_dir():
        return sorted(_pictures_in(entry))
    if not entry.is_file():
        raise ValueError(f"{entry}: no such folder or list of pictures.")
    if is_picture(entry):
        raise ValueError(f"{entry}: a picture, where a folder or a list of pictures was expected.")
    lines = [line.strip() for line in read_text(entry).splitlines()]
    return [_listed(entry.parent, line) for line in lines if line]


def _pictures_in(folder: Path) -> Iterator[Path]:
    return (item for item in folder.rglob("*") if is_picture(item))


def _listed(folder: Path, line: str) -> Path:
    """A line of a list: absolute, or counted from the list's folder; Windows wrote some of them."""
    return folder / line.replace("\\", "/").removeprefix("./")
