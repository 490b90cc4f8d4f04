"""Training batches: pictures are read once and kept in memory; every random choice follows (seed, epoch, index)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from helmlite.boxes import xyxy_to_xywh
from helmlite.data.dataset import Dataset, Sample, UnreadableImageError
from helmlite.detector.augment import Augmentation, LabelledPicture, augmented, mixed
from helmlite.detector.detector import Batch, Log
from helmlite.detector.repeat_factors import drawn, repeat_factors

_MAKERS = min(max((os.cpu_count() or 1) // 2, 1), 6)  # threads that make batches, beside those that train
_PREFETCHED = 2 * _MAKERS  # batches made ahead; they are the same whenever and by whomever they are made
_READERS = 2  # threads that decode; OpenCV lets Python go on while it works
_NAMED = 5  # unreadable pictures that are named; the others are only counted


class PictureCache:
    """The readable pictures of a data set, at most as large as the network's input, kept in memory while they fit.

    Pictures beyond `cache_bytes` are read from disk each time.  Pictures that cannot be read are left out, counted
    and named once through `log`; `unreadable` holds their messages.
    labelled, unlabelled: positions of the pictures of either kind;  has_found: whether a stored teacher saw any
    factors: for each of `labelled` how often it is to come: its factor by its classes (repeat_factors.py) times its
             weight in the data set; None where all come alike
    Raises ValueError where no labelled picture of a weight above 0 is left, or where a label is not below
    `class_count`.
    """

    def __init__(
        self,
        dataset: Dataset,
        input_size: int,
        class_count: int,
        cache_bytes: int,
        log: Log,
        repeat_threshold: float = 0.0,
    ) -> None:
        self._dataset = dataset
        self._input_size = input_size
        self._class_count = class_count
        self._kept: dict[int, LabelledPicture] = {}
        self._indices: list[int] = []
        self.unreadable: list[str] = []
        self.labelled: list[int] = []
        self.unlabelled: list[int] = []
        self._is_labelled: list[bool] = []
        self.has_found = False
        labels, weights = self._fill(cache_bytes)
        self.factors = _factors(labels, weights, repeat_threshold)
        if self.unreadable:
            named = "; ".join(self.unreadable[:_NAMED])
            more = f"; and {len(self.unreadable) - _NAMED} more" if len(self.unreadable) > _NAMED else ""
            log(f"{len(self.unreadable)} unreadable picture(s) skipped: {named}{more}")
        if not self.labelled:
            raise ValueError(
                f"There is no picture to train on: the {dataset.split} split has {len(dataset)} picture(s), "
                f"{len(self.unreadable)} of them unreadable."
            )
        if self.factors is not None and not self.factors.any():
            raise ValueError(
                f"There is no picture to train on: all {len(self.labelled)} labelled ones have the weight 0."
            )

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> LabelledPicture:
        """The readable picture at this position."""
        index = self._indices[position]
        return self._kept[index] if index in self._kept else self._read(index)

    def others(self, position: int, count: int, random: np.random.Generator) -> list[int]:
        """Positions of pictures to share a mosaic with this one, drawn by chance: labelled as it is, or not."""
        is_labelled = self._is_labelled[position]
        alike = self.labelled if is_labelled else self.unlabelled
        if self.factors is None or not is_labelled:
            return [alike[item] for item in random.integers(0, len(alike), size=count).tolist()]
        chosen = random.choice(len(alike), size=count, p=self.factors / self.factors.sum())
        return [alike[item] for item in chosen.tolist()]

    def labelled_order(self, random: np.random.Generator) -> list[int]:
        """Positions of the labelled pictures for one epoch: each once, or as often as its factor says."""
        if self.factors is None:
            return random.permutation(self.labelled).tolist()
        return [self.labelled[item] for item in drawn(self.factors, random).tolist()]

    def _fill(self, bytes_left: int) -> tuple[list[NDArray[np.int64]], NDArray[np.float64]]:
        """Reads every picture once, in order, so that what is kept does not depend on which thread was faster.

        Gives the labels and the weight of each labelled picture.
        """
        labels, weights = [], []
        with ThreadPoolExecutor(_READERS) as readers:
            for index, picture in enumerate(readers.map(self._read_or_error, range(len(self._dataset)))):
                if isinstance(picture, UnreadableImageError):
                    self.unreadable.append(str(picture))
                    continue
                (self.labelled if picture.is_labelled else self.unlabelled).append(len(self._indices))
                self._is_labelled.append(picture.is_labelled)
                self._indices.append(index)
                self.has_found |= picture.scores is not None
                if picture.is_labelled:
                    labels.append(picture.labels[picture.every_score() == 0])
                    weights.append(self._dataset[index].weight)
                if picture.image.nbytes <= bytes_left:
                    bytes_left -= picture.image.nbytes
                    self._kept[index] = picture
        return labels, np.array(weights, dtype=np.float64)

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
        picture = _in_memory(sample)
        image = picture.image
        scale = self._input_size / max(image.shape[:2])
        if scale >= 1:
            return picture
        size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
        shrunk = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)  # as the letterbox shrinks: what is met later
        factors = np.array([size[0] / image.shape[1], size[1] / image.shape[0]] * 2, dtype=np.float32)
        return replace(picture, image=shrunk, boxes_xyxy=picture.boxes_xyxy * factors)


def _factors(
    labels: Sequence[NDArray[np.int64]], weights: NDArray[np.float64], repeat_threshold: float
) -> NDArray[np.float64] | None:
    """How often each picture is to come, (N,); None where neither classes nor weights say anything."""
    if repeat_threshold > 0:
        return repeat_factors(labels, repeat_threshold) * weights
    return weights if (weights != 1).any() else None


def _in_memory(sample: Sample) -> LabelledPicture:
    """The decoded picture; behind the labelled boxes those that a stored teacher found, which go the same ways."""
    image, found = sample.read_image(), sample.found
    if found is None:
        return LabelledPicture(image, sample.boxes_xyxy, sample.labels, is_labelled=sample.is_labelled)
    return LabelledPicture(
        image,
        np.concatenate([sample.boxes_xyxy, found.boxes_xyxy]),
        np.concatenate([sample.labels, found.labels]),
        np.concatenate([np.zeros(len(sample.labels), np.float32), found.scores]),
        sample.is_labelled,
    )


def training_batches(
    pictures: PictureCache,
    input_size: int,
    batch_size: int,
    settings: Augmentation,
    seed: int,
    epoch: int,
    unlabelled_share: float = 0.0,
) -> Iterator[Batch]:
    """The batches of one epoch: every labelled picture once (or by its factor), in an order and with changes that
    (seed, epoch) decide.

    Batches differ by at most one picture in size, so that no small rest at the end weighs as much as a whole batch.
    unlabelled_share: of each batch that are pictures without labels, drawn anew for every epoch
    """
    chunks = _chunks(pictures, batch_size, seed, epoch, unlabelled_share)
    with ThreadPoolExecutor(_MAKERS) as maker:
        waiting: list[Future[Batch]] = []
        for chunk in chunks:
            waiting.append(maker.submit(_batch, pictures, chunk, input_size, settings, seed, epoch))
            if len(waiting) > _PREFETCHED:
                yield waiting.pop(0).result()
        for ready in waiting:
            yield ready.result()


def epoch_length(pictures: PictureCache, unlabelled_share: float) -> int:
    """Pictures of one epoch: the labelled ones, and as many without labels as make their share."""
    labelled = len(pictures.labelled)
    return labelled + (round(labelled * unlabelled_share / (1 - unlabelled_share)) if pictures.unlabelled else 0)


def batch_count(pictures: int, batch_size: int) -> int:
    """Steps of one epoch."""
    return -(-pictures // batch_size)


def without_mosaic(settings: Augmentation) -> Augmentation:
    """The same changes on single pictures only, for the last epochs: whole pictures are what the detector will see."""
    return replace(settings, mosaic=0.0, mixup=0.0)


def _chunks(
    pictures: PictureCache, batch_size: int, seed: int, epoch: int, unlabelled_share: float
) -> list[list[tuple[int, int]]]:
    """For each batch the position of its pictures, and the number that each one's random changes follow from."""
    random = np.random.default_rng((seed, epoch, 0))
    labelled = pictures.labelled_order(random)
    draws = epoch_length(pictures, unlabelled_share) - len(labelled)
    rounds = -(-draws // len(pictures.unlabelled)) if draws else 0  # none comes again before all have come
    unlabelled = [item for _ in range(rounds) for item in random.permutation(pictures.unlabelled).tolist()][:draws]
    numbers = (
        labelled if pictures.factors is None else range(len(labelled))
    )  # a picture that comes twice looks different
    first = list(zip(labelled, numbers, strict=True))
    second = [(position, len(pictures) + number) for number, position in enumerate(unlabelled)]
    steps = batch_count(len(first) + len(second), batch_size)
    return [[*ours, *theirs] for ours, theirs in zip(_parts(first, steps), _parts(second, steps), strict=True)]


def _parts(chosen: list[tuple[int, int]], count: int) -> list[list[tuple[int, int]]]:
    """So many parts in order, whose sizes differ by at most one."""
    return [[chosen[item] for item in part.tolist()] for part in np.array_split(np.arange(len(chosen)), count)]


def _batch(
    pictures: PictureCache,
    chosen: Sequence[tuple[int, int]],
    input_size: int,
    settings: Augmentation,
    seed: int,
    epoch: int,
) -> Batch:
    """chosen: position of each picture, and the number that its random changes follow from."""
    images = np.empty((len(chosen), input_size, input_size, 3), dtype=np.float32)
    rows, labelled = [], []
    for place, (position, number) in enumerate(chosen):
        random = np.random.default_rng((seed, epoch, 1 + number))
        made = _training_picture(pictures, position, input_size, settings, random)
        if random.random() < settings.mixup:
            (other,) = pictures.others(position, 1, random)
            made = mixed(made, _training_picture(pictures, other, input_size, settings, random), random)
        images[place] = made.image
        boxes = xyxy_to_xywh(made.boxes_xyxy) / np.float32(input_size)
        columns = [np.full(len(boxes), place), made.labels, boxes, made.every_score()]
        rows.append(np.column_stack(columns).astype(np.float32))
        labelled.append(made.is_labelled)
    images /= np.float32(255)
    channels_last = torch.from_numpy(images).permute(0, 3, 1, 2)
    found = torch.from_numpy(np.concatenate(rows).reshape(-1, 7))
    is_found = found[:, 6] > 0
    return Batch(
        channels_last,
        found[~is_found, :6],
        None if all(labelled) else torch.tensor(labelled),
        found[is_found] if pictures.has_found else None,
    )


def _training_picture(
    pictures: PictureCache, position: int, input_size: int, settings: Augmentation, random: np.random.Generator
) -> LabelledPicture:
    used = [position]
    if random.random() < settings.mosaic:
        used += pictures.others(position, 3, random)
    return augmented([pictures[item] for item in used], input_size, settings, random)
