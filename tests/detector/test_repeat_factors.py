"""Rare classes come more often: numbers by hand, and what reaches the batches."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import Detections
from helmlite.detector.augment import NO_AUGMENTATION, Augmentation
from helmlite.detector.fit import FitSettings
from helmlite.detector.loader import PictureCache, training_batches
from helmlite.detector.repeat_factors import drawn, repeat_factors

CLASSES = with_roles(["helmet", "no_helmet"])


def labels(*pictures: list[int]) -> list[np.ndarray]:
    return [np.array(item, dtype=np.int64) for item in pictures]


def test_factors_worked_by_hand():
    # 8 pictures: class 0 in 6 of them, class 1 in 2, nothing in one
    pictures = labels([0], [0, 0], [0], [0], [0], [0, 1], [1, 1], [])
    plain = np.sqrt(0.5 / 0.25)  # class 1 at t = 0.5; class 0 is shown by more than half
    assert repeat_factors(pictures, 0.5) == pytest.approx([1, 1, 1, 1, 1, plain, plain, 1])
    everywhere = repeat_factors(pictures, 1.0)
    assert everywhere == pytest.approx([np.sqrt(8 / 6)] * 5 + [2, 2, 1])


def test_a_threshold_of_nothing_changes_nothing():
    assert repeat_factors(labels([0], [1], []), 0.0).tolist() == [1, 1, 1]


def test_no_picture_and_no_box():
    assert repeat_factors([], 0.5).shape == (0,)
    assert repeat_factors(labels([], []), 0.5).tolist() == [1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_an_epoch_keeps_its_length_and_each_picture_comes_as_its_factor_says(seed):
    factors = np.array([1.0, 1.0, 2.0, 1.0, 3.0])
    counts = Counter(drawn(factors, np.random.default_rng(seed)).tolist())
    assert sum(counts.values()) == 5
    for position, factor in enumerate(factors * 5 / 8):  # 0.625, 0.625, 1.25, 0.625, 1.875
        assert counts[position] in (int(np.floor(factor)), int(np.ceil(factor)))


def test_over_many_epochs_the_shares_are_those_of_the_factors():
    factors, random = np.array([1.0, 2.0, 1.0, 4.0]), np.random.default_rng(0)
    counts = sum((np.bincount(drawn(factors, random), minlength=4) for _ in range(2000)), np.zeros(4))
    assert counts / counts.sum() == pytest.approx(factors / 8, abs=0.005)


def one_bare_head_among(folder: Path, count: int) -> Dataset:
    """Pictures whose grey value is their number; the first shows a bare head, the others a helmet."""
    samples = []
    for index in range(count):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), np.full((64, 64, 3), index, dtype=np.uint8))
        box = np.array([[8, 8, 40, 40]], dtype=np.float32)
        samples.append(Sample(path, box, np.array([int(index == 0)], dtype=np.int64)))
    return dataset_of(samples, CLASSES)


def greys(pictures: PictureCache, epoch: int) -> list[int]:
    batches = training_batches(pictures, 64, 4, NO_AUGMENTATION, 0, epoch)
    images = torch.cat([batch.images for batch in batches])
    return (images[:, 0, 32, 32] * 255).round().int().tolist()


def test_the_bare_head_reaches_the_batches_more_often(tmp_path):
    data = one_bare_head_among(tmp_path, 9)
    pictures = PictureCache(data, 64, 2, 2**20, print, repeat_threshold=1.0)
    assert pictures.factors == pytest.approx([3.0] + [np.sqrt(9 / 8)] * 8)
    shown = Counter(grey for epoch in range(40) for grey in greys(pictures, epoch))
    assert sum(shown.values()) == 40 * 9
    assert shown[0] / 40 == pytest.approx(9 * 3 / (3 + 8 * np.sqrt(9 / 8)), abs=0.25)  # 2.35 an epoch, not 1
    plain = PictureCache(data, 64, 2, 2**20, print)
    assert sorted(greys(plain, 0)) == list(range(9))


def test_a_picture_that_comes_twice_in_an_epoch_looks_different(tmp_path):
    data = one_bare_head_among(tmp_path, 9)
    pictures = PictureCache(data, 64, 2, 2**20, print, repeat_threshold=1.0)
    changes = Augmentation(mosaic=0.0)
    batches = training_batches(pictures, 64, 9, changes, 0, 0)
    batch = next(iter(batches))
    bare = batch.targets[batch.targets[:, 1] == 1][:, 2:]
    assert len(bare) >= 2
    assert len(torch.unique(bare, dim=0)) == len(bare)


def test_mosaics_draw_by_the_factors_too(tmp_path):
    data = one_bare_head_among(tmp_path, 9)
    weighted = PictureCache(data, 64, 2, 2**20, print, repeat_threshold=1.0)
    plain = PictureCache(data, 64, 2, 2**20, print)
    counts = [Counter(item.others(4, 6000, np.random.default_rng(0)))[0] for item in (weighted, plain)]
    assert counts[0] / 6000 == pytest.approx(3 / (3 + 8 * np.sqrt(9 / 8)), abs=0.02)
    assert counts[1] / 6000 == pytest.approx(1 / 9, abs=0.02)


def test_pictures_without_labels_and_boxes_of_a_teacher_do_not_count(tmp_path):
    data = one_bare_head_among(tmp_path, 4)
    samples = [data[index] for index in range(4)]
    found = Detections(np.array([[1, 1, 9, 9]], np.float32), np.array([0.9], np.float32), np.array([1]))
    taught = Sample(samples[1].image_path, samples[1].boxes_xyxy, samples[1].labels, found=found)
    bare = Sample(samples[3].image_path, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), is_labelled=False)
    pictures = PictureCache(
        dataset_of([samples[0], taught, samples[2], bare], CLASSES), 64, 2, 2**20, print, repeat_threshold=1.0
    )
    assert pictures.factors == pytest.approx([np.sqrt(3), np.sqrt(1.5), np.sqrt(1.5)])
    assert pictures.others(3, 5, np.random.default_rng(0)) == [3] * 5  # alone of its kind


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_that_is_no_share_is_refused(threshold):
    with pytest.raises(ValueError, match="repeat_threshold is a share of the pictures"):
        FitSettings(input_size=64, epochs=1, repeat_threshold=threshold)
