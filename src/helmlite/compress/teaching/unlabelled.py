"""Pictures that nobody has labelled: a teacher can teach on them too, the detection loss cannot.

They join the training pictures as samples without labels (`Sample.is_labelled` False).  Training draws them into each
batch by their share, never mixes them with labelled ones in a mosaic, and leaves them out of the detection loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from helmlite.data.dataset import Dataset, Sample
from helmlite.data.labels import IMAGE_SUFFIXES
from helmlite.data.load import merged
from helmlite.data.roles import Class

SPLIT = "unlabelled"


def unlabelled_pictures(folder: Path | str, classes: Sequence[Class]) -> Dataset:
    """Every picture in a folder and the folders in it, by path, as a data set without labels.

    Raises ValueError where there is no such folder, and where it holds no picture.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ValueError(f"unlabelled: {place}: no such folder.")
    paths = tuple(sorted(item for item in place.rglob("*") if item.suffix.lower() in IMAGE_SUFFIXES and item.is_file()))
    if not paths:
        raise ValueError(f"unlabelled: {place}: holds no picture ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return Dataset(tuple(classes), paths, lambda index: _sample(paths[index]), SPLIT, place)


def with_unlabelled(dataset: Dataset, unlabelled: Dataset) -> Dataset:
    """Labelled pictures first, then the others.  Raises ValueError where their classes differ."""
    return merged([dataset, unlabelled])


def file_sha256(path: Path) -> str:
    """Hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sample(path: Path) -> Sample:
    return Sample(path, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), is_labelled=False)
