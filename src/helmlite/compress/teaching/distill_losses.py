"""What a student is asked to copy from a teacher.  Every loss is 0 where student and teacher agree, and never below.

classes   KL divergence of each cell's Bernoulli class probabilities, softened by a temperature T, each weighted by
          the larger of the two probabilities: what the teacher sees and what the student only imagines count, easy
          background does not (thousands of cells against a handful would drown the rest).
boxes     LD (Zheng 2022, arXiv 2102.12252, eq. 2-3): KL divergence of the softened distributions of each side, each
          cell weighted by the teacher's confidence.  Where one of the heads has no DFL: 1 - GIoU (Rezatofighi 2019,
          arXiv 1902.09630) of the two boxes at each cell.
features  CWD (Shu 2021, arXiv 2011.13256, eq. 3-4): each channel's map as a distribution over positions, softened.
KL divergences are multiplied by T^2, so that a temperature softens targets without shrinking gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def class_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Weighted KL(teacher || student) of Bernoulli distributions over the teacher's total confidence.

    student_logits, teacher_logits: (B, C, N) -> scalar
    """
    target = (teacher_logits / temperature).sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(student_logits / temperature, target, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher_logits / temperature, target, reduction="none")
    weight = torch.maximum(teacher_logits.sigmoid(), student_logits.detach().sigmoid())
    divergence = (cross_entropy - entropy).clamp(min=0)  # below 0 only by rounding
    return temperature**2 * (divergence * weight).sum() / _total(confidence(teacher_logits))


def box_distribution_loss(student: Tensor, teacher: Tensor, weight: Tensor, bins: int, temperature: float) -> Tensor:
    """LD, a mean over the four sides and, by `weight`, over cells.

    student, teacher: (B, 4 * bins, N) logits; weight: (B, N) -> scalar
    """
    batch, _, count = student.shape
    shape = (batch, 4, bins, count)
    divergence = _divergence(student.view(shape), teacher.view(shape), temperature).mean(dim=1)  # (B, N)
    return (divergence * weight).sum() / _total(weight)


def box_overlap_loss(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """1 - GIoU of boxes given as distances from the same cell, a mean over cells by `weight`.

    student, teacher: (B, 4, N) left, top, right, bottom; weight: (B, N) -> scalar.  The teacher's boxes count with
    sides of at least 0; the student's may be turned inside out, and have a slope back.
    """
    teacher = teacher.clamp(min=0)
    sides = torch.minimum(student, teacher)
    inner = (sides[:, 0] + sides[:, 2]).clamp(min=0) * (sides[:, 1] + sides[:, 3]).clamp(min=0)
    union = _area(student) + _area(teacher) - inner
    hull_sides = torch.maximum(student, teacher)
    hull = (hull_sides[:, 0] + hull_sides[:, 2]) * (hull_sides[:, 1] + hull_sides[:, 3])
    overlap = inner / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
    return ((1 - overlap) * weight * (_area(teacher) > 0)).sum() / _total(weight)


def channel_wise_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """CWD, a mean over pictures and channels.  student, teacher: (B, C, H, W) -> scalar."""
    return _divergence(student.flatten(2)[..., None], teacher.flatten(2)[..., None], temperature).mean()


def expected_distances(box_map: Tensor, bins: int) -> Tensor:
    """The distances that a head means: (B, 4 * bins, N) -> (B, 4, N), the mean of each distribution (or itself)."""
    if bins == 1:
        return box_map
    batch, _, count = box_map.shape
    steps = torch.arange(bins, dtype=box_map.dtype, device=box_map.device).view(1, 1, bins, 1)
    return (box_map.view(batch, 4, bins, count).softmax(dim=2) * steps).sum(dim=2)


def confidence(logits: Tensor) -> Tensor:
    """The highest class probability of each cell.  (B, C, N) -> (B, N)."""
    return logits.sigmoid().amax(dim=1)


def flat_maps(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """All scales side by side: box maps (B, 4 * bins, N) and class maps (B, C, N)."""
    boxes = torch.cat([item.flatten(2) for item in maps[0::2]], dim=2)
    classes = torch.cat([item.flatten(2) for item in maps[1::2]], dim=2)
    return boxes, classes


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of softened logits along axis -2, which goes: (..., K, N) -> (..., N)."""
    log_student = (student / temperature).log_softmax(dim=-2)
    log_teacher = (teacher / temperature).log_softmax(dim=-2)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-2)


def _area(distances: Tensor) -> Tensor:
    """(B, 4, N) -> (B, N), at least 0."""
    return (distances[:, 0] + distances[:, 2]).clamp(min=0) * (distances[:, 1] + distances[:, 3]).clamp(min=0)


def _total(weight: Tensor) -> Tensor:
    """Sum of the weights, at least 1: pictures without any object must not divide by nothing."""
    return weight.sum().clamp(min=1.0)
