"""Other feature losses, pictures without labels and the control twin in whole trainings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from helmlite.compress.control import find_control
from helmlite.compress.distill import Distill, DistillObjective
from helmlite.compress.teaching.feature_losses import FEATURE_LOSSES
from helmlite.compress.teaching.unlabelled import unlabelled_pictures, with_unlabelled
from helmlite.compress.technique import Context
from helmlite.data.dataset import Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.ema import every_tensor
from helmlite.detector.fit_state import EpochPlan
from helmlite.detector.tiny import new_tiny

CLASSES = with_roles(["helmet", "no_helmet"])
PLAN = EpochPlan(1, 1, False, 1, 0.0, 0.0, {})
SETTINGS = Distill(epochs=1, batch_size=4, bf16=False)


class StoppedError(Exception):
    """Stands in for a power cut."""


def draw(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.png" for index in range(count)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return paths


@pytest.fixture
def context(tmp_path: Path) -> Context:
    box = np.array([[8, 8, 40, 40]], np.float32)
    samples = [
        Sample(path, box, np.array([index % 2], np.int64)) for index, path in enumerate(draw(tmp_path / "labelled", 4))
    ]
    teacher = new_tiny(CLASSES, 64, width=0.5, seed=5)
    return Context(dataset_of(samples, CLASSES), teacher, 64, 0, tmp_path / "work", log=lambda line: None)


@pytest.fixture(scope="module")
def student() -> Detector:
    return new_tiny(CLASSES, 64, width=0.25, seed=1)


def weights(detector: Detector) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in every_tensor(detector.network)}


def are_equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mgd", "fgd"])
def test_a_stopped_training_goes_on_bitwise_with_what_the_loss_has_learned(context, student, name):
    settings = replace(SETTINGS, epochs=2, feature_loss=name)
    whole = settings.apply(student, context)

    def stop_after_one_epoch(line: str) -> None:
        if line.startswith("epoch 1 of 2"):
            raise StoppedError

    cut = replace(context, workspace=context.workspace / "cut")
    with pytest.raises(StoppedError):
        settings.apply(student, replace(cut, log=stop_after_one_epoch))
    assert are_equal(weights(whole), weights(settings.apply(student, cut)))
    assert weights(whole).keys() == weights(student).keys()  # what the loss learned stays behind


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_every_feature_loss_reaches_the_student_and_is_saved(context, student, name):
    settings = replace(SETTINGS, feature_loss=name, task=0.0, classes=0.0, boxes=0.0)
    network = student.copy().network.train()
    objective = DistillObjective(settings, student, network, context.original, PLAN, 64)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    loss, parts = objective.loss(network, Batch(images, torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.4]])), 0)
    loss.backward()
    assert loss.item() == pytest.approx(FEATURE_LOSSES[name].weight * parts["kd_features"], rel=1e-4)
    neck = [item.grad for path, item in network.named_parameters() if path.startswith("neck")]
    assert sum(float(gradient.abs().sum()) for gradient in neck if gradient is not None) > 0
    learned = [item for item in objective.parameters() if item.grad is not None]
    assert learned
    state = {key: tensor.clone() for key, tensor in objective.state_dict().items()}
    again = DistillObjective(settings, student, network, context.original, PLAN, 64)
    assert are_equal(again.state_dict(), state)  # from the same seed
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1.0)
    assert not are_equal(again.state_dict(), state)
    again.load_state_dict(state)
    assert are_equal(again.state_dict(), state)


def test_the_usual_weight_and_temperature_are_those_of_the_loss():
    assert Distill(epochs=1).feature_weight == 1.0
    assert Distill(epochs=1, feature_loss="fgd").softness_of_features == 0.5
    assert Distill(epochs=1, feature_loss="l2", features=3.0).feature_weight == 3.0
    assert Distill(epochs=1, feature_loss="fgd", feature_temperature=2.0).softness_of_features == 2.0


@pytest.mark.slow
def test_pictures_without_labels_teach_through_the_teacher_alone(context, student, tmp_path):
    folder = tmp_path / "more" / "deep"
    draw(folder, 3)
    settings = replace(SETTINGS, unlabelled=str(tmp_path / "more"))
    said: list[str] = []
    taught = settings.apply(student, replace(context, log=said.append))
    assert any("1 epochs of 2 steps" in line for line in said)  # 4 labelled and as many others in batches of 4
    without = SETTINGS.apply(student, replace(context, workspace=tmp_path / "without"))
    assert not are_equal(weights(taught), weights(without))
    again = settings.apply(student, replace(context, workspace=tmp_path / "again"))
    assert are_equal(weights(taught), weights(again))


def test_the_teachers_losses_see_the_pictures_that_the_detection_loss_does_not(context, student):
    network = student.copy().network.eval()
    objective = DistillObjective(SETTINGS, student, network, context.original, PLAN, 64)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.4]])
    both = objective.loss(network, Batch(images, targets, torch.tensor([True, False])), 0)[1]
    first = objective.loss(network, Batch(images[:1], targets), 0)[1]
    as_empty = objective.loss(network, Batch(images, targets), 0)[1]
    assert both["score"] == pytest.approx(first["score"])
    assert both["score"] != pytest.approx(as_empty["score"])
    assert both["kd_classes"] == pytest.approx(as_empty["kd_classes"])
    assert both["kd_features"] != pytest.approx(first["kd_features"])


def test_the_folder_of_pictures_without_labels(context, tmp_path):
    paths = draw(tmp_path / "more", 2)
    found = unlabelled_pictures(tmp_path / "more", CLASSES)
    assert found.image_paths == tuple(paths)
    assert not found[1].is_labelled
    assert len(with_unlabelled(context.data, found)) == 6
    settings = replace(SETTINGS, unlabelled=str(tmp_path / "more"))
    before = settings.outside_sha256()
    assert before
    cv2.imwrite(str(paths[0]), np.zeros((64, 64, 3), np.uint8))
    assert settings.outside_sha256() != before
    (tmp_path / "empty").mkdir()
    for folder, message in (("nowhere", "no such folder"), ("empty", "holds no picture")):
        with pytest.raises(ValueError, match=message) as caught:
            replace(SETTINGS, unlabelled=str(tmp_path / folder)).check_outside(context.original)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_control_is_the_same_training_without_a_teacher(context, student, tmp_path):
    settings = replace(SETTINGS, epochs=2, control=True)
    said: list[str] = []
    taught = settings.apply(student, replace(context, log=said.append))
    assert "control: the same 2 epochs without a teacher" in said
    found = find_control(context.workspace)
    assert found is not None
    twin, epochs = found
    assert epochs == 2
    alone = replace(settings, teacher="none", control=False)
    wanted = alone.apply(student, replace(context, workspace=tmp_path / "alone"))
    assert are_equal(weights(twin), weights(wanted))
    plain = replace(settings, control=False)
    assert are_equal(weights(taught), weights(plain.apply(student, context)))  # the same training, with it or without
    said.clear()
    settings.apply(student, replace(context, log=said.append))
    assert not any(line.startswith("epoch") for line in said)  # neither is trained again
    assert find_control(tmp_path / "alone") is None


@pytest.mark.slow
def test_with_minutes_the_control_trains_as_many_epochs_as_were_planned(context, student):
    settings = replace(SETTINGS, epochs=None, minutes=0.0001, control=True)
    settings.apply(student, replace(context, deadline=None))
    found = find_control(context.workspace)
    assert found is not None
    assert found[1] == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"feature_loss": "dog"}, "unknown feature_loss 'dog'; known are cwd, l2, mgd, fgd, pkd"),
        ({"feature_temperature": 0.0}, "temperatures"),
        ({"features": -1.0}, "cannot be negative"),
        ({"features": math.nan}, "cannot be negative or infinite"),
        ({"feature_temperature": math.nan}, "temperatures must"),
        ({"control": True, "teacher": "none"}, "control needs a teacher"),
        ({"unlabelled": "more", "teacher": "none"}, "unlabelled needs a teacher"),
        ({"unlabelled_share": 1.0}, "unlabelled_share must lie between 0 and 1"),
        ({"unlabelled": "more", "batch_size": 4, "unlabelled_share": 0.9}, "holds no labelled picture"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(wrong, message):
    with pytest.raises(ValueError, match=message) as caught:
        Distill(**{"epochs": 1, **wrong})
    assert "\n" not in str(caught.value)
