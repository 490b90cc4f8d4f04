"""Training batches: pictures are read once and kept in memory; every random choice follows (seed, epoch, index)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import torch

from helmlite.boxes import xyxy_to_xywh
from helmlite.data.dataset import Dataset, UnreadableImageError
from helmlite.detector.augment import Augmentation, LabelledPicture, augmented, mixed
from helmlite.detector.detector import Batch, Log

_MAKERS = min(max((os.cpu_count() or 1) // 2, 1), 6)  # threads that make batches, beside those that train
_PREFETCHED = 2 * _MAKERS  # batches made ahead; they are the same whenever and by whomever they are made
_READERS = 2  # threads that decode; OpenCV lets Python go on while it works
_NAMED = 5  # unreadable pictures that are named; the others are only counted


class PictureCache:
    """The readable pictures of a data set, at most as large as the network's input, kept in memory while they fit.

    Pictures beyond `cache_bytes` are read from disk each time.  Pictures that cannot be read are left out, counted
    and named once through `log`; `unreadable` holds their messages.
    Raises ValueError where no picture is left, or where a label is not below `class_count`.
    """

    def __init__(self, dataset: Dataset, input_size: int, class_count: int, cache_bytes: int, log: Log) -> None:
        self._dataset = dataset
        self._input_size = input_size
        self._class_count = class_count
        self._kept: dict[int, LabelledPicture] = {}
        self._indices: list[int] = []
        self.unreadable: list[str] = []
        self._fill(cache_bytes)
        if self.unreadable:
            named = "; ".join(self.unreadable[:_NAMED])
            more = f"; and {len(self.unreadable) - _NAMED} more" if len(self.unreadable) > _NAMED else ""
            log(f"{len(self.unreadable)} unreadable picture(s) skipped: {named}{more}")
        if not self._indices:
            raise ValueError(
                f"There is no picture to train on: the {dataset.split} split has {len(dataset)} picture(s), "
                f"{len(self.unreadable)} of them unreadable."
            )

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> LabelledPicture:
        """The readable picture at this position."""
        index = self._indices[position]
        return self._kept[index] if index in self._kept else self._read(index)

    def _fill(self, bytes_left: int) -> None:
        """Reads every picture once, in order, so that what is kept does not depend on which thread was faster."""
        with ThreadPoolExecutor(_READERS) as readers:
            for index, picture in enumerate(readers.map(self._read_or_error, range(len(self._dataset)))):
                if isinstance(picture, UnreadableImageError):
                    self.unreadable.append(str(picture))
                    continue
                self._indices.append(index)
                if picture.image.nbytes <= bytes_left:
                    bytes_left -= picture.image.nbytes
                    self._kept[index] = picture

    def _read_or_error(self, index: int) -> LabelledPicture | UnreadableImageError:
        try:
            return self._read(index)
        except UnreadableImageError as error:
            return error

    def _read(self, index: int) -> LabelledPicture:
        sample = self._dataset[index]
        if len(sample.labels) and not 0 <= sample.labels.min() <= sample.labels.max() < self._class_count:
            raise ValueError(
                f"{sample.image_path}: has a label of class {sample.labels.max()}, but the detector knows only "
                f"classes 0 to {self._class_count - 1}; match the data set's classes to the detector's."
            )
        image = sample.read_image()
        scale = self._input_size / max(image.shape[:2])
        if scale >= 1:
            return LabelledPicture(image, sample.boxes_xyxy, sample.labels)
        size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
        shrunk = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)  # as the letterbox shrinks: what is met later
        factors = np.array([size[0] / image.shape[1], size[1] / image.shape[0]] * 2, dtype=np.float32)
        return LabelledPicture(shrunk, sample.boxes_xyxy * factors, sample.labels)


def training_batches(
    pictures: PictureCache, input_size: int, batch_size: int, settings: Augmentation, seed: int, epoch: int
) -> Iterator[Batch]:
    """The batches of one epoch: every picture once, in an order and with changes that (seed, epoch) decide.

    Batches differ by at most one picture in size, so that no small rest at the end weighs as much as a whole batch.
    """
    order = np.random.default_rng((seed, epoch, 0)).permutation(len(pictures))
    chunks = np.array_split(order, batch_count(len(pictures), batch_size))
    with ThreadPoolExecutor(_MAKERS) as maker:
        waiting: list[Future[Batch]] = []
        for chunk in chunks:
            waiting.append(maker.submit(_batch, pictures, chunk.tolist(), input_size, settings, seed, epoch))
            if len(waiting) > _PREFETCHED:
                yield waiting.pop(0).result()
        for ready in waiting:
            yield ready.result()


def batch_count(pictures: int, batch_size: int) -> int:
    """Steps of one epoch."""
    return -(-pictures // batch_size)


def without_mosaic(settings: Augmentation) -> Augmentation:
    """The same changes on single pictures only, for the last epochs: whole pictures are what the detector will see."""
    return replace(settings, mosaic=0.0, mixup=0.0)


def _batch(
    pictures: PictureCache, positions: list[int], input_size: int, settings: Augmentation, seed: int, epoch: int
) -> Batch:
    images = np.empty((len(positions), input_size, input_size, 3), dtype=np.float32)
    rows = []
    for place, position in enumerate(positions):
        random = np.random.default_rng((seed, epoch, 1 + position))
        made = _training_picture(pictures, position, input_size, settings, random)
        if random.random() < settings.mixup:
            other = int(random.integers(len(pictures)))
            made = mixed(made, _training_picture(pictures, other, input_size, settings, random), random)
        images[place] = made.image
        boxes = xyxy_to_xywh(made.boxes_xyxy) / np.float32(input_size)
        rows.append(np.column_stack([np.full(len(boxes), place), made.labels, boxes]).astype(np.float32))
    images /= np.float32(255)
    channels_last = torch.from_numpy(images).permute(0, 3, 1, 2)
    return Batch(channels_last, torch.from_numpy(np.concatenate(rows).reshape(-1, 6)))


def _training_picture(
    pictures: PictureCache, position: int, input_size: int, settings: Augmentation, random: np.random.Generator
) -> LabelledPicture:
    used = [position]
    if random.random() < settings.mosaic:
        used += random.integers(0, len(pictures), size=3).tolist()
    return augmented([pictures[item] for item in used], input_size, settings, random)
