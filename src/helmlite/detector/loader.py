"""Training batches: pictures are read once and kept in memory; every random choice follows (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import torch

from helmlite.boxes import xyxy_to_xywh
from helmlite.data.dataset import Dataset
from helmlite.detector.augment import Augmentation, LabelledPicture, augmented
from helmlite.detector.detector import Batch

_PREFETCHED = 2  # batches made ahead; they are the same whoever makes them


class PictureCache:
    """Pictures of a data set, shrunk to the input size, read when first asked for and then kept."""

    def __init__(self, dataset: Dataset, input_size: int, cache_bytes: int) -> None:
        self._dataset = dataset
        self._input_size = input_size
        self._bytes_left = cache_bytes
        self._kept: dict[int, LabelledPicture] = {}

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> LabelledPicture:
        if index in self._kept:
            return self._kept[index]
        picture = self._read(index)
        if picture.image.nbytes <= self._bytes_left:
            self._bytes_left -= picture.image.nbytes
            self._kept[index] = picture
        return picture

    def _read(self, index: int) -> LabelledPicture:
        sample = self._dataset[index]
        image = sample.read_image()
        scale = self._input_size / max(image.shape[:2])
        if scale >= 1:
            return LabelledPicture(image, sample.boxes_xyxy, sample.labels)
        size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
        shrunk = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        factors = np.array([size[0] / image.shape[1], size[1] / image.shape[0]] * 2, dtype=np.float32)
        return LabelledPicture(shrunk, sample.boxes_xyxy * factors, sample.labels)


def training_batches(
    pictures: PictureCache, input_size: int, batch_size: int, settings: Augmentation, seed: int, epoch: int
) -> Iterator[Batch]:
    """The batches of one epoch: every picture once, in an order and with changes that (seed, epoch) decide."""
    order = np.random.default_rng((seed, epoch)).permutation(len(pictures))
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    with ThreadPoolExecutor(max_workers=1) as maker:  # OpenCV lets Python go on while it works
        waiting: list[Future[Batch]] = []
        for chunk in chunks:
            waiting.append(maker.submit(_batch, pictures, chunk.tolist(), input_size, settings, seed, epoch))
            if len(waiting) > _PREFETCHED:
                yield waiting.pop(0).result()
        for ready in waiting:
            yield ready.result()


def without_mosaic(settings: Augmentation) -> Augmentation:
    """The same changes on single pictures only, for the last epochs."""
    return replace(settings, mosaic=0.0)


def _batch(
    pictures: PictureCache, indices: list[int], input_size: int, settings: Augmentation, seed: int, epoch: int
) -> Batch:
    images = np.empty((len(indices), input_size, input_size, 3), dtype=np.uint8)
    rows = []
    for position, index in enumerate(indices):
        random = np.random.default_rng((seed, epoch, index))
        used = [index]
        if random.random() < settings.mosaic:
            used += random.integers(0, len(pictures), size=3).tolist()
        made = augmented([pictures[item] for item in used], input_size, settings, random)
        images[position] = made.image
        boxes = xyxy_to_xywh(made.boxes_xyxy) / np.float32(input_size)
        rows.append(np.column_stack([np.full(len(boxes), position), made.labels, boxes]).astype(np.float32))
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
    return Batch(planes, torch.from_numpy(np.concatenate(rows).reshape(-1, 6)))
