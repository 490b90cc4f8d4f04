"""A data set written to disk as YOLO, Pascal VOC or COCO: pictures are copied byte by byte, boxes and classes kept.

YOLO and COCO keep boxes exactly; VOC has whole pixels, so that a box moves by at most half a pixel.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from helmlite.data.coco import write_coco
from helmlite.data.dataset import Dataset, Sample, image_size
from helmlite.data.labels import as_utf8
from helmlite.data.load import format_of, load_dataset, readable, splits_of, strays_of
from helmlite.data.voc import write_voc_file
from helmlite.data.weights import WEIGHTED_SPLIT, write_weights
from helmlite.data.yolo import write_yolo_config, write_yolo_labels
from helmlite.files import check_new_folder, new_folder

FORMATS = ("yolo", "voc", "coco")


@dataclass(frozen=True)
class Written:
    """What a data set on disk holds now.

    skipped: "path: why" of each picture that could not be read, and of each file with labels of no picture; weights
             that the format cannot hold
    """

    folder: Path
    pictures: Mapping[str, int]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Entry:
    """One picture to be written: its sample, its size, and its new name, which no other picture's stem equals."""

    sample: Sample
    size: tuple[int, int]
    name: str


def convert_dataset(source: Path | str, to: str, out: Path) -> Written:
    """Writes all splits of a data set in another format, without what cannot be read.

    Raises ValueError for an unknown format, a folder that is in use, or where nothing can be read.
    """
    check_output(out, to)
    splits: dict[str, Dataset] = {}
    skipped: list[str] = []
    for split in splits_of(source):
        splits[split], problems = readable(load_dataset(source, split))
        skipped += problems
    return write_dataset(splits, to, out, [*skipped, *_strays(source)])


def write_dataset(splits: Mapping[str, Dataset], to: str, out: Path, skipped: Sequence[str] = ()) -> Written:
    """Writes these splits, whose pictures must be readable, into a new folder; nothing is left there on an error.

    Raises ValueError where the splits' classes differ, the format is unknown, or `out` is in use.
    """
    check_output(out, to)
    classes = {dataset.classes for dataset in splits.values()}
    if len(classes) != 1:
        raise ValueError("A data set needs at least one split, and the same classes and roles in every split.")
    names = tuple(item.name for item in next(iter(classes)))
    entries = _entries(splits)
    write: Callable[[Path, Mapping[str, list[_Entry]], Sequence[str]], None]
    write = {"yolo": _write_yolo, "voc": _write_voc, "coco": _write_coco}[to]
    with new_folder(out) as folder:
        write(folder, entries, names)
    weighted = _weights(entries.get(WEIGHTED_SPLIT, ()))
    lost = [f"weights of {len(weighted)} pictures: {to} has no place for them"] if weighted and to != "yolo" else []
    return Written(out, {split: len(rows) for split, rows in entries.items()}, (*skipped, *lost))


def check_output(out: Path, to: str) -> None:
    """Raises ValueError where `out` is a file or a folder with something in it, or `to` is no known format."""
    if to not in FORMATS:
        raise ValueError(f"Unknown data format '{to}'. The formats are {', '.join(FORMATS)}.")
    check_new_folder(out)


def _strays(source: Path | str) -> Iterator[str]:
    """One line for each label file with labels of pictures that are not there."""
    if format_of(source) == "voc":  # whose readers start from the label files: they have skipped those pictures
        return
    strays = [item for item in strays_of(source) if item.kind == "label-without-picture"]
    for file, own in groupby(strays, key=lambda item: item.file):
        first, *others = own
        more = f" (and {len(others)} more like this)" if others else ""
        yield as_utf8(f"{file}: {first.message}{more}")


def _entries(splits: Mapping[str, Dataset]) -> dict[str, list[_Entry]]:
    """The pictures of each split under names whose stems differ, upper and lower case alike."""
    taken: set[str] = set()
    entries: dict[str, list[_Entry]] = {}
    for split, dataset in splits.items():
        entries[split] = []
        for sample in dataset:
            stem, number = sample.image_path.stem, 2
            while stem.casefold() in taken:
                stem, number = f"{sample.image_path.stem}_{number}", number + 1
            taken.add(stem.casefold())
            name = stem + sample.image_path.suffix
            entries[split].append(_Entry(sample, image_size(sample.image_path), name))
    return entries


def _write_yolo(folder: Path, entries: Mapping[str, list[_Entry]], names: Sequence[str]) -> None:
    for split, rows in entries.items():
        images, labels = _made(folder / "images" / split), _made(folder / "labels" / split)
        for row in rows:
            shutil.copyfile(row.sample.image_path, images / row.name)
            write_yolo_labels((labels / row.name).with_suffix(".txt"), row.sample, row.size)
    weights = _weights(entries.get(WEIGHTED_SPLIT, ()))
    if weights:
        write_weights(folder / "weights.csv", weights)
    places: dict[str, str | list[str]] = {split: f"images/{split}" for split in entries}
    write_yolo_config(folder / "data.yaml", names, places, "weights.csv" if weights else None)
    _write_groups(folder, entries)


def _weights(rows: Sequence[_Entry]) -> dict[str, float]:
    """Of each picture that is to be trained on more or less often: where it lies, and its weight."""
    return {f"images/{WEIGHTED_SPLIT}/{row.name}": row.sample.weight for row in rows if row.sample.weight != 1}


def _write_voc(folder: Path, entries: Mapping[str, list[_Entry]], names: Sequence[str]) -> None:
    images, labels = _made(folder / "JPEGImages"), _made(folder / "Annotations")
    lists = _made(folder / "ImageSets" / "Main")
    for split, rows in entries.items():
        for row in rows:
            shutil.copyfile(row.sample.image_path, images / row.name)
            xml = (labels / row.name).with_suffix(".xml")
            write_voc_file(xml, row.sample, row.size, names, row.name)
        _write_lines(lists / f"{split}.txt", [Path(row.name).stem for row in rows])
    _write_lines(folder / "classes.txt", names)  # VOC itself has no place for their order
    _write_groups(folder, entries)


def _write_coco(folder: Path, entries: Mapping[str, list[_Entry]], names: Sequence[str]) -> None:
    labels = _made(folder / "annotations")
    for split, rows in entries.items():
        images = _made(folder / "images" / split)
        for row in rows:
            shutil.copyfile(row.sample.image_path, images / row.name)
        samples, sizes = [row.sample for row in rows], [row.size for row in rows]
        write_coco(labels / f"instances_{split}.json", samples, [row.name for row in rows], sizes, names)


def _write_groups(folder: Path, entries: Mapping[str, list[_Entry]]) -> None:
    """`meta.csv` with the scene or video of each picture, where the data set names any."""
    rows = [(Path(row.name).stem, split, row.sample.group or "") for split, own in entries.items() for row in own]
    if any(group for _, _, group in rows):
        with (folder / "meta.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("stem", "split", "group"), *rows])


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
