"""A data set from whatever the user points at, and its labels in the numbering of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from helmlite.data.coco import coco_splits, is_coco, load_coco
from helmlite.data.dataset import Dataset, UnreadableImageError
from helmlite.data.roles import Class, index_of_role
from helmlite.data.voc import is_voc, load_voc, voc_splits
from helmlite.data.yolo import load_yolo, read_yolo_config


def load_dataset(source: Path | str, split: str = "train", roles: Mapping[str, str] | None = None) -> Dataset:
    """One split of a YOLO (`data.yaml`), Pascal VOC (folder) or COCO (JSON file or folder) data set.

    roles: class name -> role, where the usual names do not tell.
    Raises ValueError where nothing is found, naming what was looked for.
    """
    path, kind = _recognized(Path(source))
    if kind == "yolo":
        return load_yolo(path, split, roles)
    if kind == "voc":
        return load_voc(path, split, roles)
    return load_coco(path, split, roles)


def splits_of(source: Path | str) -> tuple[str, ...]:
    """Names of the splits that a data set has."""
    path, kind = _recognized(Path(source))
    if kind == "yolo":
        return tuple(read_yolo_config(path).splits)
    return voc_splits(path) if kind == "voc" else coco_splits(path)


def match_classes(dataset: Dataset, classes: Sequence[Class]) -> Dataset:
    """The data set with its labels in the numbering of a detector's `classes`.

    Classes meet by role first, then by name; labels that the detector has no class for are dropped.
    Raises ValueError where no class matches.
    """
    index_of: dict[int, int] = {}
    for index, item in enumerate(dataset.classes):
        target = index_of_role(classes, item.role) if item.role else None
        if target is None:
            target = next((k for k, other in enumerate(classes) if other.name.lower() == item.name.lower()), None)
        if target is not None:
            index_of[index] = target
    if not index_of:
        raise ValueError(
            f"No class of the data ({_listing(dataset.classes)}) matches one of the model ({_listing(classes)}). "
            "Say what they mean, for instance --role no_helmet=NAME --role helmet=NAME."
        )
    return dataset.with_classes(tuple(classes), index_of)


def readable(dataset: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """The data set without the pictures or labels that cannot be read, and one line for each of those, saying why.

    Raises ValueError where none can be read.
    """
    good, problems = [], []
    for index in range(len(dataset)):
        try:
            dataset[index].read_image()
            good.append(index)
        except (UnreadableImageError, ValueError) as error:
            problems.append(str(error))
    if not good:
        raise ValueError(f"None of the {len(dataset)} pictures can be read; the first: {problems[0]}")
    return (dataset.subset(good) if problems else dataset), tuple(problems)


def merged(datasets: Sequence[Dataset]) -> Dataset:
    """Several data sets as one, in their order; all must have the same classes."""
    first = datasets[0]
    if any(item.classes != first.classes for item in datasets):
        raise ValueError("Only data sets with the same classes and roles can be joined.")
    places = [(item, index) for item in datasets for index in range(len(item))]
    paths = tuple(path for item in datasets for path in item.image_paths)
    return replace(first, image_paths=paths, load=lambda index: places[index][0][places[index][1]])


def _recognized(source: Path) -> tuple[Path, str]:
    if source.suffix.lower() in (".yaml", ".yml"):
        if not source.is_file():
            raise ValueError(f"{source}: no such file.")
        return source, "yolo"
    if source.is_dir() and (source / "data.yaml").is_file():
        return source / "data.yaml", "yolo"
    if is_coco(source):
        return source, "coco"
    if is_voc(source):
        return source, "voc"
    if not source.exists():
        raise ValueError(f"{source}: no such file or folder.")
    raise ValueError(
        f"{source}: no data set found. Looked for a YOLO data.yaml, a COCO JSON, and a folder of Pascal VOC XML files."
    )


def _listing(classes: Sequence[Class]) -> str:
    return ", ".join(item.name for item in classes)
