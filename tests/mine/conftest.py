"""Pictures whose first pixel says which they are, and detectors that answer by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import pytest

from helmlite.data.roles import with_roles
from helmlite.detections import Detections, Image, no_detections
from helmlite.mine.seen import Watcher
from helmlite.runtime.sources import Source, open_source
from numbered_pictures import patchy

CLASSES = with_roles(["helmet", "no_helmet"])
WatcherOf = Callable[..., Watcher]


@pytest.fixture
def watcher_of() -> WatcherOf:
    """watcher_of(name, {picture's number: Detections}, threshold, classes): nothing in pictures that are not named."""

    def make(name: str, answers: Mapping[int, Detections], threshold: float = 0.5, classes: tuple = CLASSES) -> Watcher:
        def predict(image: Image) -> Detections:
            return answers.get(int(image[0, 0, 0]), no_detections())

        return Watcher(name, predict, classes, (threshold,) * len(classes))

    return make


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[..., Source]:
    """folder_of(1, 5): a folder with these pictures as 001.png, 005.png, opened."""

    def make(*numbers: int) -> Source:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        for number in numbers:
            bgr = cv2.cvtColor(patchy(number), cv2.COLOR_RGB2BGR)
            (folder / f"{number:03d}.png").write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
        return open_source(str(folder))

    return make
