"""Distillation on Ultralytics networks: both branches of dual heads are taught, and a stop changes no bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from helmlite.compress.distill import Distill, DistillObjective
from helmlite.compress.technique import Context
from helmlite.data.dataset import Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.ema import every_tensor
from helmlite.detector.fit_state import EpochPlan

pytest.importorskip("ultralytics")
pytestmark = pytest.mark.slow

CLASSES = with_roles(["helmet", "no_helmet"])


def random_yolo(name: str, seed: int) -> Detector:
    from helmlite.detector.ultralytics import new_ultralytics

    return new_ultralytics(name, CLASSES, seed, input_size=64)


def weights(detector: Detector) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in every_tensor(detector.network)}


def are_equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    samples = []
    for index in range(4):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8))
        box = np.array([[10, 10, 40, 40]], np.float32)
        samples.append(Sample(path, box, np.array([index % 2], np.int64)))
    return Context(
        dataset_of(samples, CLASSES), random_yolo("yolo11n", 0), 64, 0, tmp_path / "work", log=lambda line: None
    )


@pytest.mark.parametrize("name", ["yolov10n", "yolo26n"])
def test_both_branches_of_a_dual_head_are_taught(name):
    teacher, student = random_yolo(name, 0), random_yolo(name, 1)
    batch = Batch(torch.rand(2, 3, 64, 64), torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.4]]))
    plan = EpochPlan(2, 1, False, 1, 0.0, 0.0, {})
    settings = Distill(epochs=1, task=0.0)
    with torch.no_grad():  # surer than fresh networks are, so that there is something to copy
        for branch in (teacher.network.head.cv3, teacher.network.head.one2one_cv3):
            for scale in branch:
                scale[-1].bias.fill_(-1.0)
    objective = DistillObjective(settings, student, student.network, teacher, plan, 64)
    loss, parts = objective.loss(student.network.train(), batch, 0)
    loss.backward()
    assert parts["kd_classes"] > 0
    assert parts["kd_boxes"] > 0
    for path in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):  # box and class maps of both branches
        gradient = getattr(student.network.head, path)[0][-1].bias.grad
        assert gradient is not None, path
        assert gradient.abs().sum() > 0, path


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_a_stopped_distillation_goes_on_bitwise(context, name):
    """In BF16 where the processor has it; 26 also has a loss whose weights move from epoch to epoch."""
    context = replace(context, original=random_yolo(name, 0))
    student, settings = random_yolo(name, 1), Distill(epochs=3, batch_size=2)
    whole = settings.apply(student, context)

    class StoppedError(Exception):
        pass

    def stop_after_two_epochs(line: str) -> None:
        if line.startswith("epoch 2 of 3"):
            raise StoppedError

    cut = replace(context, workspace=context.workspace / "cut")
    with pytest.raises(StoppedError):
        settings.apply(student, replace(cut, log=stop_after_two_epochs))
    assert are_equal(weights(whole), weights(settings.apply(student, cut)))
