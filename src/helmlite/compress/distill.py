"""Fine-tuning, with or without a teacher (knowledge distillation, Hinton 2015, arXiv 1503.02531, on detectors).

    loss = task * detection loss + classes * KL + boxes * LD + features * CWD       see distill_losses.py

The teacher is the detector that the run began with, never the half-compressed one.  `teacher = "none"` trains the
same way for the same time without one: the control.  After `Quantize`, the same loop is quantization-aware training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from helmlite.compress.distill_losses import (
    box_distance_loss,
    box_distribution_loss,
    channel_wise_loss,
    class_loss,
    confidence,
    flat_maps,
)
from helmlite.compress.technique import Context
from helmlite.data.roles import Class
from helmlite.detector.augment import Augmentation
from helmlite.detector.detector import Batch, Detector, TrainingMaps
from helmlite.detector.families import family_of
from helmlite.detector.fit import FitSettings, Objective, TaskObjective, fit


@dataclass(frozen=True)
class Distill:
    """Trains the detector further, with the original as teacher.

    minutes or epochs: how long (with minutes, the number of epochs that fit is planned from measured speed)
    teacher:  "original" or "none"
    task, classes, boxes, features: weight of each loss
    box_temperature, feature_temperature: softening of LD and CWD
    """

    name: ClassVar[str] = "distill"
    minutes: float | None = None
    epochs: int | None = None
    teacher: str = "original"
    task: float = 1.0
    classes: float = 1.0
    boxes: float = 1.0
    features: float = 2.0
    box_temperature: float = 2.0
    feature_temperature: float = 2.0
    learning_rate: float = 1e-3
    batch_size: int = 16
    ema_decay: float = 0.998
    warmup_epochs: float = 1.0
    mosaic: float = 1.0
    scale: float = 0.4

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.epochs is None):
            raise ValueError("distill: give either minutes or epochs.")
        if self.teacher not in ("original", "none"):
            raise ValueError(f"distill: teacher must be 'original' or 'none'; got '{self.teacher}'.")
        if min(self.task, self.classes, self.boxes, self.features) < 0:
            raise ValueError("distill: the weights of the losses cannot be negative.")
        if self.box_temperature <= 0 or self.feature_temperature <= 0:
            raise ValueError("distill: temperatures must be above 0.")

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with new weights and no new edit."""
        settings = FitSettings(
            input_size=context.input_size,
            minutes=self.minutes,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            ema_decay=self.ema_decay,
            warmup_epochs=self.warmup_epochs,
            augmentation=replace(Augmentation(), mosaic=self.mosaic, scale=self.scale),
        )
        teacher = context.original if self.teacher == "original" else None

        def make_objective(student: Detector, network: nn.Module, epochs: int) -> Objective:
            if teacher is None:
                return TaskObjective(student, network, epochs)
            return DistillObjective(self, student, network, teacher, epochs, context.input_size)

        return fit(detector, make_objective, context.data, settings, context.seed, context.workspace, context.log)


class DistillObjective:
    """The detection loss and the teacher's losses on the same augmented pictures."""

    def __init__(
        self, settings: Distill, student: Detector, network: nn.Module, teacher: Detector, epochs: int, input_size: int
    ) -> None:
        self._settings = settings
        self._family = family_of(student)
        self._task = self._family.task_loss(student.architecture, network, epochs)
        self._bins = student.architecture.layout.reg_max
        self._teacher = _Teacher(teacher, student)
        self._adapters = _adapters(student, network, teacher, input_size) if settings.features > 0 else nn.ModuleList()

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        student = self._family.training_maps(network, batch.images)
        task, parts = self._task(student, batch)
        teacher = self._teacher.maps(batch.images)
        with torch.autocast("cpu", enabled=False):
            classes, boxes = self._head_losses(student, teacher)
            features = self._feature_loss(student.features, teacher.features)
        weights = self._settings
        total = weights.task * task + weights.classes * classes + weights.boxes * boxes + weights.features * features
        taught = {"kd_classes": float(classes), "kd_boxes": float(boxes), "kd_features": float(features)}
        return total, {**parts, **taught}

    def parameters(self) -> Iterable[nn.Parameter]:
        return self._adapters.parameters()

    def after_step(self, network: nn.Module, step: int) -> None:
        """Nothing to do."""

    def epoch_ended(self) -> None:
        self._task.epoch_ended()

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._adapters.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._adapters.load_state_dict(dict(state))

    def _head_losses(self, student: TrainingMaps, teacher: TrainingMaps) -> tuple[Tensor, Tensor]:
        """Mean over the head branches that both have."""
        branches = [(student.maps, teacher.maps)]
        if student.extra and teacher.extra:
            branches.append((student.extra, teacher.extra))
        classes, boxes = torch.zeros(()), torch.zeros(())
        for ours, theirs in branches:
            our_boxes, our_classes = flat_maps(ours)
            their_boxes, their_classes = flat_maps(theirs)
            weight = confidence(their_classes)
            classes = classes + class_loss(our_classes, their_classes) / len(branches)
            if self._bins > 1:
                temperature = self._settings.box_temperature
                one = box_distribution_loss(our_boxes, their_boxes, weight, self._bins, temperature)
            else:
                one = box_distance_loss(our_boxes, their_boxes, weight)
            boxes = boxes + one / len(branches)
        return classes, boxes

    def _feature_loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        total = torch.zeros(())
        for adapter, ours, theirs in zip(self._adapters, student, teacher):
            one = channel_wise_loss(adapter(ours.float()), theirs.float(), self._settings.feature_temperature)
            total = total + one / len(self._adapters)
        return total


class _Teacher:
    """A frozen detector whose maps are put into the student's order of classes."""

    def __init__(self, teacher: Detector, student: Detector) -> None:
        ours, theirs = student.architecture.layout, teacher.architecture.layout
        if (ours.strides, ours.reg_max) != (theirs.strides, theirs.reg_max):
            raise ValueError(
                f"distill: the teacher's head (strides {theirs.strides}, reg_max {theirs.reg_max}) is not like the "
                f"student's (strides {ours.strides}, reg_max {ours.reg_max}); use a teacher with the same kind of head."
            )
        self._family = family_of(teacher)
        self._network = teacher.copy().network.eval()
        self._order = _class_order(student.classes, teacher.classes)
        for parameter in self._network.parameters():
            parameter.requires_grad_(False)

    def maps(self, images: Tensor) -> TrainingMaps:
        with torch.no_grad():
            found = self._family.training_maps(self._network, images)
        return replace(found, maps=self._reordered(found.maps), extra=self._reordered(found.extra))

    def _reordered(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(item if index % 2 == 0 else item[:, self._order] for index, item in enumerate(maps))


def _class_order(student: Sequence[Class], teacher: Sequence[Class]) -> list[int]:
    """For each of the student's classes, the teacher's index.  Met by role, then by name."""
    order = []
    for item in student:
        by_role = [index for index, other in enumerate(teacher) if item.role is not None and other.role == item.role]
        by_name = [index for index, other in enumerate(teacher) if other.name == item.name]
        if not by_role and not by_name:
            raise ValueError(
                f"distill: the teacher has no class for '{item.name}'; its classes are "
                f"{', '.join(other.name for other in teacher)}. Give roles (--role), or use another teacher."
            )
        order.append((by_role or by_name)[0])
    return order


def _adapters(student: Detector, network: nn.Module, teacher: Detector, input_size: int) -> nn.ModuleList:
    """1x1 convolutions from the student's neck widths to the teacher's; identities where they are equal."""
    ours = _neck_widths(student, network, input_size)
    theirs = _neck_widths(teacher, teacher.network, input_size)
    adapters = nn.ModuleList()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for width, target in zip(ours, theirs):
            adapters.append(nn.Identity() if width == target else nn.Conv2d(width, target, 1))
    return adapters


def _neck_widths(detector: Detector, network: nn.Module, input_size: int) -> list[int]:
    was_training = network.training
    network.eval()
    with torch.no_grad():
        maps = family_of(detector).training_maps(network, torch.zeros(1, 3, input_size, input_size))
    network.train(was_training)
    return [item.shape[1] for item in maps.features]
