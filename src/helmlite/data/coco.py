"""COCO data sets: one JSON file for each split, with pictures, categories and boxes (x, y, width, height).

Crowd regions are left out: no detector is asked to find them one by one.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helmlite.data.dataset import Dataset, Sample
from helmlite.data.labels import (
    SPLITS,
    Labels,
    Problem,
    Row,
    SplitFiles,
    can_name_a_file,
    dataset_from_files,
    labels_of_rows,
    number_fault,
    read_text,
)

_SPLIT_WORD = re.compile(r"(?<![a-z])(train|validation|valid|val|test)(?![a-z])", re.IGNORECASE)
_ID = re.compile(r'"id"\s*:\s*(-?\d+(?:\.\d+)?|"[^"\\]*")')
_WHOLE_NUMBER = re.compile(r"(-?[0-9]{1,30})(?:\.0*)?")
_GROUP_KEYS = ("group", "video_id", "scene")


def is_coco(source: Path) -> bool:
    """Whether this is a JSON file, or a folder that holds a COCO JSON for some split."""
    return (source.is_file() and source.suffix.lower() == ".json") or (source.is_dir() and bool(_files(source)))


def coco_splits(source: Path) -> tuple[str, ...]:
    """Splits that a folder has a JSON for, or that a file and its neighbours of the same name make up.

    `instances_val.json` brings `instances_train.json`; a file whose name says no split is `train`.
    """
    return tuple(_files(source))


def load_coco(source: Path, split: str, roles: Mapping[str, str] | None = None) -> Dataset:
    """One split of a COCO data set.  Raises ValueError where it is not there or not COCO."""
    return dataset_from_files(open_coco(source, split), roles)


def open_coco(source: Path, split: str) -> SplitFiles:
    """The pictures of one split and a way to their labels."""
    found = _files(source)
    if split not in found:
        raise ValueError(
            f"{source}: no COCO JSON for the split '{split}'; found {', '.join(found) or 'none'} "
            "(a file's or folder's name says its split: instances_train.json, valid/_annotations.coco.json)."
        )
    path = found[split]
    content, text = _read(path)
    if not content["images"]:
        raise ValueError(f"{path}: the split '{split}' has no pictures.")
    images = [_checked_image(path, index, image) for index, image in enumerate(content["images"])]
    _check_one_each(path, "image", "pictures", [(image["id"], image["file_name"]) for image in images])
    _check_one_each(path, "category", "classes", [(item["id"], item["name"]) for item in content["categories"]])
    categories = sorted(content["categories"], key=lambda item: (isinstance(_key(item["id"]), str), _key(item["id"])))
    number = {_key(item["id"]): index for index, item in enumerate(categories)}
    names = tuple(str(item["name"]) for item in categories)
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: two categories have the same name: {', '.join(names)}.")
    annotations_of: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        if not annotation.get("iscrowd"):
            annotations_of[_key(annotation.get("image_id"))].append(annotation)
    _check_some_belong(path, images, annotations_of)
    line_of = _lines_of(text)
    paths = tuple(_image_path(path, split, str(image["file_name"])) for image in images)

    def read(index: int) -> Labels:
        rows: list[Row] = []
        problems: list[Problem] = []
        for annotation in annotations_of[_key(images[index]["id"])]:
            row, line = _row(annotation, number), line_of.get(_key(annotation.get("id")), 0)
            if isinstance(row, tuple):
                rows.append((*row, line))
            else:
                kind = "unknown-class" if row.startswith("category") else "not-a-box"
                message = f"annotation {annotation.get('id')}: {row}"
                problems.append(Problem(kind, path, line or None, message))
        return labels_of_rows(rows, path, problems, stated_size=_stated_size(images[index]))

    groups = tuple(_group(image) for image in images)
    return SplitFiles(source, split, names, paths, read, groups if any(groups) else ())


def coco_strays(source: Path) -> tuple[Problem, ...]:
    """Annotations whose picture is not among the images.  A file that is not COCO has none: it cannot be opened."""
    strays = []
    for path in _files(source).values():
        try:
            content, text = _read(path)
        except ValueError:
            continue
        known, line_of = {_key(image.get("id")) for image in content["images"]}, _lines_of(text)
        for annotation in content["annotations"]:
            if _key(annotation.get("image_id")) not in known:
                message = f"annotation {annotation.get('id')}: no picture with id {annotation.get('image_id')}"
                line = line_of.get(_key(annotation.get("id")))
                strays.append(Problem("label-without-picture", path, line, message))
    return tuple(strays)


def write_coco(
    path: Path,
    samples: Sequence[Sample],
    image_names: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    names: Sequence[str],
) -> None:
    """The JSON of one split.  image_names: each picture's path, counted from a folder where `load_coco` looks."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (sample, name, size) in enumerate(zip(samples, image_names, sizes), start=1):
        group = {"group": sample.group} if sample.group else {}
        images.append({"id": number, "file_name": name, "width": size[0], "height": size[1], **group})
        for label, (left, top, right, bottom) in zip(sample.labels.tolist(), sample.boxes_xyxy.astype(float).tolist()):
            box = [round(value, 4) for value in (left, top, right - left, bottom - top)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 4),
                    "iscrowd": 0,
                }
            )
    parts = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for index, name in enumerate(names, start=1)],
    }
    # one entry a line: a finding can name the line, and a diff shows what changed
    blocks = (
        f'"{key}": [\n' + ",\n".join(json.dumps(item, ensure_ascii=False) for item in rows) + "\n]"
        for key, rows in parts.items()
    )
    path.write_text("{" + ",\n".join(blocks) + "}\n", encoding="utf-8")


def _files(source: Path) -> dict[str, Path]:
    """Split -> its JSON."""
    if source.is_file():
        own = _split_of(source)
        if own is None:
            return {"train": source}
        return {split: path for split in SPLITS if (path := _neighbour(source, own, split)).is_file()}
    found: dict[str, Path] = {}
    for place in (source, source / "annotations", *(source / name for name in ("train", "valid", "val", "test"))):
        for path in sorted(place.glob("*.json")) if place.is_dir() else []:
            split = _split_of(path)
            if split and split not in found and _looks_like_coco(path):
                found[split] = path
    return {split: found[split] for split in SPLITS if split in found}


def _neighbour(path: Path, own: str, split: str) -> Path:
    """The file beside this one that differs in the split's name alone."""
    if own == split:
        return path
    words = {"val": ("val", "valid", "validation")}.get(split, (split,))
    candidates = [path.with_name(_SPLIT_WORD.sub(word, path.name, count=1)) for word in words]
    if _SPLIT_WORD.search(path.name) is None:  # the folder has the split's name
        candidates = [path.parent.parent / word / path.name for word in words]
    return next((item for item in candidates if item.is_file() and item != path), candidates[0])


def _split_of(path: Path) -> str | None:
    """What the file's name says, else its folder's where that is nothing but a split's name."""
    word = _SPLIT_WORD.search(path.stem) or _SPLIT_WORD.fullmatch(path.parent.name)
    if word is None:
        return None
    return "val" if word.group(1).lower().startswith("val") else word.group(1).lower()


def _looks_like_coco(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4096)
    return any(f'"{key}"'.encode() in start for key in ("images", "annotations", "categories"))


def _read(path: Path) -> tuple[dict[str, Any], str]:
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON; a number of thousands of digits; thousands of brackets
        raise ValueError(f"{path}: not readable as JSON ({error}).") from error
    keys = ("images", "annotations", "categories")
    missing = [key for key in keys if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise ValueError(
            f"{path}: a COCO JSON needs images, annotations and categories; missing: {', '.join(missing)}."
        )
    if not all(isinstance(item, dict) for key in keys for item in content[key]):
        raise ValueError(f"{path}: images, annotations and categories must be lists of objects.")
    if not all({"id", "name"} <= set(item) for item in content["categories"]):
        raise ValueError(f"{path}: a category needs 'id' and 'name'.")
    for item in content["categories"]:
        if not _is_id(item["id"]):
            got = json.dumps(item["id"])[:60]
            raise ValueError(f"{path}: a category's 'id' must be a number or a text; '{item['name']}' has {got}.")
    return content, text


def _checked_image(path: Path, index: int, image: dict[str, Any]) -> dict[str, Any]:
    if "id" not in image or not image.get("file_name"):
        raise ValueError(f"{path}: image number {index} needs 'id' and 'file_name'.")
    if not _is_id(image["id"]):
        got = json.dumps(image["id"])[:60]
        raise ValueError(f"{path}: an image's 'id' must be a number or a text; image number {index} has {got}.")
    if not can_name_a_file(str(image["file_name"])):
        name = repr(image["file_name"])
        raise ValueError(f"{path}: image number {index} has the 'file_name' {name}, which no file can be called.")
    return image


def _check_one_each(path: Path, what: str, things: str, entries: Sequence[tuple[Any, Any]]) -> None:
    """Raises ValueError where one id stands for two things: the boxes of both would go to either."""
    first: dict[Any, str] = {}
    for own_id, name in entries:
        earlier = first.setdefault(_key(own_id), str(name))
        if earlier != str(name):
            raise ValueError(
                f"{path}: {what} id {_key(own_id)} stands for two {things} ({earlier}, {name}); give each its own id."
            )


def _check_some_belong(
    path: Path, images: Sequence[dict[str, Any]], annotations_of: Mapping[Any, Sequence[Any]]
) -> None:
    """Raises ValueError where there are annotations and none is of a picture: each would seem to have no box."""
    if annotations_of and not any(_key(image["id"]) in annotations_of for image in images):
        count, some = sum(map(len, annotations_of.values())), next(iter(annotations_of))
        raise ValueError(
            f"{path}: none of its {count} annotations belongs to a picture: the 'image_id' {some} and so on are not "
            f"among the images' ids ({_key(images[0]['id'])} and so on); correct either."
        )


def _row(annotation: dict[str, Any], number: Mapping[Any, int]) -> tuple[tuple[float, float, float, float], int] | str:
    """Box (xyxy) and label of an annotation, or what is wrong with it."""
    category, box = annotation.get("category_id"), annotation.get("bbox")
    try:
        left, top, width, height = (float(value) for value in box or ())
    except (TypeError, ValueError):
        return f"'bbox' must be four numbers; got {str(box)[:60]}"
    except OverflowError:
        return "a number of the 'bbox' has hundreds of digits"
    if fault := number_fault((left, top, width, height)):
        return f"a number of the 'bbox' {fault}"
    if _key(category) not in number:
        return f"category {category} is not among the categories"
    return (left, top, left + width, top + height), number[_key(category)]


def _lines_of(text: str) -> dict[Any, int]:
    """Id of each annotation -> the line where the id stands."""
    ends = [match.start() for match in re.finditer("\n", text)]
    found: dict[Any, int] = {}
    for match in _ID.finditer(text, max(text.find('"annotations"'), 0)):
        # lists that come after the annotations have ids too: the first of equal ones is the annotation's
        found.setdefault(_key(json.loads(match.group(1))), bisect_right(ends, match.start()) + 1)
    return found


def _key(value: Any) -> Any:
    """An id as a dictionary's key, whatever a file put there: 5, 5.0 and "5" are one, as tables write either."""
    if isinstance(value, bool):
        return repr(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and (whole := _WHOLE_NUMBER.fullmatch(value)):
        return int(whole.group(1))
    return value if isinstance(value, (int, str)) else repr(value)


def _is_id(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _stated_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height where both are whole numbers, be they written as texts."""
    width, height = _key(image.get("width")), _key(image.get("height"))
    return (width, height) if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0 else None


def _group(image: dict[str, Any]) -> str | None:
    return next((str(image[key]) for key in _GROUP_KEYS if image.get(key) not in (None, "")), None)


def _image_path(path: Path, split: str, name: str) -> Path:
    """The picture beside the JSON, in images/, in the split's folder, or one level up."""
    name = name.replace("\\", "/")
    words = ("val", "valid") if split == "val" else (split,)
    for folder in (path.parent, path.parent.parent):
        places = [folder, folder / "images", folder / f"{split}2017"]
        places += [top / word for top in (folder, folder / "images") for word in words]
        for place in places:
            if (place / name).is_file():
                return place / name
    return path.parent / name
