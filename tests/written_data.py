"""Small data sets that exist in memory only: what is detected in them is written down, not computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import Predictions

Box = tuple[float, float, float, float]
CLASSES = with_roles(["helmet", "no_helmet"])


def make_sample(boxes: Sequence[Box], labels: Sequence[int], name: str = "a", group: str | None = None) -> Sample:
    shaped = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(Path(f"{name}.jpg"), shaped, np.array(labels, dtype=np.int64), group)


def make_found(boxes: Sequence[Box], scores: Sequence[float], labels: Sequence[int]) -> Detections:
    shaped = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Detections(shaped, np.array(scores, dtype=np.float32), np.array(labels, dtype=np.int64))


def make_predictions(*found: Detections) -> Predictions:
    return Predictions(found, tuple(range(len(found))))


def make_random(
    seed: int, pictures: int = 30, noise: float = 4.0, false: int = 6, digits: int = 2
) -> tuple[Dataset, Predictions]:
    """Boxes of all three sizes, found with noise, among detections of nothing."""
    random = np.random.default_rng(seed)
    samples, found = [], []
    for number in range(pictures):
        count = int(random.integers(0, 6))
        corners = random.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corners, corners + random.uniform(8, 150, (count, 2))], axis=1).astype(np.float32)
        labels = random.integers(0, 2, count)
        samples.append(Sample(Path(f"{number}.jpg"), boxes, labels.astype(np.int64)))
        kept = random.random(count) < 0.85
        near = boxes[kept] + random.normal(0, noise, (int(kept.sum()), 4))
        corners = random.uniform(0, 300, (false, 2))
        wrong = np.concatenate([corners, corners + random.uniform(8, 150, (false, 2))], axis=1)
        scores = np.concatenate([random.uniform(0.2, 1, len(near)), random.uniform(0, 0.7, false)])
        scores = np.round(scores, digits)  # with two digits equal scores are common, and their order matters
        found.append(
            Detections(
                np.concatenate([near, wrong]).astype(np.float32),
                scores.astype(np.float32),
                np.concatenate([labels[kept], random.integers(0, 2, false)]).astype(np.int64),
            )
        )
    return dataset_of(samples, CLASSES, "val"), Predictions(tuple(found), tuple(range(pictures)))
