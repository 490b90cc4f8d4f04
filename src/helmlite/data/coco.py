"""COCO data sets: one JSON file for each split, with pictures, categories and boxes (x, y, width, height)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from helmlite.data.dataset import Dataset, Sample
from helmlite.data.roles import with_roles

_SPLITS = ("train", "val", "test")


def is_coco(source: Path) -> bool:
    """Whether this is a COCO JSON, or a folder that holds one for each split."""
    return (source.is_file() and source.suffix.lower() == ".json") or (source.is_dir() and bool(_files(source)))


def coco_splits(source: Path) -> tuple[str, ...]:
    """Splits that a folder has a JSON for; a single file is the split that its name says, or `train`."""
    return tuple(_files(source)) if source.is_dir() else (_split_in_name(source) or "train",)


def load_coco(source: Path, split: str, roles: Mapping[str, str] | None = None) -> Dataset:
    """One split of a COCO data set.  Crowd regions are left out.

    A single JSON file is taken as the split that is asked for.  Raises ValueError where it does not fit.
    """
    path = source if source.is_file() else _files(source).get(split)
    if path is None:
        raise ValueError(
            f"{source}: no COCO JSON for the split '{split}'; found {', '.join(_files(source)) or 'none'}."
        )
    content = _read(path)
    categories = sorted(content["categories"], key=lambda item: item["id"])
    number = {item["id"]: index for index, item in enumerate(categories)}
    boxes_of: dict[Any, list[tuple[int, list[float]]]] = defaultdict(list)
    for annotation in content["annotations"]:
        if not annotation.get("iscrowd") and annotation.get("category_id") in number:
            boxes_of[annotation["image_id"]].append((number[annotation["category_id"]], annotation["bbox"]))
    images = content["images"]
    if not images:
        raise ValueError(f"{path}: the split '{split}' has no pictures.")
    paths = tuple(_image_path(path, split, str(image["file_name"])) for image in images)

    def load(index: int) -> Sample:
        labelled = boxes_of[images[index]["id"]]
        xywh = np.array([box for _, box in labelled], np.float32).reshape(-1, 4)
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        return Sample(paths[index], corners, np.array([label for label, _ in labelled], np.int64))

    return Dataset(with_roles([str(item["name"]) for item in categories], roles), paths, load, split, source)


def _files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for place in (folder, folder / "annotations"):
        for path in sorted(place.glob("*.json")) if place.is_dir() else []:
            split = _split_in_name(path)
            if split and split not in found and _looks_like_coco(path):
                found[split] = path
    return found


def _looks_like_coco(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        start = file.read(4096)
    return any(f'"{key}"' in start for key in ("images", "annotations", "categories", "info"))


def _split_in_name(path: Path) -> str | None:
    name = path.stem.lower().replace("valid", "val")
    return next((split for split in _SPLITS if split in name), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error}).") from error
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if not isinstance(content, dict) or missing:
        raise ValueError(
            f"{path}: a COCO JSON needs images, annotations and categories; missing: {', '.join(missing)}."
        )
    return content


def _image_path(path: Path, split: str, name: str) -> Path:
    """The picture beside the JSON, in images/, in the split's folder, or one level up."""
    folders = [path.parent, path.parent.parent]
    for folder in folders:
        for place in (folder, folder / "images", folder / split, folder / "images" / split, folder / f"{split}2017"):
            if (place / name).is_file():
                return place / name
    return path.parent / name
