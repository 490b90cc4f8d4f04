"""What a student is asked to copy from a teacher.  Every loss is 0 where student and teacher agree.

classes   KL divergence of each cell's Bernoulli class probabilities, summed, divided by the teacher's total
          confidence: background costs what it deserves, and no threshold picks cells.
boxes     LD (Zheng 2022, arXiv 2102.12252, eq. 3): KL divergence of the box distributions softened by a temperature,
          each cell weighted by the teacher's confidence.  Heads without DFL: 1 - IoU of the two boxes at each cell.
features  CWD (Shu 2021, arXiv 2011.13256, eq. 3-4): each channel's map as a distribution over positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def class_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(teacher || student) of Bernoulli distributions.  (B, C, N) logits each -> scalar."""
    probability = teacher_logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(student_logits, probability, reduction="sum")
    entropy = F.binary_cross_entropy_with_logits(teacher_logits, probability, reduction="sum")
    return (cross_entropy - entropy) / confidence(teacher_logits).sum().clamp(min=1.0)


def box_distribution_loss(student: Tensor, teacher: Tensor, weight: Tensor, bins: int, temperature: float) -> Tensor:
    """LD.  student, teacher: (B, 4 * bins, N) logits; weight: (B, N) -> scalar."""
    batch, _, count = student.shape
    shape = (batch, 4, bins, count)
    log_student = (student.view(shape) / temperature).log_softmax(dim=2)
    log_teacher = (teacher.view(shape) / temperature).log_softmax(dim=2)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=2).mean(dim=1)  # (B, N)
    return temperature**2 * (divergence * weight).sum() / weight.sum().clamp(min=1.0)


def box_distance_loss(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """1 - IoU of boxes given as distances from the same cell.  (B, 4, N) left, top, right, bottom; weight (B, N)."""
    smaller, larger = torch.minimum(student, teacher), torch.maximum(student, teacher)
    inner = (smaller[:, 0] + smaller[:, 2]).clamp(min=0) * (smaller[:, 1] + smaller[:, 3]).clamp(min=0)
    areas = [
        (item[:, 0] + item[:, 2]).clamp(min=0) * (item[:, 1] + item[:, 3]).clamp(min=0) for item in (student, teacher)
    ]
    union = areas[0] + areas[1] - inner
    hull = (larger[:, 0] + larger[:, 2]) * (larger[:, 1] + larger[:, 3])
    overlap = inner / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)  # GIoU: has a slope when apart
    return ((1 - overlap) * weight).sum() / weight.sum().clamp(min=1.0)


def channel_wise_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """CWD.  (B, C, H, W) each -> scalar: mean over pictures and channels of KL over positions, times T^2."""
    log_student = (student.flatten(2) / temperature).log_softmax(dim=2)
    log_teacher = (teacher.flatten(2) / temperature).log_softmax(dim=2)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=2)  # (B, C)
    return temperature**2 * divergence.mean()


def confidence(logits: Tensor) -> Tensor:
    """The highest class probability of each cell.  (B, C, N) -> (B, N)."""
    return logits.sigmoid().amax(dim=1)


def flat_maps(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """All scales side by side: box maps (B, 4 * bins, N) and class maps (B, C, N), in float32."""
    boxes = torch.cat([item.flatten(2) for item in maps[0::2]], dim=2).float()
    classes = torch.cat([item.flatten(2) for item in maps[1::2]], dim=2).float()
    return boxes, classes
