"""How often a picture is to be trained on: a `weights.csv` that a YOLO `data.yaml` names under the key `weights`.

    train: [../mine/train.txt, images/train]       data.yaml
    weights: weights.csv                           one file, or a list of files; counted from data.yaml's `path`

    picture,weight                                 weights.csv
    images/train/a.jpg,3                           counted from the folder of this file, or absolute

A picture of weight 3 is drawn three times as often as one of weight 1, which every picture has that is not named; one
of weight 0 is never drawn.  Only training looks at weights, and only those of the split `train` are read: they neither
change what is measured nor the statistics that a technique takes from pictures.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from helmlite.data.labels import read_text

WEIGHTS_KEY = "weights"
WEIGHTED_SPLIT = "train"
LARGEST_WEIGHT = 1000.0  # beyond it an epoch would be that picture and nothing else
_COLUMNS = ("picture", "weight")


def read_weights(tables: Sequence[Path], image_paths: Sequence[Path]) -> tuple[float, ...]:
    """The weight of each picture; none at all where every one is 1.

    Raises ValueError, with file and line, where a table does not have the columns `picture` and `weight`, names a
    picture that is not among `image_paths` or names it twice, or gives a weight that is no number from 0 to 1000; and
    where no picture has a weight above 0.  Raises OSError for a table that cannot be read.
    """
    known = {path.resolve(): path for path in image_paths}
    weight_of: dict[Path, float] = {}
    named: dict[Path, str] = {}
    for table in tables:
        for line, picture, weight in _rows(table):
            path = (table.parent / picture).resolve()
            if path not in known:
                raise ValueError(f"{table}:{line}: '{picture}' is no picture of the split '{WEIGHTED_SPLIT}'.")
            if path in named:
                raise ValueError(f"{table}:{line}: '{picture}' has a weight already ({named[path]}).")
            named[path] = f"{table.name}:{line}"
            weight_of[known[path]] = weight
    weights = [weight_of.get(path, 1.0) for path in image_paths]
    if weights and not any(weights):
        raise ValueError(f"{tables[0]}: every picture has the weight 0, so that none is left to train on.")
    return tuple(weights) if any(weight != 1 for weight in weights) else ()


def write_weights(path: Path, weights: Mapping[str, float]) -> None:
    """A table of weights.  weights: path of a picture, counted from the table's folder -> its weight"""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows((picture, f"{weight:g}") for picture, weight in weights.items())


def _rows(table: Path) -> list[tuple[int, str, float]]:
    """Line, picture and weight of each row."""
    if not table.is_file():
        raise ValueError(f"{table}: no such file; data.yaml names it as '{WEIGHTS_KEY}'.")
    reader = csv.DictReader(read_text(table).splitlines())
    if not set(_COLUMNS) <= set(reader.fieldnames or ()):
        raise ValueError(f"{table}: weights need the columns {' and '.join(_COLUMNS)}; got {reader.fieldnames}.")
    return [(reader.line_num, row["picture"] or "", _weight(row["weight"], table, reader.line_num)) for row in reader]


def _weight(text: str | None, table: Path, line: int) -> float:
    try:
        weight = float(text or "")
    except ValueError:
        weight = float("nan")
    if not 0 <= weight <= LARGEST_WEIGHT:  # written so that nan is none
        raise ValueError(f"{table}:{line}: a weight is a number from 0 to {LARGEST_WEIGHT:g}; got '{text}'.")
    return weight
