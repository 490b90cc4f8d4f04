"""Fine-tuning, with or without a teacher (knowledge distillation, Hinton 2015, arXiv 1503.02531, on detectors).

    loss = task * detection loss + classes * KL + boxes * LD + features * one of five losses on the neck's maps

Losses: distill_losses.py and feature_losses.py.  The teacher is the detector that the run began with, never the
half-compressed one, and sees the very same augmented pictures; one that cannot be asked teaches by its stored
detections (stored_teacher.py).  Pictures without labels take part in the teacher's losses only (unlabelled.py).
`teacher = "none"` trains the same way without one; `control = true` trains such a twin beside the taught one.

After `Quantize` the same loop is quantization-aware training, more careful by default: a lower learning rate, kept
BatchNorm statistics, float32, and no start from a detector that quantization has killed; with `step_sizes` it moves
the scales of the plan too (learned_steps.py).

For heads with two branches (YOLOv10, YOLO26) each branch is taught by the teacher's branch of the same kind: the
one-to-many branch by the one head of a YOLO11 teacher, the one-to-one branch only by a teacher that has one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from helmlite.boxes import box_iou
from helmlite.compress.control import train_control
from helmlite.compress.drop_scale import with_scales_of
from helmlite.compress.load import load_detector
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers
from helmlite.compress.rounding.learned_steps import WithBoundedSteps, learned_steps, settled_steps
from helmlite.compress.rounding.round_weights import RoundWeights
from helmlite.compress.teaching.distill_losses import (
    box_distribution_loss,
    box_overlap_loss,
    class_loss,
    confidence,
    expected_distances,
    flat_maps,
)
from helmlite.compress.teaching.feature_losses import FEATURE_LOSSES, ScaleLosses
from helmlite.compress.teaching.stored_teacher import (
    StoredTeacherObjective,
    StoredWeights,
    is_stored,
    stored_file,
    with_found,
)
from helmlite.compress.teaching.teacher import Teacher, adapters_between, check_heads, class_order, neck_shapes
from helmlite.compress.teaching.unlabelled import SPLIT, file_sha256, unlabelled_pictures, with_unlabelled
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset, UnreadableImageError
from helmlite.detector.augment import Augmentation
from helmlite.detector.detector import Batch, Detector, TrainingMaps
from helmlite.detector.device import device_of
from helmlite.detector.fit import FitSettings, fit
from helmlite.detector.fit_state import EpochPlan, below, detector_sha256
from helmlite.detector.objective import Objective, TaskObjective
from helmlite.runtime.decode import Selection

_RATE = 1e-3
_RATE_QUANTIZED = 1e-4
_ROUNDED = (InsertQuantizers.kind, RoundWeights.kind)
_LOOKED_AT = 24  # pictures that tell whether a quantized detector is alive
_ALIVE = 0.25  # share of the original's heads that it must still find


@dataclass(frozen=True)
class Distill:
    """Trains the detector further, with the original as teacher.  Gives new weights and makes no edit.

    minutes, epochs: how long; with minutes the epochs that fit are planned from measured speed; where both are given
             the shorter counts; with neither it is until the context's deadline
    teacher: "original", "none", what `load_detector` takes (a checkpoint, a `.pt`, a public name), or "stored:PATH":
             a folder with `train.json`, or that file, as `helmlite eval --predictions` writes it
    task, classes, boxes, features: weight of each loss; features None means the usual one of `feature_loss`
    feature_loss: "cwd", "l2", "mgd", "fgd" or "pkd" (feature_losses.py)
    class_temperature, box_temperature: softening of the teacher's answers
    feature_temperature: of cwd and fgd; None means the usual one of either
    unlabelled: folder of pictures without labels that the teacher teaches on too
    unlabelled_share: of each batch that are such pictures
    stored_score: stored detections below it are left out
    repeat_threshold: pictures of classes that less than this share of the pictures show come more often, as often as
             sqrt(threshold / share) says, the others less often; 0 shows each picture once (repeat_factors.py)
    control: whether to train the same detector as many epochs without a teacher as well (control.py)
    learning_rate: None means 1e-3, and 1e-4 for a quantized detector
    bf16:    None means where the processor computes in it, and never for a quantized detector
    step_sizes: of a quantized detector, trains the scales as well as the weights
    the others are those of `FitSettings` and `Augmentation`
    """

    name: ClassVar[str] = "distill"
    minutes: float | None = None
    epochs: int | None = None
    teacher: str = "original"
    task: float = 1.0
    classes: float = 1.0
    boxes: float = 1.0
    features: float | None = None
    class_temperature: float = 1.0
    box_temperature: float = 2.0
    feature_temperature: float | None = None
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
    step_sizes: bool = False
    feature_loss: str = "cwd"
    unlabelled: str | None = None
    unlabelled_share: float = 0.5
    stored_score: float = 0.1
    repeat_threshold: float = 0.0
    control: bool = False

    def __post_init__(self) -> None:
        if self.feature_loss not in FEATURE_LOSSES:
            raise ValueError(
                f"distill: unknown feature_loss '{self.feature_loss}'; known are {', '.join(FEATURE_LOSSES)}."
            )
        weights = (self.task, self.classes, self.boxes, self.feature_weight)
        are_weights = all(0 <= weight < math.inf for weight in weights)  # nan is none
        if not are_weights or max(weights if self.teacher != "none" else weights[:1]) == 0:
            raise ValueError(
                "distill: the weights task, classes, boxes and features cannot be negative or infinite, and one that "
                f"is used must be above 0; got {', '.join(f'{weight:g}' for weight in weights)} with teacher "
                f"'{self.teacher}'."
            )
        temperatures = (self.class_temperature, self.box_temperature, self.softness_of_features)
        if not all(0 < temperature < math.inf for temperature in temperatures):
            raise ValueError(
                "distill: temperatures must be above 0 and finite; "
                f"got {', '.join(f'{temperature:g}' for temperature in temperatures)}."
            )
        if not self.teacher:
            raise ValueError("distill: teacher must be 'original', 'none' or the path of a checkpoint.")
        self._check_teaching()
        if self.step_sizes and self.bf16:
            raise ValueError("distill: step sizes are learned in float32; leave out bf16 or step_sizes.")
        self._fit_settings(input_size=64, is_quantized=False)  # says what else is wrong before any work is done

    @property
    def feature_weight(self) -> float:
        """`features`, or what is usual for `feature_loss`."""
        return FEATURE_LOSSES[self.feature_loss].weight if self.features is None else self.features

    @property
    def softness_of_features(self) -> float:
        """`feature_temperature`, or what is usual for `feature_loss`."""
        usual = FEATURE_LOSSES[self.feature_loss].temperature
        return usual if self.feature_temperature is None else self.feature_temperature

    def stand_in(self) -> None:
        """Training changes no shape."""

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with new weights and no new edit.

        With `step_sizes` its quantization has other scales.  Raises ValueError where the teacher cannot teach this
        detector, where stored predictions or the folder of unlabelled pictures do not serve, where quantization has
        left nothing alive to train, and where there are no step sizes to train.
        """
        learning = learned_steps(detector) if self.step_sizes else detector
        is_quantized = self.step_sizes or any(detector.has_edit(kind) for kind in _ROUNDED)
        teacher = self._teacher(context)
        if teacher is not None:
            check_heads(detector, teacher)
            for line in _untaught(detector, teacher):
                context.log(f"distill: {line}")
        data = self._data(context)
        if is_quantized:
            check_alive(detector, context)
        settings = replace(self._fit_settings(context.input_size, is_quantized), device=context.device)

        def make_objective(student: Detector, network: nn.Module, plan: EpochPlan) -> Objective:
            objective: Objective = TaskObjective(student, network, plan)
            if is_stored(self.teacher):
                objective = self._stored_objective(student, network, plan, context)
            elif teacher is not None:
                objective = DistillObjective(self, student, network, teacher, plan, context.input_size)
            return WithBoundedSteps(objective) if self.step_sizes else objective

        trained = fit(
            learning,
            make_objective,
            data,
            settings,
            context.seed,
            context.workspace,
            context.log,
            context.deadline,
        )
        if self.control:
            bounded = (_bounded_task, settled_steps) if self.step_sizes else ()
            train_control(learning, data, settings, context, *bounded)
        return settled_steps(trained) if self.step_sizes else trained

    def outside_sha256(self) -> str:
        """Hash of what lies elsewhere, teacher and unlabelled pictures: the same path may hold another next time."""
        parts = []
        if is_stored(self.teacher):
            parts += [file_sha256(path) for path in self._stored_files("train")]
        elif self.teacher not in ("original", "none"):
            parts.append(detector_sha256(load_detector(self.teacher)))
        if self.unlabelled is not None:
            parts.append(unlabelled_pictures(self.unlabelled, ()).sha256())
        return " ".join(parts)

    def check_outside(self, detector: Detector) -> None:
        """Raises ValueError where what lies elsewhere is not there or cannot teach such a detector.

        detector: the one that the run begins with: its classes and strides, of which a run may only lose some.
        """
        if is_stored(self.teacher):
            self._stored_files("train")
        elif self.teacher not in ("original", "none"):
            class_order(detector.classes, load_detector(self.teacher).classes)
        if self.unlabelled is not None:
            unlabelled_pictures(self.unlabelled, ())

    def remarks(self, detector: Detector) -> tuple[str, ...]:
        """What of such a detector the teacher cannot teach."""
        if self.teacher in ("original", "none") or is_stored(self.teacher):
            return ()
        return _untaught(detector, load_detector(self.teacher))

    def settings_that_count(self) -> dict[str, Any]:
        """All that the taught detector depends on, as plain data: a twin beside it changes nothing."""
        return {name: value for name, value in asdict(self).items() if name != "control"}

    def _check_teaching(self) -> None:
        """Raises ValueError for settings that need a teacher, or one that can be asked."""
        if self.teacher == "none" and (self.control or self.unlabelled is not None):
            wanted = "control" if self.control else "unlabelled"
            raise ValueError(f'distill: {wanted} needs a teacher; this step has teacher = "none".')
        if not 0 < self.unlabelled_share < 1:
            raise ValueError(f"distill: unlabelled_share must lie between 0 and 1; got {self.unlabelled_share:g}.")
        if self.unlabelled is not None and self.batch_size * (1 - self.unlabelled_share) < 1:
            raise ValueError(
                f"distill: a batch of {self.batch_size} with unlabelled_share {self.unlabelled_share:g} holds no "
                "labelled picture; raise batch_size, or lower the share."
            )
        if not 0 < self.stored_score < 1:
            raise ValueError(f"distill: stored_score must lie between 0 and 1; got {self.stored_score:g}.")
        if is_stored(self.teacher) and self.task == self.classes == self.boxes == 0:
            raise ValueError("distill: a stored teacher knows no features; task, classes or boxes must be above 0.")
        if is_stored(self.teacher) and self.unlabelled is not None and self.teacher.endswith(".json"):
            raise ValueError(
                f'distill: unlabelled pictures need their own predictions; give teacher = "stored:FOLDER" with '
                f"train.json and {SPLIT}.json in it."
            )

    def _data(self, context: Context) -> Dataset:
        """The training pictures, with those without labels, and with what a stored teacher found in them."""
        parts = [context.data]
        if self.unlabelled is not None:
            parts.append(unlabelled_pictures(self.unlabelled, context.data.classes))
        if is_stored(self.teacher):
            files = self._stored_files(context.data.split)
            parts = [with_found(part, path, self.stored_score) for part, path in zip(parts, files, strict=True)]
        return parts[0] if len(parts) == 1 else with_unlabelled(*parts)

    def _stored_files(self, split: str) -> list[Path]:
        splits = [split] if self.unlabelled is None else [split, SPLIT]
        return [stored_file(self.teacher, item) for item in splits]

    def _stored_objective(
        self, student: Detector, network: nn.Module, plan: EpochPlan, context: Context
    ) -> StoredTeacherObjective:
        weights = StoredWeights(self.task, self.classes, self.boxes, self.class_temperature)
        hashes = [file_sha256(path) for path in self._stored_files(context.data.split)]
        about = {**self.settings_that_count(), "teacher_sha256": hashes}
        return StoredTeacherObjective(weights, student, network, plan, about)

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
            unlabelled_share=0.0 if self.unlabelled is None else self.unlabelled_share,
            repeat_threshold=self.repeat_threshold,
        )

    def _teacher(self, context: Context) -> Detector | None:
        if self.teacher == "none" or is_stored(self.teacher):
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
        self._is_dense = student.architecture.layout.needs_nms, teacher.architecture.layout.needs_nms
        self._settings = settings
        self._task = TaskObjective(student, network, plan)
        self._teacher = Teacher(teacher, student.classes, plan.bf16, device_of(network))
        self._bins = student.architecture.layout.reg_max, teacher.architecture.layout.reg_max
        self._adapters, self._feature_losses = nn.ModuleList(), ScaleLosses(settings.feature_loss, (), 1.0)
        if settings.feature_weight > 0:
            ours = neck_shapes(student, network, input_size)
            theirs = neck_shapes(teacher, teacher.network, input_size)
            widths = [shape[0] for shape in theirs]
            self._adapters = adapters_between(ours, theirs)
            self._feature_losses = ScaleLosses(settings.feature_loss, widths, settings.softness_of_features)
            self._adapters.to(device_of(network))
            self._feature_losses.to(device_of(network))

    def identity(self) -> Mapping[str, Any]:
        return {"objective": "distill", **self._settings.settings_that_count(), "teacher_sha256": self._teacher.sha256}

    def parameters(self) -> Iterable[nn.Parameter]:
        return (*self._adapters.parameters(), *self._feature_losses.parameters())

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        student, task, parts = self._task.maps_and_loss(network, batch)
        teacher = self._teacher.maps(batch.images)
        weights = self._settings
        classes, boxes = self._head_losses(student, teacher)
        adapted = [adapter(ours) for adapter, ours in zip(self._adapters, student.features)]
        features = self._feature_losses(adapted, teacher.features, batch)
        total = weights.task * task + weights.classes * classes + weights.boxes * boxes
        total = total + weights.feature_weight * features
        taught = {"kd_classes": classes, "kd_boxes": boxes, "kd_features": features}
        return total, {**parts, **{name: float(value.detach()) for name, value in taught.items()}}

    def after_step(self, network: nn.Module, step: int) -> None:
        self._task.after_step(network, step)

    def epoch_ended(self) -> None:
        self._task.epoch_ended()

    def state_dict(self) -> dict[str, Tensor]:
        adapters = {f"adapters.{name}": tensor for name, tensor in self._adapters.state_dict().items()}
        losses = {f"features.{name}": tensor for name, tensor in self._feature_losses.state_dict().items()}
        return {**self._task.state_dict(), **adapters, **losses}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._task.load_state_dict(state)
        self._adapters.load_state_dict(below("adapters.", state))
        self._feature_losses.load_state_dict(below("features.", state))

    def _head_losses(self, student: TrainingMaps, teacher: TrainingMaps) -> tuple[Tensor, Tensor]:
        """Mean over the kinds of head branches that both have: a sparse branch is never taught by a dense one."""
        ours_by_kind, theirs_by_kind = _by_kind(student, self._is_dense[0]), _by_kind(teacher, self._is_dense[1])
        classes, boxes = [], []
        for ours, theirs in ((ours_by_kind[kind], theirs_by_kind[kind]) for kind in ("dense", "sparse")):
            if not ours or not theirs:
                continue
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


def _untaught(student: Detector, teacher: Detector) -> tuple[str, ...]:
    """What of the student no teacher teaches, in words; () where all of it is taught."""
    if not teacher.architecture.layout.needs_nms or student.architecture.layout.needs_nms:
        return ()
    return (
        "The teacher has no one-to-one branch; classes and boxes of the student's, which ships, are learned from the "
        "labels alone, those of its one-to-many branch from the teacher too.",
    )


def _by_kind(maps: TrainingMaps, is_dense: bool) -> dict[str, tuple[Tensor, ...]]:
    """A head's branches.  dense: many cells answer for an object, as NMS expects; sparse: one does; () where missing.

    is_dense: whether the branch that ships is the dense one; a head whose ships the sparse one has both
    """
    if is_dense:
        return {"dense": tuple(maps.maps), "sparse": ()}
    return {"dense": tuple(maps.extra), "sparse": tuple(maps.maps)}


def _bounded_task(student: Detector, network: nn.Module, plan: EpochPlan) -> Objective:
    """What a control with step sizes trains for."""
    return WithBoundedSteps(TaskObjective(student, network, plan))


def base_objective(teacher: str, student: Detector, network: nn.Module, plan: EpochPlan, context: Context) -> Objective:
    """What a technique with an objective of its own adds to: the detection loss, with the original as teacher or none.

    teacher: "original" or "none".  Raises ValueError where the original cannot teach this detector.
    """
    if teacher == "none":
        return TaskObjective(student, network, plan)
    check_heads(student, context.original)
    settings = Distill(epochs=1, teacher=teacher)  # how long is the plan's matter
    return DistillObjective(settings, student, network, context.original, plan, context.input_size)


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
