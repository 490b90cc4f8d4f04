"""Plain batches: letterboxed pictures without augmentation, for gradients, statistics and calibration."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from helmlite.boxes import xyxy_to_xywh
from helmlite.data.dataset import Dataset
from helmlite.detector.detector import Batch
from helmlite.runtime.preprocess import network_input


def plain_batches(dataset: Dataset, input_size: int, count: int, batch_size: int, seed: int) -> Iterator[Batch]:
    """At most `count` pictures of the data set, drawn without repetition by `seed`, in batches.

    Raises ValueError where the data set is empty.
    """
    if len(dataset) == 0:
        raise ValueError("There is no picture to take statistics from: the data set is empty.")
    order = np.random.default_rng(seed).permutation(len(dataset))[:count]
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        planes, targets = [], []
        for position, index in enumerate(chosen.tolist()):
            sample = dataset[index]
            image, placement = network_input(sample.read_image(), input_size)
            planes.append(torch.from_numpy(image))
            boxes = xyxy_to_xywh(placement.to_network(sample.boxes_xyxy)) / np.float32(input_size)
            rows = np.column_stack([np.full(len(boxes), position), sample.labels, boxes]).astype(np.float32)
            targets.append(torch.from_numpy(rows.reshape(-1, 6)))
        yield Batch(torch.cat(planes), torch.cat(targets))
