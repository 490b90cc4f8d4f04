"""Small pictures and label files for the tests of the data package."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.detections import Image

WritePicture = Callable[..., Image]


@pytest.fixture
def write_picture() -> WritePicture:
    """`write_picture(path, width, height, seed)` writes a smooth random picture and returns it (RGB)."""

    def write(path: Path, width: int = 80, height: int = 60, seed: int = 0) -> Image:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        image: Image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        path.write_bytes(encoded.tobytes())
        return image

    return write


@pytest.fixture
def badly_named(yolo_set: Path) -> Path:
    """The YOLO set, the name of one of whose training pictures is in Latin-1; the path of that picture."""
    image = yolo_set.parent / "images" / "train" / "train_3.jpg"
    label = yolo_set.parent / "labels" / "train" / "train_3.txt"
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        label.rename((label.parent / name).with_suffix(".txt"))
        return image.rename(image.parent / name)
    except OSError as error:
        pytest.skip(f"this file system refuses names that are not UTF-8 ({error.strerror})")


@pytest.fixture
def yolo_set(tmp_path: Path, write_picture: WritePicture) -> Path:
    """A YOLO set of 6 + 2 + 2 pictures (100 x 50), one helmet and one bare head in each; the path of its data.yaml."""
    folder = tmp_path / "yolo"
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for number in range(count):
            seed = {"train": 0, "val": 100, "test": 200}[split] + number
            write_picture(folder / "images" / split / f"{split}_{number}.jpg", 100, 50, seed)
            label = folder / "labels" / split / f"{split}_{number}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.25 0.5 0.1 0.2\n1 0.75 0.5 0.1 0.2\n", encoding="utf-8")
    (folder / "data.yaml").write_text(
        "train: images/train\nval: images/val\ntest: images/test\nnames: [helmet, no_helmet]\n", encoding="utf-8"
    )
    return folder / "data.yaml"
