"""What the tests of techniques that split a convolution into a chain share: low_rank, separable."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helpers import alive

CLASSES = with_roles(["helmet", "no_helmet"])
SIZE = 96  # of the pictures that `alive` takes its statistics from
FAMILIES = ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo12n", "yolo26n")


def smooth_data(folder: Path) -> Dataset:
    samples = []
    for index, planes in enumerate(pictures(8, seed=0)):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), (planes.permute(1, 2, 0).numpy() * 255).astype(np.uint8))
        samples.append(Sample(path, np.array([[10, 10, 40, 50]], np.float32), np.array([index % 2], np.int64)))
    return dataset_of(samples, CLASSES)


def detector_named(name: str) -> Detector:
    if name == "tiny":
        return alive(new_tiny(CLASSES, SIZE))
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    return alive(new_ultralytics(name, CLASSES, input_size=SIZE))


def context(detector: Detector, data: Dataset, folder: Path, lines: list[str] | None = None) -> Context:
    log = (lambda line: None) if lines is None else lines.append
    return Context(data, detector, SIZE, 0, folder, log=log)


def maps(detector: Detector) -> tuple[Tensor, ...]:
    with torch.no_grad():
        answer: tuple[Tensor, ...] = detector.network.eval()(pictures(2))
    return answer


def pictures(count: int, seed: int = 3) -> Tensor:
    """Smooth ones (B, 3, S, S), as those that the statistics are from."""
    small = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(small, size=(SIZE, SIZE), mode="bilinear")
