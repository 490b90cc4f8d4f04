"""Training batches: the same for the same (seed, epoch), every picture once, bad pictures named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.augment import NO_AUGMENTATION, Augmentation
from helmlite.detector.loader import PictureCache, batch_count, training_batches, without_mosaic

CLASSES = with_roles(["helmet", "no_helmet"])


def small_dataset(folder: Path, count: int, width: int = 80, height: int = 40) -> Dataset:
    """Pictures whose grey value is their number, each with one box of class (number % 2)."""
    samples = []
    for index in range(count):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), np.full((height, width, 3), index, dtype=np.uint8))
        box = np.array([[10, 10, 30, 30]], dtype=np.float32)
        samples.append(Sample(path, box, np.array([index % 2], dtype=np.int64)))
    return dataset_of(samples, CLASSES)


def silent(line: str) -> None:
    raise AssertionError(f"nothing should be said, but: {line}")


def numbers_in(images: torch.Tensor) -> list[int]:
    """Which pictures these are, by their grey value in the middle."""
    middle = images.shape[-1] // 2
    return (images[:, 0, middle, middle] * 255).round().int().tolist()


def test_every_picture_once_in_batches_of_like_size(tmp_path):
    pictures = PictureCache(small_dataset(tmp_path, 9), 64, 2, 2**20, silent)
    batches = list(training_batches(pictures, 64, 4, NO_AUGMENTATION, seed=0, epoch=0))
    assert [len(batch.images) for batch in batches] == [3, 3, 3]
    assert sorted(numbers_in(torch.cat([batch.images for batch in batches]))) == list(range(9))
    assert batch_count(9, 4) == 3


def test_boxes_and_labels_follow_their_picture(tmp_path):
    pictures = PictureCache(small_dataset(tmp_path, 6), 64, 2, 2**20, silent)
    for batch in training_batches(pictures, 64, 3, NO_AUGMENTATION, seed=1, epoch=2):
        assert batch.images.dtype == torch.float32
        assert batch.targets[:, 0].tolist() == [0, 1, 2]
        assert batch.targets[:, 1].int().tolist() == [number % 2 for number in numbers_in(batch.images)]
        # 80 x 40 -> 64 x 32 at top 16: the box 10..30 becomes x 8..24, y 24..40
        wanted = torch.tensor([16 / 64, 32 / 64, 16 / 64, 16 / 64])
        assert torch.allclose(batch.targets[:, 2:], wanted.expand(3, 4), atol=1e-6)


def test_same_seed_and_epoch_same_batches(tmp_path):
    data = small_dataset(tmp_path, 5)
    settings = Augmentation(mixup=0.5)

    def epoch(seed: int, number: int, cache_bytes: int) -> torch.Tensor:
        pictures = PictureCache(data, 64, 2, cache_bytes, silent)
        return torch.cat([b.images for b in training_batches(pictures, 64, 2, settings, seed, number)])

    first = epoch(3, 1, 2**20)
    assert torch.equal(first, epoch(3, 1, 0))  # the same when nothing is kept in memory
    assert not torch.equal(first, epoch(3, 2, 2**20))
    assert not torch.equal(first, epoch(4, 1, 2**20))


def test_one_picture_is_enough(tmp_path):
    pictures = PictureCache(small_dataset(tmp_path, 1), 64, 2, 2**20, silent)
    (batch,) = training_batches(pictures, 64, 16, Augmentation(), 0, 0)
    assert batch.images.shape == (1, 3, 64, 64)


def test_pictures_without_objects_give_no_targets(tmp_path):
    path = tmp_path / "empty.png"
    cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))
    data = dataset_of([Sample(path, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))], CLASSES)
    (batch,) = training_batches(PictureCache(data, 64, 2, 2**20, silent), 64, 4, Augmentation(), 0, 0)
    assert batch.targets.shape == (0, 6)


def test_memory_budget_keeps_the_first_pictures_only(tmp_path):
    data = small_dataset(tmp_path, 4)
    pictures = PictureCache(data, 64, 2, cache_bytes=2 * 64 * 32 * 3, log=silent)
    for path in data.image_paths:
        path.unlink()
    assert pictures[0].image.shape == (32, 64, 3)
    assert pictures[1].image.shape == (32, 64, 3)
    with pytest.raises(ValueError, match=r"2\.png"):
        pictures[2]


def test_unreadable_pictures_are_skipped_counted_and_named(tmp_path):
    data = small_dataset(tmp_path, 4)
    (tmp_path / "1.png").write_bytes(b"not a picture")
    (tmp_path / "3.png").unlink()
    said: list[str] = []
    pictures = PictureCache(data, 64, 2, 2**20, said.append)
    assert len(pictures) == 2
    assert len(said) == 1
    assert said[0].startswith("2 unreadable")
    assert "1.png" in said[0]
    assert "3.png" in said[0]
    images = torch.cat([b.images for b in training_batches(pictures, 64, 2, NO_AUGMENTATION, 0, 0)])
    assert sorted(numbers_in(images)) == [0, 2]


def test_nothing_to_train_on_is_said(tmp_path):
    with pytest.raises(ValueError, match="no picture to train on"):
        PictureCache(dataset_of([], CLASSES), 64, 2, 2**20, silent)


def test_labels_beyond_the_detectors_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="class 1, but the detector knows only classes 0 to 0"):
        PictureCache(small_dataset(tmp_path, 2), 64, 1, 2**20, silent)


def test_without_mosaic_only_single_pictures_remain():
    assert without_mosaic(Augmentation(mixup=0.3)) == Augmentation(mosaic=0.0, mixup=0.0)
