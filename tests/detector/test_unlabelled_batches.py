"""Pictures without labels and boxes of a stored teacher on their way into a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import Detections
from helmlite.detector.augment import NO_AUGMENTATION, Augmentation
from helmlite.detector.detector import Batch, TrainingMaps
from helmlite.detector.fit import FitSettings
from helmlite.detector.fit_state import EpochPlan
from helmlite.detector.loader import PictureCache, epoch_length, training_batches
from helmlite.detector.objective import TaskObjective, labelled_part
from helmlite.detector.tiny import new_tiny

CLASSES = with_roles(["helmet", "no_helmet"])
NO_BOXES = np.zeros((0, 4), np.float32)


def mixed_dataset(folder: Path, labelled: int, unlabelled: int) -> Dataset:
    """Labelled pictures are grey 10, 11, ...; those without labels 200, 201, ..."""
    samples = []
    for index in range(labelled + unlabelled):
        has_labels = index < labelled
        value = 10 + index if has_labels else 200 + index - labelled
        path = folder / f"{value}.png"
        cv2.imwrite(str(path), np.full((64, 64, 3), value, dtype=np.uint8))
        boxes = np.array([[8, 8, 24, 40]], np.float32) if has_labels else NO_BOXES
        samples.append(Sample(path, boxes, np.zeros(len(boxes), np.int64), is_labelled=has_labels))
    return dataset_of(samples, CLASSES)


def cache(dataset: Dataset) -> PictureCache:
    return PictureCache(dataset, 64, 2, 2**24, print)


def greys(batch: Batch) -> list[int]:
    return (batch.images[:, 0, 32, 32] * 255).round().int().tolist()


def test_each_batch_has_its_share_and_each_labelled_picture_comes_once(tmp_path):
    pictures = cache(mixed_dataset(tmp_path, 6, 9))
    assert epoch_length(pictures, 0.5) == 12
    batches = list(training_batches(pictures, 64, 4, NO_AUGMENTATION, 0, 0, unlabelled_share=0.5))
    assert [len(batch.images) for batch in batches] == [4, 4, 4]
    for batch in batches:
        assert batch.is_labelled is not None
        assert batch.is_labelled.tolist() == [grey < 100 for grey in greys(batch)]
        assert batch.is_labelled.tolist() == [True, True, False, False]
        assert batch.targets[:, 0].tolist() == [0, 1]  # none in pictures without labels
    seen = [grey for batch in batches for grey in greys(batch)]
    assert sorted(grey for grey in seen if grey < 100) == list(range(10, 16))
    others = [grey for grey in seen if grey > 100]
    assert len(set(others)) == 6
    again = [grey for b in training_batches(pictures, 64, 4, NO_AUGMENTATION, 0, 1, 0.5) for grey in greys(b)]
    assert set(again) - set(seen)  # another epoch draws others


def test_few_pictures_come_again_only_after_all_have_come(tmp_path):
    pictures = cache(mixed_dataset(tmp_path, 9, 2))
    (batch,) = training_batches(pictures, 64, 64, NO_AUGMENTATION, 0, 0, unlabelled_share=0.4)
    others = [grey for grey in greys(batch) if grey > 100]
    assert sorted(others) == [200, 200, 200, 201, 201, 201]


def test_a_picture_that_comes_twice_looks_different(tmp_path):
    pictures = cache(mixed_dataset(tmp_path, 2, 1))
    (batch,) = training_batches(pictures, 64, 8, Augmentation(), 0, 0, unlabelled_share=0.5)
    assert batch.images.shape[0] == 4
    assert not torch.equal(batch.images[2], batch.images[3])


def test_mosaics_and_mixtures_never_join_the_two_kinds(tmp_path):
    pictures = cache(mixed_dataset(tmp_path, 4, 4))
    plain = replace(NO_AUGMENTATION, mosaic=1.0, mixup=1.0)
    for epoch in range(3):
        for batch in training_batches(pictures, 64, 4, plain, 0, epoch, unlabelled_share=0.5):
            assert batch.is_labelled is not None
            for image, is_labelled in zip(batch.images * 255, batch.is_labelled.tolist()):
                inside = image[0][(image[0] - 114).abs() > 1]  # without the grey of the border
                assert bool((inside < 114).all() if is_labelled else (inside > 114).all())


def test_without_a_share_they_stay_out_and_nothing_changes(tmp_path):
    mixed = mixed_dataset(tmp_path, 5, 3)
    plain = cache(mixed.subset([0, 1, 2, 3, 4]))
    for first, second in zip(
        training_batches(cache(mixed), 64, 2, Augmentation(), 3, 1),
        training_batches(plain, 64, 2, Augmentation(), 3, 1),
        strict=True,
    ):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.targets, second.targets)
        assert first.is_labelled is None
        assert first.found is None
    with pytest.raises(ValueError, match="no picture to train on"):
        cache(mixed.subset([5, 6]))


def test_the_hash_tells_a_picture_without_labels_from_an_empty_one(tmp_path):
    unlabelled = mixed_dataset(tmp_path, 0, 1)
    empty = dataset_of([replace(unlabelled[0], is_labelled=True)], CLASSES)
    assert unlabelled.sha256() != empty.sha256()


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="unlabelled_share"):
        FitSettings(64, epochs=1, unlabelled_share=share)


def test_found_boxes_go_every_way_that_labels_go(tmp_path):
    """A teacher that finds exactly what is labelled: after mosaic, turn, zoom, mirror and mixture they still agree."""
    plain = mixed_dataset(tmp_path, 6, 0)
    scores = np.array([0.25], np.float32)
    samples = [replace(item, found=Detections(item.boxes_xyxy, scores, item.labels)) for item in plain]
    pictures = cache(dataset_of(samples, CLASSES))
    settings, boxes = Augmentation(mixup=0.5, rotate=20), 0
    for epoch in range(4):
        for batch in training_batches(pictures, 64, 4, settings, 0, epoch):
            assert batch.found is not None
            boxes += len(batch.targets)
            assert torch.equal(batch.found[:, :6], batch.targets)
            assert batch.found[:, 6].unique().tolist() == [0.25] * min(len(batch.found), 1)
    assert boxes > 10
    for with_found, without in zip(
        training_batches(pictures, 64, 4, settings, 0, 0), training_batches(cache(plain), 64, 4, settings, 0, 0)
    ):
        assert torch.equal(with_found.images, without.images)
        assert torch.equal(with_found.targets, without.targets)


def test_found_boxes_shrink_with_a_large_picture(tmp_path):
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), np.zeros((128, 256, 3), np.uint8))
    found = Detections(np.array([[64, 32, 128, 64]], np.float32), np.array([0.5], np.float32), np.array([1]))
    pictures = cache(dataset_of([Sample(path, NO_BOXES, np.zeros(0, np.int64), found=found)], CLASSES))
    (batch,) = training_batches(pictures, 64, 1, NO_AUGMENTATION, 0, 0)
    # 256 x 128 -> 64 x 32 at top 16: x 16..32, y 24..32
    assert batch.found is not None
    assert batch.found[0].tolist() == pytest.approx([0, 1, 24 / 64, 28 / 64, 16 / 64, 8 / 64, 0.5])
    assert len(batch.targets) == 0
    nothing = cache(dataset_of([Sample(path, NO_BOXES, np.zeros(0, np.int64), found=found[:0])], CLASSES))
    (batch,) = training_batches(nothing, 64, 1, NO_AUGMENTATION, 0, 0)
    assert batch.found is not None
    assert batch.found.shape == (0, 7)


def test_the_detection_loss_is_that_of_the_labelled_pictures_alone():
    detector = new_tiny(CLASSES, 64, width=0.25, seed=0)
    objective = TaskObjective(detector, detector.network, EpochPlan(1, 1, False, 1, 0.0, 0.0, {}))
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 0, 0.5, 0.5, 0.4, 0.4], [2, 1, 0.3, 0.3, 0.2, 0.2]])
    network = detector.network.eval()
    mixed = Batch(images, targets, torch.tensor([True, False, True]))
    alone = Batch(images[[0, 2]], torch.tensor([[0, 0, 0.5, 0.5, 0.4, 0.4], [1, 1, 0.3, 0.3, 0.2, 0.2]]))
    assert objective.loss(network, mixed, 0)[0].item() == pytest.approx(objective.loss(network, alone, 0)[0].item())
    empty = Batch(images, targets[:0], torch.tensor([False, False, False]))
    with pytest.raises(ValueError, match="no labelled picture"):
        labelled_part(TrainingMaps((), (), ()), empty, torch.tensor([False, False, False]))
