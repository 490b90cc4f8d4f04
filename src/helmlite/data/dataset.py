"""A data set is a list of samples: an image on disk and its labelled boxes.  Pictures are read when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.data.image_files import is_truncated, size_from_header
from helmlite.data.roles import Class
from helmlite.detections import Detections, Image


class UnreadableImageError(ValueError):
    """An image file is missing, empty, truncated, of an unknown format, or larger than can be decoded."""


@dataclass(frozen=True)
class Sample:
    """One picture and what is labelled in it.

    boxes_xyxy: (N, 4) float32, pixels of the image, x to the right, y down
    labels:     (N,)   int64, index into the data set's classes
    group:      scene or video that the picture belongs to, where the data set names one
    is_labelled: False where nobody has looked for objects: no box then means nothing
    found:      what a teacher found in it, as its stored predictions say; None where nobody asked
    weight:     how often training draws it, in parts of how often it draws a picture of weight 1 (weights.py)
    """

    image_path: Path
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    group: str | None = None
    is_labelled: bool = True
    found: Detections | None = None
    weight: float = 1.0

    def read_image(self) -> Image:
        """The picture as (H, W, 3) RGB uint8.  Raises UnreadableImageError."""
        return read_image(self.image_path)


@dataclass(frozen=True)
class Dataset:
    """A named split of labelled pictures.

    `load` gives the sample at an index, with its labels; the picture itself is read by `Sample.read_image`.
    """

    classes: tuple[Class, ...]
    image_paths: tuple[Path, ...]
    load: Callable[[int], Sample] = field(repr=False)
    split: str = "train"
    source: Path | None = None

    def __len__(self) -> int:
        return len(self.image_paths)

    def __getitem__(self, index: int) -> Sample:
        return self.load(index)

    def __iter__(self) -> Iterator[Sample]:
        return (self.load(index) for index in range(len(self)))

    def subset(self, indices: NDArray[np.int64] | list[int]) -> Dataset:
        """The same data set with only these samples, in this order."""
        chosen = [int(index) for index in indices]
        load = self.load
        return replace(
            self,
            image_paths=tuple(self.image_paths[index] for index in chosen),
            load=lambda position: load(chosen[position]),
        )

    def sha256(self) -> str:
        """Hash of the classes and, in order, of every image file's and label's content, and of weights other than 1.

        A picture that cannot be opened counts as such: with or without it, the hash differs.
        """
        digest = hashlib.sha256(repr([(item.name, item.role) for item in self.classes]).encode())
        for index in range(len(self)):
            try:
                sample = self[index]
                digest.update(hashlib.sha256(_content(sample.image_path)).digest())
            except UnreadableImageError:
                digest.update(b"unreadable")
                continue
            digest.update(np.round(sample.boxes_xyxy.astype(np.float64), 2).tobytes())
            digest.update(sample.labels.astype(np.int64).tobytes())
            if not sample.is_labelled:
                digest.update(b"unlabelled")
            if sample.weight != 1:
                digest.update(f"weight {sample.weight!r}".encode())
        return digest.hexdigest()

    def with_classes(self, classes: tuple[Class, ...], index_of: Mapping[int, int]) -> Dataset:
        """The data set with labels renumbered by `index_of` (old -> new); labels it lacks are dropped."""
        load = self.load

        def renumbered(index: int) -> Sample:
            sample = load(index)
            kept = np.array([int(label) in index_of for label in sample.labels], dtype=bool)
            labels = np.array([index_of[int(label)] for label in sample.labels[kept]], dtype=np.int64)
            return replace(sample, boxes_xyxy=sample.boxes_xyxy[kept], labels=labels)

        return replace(self, classes=classes, load=renumbered)


def dataset_of(samples: list[Sample], classes: tuple[Class, ...], split: str = "train") -> Dataset:
    """A data set over samples that are already in memory (their pictures still are not)."""
    return Dataset(classes, tuple(sample.image_path for sample in samples), samples.__getitem__, split)


def read_image(path: Path) -> Image:
    """The picture as (H, W, 3) RGB uint8, whatever letters its path holds.

    Raises UnreadableImageError, also for a truncated file, which decoders would fill with grey.
    """
    encoded = _content(path)
    if is_truncated(encoded):
        raise UnreadableImageError(f"{path}: the picture is cut off, its end is missing ({len(encoded)} bytes)")
    try:
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if encoded else None
        if decoded is not None:
            return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    except (cv2.error, MemoryError) as error:
        size = size_from_header(encoded)
        told = f", {size[0]} x {size[1]} pixels by its header" if size else ""
        raise UnreadableImageError(f"{path}: damaged, or too large to decode ({len(encoded)} bytes{told})") from error
    raise UnreadableImageError(f"{path}: not a readable picture ({len(encoded)} bytes)")


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as `read_image` gives it, from its header.  Raises UnreadableImageError."""
    size = size_from_header(_content(path))
    if size is None:
        height, width = read_image(path).shape[:2]
        return width, height
    return size


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()  # cv2.imread fails on non-ASCII paths on some systems
    except OSError as error:
        raise UnreadableImageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UnreadableImageError(f"{str(path)!r}: no file can have this name") from error
