"""Label files as they are, before any judgement: what the three readers give, a data set is made of, and
`data check` looks at.
"""

from __future__ import annotations

import codecs
import csv
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset, Sample, image_size
from helmlite.data.roles import with_roles

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
SPLITS = ("train", "val", "test")
_LARGEST_NUMBER = 1_000_000  # of a box, in pixels or parts of a picture: beyond it are slips, and numbers that overflow


@dataclass(frozen=True)
class Problem:
    """Something in a label file that cannot be read as a box, and where it stands (line 1 is the first)."""

    kind: str
    file: Path
    line: int | None
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.message}"


@dataclass(frozen=True)
class Labels:
    """What is labelled in one picture.

    boxes_xyxy:  (N, 4) float64; pixels, or parts of the picture's width and height where `in_parts`
    labels:      (N,) index into the names
    lines:       (N,) line of the file where each box stands, 0 where unknown
    file:        the label file, None where there is none
    stated_size: width and height that the label file gives for its picture, where it does
    """

    boxes_xyxy: NDArray[np.float64]
    labels: NDArray[np.int64]
    lines: NDArray[np.int64]
    file: Path | None
    problems: tuple[Problem, ...] = ()
    in_parts: bool = False
    stated_size: tuple[int, int] | None = None

    def in_pixels(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """The boxes in pixels of a picture of this width and height.  (N, 4) xyxy"""
        return self.boxes_xyxy * np.array([*size, *size], np.float64) if self.in_parts else self.boxes_xyxy


Row = tuple[tuple[float, float, float, float], int, int]  # box, label, line


def labels_of_rows(
    rows: Sequence[Row],
    file: Path | None,
    problems: Iterable[Problem] = (),
    in_parts: bool = False,
    stated_size: tuple[int, int] | None = None,
) -> Labels:
    """`Labels` from (box, label, line) rows."""
    boxes = np.array([row[0] for row in rows], np.float64).reshape(-1, 4)
    labels, lines = (np.array([row[column] for row in rows], np.int64) for column in (1, 2))
    return Labels(boxes, labels, lines, file, tuple(problems), in_parts, stated_size)


@dataclass(frozen=True)
class SplitFiles:
    """The pictures of one split and a way to their labels.

    groups: the scene or video of each picture, where the set names them
    weights: how often each is to be trained on (weights.py); none where all come alike
    """

    source: Path
    split: str
    names: tuple[str, ...]
    image_paths: tuple[Path, ...]
    read: Callable[[int], Labels] = field(repr=False)
    groups: tuple[str | None, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for path in self.image_paths:
            if not can_name_a_file(str(path)):
                raise ValueError(
                    f"{self.source}: the split '{self.split}' names the picture {path.name!r}, "
                    "which no file can be called; correct the name."
                )


def dataset_from_files(files: SplitFiles, roles: Mapping[str, str] | None = None) -> Dataset:
    """The split as a data set: labels are read when first asked for, and kept.

    `load` raises ValueError with file and line for a label that is not a box, and UnreadableImageError where the
    picture's size is needed and cannot be had.
    Raises ValueError where a picture's name is not UTF-8: no list, label file or report could name it.
    """
    _check_names(files)
    kept: dict[int, Sample] = {}

    def load(index: int) -> Sample:
        if index not in kept:
            kept[index] = _sample(files, index)
        return kept[index]

    return Dataset(with_roles(files.names, roles), files.image_paths, load, files.split, files.source)


def _sample(files: SplitFiles, index: int) -> Sample:
    labels, image_path = files.read(index), files.image_paths[index]
    if labels.problems:
        raise ValueError(str(labels.problems[0]))
    size = image_size(image_path) if labels.in_parts and len(labels.labels) else (1, 1)
    boxes = labels.in_pixels(size).astype(np.float32)
    return Sample(
        image_path,
        boxes,
        labels.labels,
        files.groups[index] if files.groups else None,
        weight=files.weights[index] if files.weights else 1.0,
    )


def _check_names(files: SplitFiles) -> None:
    wrong = [path for path in files.image_paths if not is_utf8(path)]
    if wrong:
        others = f" (and {len(wrong) - 1} more, which `helmlite data check` names)" if len(wrong) > 1 else ""
        raise ValueError(f"{as_utf8(str(wrong[0]))}: its name is not UTF-8; rename it{others}.")


def is_utf8(path: Path) -> bool:
    """Whether the path's name can be written as UTF-8; bytes of another encoding on the disk cannot."""
    return as_utf8(str(path)) == str(path)


def as_utf8(text: str) -> str:
    r"""The text with all that UTF-8 cannot hold spelled out.

    >>> as_utf8("头\udcff.jpg")
    '头\\udcff.jpg'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def can_name_a_file(name: str) -> bool:
    """Whether a file could be called so, whether there is one or not."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # half of a pair of UTF-16, as JSON can hold it
        return False


def number_fault(numbers: Iterable[float]) -> str | None:
    """What is wrong with a number of a box, after "a number ..."; None where nothing is."""
    for number in numbers:
        if not math.isfinite(number):
            return "is not finite"
        if abs(number) > _LARGEST_NUMBER:
            return f"is beyond {_LARGEST_NUMBER}, farther than any picture reaches"
    return None


def read_text(path: Path) -> str:
    """A text file in UTF-8, UTF-16 with a mark, the encoding that its XML declaration names, or GBK.

    What the bytes are wins over what the declaration says: files that call themselves GB2312 are often UTF-8.
    Raises ValueError where none fits, OSError where the file cannot be read.
    """
    content = path.read_bytes()
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    declared = re.match(rb"<\?xml[^>]*?encoding=[\"']([A-Za-z0-9._-]+)", content)
    for encoding in ("utf-16" if marked else "utf-8-sig", declared.group(1).decode() if declared else "", "gb18030"):
        try:
            return content.decode(encoding) if encoding else content.decode("gb18030")
        except (UnicodeDecodeError, LookupError):
            continue
    raise ValueError(f"{path}: neither UTF-8 nor GBK text.")


def groups_of(folder: Path, image_paths: Sequence[Path]) -> tuple[str | None, ...]:
    """The scene or video of each picture from `meta.csv` (columns `stem` and `group`) in the set's folder.

    Empty where there is no such file.
    """
    table = folder / "meta.csv"
    if not table.is_file():
        return ()
    rows = csv.DictReader(read_text(table).splitlines())
    if not {"stem", "group"} <= set(rows.fieldnames or ()):
        return ()
    group_of = {row["stem"]: row["group"] or None for row in rows}
    return tuple(group_of.get(path.stem) for path in image_paths)


def is_picture(path: Path) -> bool:
    """Whether the name ends like a picture's."""
    return path.suffix.lower() in IMAGE_SUFFIXES
