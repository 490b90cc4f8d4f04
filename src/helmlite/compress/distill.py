"""Fine-tuning, with or without a teacher (knowledge distillation, Hinton 2015, arXiv 1503.02531, on detectors).

    loss = task * detection loss + classes * KL + boxes * LD + features * CWD       see distill_losses.py

The teacher is the detector that the run began with, never the half-compressed one, and sees the very same augmented
pictures.  `teacher = "none"` trains the same way for the same time without one: the control.  After `Quantize` the
same loop is quantization-aware training, more careful by default: a lower learning rate, kept BatchNorm statistics,
float32, and no start from a detector that quantization has killed.

For heads with two branches (YOLOv10, YOLO26) both branches are taught, each by the teacher's same branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from helmlite.boxes import box_iou
from helmlite.compress.distill_losses import (
    box_distribution_loss,
    box_overlap_loss,
    channel_wise_loss,
    class_loss,
    confidence,
    expected_distances,
    flat_maps,
)
from helmlite.compress.drop_scale import with_scales_of
from helmlite.compress.load import load_detector
from helmlite.compress.teacher import Teacher, adapters_between, check_heads, neck_shapes
from helmlite.compress.technique import Context
from helmlite.data.dataset import UnreadableImageError
from helmlite.detector.augment import Augmentation
from helmlite.detector.detector import Batch, Detector, TrainingMaps
from helmlite.detector.device import device_of
from helmlite.detector.fit import FitSettings, fit
from helmlite.detector.fit_state import EpochPlan, detector_sha256
from helmlite.detector.objective import Objective, TaskObjective
from helmlite.runtime.decode import Selection

_RATE = 1e-3
_RATE_QUANTIZED = 1e-4
_LOOKED_AT = 24  # pictures that tell whether a quantized detector is alive
_ALIVE = 0.25  # share of the original's heads that it must still find


@dataclass(frozen=True)
class Distill:
    """Trains the detector further, with the original as teacher.  Gives new weights and makes no edit.

    minutes, epochs: how long; with minutes the epochs that fit are planned from measured speed; where both are given
             the shorter counts; with neither it is until the context's deadline
    teacher: "original", "none", or what `load_detector` takes: a checkpoint, a `.pt`, a public name
    task, classes, boxes, features: weight of each loss
    class_temperature, box_temperature, feature_temperature: softening of the teacher's answers
    learning_rate: None means 1e-3, and 1e-4 for a quantized detector
    bf16:    None means where the processor computes in it, and never for a quantized detector
    the others are those of `FitSettings` and `Augmentation`
    """

    name: ClassVar[str] = "distill"
    minutes: float | None = None
    epochs: int | None = None
    teacher: str = "original"
    task: float = 1.0
    classes: float = 1.0
    boxes: float = 1.0
    features: float = 1.0
    class_temperature: float = 1.0
    box_temperature: float = 2.0
    feature_temperature: float = 1.0
    optimizer: str = "adamw"
    learning_rate: float | None = None
    weight_decay: float = 5e-4
    batch_size: int = 16
    ema_decay: float = 0.998
    warmup_epochs: float = 1.0
    final_lr_ratio: float = 0.02
    close_mosaic_epochs: int = 5
    mosaic: float = 1.0
    scale: float = 0.4
    bf16: bool | None = None

    def __post_init__(self) -> None:
        weights = (self.task, self.classes, self.boxes, self.features)
        if min(weights) < 0 or max(weights if self.teacher != "none" else weights[:1]) == 0:
            raise ValueError(
                "distill: the weights task, classes, boxes and features cannot be negative, and one that is used must "
                f"be above 0; got {', '.join(f'{weight:g}' for weight in weights)} with teacher '{self.teacher}'."
            )
        if min(self.class_temperature, self.box_temperature, self.feature_temperature) <= 0:
            raise ValueError("distill: temperatures must be above 0.")
        if not self.teacher:
            raise ValueError("distill: teacher must be 'original', 'none' or the path of a checkpoint.")
        self._fit_settings(input_size=64, is_quantized=False)  # says what else is wrong before any work is done

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with new weights and no new edit.

        Raises ValueError where the teacher cannot teach this detector, and where quantization has left nothing alive
        to train.
        """
        is_quantized = detector.has_edit("insert_quantizers")
        teacher = self._teacher(context)
        if teacher is not None:
            check_heads(detector, teacher)
        if is_quantized:
            check_alive(detector, context)
        settings = replace(self._fit_settings(context.input_size, is_quantized), device=context.device)

        def make_objective(student: Detector, network: nn.Module, plan: EpochPlan) -> Objective:
            if teacher is None:
                return TaskObjective(student, network, plan)
            return DistillObjective(self, student, network, teacher, plan, context.input_size)

        return fit(
            detector,
            make_objective,
            context.data,
            settings,
            context.seed,
            context.workspace,
            context.log,
            context.deadline,
        )

    def outside_sha256(self) -> str:
        """Hash of a teacher that lies elsewhere: the same path may hold another one next time."""
        return "" if self.teacher in ("original", "none") else detector_sha256(load_detector(self.teacher))

    def _fit_settings(self, input_size: int, is_quantized: bool) -> FitSettings:
        default_rate = _RATE_QUANTIZED if is_quantized else _RATE
        return FitSettings(
            input_size=input_size,
            epochs=self.epochs,
            minutes=self.minutes,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            learning_rate=default_rate if self.learning_rate is None else self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_epochs=self.warmup_epochs,
            final_lr_ratio=self.final_lr_ratio,
            ema_decay=self.ema_decay,
            close_mosaic_epochs=self.close_mosaic_epochs,
            bf16=False if is_quantized and self.bf16 is None else self.bf16,
            freeze_norms=is_quantized,
            augmentation=Augmentation(mosaic=self.mosaic, scale=self.scale),
        )

    def _teacher(self, context: Context) -> Detector | None:
        if self.teacher == "none":
            return None
        if self.teacher == "original":
            return context.original
        return load_detector(self.teacher)


class DistillObjective:
    """The detection loss and the teacher's losses on the same augmented pictures."""

    def __init__(
        self,
        settings: Distill,
        student: Detector,
        network: nn.Module,
        teacher: Detector,
        plan: EpochPlan,
        input_size: int,
    ) -> None:
        teacher = with_scales_of(student, teacher)
        self._settings = settings
        self._task = TaskObjective(student, network, plan)
        self._teacher = Teacher(teacher, student.classes, plan.bf16, device_of(network))
        self._bins = student.architecture.layout.reg_max, teacher.architecture.layout.reg_max
        self._adapters = nn.ModuleList()
        if settings.features > 0:
            ours = neck_shapes(student, network, input_size)
            self._adapters = adapters_between(ours, neck_shapes(teacher, teacher.network, input_size))
            self._adapters.to(device_of(network))

    def identity(self) -> Mapping[str, Any]:
        return {"objective": "distill", **asdict(self._settings), "teacher_sha256": self._teacher.sha256}

    def parameters(self) -> Iterable[nn.Parameter]:
        return self._adapters.parameters()

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        student, task, parts = self._task.maps_and_loss(network, batch)
        teacher = self._teacher.maps(batch.images)
        weights = self._settings
        classes, boxes = self._head_losses(student, teacher)
        features = self._feature_loss(student.features, teacher.features)
        total = weights.task * task + weights.classes * classes + weights.boxes * boxes + weights.features * features
        taught = {"kd_classes": classes, "kd_boxes": boxes, "kd_features": features}
        return total, {**parts, **{name: float(value.detach()) for name, value in taught.items()}}

    def after_step(self, network: nn.Module, step: int) -> None:
        self._task.after_step(network, step)

    def epoch_ended(self) -> None:
        self._task.epoch_ended()

    def state_dict(self) -> dict[str, Tensor]:
        adapters = {f"adapters.{name}": tensor for name, tensor in self._adapters.state_dict().items()}
        return {**self._task.state_dict(), **adapters}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._task.load_state_dict(state)
        prefix = "adapters."
        self._adapters.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})

    def _head_losses(self, student: TrainingMaps, teacher: TrainingMaps) -> tuple[Tensor, Tensor]:
        """Mean over the head branches that both have."""
        branches = [(student.maps, teacher.maps)]
        if student.extra and teacher.extra:
            branches.append((student.extra, teacher.extra))
        classes, boxes = [], []
        for ours, theirs in branches:
            our_boxes, our_classes = flat_maps(ours)
            their_boxes, their_classes = flat_maps(theirs)
            classes.append(class_loss(our_classes, their_classes, self._settings.class_temperature))
            boxes.append(self._box_loss(our_boxes, their_boxes, confidence(their_classes)))
        return torch.stack(classes).mean(), torch.stack(boxes).mean()

    def _box_loss(self, student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
        our_bins, their_bins = self._bins
        if our_bins == their_bins and our_bins > 1:
            return box_distribution_loss(student, teacher, weight, our_bins, self._settings.box_temperature)
        return box_overlap_loss(expected_distances(student, our_bins), expected_distances(teacher, their_bins), weight)

    def _feature_loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        losses = [
            channel_wise_loss(adapter(ours), theirs, self._settings.feature_temperature)
            for adapter, ours, theirs in zip(self._adapters, student, teacher)
        ]
        return torch.stack(losses).mean() if losses else torch.zeros(())


def check_alive(detector: Detector, context: Context) -> None:
    """Raises ValueError where a quantized detector finds less than a quarter of the objects that the original finds.

    Training cannot repair such a detector, it can only hide what went wrong before (wrong scales, a quantized decode).
    Looks at a few pictures of the train split; where the original finds nothing either, there is nothing to say.
    """
    found, found_before = _found(detector, context), _found(context.original, context)
    if found < _ALIVE * found_before:
        raise ValueError(
            f"distill: the quantized detector finds {found} of the {found_before} objects that the original finds in "
            f"{_LOOKED_AT} pictures; there is nothing to train on from here. Quantize more carefully first."
        )


def _found(detector: Detector, context: Context) -> int:
    """Labelled objects that are found with IoU 0.5 and a score of 0.1."""
    predict = detector.predictor(context.input_size, Selection(min_score=0.1))
    order = np.random.default_rng(context.seed).permutation(len(context.data))[:_LOOKED_AT]
    count = 0
    for sample in (context.data[index] for index in order.tolist()):
        try:
            found = predict(sample.read_image())
        except UnreadableImageError:
            continue  # training itself counts and names them
        same = found.labels[None, :] == sample.labels[:, None]
        count += int(((box_iou(sample.boxes_xyxy, found.boxes_xyxy) >= 0.5) & same).any(axis=1).sum())
    return count
