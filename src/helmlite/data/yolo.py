"""YOLO data sets: a `data.yaml`, and beside each picture's folder `images/` a folder `labels/` of text files.

A label file has one line a box: `class cx cy width height`, all but the class in parts of the picture's size.
Segmentation polygons (`class x1 y1 x2 y2 ...`) are read as their bounding boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from helmlite.boxes import xywh_to_xyxy
from helmlite.data.dataset import Dataset, Sample, image_size
from helmlite.data.roles import with_roles

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True)
class YoloConfig:
    """What a `data.yaml` says.  splits: name -> the folders and list files that make it up, as absolute paths."""

    path: Path
    names: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]


def read_yolo_config(path: Path) -> YoloConfig:
    """The class names and splits of a `data.yaml`.  Raises ValueError where it is not one."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML ({str(error).splitlines()[0]}).") from error
    if not isinstance(content, dict) or "names" not in content:
        raise ValueError(f"{path}: a YOLO data.yaml needs 'names' (class names) and 'train', 'val' or 'test'.")
    root = _root(path, content.get("path"))
    splits = {
        split: tuple(root / str(item) for item in (entry if isinstance(entry, list) else [entry]))
        for split, entry in ((name, content.get(name)) for name in ("train", "val", "test"))
        if entry
    }
    return YoloConfig(path, _names(path, content["names"]), splits)


def load_yolo(path: Path, split: str, roles: Mapping[str, str] | None = None) -> Dataset:
    """One split of a YOLO data set.  Raises ValueError for an unknown or empty split."""
    config = read_yolo_config(path)
    if split not in config.splits:
        known = ", ".join(config.splits) or "none"
        raise ValueError(f"{path}: no split '{split}'; it has {known}.")
    image_paths = tuple(image for entry in config.splits[split] for image in _images_of(entry))
    if not image_paths:
        raise ValueError(f"{path}: the split '{split}' has no pictures ({config.splits[split][0]}).")

    def load(index: int) -> Sample:
        return read_yolo_sample(image_paths[index], len(config.names))

    return Dataset(with_roles(config.names, roles), image_paths, load, split, path)


def read_yolo_sample(image_path: Path, class_count: int) -> Sample:
    """A picture's boxes; no label file means no boxes.  Raises ValueError (file and line) for a malformed label."""
    label_path = label_path_of(image_path)
    rows = list(label_rows(label_path, class_count)) if label_path.is_file() else []
    if not rows:
        return Sample(image_path, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    width, height = image_size(image_path)
    table = np.array(rows, dtype=np.float32)
    boxes = xywh_to_xyxy(table[:, 1:]) * np.array([width, height, width, height])
    return Sample(image_path, boxes.astype(np.float32), table[:, 0].astype(np.int64))


def label_rows(label_path: Path, class_count: int) -> Iterator[tuple[float, float, float, float, float]]:
    """(class, cx, cy, width, height) of each line.  Raises ValueError naming file and line."""
    for number, line in enumerate(label_path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            label, *rest = (float(word) for word in line.split())
        except ValueError as error:
            raise ValueError(f"{label_path}:{number}: not a row of numbers: '{line[:60]}'.") from error
        if len(rest) != 4 and (len(rest) < 6 or len(rest) % 2):
            raise ValueError(
                f"{label_path}:{number}: expected 'class cx cy width height', got {len(rest) + 1} numbers."
            )
        if not 0 <= label < class_count or label != int(label):
            raise ValueError(f"{label_path}:{number}: class {label:g}, but data.yaml names {class_count} classes.")
        if not np.isfinite(rest).all():
            raise ValueError(f"{label_path}:{number}: a coordinate is not a finite number.")
        yield (label, *(rest if len(rest) == 4 else _bounds(rest)))


def label_path_of(image_path: Path) -> Path:
    """`.../images/a.jpg` -> `.../labels/a.txt` (the last folder called images); else beside the picture."""
    parts = list(image_path.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            return Path(*parts).with_suffix(".txt")
    return image_path.with_suffix(".txt")


def _root(path: Path, stated: Any) -> Path:
    """`path:` in data.yaml, where such a folder exists; else the folder of the file."""
    if stated:
        root = Path(str(stated))
        for candidate in (root, path.parent / root):
            if candidate.is_absolute() and candidate.is_dir():
                return candidate
        if (path.parent / root).is_dir():
            return (path.parent / root).resolve()
    return path.parent.resolve()


def _names(path: Path, stated: Any) -> tuple[str, ...]:
    if isinstance(stated, dict):
        if sorted(stated) != list(range(len(stated))):
            raise ValueError(f"{path}: 'names' must be numbered 0, 1, 2, ... without gaps; got {sorted(stated)}.")
        return tuple(str(stated[index]) for index in range(len(stated)))
    if isinstance(stated, list) and stated:
        return tuple(str(name) for name in stated)
    raise ValueError(f"{path}: 'names' must be a list or a mapping of class names.")


def _images_of(entry: Path) -> list[Path]:
    """Pictures of a folder (searched through) or of a list file (`./` counts from the list's own folder)."""
    if entry.is_dir():
        return sorted(item for item in entry.rglob("*") if item.suffix.lower() in IMAGE_SUFFIXES)
    if not entry.is_file():
        raise ValueError(f"{entry}: no such folder or list of pictures.")
    lines = [line.strip() for line in entry.read_text(encoding="utf-8-sig").splitlines()]
    return [_listed(entry.parent, line) for line in lines if line]


def _listed(folder: Path, line: str) -> Path:
    path = Path(line.removeprefix("./")) if line.startswith("./") else Path(line)
    return path if path.is_absolute() else folder / path


def _bounds(polygon: list[float]) -> tuple[float, float, float, float]:
    xs, ys = polygon[0::2], polygon[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
