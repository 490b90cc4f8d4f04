"""One image's boxes, scores and labels: the value that every detector, runtime and metric speaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best score first.

    boxes_xyxy: (N, 4) float32, pixels of the original image
    scores:     (N,)   float32, in [0, 1]
    labels:     (N,)   int64, index into the detector's classes
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes_xyxy.shape != (count, 4) or self.labels.shape != (count,) or self.scores.ndim != 1:
            raise ValueError(
                "Detections need boxes (N, 4), scores (N,) and labels (N,); "
                f"got {self.boxes_xyxy.shape}, {self.scores.shape} and {self.labels.shape}."
            )

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> Detections:
        """Only the detections with at least this score."""
        return self[self.scores >= score]

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Detections:
        return Detections(self.boxes_xyxy[index], self.scores[index], self.labels[index])


Predictor = Callable[[Image], Detections]  # what evaluate, watch and bench ask of anything that detects


def no_detections() -> Detections:
    """The answer for an image in which nothing was found."""
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
