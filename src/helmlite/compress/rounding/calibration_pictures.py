"""Which of the user's training pictures a network is calibrated on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from helmlite.data.dataset import Dataset, UnreadableImageError
from helmlite.detector.detector import Log
from helmlite.runtime.preprocess import network_input

FEW_PICTURES = 64
_PER_CLASS = 8  # pictures that show a class, where the data set has as many


class CalibrationPictures:
    """A sample of a data set that follows from the seed and shows every class that the data set shows.

    used:       indices of the pictures that were read, in order; known once `batches` has been gone through
    unreadable: paths of those that could not be, which are skipped
    Raises ValueError where the data set is empty.
    """

    def __init__(
        self, dataset: Dataset, count: int, input_size: int, seed: int, log: Log, technique: str = "quantize"
    ) -> None:
        self._technique = technique
        if len(dataset) == 0:
            raise ValueError(
                f"{self._technique}: there are no calibration pictures; the train split of the data set is empty."
            )
        self._dataset, self._input_size, self._seed, self._log = dataset, input_size, seed, log
        self._labels = [sample.labels for sample in dataset]
        self._order = self._choose(count)
        self.used: list[int] = []
        self.unreadable: list[Path] = []
        if len(self._order) < FEW_PICTURES:
            log(
                f"{self._technique}: only {len(self._order)} calibration pictures; "
                f"below {FEW_PICTURES} what they show may not hold for others"
            )
        shown = self._boxes_by_class(self._order)
        for index, item in enumerate(dataset.classes):
            if shown[index] == 0:
                log(f"{self._technique}: no calibration picture shows '{item.name}'; its scores may suffer")

    def batches(self, size: int) -> Iterator[Tensor]:
        """Letterboxed pictures (B, 3, S, S) in [0, 1].  Raises ValueError where none can be read."""
        self.used, self.unreadable = [], []
        planes: list[Tensor] = []
        for index in self._order:
            try:
                planes.append(self._read(index))
            except UnreadableImageError as error:
                self.unreadable.append(self._dataset.image_paths[index])
                self._log(f"{self._technique}: skipped {error}")
                continue
            self.used.append(index)
            if len(planes) == size:
                yield torch.cat(planes)
                planes = []
        if planes:
            yield torch.cat(planes)
        if not self.used:
            raise ValueError(f"{self._technique}: none of the {len(self._order)} calibration pictures can be read.")

    def first(self, count: int) -> Tensor:
        """The first of the pictures that were read, as one batch."""
        return torch.cat([self._read(index) for index in self.used[:count]])

    def described(self) -> dict[str, Any]:
        """What was used, for the plan: number, content hash, boxes of each class, seed, input size."""
        shown = self._boxes_by_class(self.used)
        return {
            "pictures": len(self.used),
            "unreadable": len(self.unreadable),
            "sha256": self._dataset.subset(self.used).sha256(),
            "boxes_by_class": {item.name: shown[index] for index, item in enumerate(self._dataset.classes)},
            "input_size": self._input_size,
            "seed": self._seed,
        }

    def _read(self, index: int) -> Tensor:
        planes, _ = network_input(self._dataset[index].read_image(), self._input_size)
        return torch.from_numpy(planes)

    def _choose(self, count: int) -> list[int]:
        order = [int(index) for index in np.random.default_rng(self._seed).permutation(len(self._dataset))]
        needed: dict[int, None] = {}
        for label in range(len(self._dataset.classes)):
            showing = (index for index in order if label in self._labels[index])
            needed.update(dict.fromkeys(index for index, _ in zip(showing, range(_PER_CLASS))))
        first = dict.fromkeys([*needed, *order])  # those needed, then the others, each once
        return list(first)[:count]

    def _boxes_by_class(self, indices: list[int]) -> Counter[int]:
        return Counter(int(label) for index in indices for label in self._labels[index])
