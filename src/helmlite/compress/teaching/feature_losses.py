"""What a student's neck is asked to copy from its teacher's: five published losses, one for each scale.

    l2    FitNets (Romero 2015, arXiv 1412.6550, eq. 3):  1/2 sum (T - S)^2
    cwd   Channel-wise distillation (Shu 2021, arXiv 2011.13256, eq. 3-4): see distill_losses.channel_wise_loss
    mgd   Masked generative distillation (Yang 2022, arXiv 2205.01529, eq. 2-4):  sum (T - G(M * S))^2
          M is 0 at random pixels (a share of 0.65, as for one-stage detectors) and G two 3x3 convolutions with a ReLU
          between: the student must give enough to draw the teacher's whole map from what is left
    fgd   Focal and global distillation (Yang 2022, arXiv 2111.11837): see focal_global.py
    pkd   Pearson correlation (Cao 2022, arXiv 2207.02039, eq. 3-5):  1/(2m) sum (t - s)^2 = 1 - r(T, S)
          t and s are the maps with mean 0 and variance 1 in each channel over the batch's m pixels: what a level or
          gain of its own would cost the student is left out

S is the student's map after the 1x1 adapter of its scale (teacher.py), T the teacher's.  The sums of l2 and mgd are
divided by their number of terms (B * C * H * W), so that a weight means the same at every input size and width.

Each loss is a module called with (S, T, picture); what it must learn beside the student is in its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helmlite.compress.teaching.distill_losses import channel_wise_loss
from helmlite.compress.teaching.focal_global import FocalGlobal
from helmlite.detector.detector import Batch

MASKED_SHARE = 0.65
_EPS = 1e-6


@dataclass(frozen=True)
class Usual:
    """What a loss comes with.

    weight:      makes it about as large as the detection loss is when a student that was just cut begins; cwd, which
                 is the default, is left at 1
    temperature: of its softmax; 1 where it has none
    """

    weight: float
    temperature: float = 1.0


# Measured at the first step of students cut to half of their multiply-accumulates by L2 norm and not yet trained, at
# 320 pixels, one batch of mosaics, weight 1 (the shipped `tiny` on drawn scenes; helmet-yolo12m on real pictures):
#
#                     detection loss    cwd     l2    mgd    fgd    pkd
#     tiny                      12.6   0.62   0.29   0.49   1.69   0.72
#     helmet-yolo12m            12.8   0.59   0.26   0.73   8.50   0.71
#
# fgd is a sum over pixels and channels and grows with both; l2 and mgd go with the square of the teacher's values, so
# that a network of another scale (a random one has l2 in the thousands) needs a weight of its own.
FEATURE_LOSSES: Mapping[str, Usual] = {
    "cwd": Usual(1.0),
    "l2": Usual(40.0),
    "mgd": Usual(20.0),
    "fgd": Usual(3.0, temperature=0.5),
    "pkd": Usual(18.0),
}


class ScaleLosses(nn.Module):
    """One loss for each scale of the neck, and their mean."""

    def __init__(self, name: str, channels: Sequence[int], temperature: float, seed: int = 0) -> None:
        """channels: of the teacher's map at each scale.  Raises ValueError for an unknown name."""
        super().__init__()
        makers: dict[str, Callable[[int], nn.Module]] = {
            "cwd": lambda width: ChannelWise(temperature),
            "l2": lambda width: Hint(),
            "mgd": MaskedGeneration,
            "fgd": lambda width: FocalGlobal(width, temperature),
            "pkd": lambda width: Pearson(),
        }
        if name not in makers:
            raise ValueError(f"distill: unknown feature_loss '{name}'; known are {', '.join(FEATURE_LOSSES)}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.scales = nn.ModuleList(makers[name](width) for width in channels)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], batch: Batch) -> Tensor:
        """Maps (B, C, H, W) of each scale, the student's as wide as the teacher's -> scalar."""
        losses = [loss(ours, theirs, batch) for loss, ours, theirs in zip(self.scales, student, teacher)]
        return torch.stack(losses).mean() if losses else torch.zeros(())


class Hint(nn.Module):
    """`l2_loss` with the face of the others."""

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        return l2_loss(student, teacher)


class ChannelWise(nn.Module):
    """`channel_wise_loss` with the face of the others."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        return channel_wise_loss(student, teacher, self.temperature)


class Pearson(nn.Module):
    """`pearson_loss` with the face of the others."""

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        return pearson_loss(student, teacher)


class MaskedGeneration(nn.Module):
    """MGD: the teacher's map drawn from the student's with most pixels missing.

    The mask is drawn from torch's own random state, which training sets from (seed, step).
    """

    def __init__(self, channels: int, masked_share: float = MASKED_SHARE) -> None:
        super().__init__()
        self.masked_share = masked_share
        self.generation = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        drawn = torch.rand(student.shape[0], 1, *student.shape[2:])  # on the CPU: the same on every device
        kept = (drawn >= self.masked_share).to(student)
        return generation_loss(self.generation(student * kept), teacher)


def l2_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference.  (B, C, H, W) -> scalar"""
    return (teacher - student).square().mean() / 2


def generation_loss(generated: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference.  (B, C, H, W) -> scalar"""
    return (teacher - generated).square().mean()


def pearson_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - Pearson's r over batch and pixels, a mean over channels, in [0, 2].  (B, C, H, W) -> scalar"""
    return (standardized(teacher) - standardized(student)).square().mean() / 2


def standardized(maps: Tensor) -> Tensor:
    """Each channel with mean 0 and variance 1 over the batch and its pixels; a constant one becomes 0."""
    mean = maps.mean(dim=(0, 2, 3), keepdim=True)
    spread = (maps - mean).square().mean(dim=(0, 2, 3), keepdim=True)
    return (maps - mean) / (spread + _EPS**2).sqrt()
