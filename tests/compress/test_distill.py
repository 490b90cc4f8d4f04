"""Distillation: the student comes closer to its teacher, and what cannot be taught is refused in one line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.checkpoint import save_checkpoint
from helmlite.compress.distill import Distill, DistillObjective, check_alive
from helmlite.compress.teaching.teacher import Teacher, adapters_between, check_heads, class_order, neck_shapes
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import Class, with_roles
from helmlite.detector import families
from helmlite.detector.augment import NO_AUGMENTATION
from helmlite.detector.detector import Architecture, Detector, TrainingMaps
from helmlite.detector.ema import every_tensor
from helmlite.detector.families import family_of
from helmlite.detector.fit_state import EpochPlan
from helmlite.detector.loader import PictureCache, training_batches
from helmlite.detector.tiny import new_tiny
from helmlite.detector.tiny_loss import TinyLoss
from helmlite.runtime.decode import HeadLayout

CLASSES = with_roles(["helmet", "no_helmet"])
PLAN = EpochPlan(1, 1, False, 1, 0.0, 0.0, {})


def drawn_dataset(folder: Path, count: int = 8) -> Dataset:
    """Bright (helmet) and dark (no_helmet) discs on grey, one for each picture."""
    folder.mkdir(exist_ok=True)
    samples = []
    for index in range(count):
        random = np.random.default_rng(index)
        image = np.full((64, 64, 3), 120, dtype=np.uint8)
        x, y = (int(value) for value in random.integers(16, 48, size=2))
        cv2.circle(image, (x, y), 10, (250, 250, 250) if index % 2 == 0 else (10, 10, 10), -1)
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), image)
        box = np.array([[x - 10, y - 10, x + 11, y + 11]], dtype=np.float32)
        samples.append(Sample(path, box, np.array([index % 2], dtype=np.int64)))
    return dataset_of(samples, CLASSES)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(
        data=drawn_dataset(tmp_path / "pictures"),
        original=opinionated(new_tiny(CLASSES, 64, width=0.5, seed=5)),
        input_size=64,
        seed=0,
        workspace=tmp_path / "work",
        log=lambda line: None,
    )


def opinionated(detector: Detector) -> Detector:
    """The same network with stronger and varied class scores, as a trained one has."""
    with torch.no_grad():
        for head in detector.network.heads:
            head.logits.weight.mul_(30)
            head.logits.bias.fill_(-1.0)
    return detector


def weights(detector: Detector) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in every_tensor(detector.network)}


def are_equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class PlainNetwork(nn.Module):
    """Three scales and no BatchNorm: what is learned in a few steps shows at once."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1))
            self.down = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in range(2))
            self.boxes = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in range(3))
            self.scores = nn.ModuleList(nn.Conv2d(width, 2, 1) for _ in range(3))
            for boxes in self.boxes:
                nn.init.constant_(boxes.bias, 1.0)

    def features(self, images: Tensor) -> list[Tensor]:
        found = [self.stem(images - 0.5).relu()]
        for down in self.down:
            found.append(down(found[-1]).relu())
        return found

    def heads(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        branches = zip(self.boxes, self.scores, features)
        return tuple(item for boxes, scores, x in branches for item in (boxes(x), scores(x)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.heads(self.features(images))


class PlainFamily:
    """The part of a family that training needs."""

    def task_loss(self, architecture: Architecture, network: nn.Module, epochs: int) -> TinyLoss:
        return TinyLoss(architecture.layout.strides)

    def training_maps(self, network: nn.Module, images: Tensor) -> TrainingMaps:
        features = network.features(images)
        return TrainingMaps(network.heads(features), (), tuple(features))


def distance(student: Detector, teacher: Detector, context: Context) -> float:
    """Mean difference of class probabilities on the training pictures as they are."""
    pictures = PictureCache(context.data, 64, 2, 2**20, context.log)
    (batch,) = training_batches(pictures, 64, 64, NO_AUGMENTATION, 0, 0)
    with torch.no_grad():
        pairs = zip(student.network(batch.images)[1::2], teacher.network(batch.images)[1::2])
        return sum(float((ours.sigmoid() - theirs.sigmoid()).abs().mean()) for ours, theirs in pairs) / 3


def test_a_taught_student_comes_closer_to_its_teacher_than_one_that_is_not(context, monkeypatch):
    monkeypatch.setattr(families, "family_named", lambda name: PlainFamily())
    architecture = context.original.architecture
    teacher, student = Detector(architecture, PlainNetwork(16, seed=5)), Detector(architecture, PlainNetwork(8, seed=1))
    with torch.no_grad():
        for scores in teacher.network.scores:
            scores.weight.mul_(20)  # sure of itself, whatever the labels say
        for scores in student.network.scores:
            scores.bias.fill_(-2.0)
    context = replace(context, original=teacher)
    before_student, before_teacher = weights(student), weights(teacher)
    settings = Distill(epochs=15, batch_size=4, mosaic=0.0, learning_rate=5e-2, task=0.01, bf16=False)
    taught = settings.apply(student, context)
    alone = replace(settings, teacher="none").apply(student, replace(context, workspace=context.workspace / "alone"))
    assert distance(taught, teacher, context) < 0.8 * distance(student, teacher, context)
    assert distance(taught, teacher, context) < 0.7 * distance(alone, teacher, context)
    assert are_equal(weights(student), before_student)
    assert are_equal(weights(teacher), before_teacher)
    assert taught.edits == student.edits
    assert weights(taught).keys() == before_student.keys()  # adapters stay behind


def test_a_stopped_distillation_goes_on_bitwise_with_its_adapters(context):
    student = new_tiny(CLASSES, 64, width=0.25, seed=1)
    settings = Distill(epochs=3, batch_size=4, bf16=False)
    whole = settings.apply(student, context)

    class StoppedError(Exception):
        pass

    def stop_after_one_epoch(line: str) -> None:
        if line.startswith("epoch 1 of 3"):
            raise StoppedError

    cut = replace(context, workspace=context.workspace / "cut")
    with pytest.raises(StoppedError):
        settings.apply(student, replace(cut, log=stop_after_one_epoch))
    assert are_equal(weights(whole), weights(settings.apply(student, cut)))


def test_another_teacher_is_another_training(context):
    student = new_tiny(CLASSES, 64, width=0.25, seed=1)
    Distill(epochs=1, batch_size=8).apply(student, context)
    other = replace(context, original=new_tiny(CLASSES, 64, width=0.5, seed=6))
    with pytest.raises(ValueError, match="another objective"):
        Distill(epochs=1, batch_size=8).apply(student, other)


def test_a_teacher_of_its_own_kind_agrees_with_itself(context):
    detector = context.original
    objective = DistillObjective(Distill(epochs=1, task=0.0), detector, detector.network, detector, PLAN, 64)
    (batch,) = training_batches(PictureCache(context.data, 64, 2, 2**20, print), 64, 8, NO_AUGMENTATION, 0, 0)
    loss, parts = objective.loss(detector.network.eval(), batch, 0)
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert {"kd_classes", "kd_boxes", "kd_features", "box", "score"} == parts.keys()
    assert list(objective.parameters()) == []  # equal widths need no adapters


def test_adapters_bridge_other_widths_and_are_trained(context):
    student = new_tiny(CLASSES, 64, width=0.25, seed=1)
    objective = DistillObjective(Distill(epochs=1), student, student.network, context.original, PLAN, 64)
    ours = neck_shapes(student, student.network, 64)
    theirs = neck_shapes(context.original, context.original.network, 64)
    shapes = [tuple(item.shape) for item in objective.parameters()]
    assert shapes == [(there[0], here[0], 1, 1) for here, there in zip(ours, theirs) if here != there]
    assert shapes
    state = objective.state_dict()
    again = DistillObjective(Distill(epochs=1), student, student.network, context.original, PLAN, 64)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    again.load_state_dict(state)
    assert are_equal(again.state_dict(), state)


def test_features_are_left_out_at_weight_zero(context):
    student = new_tiny(CLASSES, 64, width=0.25, seed=1)
    objective = DistillObjective(Distill(epochs=1, features=0.0), student, student.network, context.original, PLAN, 64)
    assert list(objective.parameters()) == []


def test_necks_of_other_cells_are_refused():
    with pytest.raises(ValueError, match="features = 0"):
        adapters_between([(8, 8, 8)], [(8, 4, 4)])


def test_class_maps_are_put_into_the_students_order(context):
    swapped = (CLASSES[1], CLASSES[0])
    teacher = Teacher(context.original, swapped, bf16=False, device=torch.device("cpu"))
    images = torch.rand(1, 3, 64, 64)
    plain = family_of(context.original).training_maps(context.original.network.eval(), images).maps
    maps = teacher.maps(images).maps
    assert torch.allclose(maps[1], plain[1][:, [1, 0]], atol=1e-5)
    assert torch.allclose(maps[0], plain[0], atol=1e-5)
    assert not maps[1].requires_grad


def test_classes_meet_by_name_and_then_by_role():
    chinese = (Class("未戴头盔", "no_helmet"), Class("戴头盔", "helmet"))
    assert class_order(CLASSES, chinese) == [1, 0]
    assert class_order((Class("b"), Class("a")), (Class("a"), Class("b"))) == [1, 0]
    with pytest.raises(ValueError, match=r"no class for 'dog'.*戴头盔") as caught:
        class_order((Class("dog"),), chinese)
    assert "\n" not in str(caught.value)


def with_layout(detector: Detector, **values: Any) -> Detector:
    layout: HeadLayout = replace(detector.architecture.layout, **values)
    return replace(detector, architecture=replace(detector.architecture, layout=layout))


def test_heads_with_other_strides_are_refused_before_any_work(context):
    student = new_tiny(CLASSES, 64, width=0.25, seed=1)
    coarse = with_layout(context.original, strides=(16, 32, 64))
    with pytest.raises(ValueError, match=r"strides \(16, 32, 64\).*\(8, 16, 32\)"):
        check_heads(student, coarse)
    with pytest.raises(ValueError, match="strides"):
        Distill(epochs=1).apply(student, replace(context, original=coarse))
    assert not context.workspace.exists()


def test_a_teacher_with_distributions_teaches_a_student_without(context):
    student = new_tiny(CLASSES, 64, width=0.25, seed=1)
    objective = DistillObjective(Distill(epochs=1), student, student.network, context.original, PLAN, 64)
    objective._bins = (1, 3)
    even = torch.zeros(1, 12, 1)  # three even bins on each side mean a distance of 1
    assert objective._box_loss(torch.ones(1, 4, 1), even, torch.ones(1, 1)).item() == pytest.approx(0, abs=1e-6)
    narrow = torch.tensor([[[0.5], [1.0], [0.5], [1.0]]])  # 1 x 2 inside 2 x 2
    assert objective._box_loss(narrow, even, torch.ones(1, 1)).item() == pytest.approx(0.5, rel=1e-5)


def test_a_teacher_from_a_checkpoint(context, tmp_path):
    save_checkpoint(context.original, tmp_path / "teacher", {})
    student = new_tiny(CLASSES, 64, width=0.25, seed=1)
    settings = Distill(epochs=1, batch_size=8)
    from_original = settings.apply(student, context)
    elsewhere = replace(context, original=student, workspace=tmp_path / "elsewhere")
    from_file = replace(settings, teacher=str(tmp_path / "teacher")).apply(student, elsewhere)
    assert are_equal(weights(from_original), weights(from_file))
    with pytest.raises(ValueError, match="nowhere"):
        Distill(epochs=1, teacher=str(tmp_path / "nowhere")).apply(student, context)


@dataclass(frozen=True)
class Quantized:
    """Says that a detector was quantized; changes nothing."""

    kind: ClassVar[str] = "insert_quantizers"

    def redo(self, network: nn.Module) -> None:
        """Nothing to change."""

    def to_json(self) -> dict[str, Any]:
        return {}


def test_quantized_detectors_are_trained_more_carefully():
    plain, quantized = (Distill(epochs=1)._fit_settings(64, is_quantized=flag) for flag in (False, True))
    assert quantized.learning_rate < plain.learning_rate
    assert quantized.freeze_norms
    assert not plain.freeze_norms
    assert quantized.bf16 is False
    assert plain.bf16 is None
    assert Distill(epochs=1, learning_rate=0.5)._fit_settings(64, is_quantized=True).learning_rate == 0.5


class Answering(nn.Module):
    """Finds every disc of `drawn_dataset` (by brightness) or, when dead, nothing."""

    def __init__(self, is_dead: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.0 if is_dead else 1.0))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        gray = images.mean(dim=1, keepdim=True)
        bright, dark = gray > 0.8, gray < 0.2
        maps: list[Tensor] = []
        for stride in (8, 16, 32):
            cells = images.shape[-1] // stride
            boxes, scores = torch.zeros(len(images), 4, cells, cells), torch.full((len(images), 2, cells, cells), -9.0)
            if stride == 8:
                for index in range(len(images)):
                    for label, mask in enumerate((bright, dark)):
                        rows, columns = mask[index, 0].nonzero(as_tuple=True)
                        if len(rows) == 0:
                            continue
                        left, right = columns.min() / 8, (columns.max() + 1) / 8
                        top, bottom = rows.min() / 8, (rows.max() + 1) / 8
                        x, y = int((left + right) / 2), int((top + bottom) / 2)
                        sides = [x + 0.5 - left, y + 0.5 - top, right - x - 0.5, bottom - y - 0.5]
                        boxes[index, :, y, x] = torch.tensor(sides)
                        scores[index, label, y, x] = 9.0 * self.scale
            maps += [boxes, torch.where(self.scale > 0, scores, torch.tensor(-9.0))]
        return tuple(maps)


def answering(like: Detector, is_dead: bool) -> Detector:
    return replace(like, network=Answering(is_dead)).edited(Quantized(), Answering(is_dead))


def test_a_dead_quantized_detector_is_not_trained(context):
    alive = replace(context.original, network=Answering(is_dead=False))
    healthy = replace(context, original=alive)
    check_alive(answering(context.original, is_dead=False), healthy)
    with pytest.raises(ValueError, match=r"finds 0 of the 8 objects.*Quantize more carefully"):
        Distill(epochs=1).apply(answering(context.original, is_dead=True), healthy)
    assert not context.workspace.exists()
    check_alive(answering(context.original, is_dead=True), replace(context, original=answering(alive, is_dead=True)))


def test_a_quantized_detector_keeps_its_edits(context):
    student = replace(new_tiny(CLASSES, 64, width=0.25, seed=1), edits=(Quantized(),))
    nothing_known = replace(context, original=new_tiny(CLASSES, 64, width=0.5, seed=5))
    trained = Distill(epochs=1, batch_size=8).apply(student, nothing_known)
    assert trained.edits == (Quantized(),)
    statistics = [name for name in weights(student) if "running_" in name]
    assert statistics
    assert all(torch.equal(weights(student)[name], weights(trained)[name]) for name in statistics)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": -1.0}, "cannot be negative"),
        ({"task": 0.0, "classes": 0.0, "boxes": 0.0, "features": 0.0}, "above 0"),
        ({"task": 0.0, "teacher": "none"}, "above 0"),
        ({"box_temperature": 0.0}, "temperatures"),
        ({"teacher": ""}, "teacher must be"),
        ({"epochs": 0}, "at least 1 epoch"),
        ({"batch_size": 0}, "batch_size"),
        ({"mosaic": 2.0}, "mosaic"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"task": math.nan}, "got nan, 1, 1, 1"),
        ({"classes": math.nan}, "cannot be negative or infinite"),
        ({"boxes": math.inf}, "cannot be negative or infinite"),
        ({"class_temperature": math.nan}, "temperatures must be above 0 and finite; got nan, 2, 1"),
        ({"box_temperature": math.inf}, "temperatures must"),
        ({"learning_rate": math.nan}, "finite learning_rate > 0"),
        ({"weight_decay": math.nan}, "weight_decay"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Distill(**{"epochs": 1, **wrong})


def test_neither_minutes_nor_epochs_is_until_the_deadline(context):
    student = new_tiny(CLASSES, 64, width=0.25, seed=1)
    with pytest.raises(ValueError, match="nothing says when to stop"):
        Distill().apply(student, context)
    said: list[str] = []
    Distill(batch_size=8).apply(student, replace(context, deadline=0.0, log=said.append))
    assert said[-1].startswith("epoch 1 of 1:")


def test_a_rare_class_can_come_more_often_and_does_so_the_same_way_again(context):
    few = replace(context, data=context.data.subset([0, 1, 2, 4, 6]))  # one dark disc, four bright ones

    def trained(threshold: float, folder: str) -> dict[str, Tensor]:
        settings = Distill(epochs=2, teacher="none", batch_size=2, repeat_threshold=threshold)
        return weights(settings.apply(few.original, replace(few, workspace=few.workspace / folder)))

    often = trained(1.0, "often")
    assert are_equal(often, trained(1.0, "again"))
    assert not are_equal(often, trained(0.0, "plain"))
    with pytest.raises(ValueError, match="repeat_threshold is a share of the pictures"):
        Distill(epochs=1, repeat_threshold=30)
