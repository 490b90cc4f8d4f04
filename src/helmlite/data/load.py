"""A data set from whatever the user points at, and its labels in the numbering of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from helmlite.data.coco import coco_splits, coco_strays, is_coco, open_coco
from helmlite.data.dataset import Dataset
from helmlite.data.labels import Problem, SplitFiles, dataset_from_files
from helmlite.data.roles import Class
from helmlite.data.voc import is_voc, open_voc, voc_splits, voc_strays
from helmlite.data.yolo import load_yolo, open_yolo, read_yolo_config, yolo_strays

_CONFIG_NAMES = ("data.yaml", "data.yml", "dataset.yaml")


def load_dataset(source: Path | str, split: str = "train", roles: Mapping[str, str] | None = None) -> Dataset:
    """One split of a YOLO (`data.yaml`), Pascal VOC (folder) or COCO (JSON file or folder) data set.

    roles: class name -> role, where the usual names do not tell.
    Raises ValueError where nothing is found, naming what was looked for, and for a split that is missing or empty.
    """
    path, kind = _recognized(source)
    if kind == "yolo":
        return load_yolo(path, split, roles)
    return dataset_from_files(open_split(source, split), roles)


def open_split(source: Path | str, split: str) -> SplitFiles:
    """The pictures and label files of one split as they are, with whatever is wrong in them."""
    path, kind = _recognized(source)
    return {"yolo": open_yolo, "voc": open_voc, "coco": open_coco}[kind](path, split)


def format_of(source: Path | str) -> str:
    """`yolo`, `voc` or `coco`.  Raises ValueError where it is none of them."""
    return _recognized(source)[1]


def splits_of(source: Path | str) -> tuple[str, ...]:
    """Names of the splits that a data set has."""
    path, kind = _recognized(source)
    if kind == "yolo":
        return tuple(read_yolo_config(path).splits)
    return voc_splits(path) if kind == "voc" else coco_splits(path)


def strays_of(source: Path | str) -> tuple[Problem, ...]:
    """Labels of a data set that belong to no picture, pictures that were forgotten, classes that were miscounted."""
    path, kind = _recognized(source)
    return {"yolo": yolo_strays, "voc": voc_strays, "coco": coco_strays}[kind](path)


def match_classes(dataset: Dataset, classes: Sequence[Class]) -> Dataset:
    """The data set with its labels in the numbering of a detector's `classes`.

    Classes meet by role first (the one of the same name where the detector has several of that role), then by name;
    labels that the detector has no class for are dropped.
    Raises ValueError where no class matches.
    """
    index_of = class_mapping(dataset.classes, classes)
    if not index_of:
        raise ValueError(
            f"No class of the data matches one of the model: the data's classes are {_listing(dataset.classes)}; "
            f"the model's are {_listing(classes)}; give --role, for instance --role no_helmet=NAME."
        )
    return dataset.with_classes(tuple(classes), index_of)


def class_mapping(of: Sequence[Class], to: Sequence[Class]) -> dict[int, int]:
    """Index of each class of `of` that means the same as one of `to` -> the index of that one."""
    found = {index: _match(item, to) for index, item in enumerate(of)}
    return {index: target for index, target in found.items() if target is not None}


def check_labelled(dataset: Dataset, what_for: str) -> None:
    """Raises ValueError where not one box of these classes is in the data set.  what_for: "to train on", say."""
    if not any(len(sample.labels) for sample in dataset):
        names = ", ".join(item.name for item in dataset.classes)
        raise ValueError(
            f"The {dataset.split} split has {len(dataset)} pictures and not one box of {names} {what_for}; "
            "`helmlite data check` says what is wrong with its labels."
        )


def count_boxes(dataset: Dataset) -> int:
    """Labelled boxes of all classes."""
    return sum(len(sample.labels) for sample in dataset)


def readable(dataset: Dataset) -> tuple[Dataset, list[str]]:
    """The data set without the pictures or labels that cannot be read, and "path: why" for each of those.

    Decodes every picture once.  Raises ValueError where none can be read.
    """
    good: list[int] = []
    problems: list[str] = []
    for index in range(len(dataset)):
        try:
            dataset[index].read_image()
        except (ValueError, OSError) as error:
            problems.append(" ".join(str(error).split()))
        else:
            good.append(index)
    if not good:
        first = f"; the first: {problems[0]}" if problems else "."
        raise ValueError(f"None of the {len(dataset)} pictures can be read{first}")
    return (dataset.subset(good) if problems else dataset), problems


def merged(datasets: Sequence[Dataset]) -> Dataset:
    """Several data sets as one, in their order.  Raises ValueError for none, or where classes or roles differ."""
    if not datasets or any(item.classes != datasets[0].classes for item in datasets):
        raise ValueError("Only data sets with the same classes and roles can be joined.")
    places = [(item, index) for item in datasets for index in range(len(item))]
    paths = tuple(path for item in datasets for path in item.image_paths)
    return replace(datasets[0], image_paths=paths, load=lambda index: places[index][0][places[index][1]])


def _match(item: Class, classes: Sequence[Class]) -> int | None:
    """Index of the detector's class that means the same; equal names with different roles do not."""
    same_name = [index for index, other in enumerate(classes) if other.name.casefold() == item.name.casefold()]
    by_name = [
        index for index in same_name if None in (item.role, classes[index].role) or item.role == classes[index].role
    ]
    by_role = [index for index, other in enumerate(classes) if item.role and other.role == item.role]
    both = [index for index in by_name if index in by_role]
    return next(iter([*both, *by_role, *by_name]), None)


def _recognized(source: Path | str) -> tuple[Path, str]:
    path = Path(source)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder.")
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return path, "yolo"
    for name in _CONFIG_NAMES:
        if (path / name).is_file():
            return path / name, "yolo"
    if is_coco(path):
        return path, "coco"
    if is_voc(path):
        return path, "voc"
    raise ValueError(
        f"{path}: no data set found. Looked for a YOLO data.yaml, a COCO JSON for each split (instances_train.json "
        "...) and Pascal VOC XML files (in annotations/, beside the pictures, or in train/, val/, test/)."
    )


def _listing(classes: Sequence[Class]) -> str:
    return ", ".join(item.name for item in classes)
