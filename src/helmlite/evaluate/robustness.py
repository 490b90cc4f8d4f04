"""Accuracy on pictures made worse as roadside cameras make them: dark, noisy, blurred, compressed, hazy.

A compressed detector may hold its average and still lose the night.  The pictures are changed by simple formulas with
fixed strengths, so that two detectors see the same change; they are stand-ins for real bad pictures, not a forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from helmlite.data.dataset import Dataset
from helmlite.detections import Detections, Image, Predictor
from helmlite.evaluate.accuracy import Predictions, Progress, measure_accuracy, predict_all
from helmlite.evaluate.resampling import map_loss_ci95

Change = Callable[[Image, np.random.Generator], Image]


@dataclass(frozen=True)
class Robustness:
    """Accuracy under one condition, and what the condition costs on the same pictures.

    map, map50:   in [0, 1], None where unknown
    loss_points:  of mAP50-95 against the pictures as they are, negative for a gain
    loss_ci95:    its 95 % interval, paired by picture
    """

    condition: str
    map: float | None
    map50: float | None
    loss_points: float | None
    loss_ci95: tuple[float, float] | None


def darkened(image: Image, random: np.random.Generator) -> Image:
    """A sixth of the light, and the sensor's noise that comes with it (sd 6 of 255)."""
    return _rounded(image.astype(np.float32) / 6 + random.normal(0, 6, image.shape))


def noisy(image: Image, random: np.random.Generator) -> Image:
    """Gaussian noise of standard deviation 20 of 255 in each channel."""
    return _rounded(image.astype(np.float32) + random.normal(0, 20, image.shape))


def blurred(image: Image, random: np.random.Generator) -> Image:
    """Motion along the row by 1.5 % of the width, at least 3 pixels."""
    length = max(round(0.015 * image.shape[1]), 3)
    kernel = np.full((1, length), 1 / length, dtype=np.float32)
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE), dtype=np.uint8)


def compressed(image: Image, random: np.random.Generator) -> Image:
    """JPEG at quality 15, as a stream of a thin line sends it."""
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 15])
    return np.asarray(cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def hazy(image: Image, random: np.random.Generator) -> Image:
    """Rain haze: contrast pulled by half towards a bright grey."""
    return _rounded(0.5 * image.astype(np.float32) + 0.5 * 200)


CONDITIONS: Mapping[str, Change] = {
    "dark": darkened,
    "noise": noisy,
    "motion blur": blurred,
    "JPEG 15": compressed,
    "haze": hazy,
}


def measure_robustness(
    predict: Predictor,
    dataset: Dataset,
    untouched: Predictions,
    conditions: Mapping[str, Change] = CONDITIONS,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Robustness, ...]:
    """Accuracy under each condition, held against `untouched`, the predictions on the pictures as they are.

    The noise of a picture follows from the seed and its place, so that every detector sees the same.
    """
    readable = dataset.subset(list(untouched.indices))
    plain = Predictions(untouched.detections, tuple(range(len(readable))))
    before = measure_accuracy(plain, readable).map
    results: list[Robustness] = []
    for number, (name, change) in enumerate(conditions.items()):
        offset = number * len(readable)

        def report(done: int, total: int, offset: int = offset) -> None:
            if progress is not None:
                progress(offset + done, total * len(conditions))

        found = predict_all(_Changed(predict, change, seed), readable, report)
        accuracy = measure_accuracy(found, readable)
        loss = None if before is None or accuracy.map is None else 100 * (before - accuracy.map)
        interval = map_loss_ci95(plain, found, readable, seed=seed)
        results.append(Robustness(name, accuracy.map, accuracy.map50, loss, interval))
    return tuple(results)


class _Changed:
    """A predictor that looks at changed pictures, counting them for the sake of their noise."""

    def __init__(self, predict: Predictor, change: Change, seed: int) -> None:
        self._predict, self._change, self._seed, self._count = predict, change, seed, 0

    def __call__(self, image: Image) -> Detections:
        random = np.random.default_rng([self._seed, self._count])
        self._count += 1
        return self._predict(self._change(image, random))


def _rounded(values: np.ndarray) -> Image:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
