"""FGD, focal and global distillation of one scale of the neck (Yang 2022, arXiv 2111.11837).

Focal: heads and background are told apart, each pixel and channel counts as the teacher attends to it, and a small
object counts as much as a large one.

    M   1 inside a labelled box, else 0
    S   1 / cells of the box (the smallest where several meet), 1 / cells of the background outside       (eq. 2-3)
    G^S(F) = mean over channels |F|        A^S = H W softmax(G^S / T)                                     (eq. 4, 6)
    G^C(F) = mean over pixels |F|          A^C = C softmax(G^C / T)                                       (eq. 5, 7)
    L_fea  = a sum M S A^S A^C (F_T - F_S)^2 + b sum (1 - M) S A^S A^C (F_T - F_S)^2    A of the teacher  (eq. 8)
    L_at   = g (|A^S_T - A^S_S|_1 + |A^C_T - A^C_S|_1)                                                    (eq. 9)

Global: the relation of pixels, as a context block (GcNet, Cao 2019, arXiv 1904.11492) sees it.

    L_global = l sum (R(F_T) - R(F_S))^2
    R(F) = F + W_2 ReLU(LN(W_1 sum_j softmax_j(W_k F_j) F_j))                                             (eq. 11-12)

Sums go over channels and pixels, the result is a mean over pictures.  a, b, g, l are the paper's for anchor-free
one-stage detectors and T = 0.5.  A box covers the cells that it touches.  Student and teacher each have a context
block of their own, learned with the student; its last layer begins at 0, so that R(F) = F at first.

In a picture without labels nobody knows what is background: it takes part in L_at and L_global only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helmlite.detector.detector import Batch

FOREGROUND, BACKGROUND, ATTENTION, GLOBAL = 1.6e-3, 8e-4, 8e-4, 8e-6
_NARROWING = 2  # of the context block's middle


class FocalGlobal(nn.Module):
    """The whole of FGD on one scale, with the two context blocks that it learns."""

    def __init__(self, channels: int, temperature: float = 0.5) -> None:
        super().__init__()
        self.temperature = temperature
        self.student_context = ContextBlock(channels)
        self.teacher_context = ContextBlock(channels)

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Maps (B, C, H, W) of equal width -> scalar."""
        foreground, scale = masks(batch.targets, len(student), student.shape[2], student.shape[3])
        if batch.is_labelled is not None:
            scale = scale * batch.is_labelled.to(scale)[:, None, None]
        features = feature_loss(student, teacher, foreground, scale, self.temperature)
        attention = attention_loss(student, teacher, self.temperature)
        relation = (self.teacher_context(teacher) - self.student_context(student)).square().sum() / len(student)
        return features + ATTENTION * attention + GLOBAL * relation


class ContextBlock(nn.Module):
    """R(F): each pixel knows what the whole picture holds.  (B, C, H, W) -> the same"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(channels // _NARROWING, 1)
        self.key = nn.Conv2d(channels, 1, 1)
        self.narrow = nn.Conv2d(channels, middle, 1)
        self.norm = nn.LayerNorm([middle, 1, 1])
        self.widen = nn.Conv2d(middle, channels, 1)
        nn.init.zeros_(self.widen.weight)
        assert self.widen.bias is not None
        nn.init.zeros_(self.widen.bias)

    def forward(self, maps: Tensor) -> Tensor:
        attention = self.key(maps).flatten(2).softmax(dim=2)  # (B, 1, H*W)
        context = (maps.flatten(2) * attention).sum(dim=2)[..., None, None]  # (B, C, 1, 1)
        added: Tensor = self.widen(self.norm(self.narrow(context)).relu())
        return maps + added


def feature_loss(student: Tensor, teacher: Tensor, foreground: Tensor, scale: Tensor, temperature: float) -> Tensor:
    """L_fea, a mean over pictures.

    student, teacher: (B, C, H, W); foreground: (B, H, W) of 0 and 1; scale: (B, H, W) -> scalar
    """
    side = FOREGROUND * foreground + BACKGROUND * (1 - foreground)
    places = side * scale * spatial_attention(teacher, temperature)  # (B, H, W)
    channels = channel_attention(teacher, temperature)  # (B, C)
    weight = places[:, None] * channels[:, :, None, None]
    return (weight * (teacher - student).square()).sum() / len(student)


def attention_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """L_at without its weight, a mean over pictures.  (B, C, H, W) -> scalar"""
    places = spatial_attention(teacher, temperature) - spatial_attention(student, temperature)
    channels = channel_attention(teacher, temperature) - channel_attention(student, temperature)
    return (places.abs().sum() + channels.abs().sum()) / len(student)


def spatial_attention(maps: Tensor, temperature: float) -> Tensor:
    """A^S: where a network looks; its mean over pixels is 1.  (B, C, H, W) -> (B, H, W)"""
    mean = maps.abs().mean(dim=1)
    return (mean.flatten(1) / temperature).softmax(dim=1).view_as(mean) * mean[0].numel()


def channel_attention(maps: Tensor, temperature: float) -> Tensor:
    """A^C: which channels a network uses; its mean over channels is 1.  (B, C, H, W) -> (B, C)"""
    return (maps.abs().mean(dim=(2, 3)) / temperature).softmax(dim=1) * maps.shape[1]


def masks(targets: Tensor, pictures: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """M and S of a map of these cells: (pictures, height, width) each.  targets: (M, 6), as in `Batch`."""
    scale = targets.new_zeros(pictures, height, width)
    for picture, _, x, y, wide, high in targets.tolist():
        left, right = _covered(x - wide / 2, x + wide / 2, width)
        top, bottom = _covered(y - high / 2, y + high / 2, height)
        cells = scale[int(picture), top:bottom, left:right]
        cells.clamp_(min=1.0 / ((right - left) * (bottom - top)))  # the smallest box has the largest share
    foreground = (scale > 0).to(scale)
    background = (1 - foreground).sum(dim=(1, 2), keepdim=True).clamp(min=1)
    return foreground, torch.where(scale > 0, scale, 1 / background)


def _covered(low: float, high: float, cells: int) -> tuple[int, int]:
    """First cell that a side in [0, 1] touches, and the one after the last; at least one cell."""
    first = min(max(int(low * cells + 1e-4), 0), cells - 1)
    last = int(-(-(high * cells - 1e-4) // 1))
    return first, min(max(last, first + 1), cells)
