"""A detector that teaches another: frozen, asked about the same pictures, its answers in the student's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.data.roles import Class
from helmlite.detector.detector import Detector, TrainingMaps
from helmlite.detector.device import device_of
from helmlite.detector.families import family_of
from helmlite.detector.fit_state import detector_sha256
from helmlite.detector.objective import float_maps


class Teacher:
    """A frozen detector whose maps are put into the student's order of classes.

    It only answers, so its BatchNorm goes into its convolutions: helmet-yolo12m then answers 1.4 times faster (16
    pictures at 320 in BF16, two cores).
    """

    def __init__(self, teacher: Detector, classes: Sequence[Class], bf16: bool, device: torch.device) -> None:
        self._family = family_of(teacher)
        network = fold_batchnorm(teacher).copy().network.eval().requires_grad_(False)
        self._network = network.to(device).to(memory_format=torch.channels_last)
        self._order = class_order(classes, teacher.classes)
        self._bf16 = bf16
        self.sha256 = detector_sha256(teacher)

    def maps(self, images: Tensor) -> TrainingMaps:
        """What the teacher gives for these pictures, in float32 and without gradient."""
        with torch.no_grad():
            found = float_maps(self._family, self._network, images, self._bf16)
        return replace(found, maps=self._reordered(found.maps), extra=self._reordered(found.extra))

    def _reordered(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(item if index % 2 == 0 else item[:, self._order] for index, item in enumerate(maps))


def class_order(student: Sequence[Class], teacher: Sequence[Class]) -> list[int]:
    """For each of the student's classes, the teacher's index of the class with the same name or, else, role.

    Raises ValueError where the teacher lacks one.
    """
    order = []
    for item in student:
        by_name = [index for index, other in enumerate(teacher) if other.name == item.name]
        by_role = [index for index, other in enumerate(teacher) if item.role is not None and other.role == item.role]
        if not by_name and not by_role:
            raise ValueError(
                f"distill: the teacher has no class for '{item.name}'; its classes are "
                f"{', '.join(other.name for other in teacher)}. Give roles (--role), or use another teacher."
            )
        order.append((by_name or by_role)[0])
    return order


def adapters_between(student: Sequence[tuple[int, int, int]], teacher: Sequence[tuple[int, int, int]]) -> nn.ModuleList:
    """1x1 convolutions from the student's neck widths to the teacher's; nothing is changed where they are equal.

    student, teacher: (channels, height, width) of each scale.  Raises ValueError where heights or widths differ.
    """
    if [shape[1:] for shape in student] != [shape[1:] for shape in teacher]:
        raise ValueError(
            f"distill: the teacher's neck gives maps of {[shape[1:] for shape in teacher]} cells, the student's of "
            f"{[shape[1:] for shape in student]}; use another teacher, or features = 0."
        )
    adapters = nn.ModuleList()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for (ours, _, _), (theirs, _, _) in zip(student, teacher):
            adapters.append(nn.Identity() if ours == theirs else nn.Conv2d(ours, theirs, 1, bias=False))
    return adapters


def neck_shapes(detector: Detector, network: nn.Module, input_size: int) -> list[tuple[int, int, int]]:
    """(channels, height, width) of each map that the detector's neck gives."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        maps = family_of(detector).training_maps(
            network, torch.zeros(1, 3, input_size, input_size, device=device_of(network))
        )
    network.train(was_training)
    return [(item.shape[1], item.shape[2], item.shape[3]) for item in maps.features]


def check_heads(student: Detector, teacher: Detector) -> None:
    """Raises ValueError where the teacher's cells or classes do not meet the student's.

    Scales that only the teacher has do no harm: it teaches without them (`drop_scale.with_scales_of`).
    """
    ours, theirs = student.architecture.layout.strides, teacher.architecture.layout.strides
    if not set(ours) <= set(theirs):
        raise ValueError(
            f"distill: the teacher's head has strides {theirs} and the student's {ours}: their cells do not meet. "
            'Use a teacher with the same strides, or teacher = "none".'
        )
    class_order(student.classes, teacher.classes)
