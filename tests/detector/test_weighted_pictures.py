"""Pictures with a weight come more often in training, the same way each time; without weights nothing changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.augment import NO_AUGMENTATION
from helmlite.detector.ema import every_tensor
from helmlite.detector.fit import FitSettings, finetune
from helmlite.detector.loader import PictureCache, training_batches
from helmlite.detector.tiny import new_tiny

CLASSES = with_roles(["helmet", "no_helmet"])


def pictures_of(folder: Path, weights: list[float], bare: int | None = None) -> Dataset:
    """Pictures whose grey value is their number, each with one box; number `bare` shows a bare head."""
    samples = []
    for index, weight in enumerate(weights):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), np.full((64, 64, 3), index, dtype=np.uint8))
        box, label = np.array([[8, 8, 40, 40]], np.float32), np.array([int(index == bare)], np.int64)
        samples.append(Sample(path, box, label, weight=weight))
    return dataset_of(samples, CLASSES)


def cache(data: Dataset, repeat_threshold: float = 0.0) -> PictureCache:
    return PictureCache(data, 64, 2, 2**20, print, repeat_threshold)


def greys(pictures: PictureCache, epoch: int, seed: int = 0) -> list[int]:
    batches = training_batches(pictures, 64, 4, NO_AUGMENTATION, seed, epoch)
    images = torch.cat([batch.images for batch in batches])
    return (images[:, 0, 32, 32] * 255).round().int().tolist()


def test_an_epoch_keeps_its_length_and_draws_by_weight(tmp_path: Path) -> None:
    # 8 pictures of weight 1 and 3: 8 * 3 / 10 = 2.4 of the heavy one an epoch, 0.8 of each other
    pictures = cache(pictures_of(tmp_path, [3, 1, 1, 1, 1, 1, 1, 1]))
    counts = [Counter(greys(pictures, epoch)) for epoch in range(50)]
    assert all(sum(count.values()) == 8 and count[0] in (2, 3) for count in counts)
    assert sum(count[0] for count in counts) / 50 == pytest.approx(2.4, abs=0.2)


def test_a_picture_of_weight_0_never_comes(tmp_path: Path) -> None:
    pictures = cache(pictures_of(tmp_path, [0, 1, 1, 2]))
    assert not any(0 in greys(pictures, epoch) for epoch in range(20))
    assert 0 not in pictures.others(1, 200, np.random.default_rng(0))
    with pytest.raises(ValueError, match="all 2 labelled ones have the weight 0"):
        cache(pictures_of(tmp_path, [0, 0]))


def test_the_same_seed_and_epoch_draw_the_same_pictures(tmp_path: Path) -> None:
    data = pictures_of(tmp_path, [3, 1, 1, 0.5, 1, 2])
    assert greys(cache(data), 4) == greys(cache(data), 4)
    assert any(greys(cache(data), epoch) != greys(cache(data), epoch, seed=1) for epoch in range(3))


def test_weights_and_rare_classes_multiply(tmp_path: Path) -> None:
    # 4 pictures, 1 with a bare head: sqrt(1 / 0.25) = 2 for it, sqrt(1 / 0.75) for the others; times the weights
    pictures = cache(pictures_of(tmp_path, [3, 1, 1, 2], bare=0), repeat_threshold=1.0)
    common = np.sqrt(4 / 3)
    assert pictures.factors == pytest.approx([6, common, common, 2 * common])


def test_weights_of_1_are_no_weights(tmp_path: Path) -> None:
    assert cache(pictures_of(tmp_path, [1, 1, 1])).factors is None
    expected = np.random.default_rng((7, 2, 0)).permutation(3).tolist()  # as it was drawn before there were weights
    assert greys(cache(pictures_of(tmp_path, [1, 1, 1])), 2, seed=7) == expected


def test_unlabelled_pictures_have_no_weight(tmp_path: Path) -> None:
    data = pictures_of(tmp_path, [1, 1, 5])
    samples = [data[0], data[1], replace(data[2], is_labelled=False)]
    assert cache(dataset_of(samples, CLASSES)).factors is None


def settings(epochs: int) -> FitSettings:
    return FitSettings(input_size=64, epochs=epochs, batch_size=4, device="cpu", bf16=False)


def trained(data: Dataset, folder: Path) -> list[torch.Tensor]:
    start = new_tiny(CLASSES, 64, width=0.25)
    detector = finetune(start, data, settings(2), seed=0, workspace=folder, log=lambda line: None)
    return [tensor.clone() for _, tensor in every_tensor(detector.network)]


def test_a_training_without_weights_is_bitwise_what_it_was_and_weights_change_it(tmp_path: Path) -> None:
    plain = pictures_of(tmp_path, [1, 1, 1, 1, 1, 1], bare=0)
    unweighted = [replace(plain[index]) for index in range(6)]
    heavy = [replace(sample, weight=4.0 if index == 0 else 1.0) for index, sample in enumerate(unweighted)]
    first = trained(plain, tmp_path / "a")
    again = trained(dataset_of(unweighted, CLASSES), tmp_path / "b")
    other = trained(dataset_of(heavy, CLASSES), tmp_path / "c")
    assert all(torch.equal(left, right) for left, right in zip(first, again, strict=True))
    assert not all(torch.equal(left, right) for left, right in zip(first, other, strict=True))


def test_a_weighted_training_that_was_stopped_goes_on_as_it_would_have(tmp_path: Path) -> None:
    data = pictures_of(tmp_path, [3, 1, 1, 1, 2, 1], bare=0)
    whole = trained(data, tmp_path / "whole")

    def stop(line: str) -> None:
        if line.startswith("epoch 1 "):
            raise KeyboardInterrupt

    start = new_tiny(CLASSES, 64, width=0.25)
    with pytest.raises(KeyboardInterrupt):
        finetune(start, data, settings(2), seed=0, workspace=tmp_path / "parts", log=stop)
    assert all(torch.equal(left, right) for left, right in zip(whole, trained(data, tmp_path / "parts"), strict=True))
    heavier = dataset_of([replace(data[index], weight=data[index].weight + 1) for index in range(6)], CLASSES)
    with pytest.raises(ValueError, match="training with another data set"):
        trained(heavier, tmp_path / "parts")
