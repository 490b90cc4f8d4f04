"""BatchNorm statistics of a new place, blended with those of the old one.

    mean     = N / (N + n) * source + n / (N + n) * target
    variance = N / (N + n) * source + n / (N + n) * target

n pictures of the target are shown; N says as how many pictures the source's statistics count.  N = 0 is AdaBN (Li 2016,
arXiv 1603.04779, section 3: every layer's statistics are those of the target); the blend, and N as a pseudo sample
size, is Schneider 2020 (arXiv 2006.16971, on adapting BatchNorm).  Needs no label and no training: light, haze and the
camera move the first two moments of a layer's values more than anything else.

`detector.batchnorm.reestimate_batchnorm`, which mends a pruned network, averages the variances of batches and blends
nothing.  Here every position of every picture counts alike, and while a layer is measured those before it already
work with their blend, as they will later.  The grey around a letterboxed picture is not measured: it is no part of the
place, and training, which shows mosaics, has little of it.

What it can cost: `tiny`, trained on three places together, N = 0, mAP50-95 on val of one of them: a camera of 16:9 went
from 18.5 to 6.7 with the grey and to 11.4 without it, web photos from 34.5 to 33.1 and 31.2 (128 pictures, 320 pixels,
seed 0).  A place that a detector knows needs no new statistics; see benchmarks/adapt.py for places that it does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset
from helmlite.detector.detector import Detector, Family
from helmlite.detector.device import device_of
from helmlite.detector.families import family_of
from helmlite.runtime.preprocess import network_input

_Norm = nn.modules.batchnorm._BatchNorm
_BATCH = 16  # pictures together, at most


@dataclass(frozen=True)
class AdaptNorms:
    """Gives a detector the BatchNorm statistics of other pictures.  New buffers and no edit.

    prior_pictures: N, as how many pictures the statistics that it has count; 0 forgets them
    pictures: of the target that are looked at, at most
    """

    name: ClassVar[str] = "adapt_norms"
    prior_pictures: float = 16.0
    pictures: int = 512

    def __post_init__(self) -> None:
        if not 0 <= self.prior_pictures < math.inf or self.pictures < 1:
            raise ValueError(
                "adapt_norms: prior_pictures is at least 0 and finite, and pictures at least 1; "
                f"got {self.prior_pictures:g} and {self.pictures}."
            )

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with blended statistics.  context.data: pictures of the target, with labels or without

        Raises ValueError where the detector has no BatchNorm, and where there is no picture.
        """
        check_has_norms(detector)
        chosen = np.random.default_rng(context.seed).permutation(len(context.data))[: self.pictures].tolist()
        if not chosen:
            raise ValueError("adapt_norms: there is no picture to take statistics from.")
        adapted = detector.copy()
        shown = letterboxed(context.data.subset(chosen), context.input_size)
        blend_statistics(family_of(adapted), adapted.network, shown, source_share(self.prior_pictures, len(chosen)))
        return adapted


@dataclass(frozen=True)
class Letterboxed:
    """Pictures as a network sees them.

    images: (B, 3, S, S) RGB in [0, 1];  inside: (B, 1, S, S) 1 where a picture is, 0 on the grey around it
    """

    images: Tensor
    inside: Tensor


def letterboxed(dataset: Dataset, input_size: int) -> Iterator[Letterboxed]:
    """All pictures in order, in batches whose sizes differ by one at most: a small rest would have noisy statistics."""
    for places in np.array_split(np.arange(len(dataset)), math.ceil(len(dataset) / _BATCH)):
        planes, inside = [], []
        for index in places.tolist():
            image, placement = network_input(dataset[index].read_image(), input_size)
            planes.append(torch.from_numpy(image))
            mask = torch.zeros(1, 1, input_size, input_size)
            high, wide = (round(side * placement.scale) for side in (placement.height, placement.width))
            mask[..., placement.top : placement.top + high, placement.left : placement.left + wide] = 1
            inside.append(mask)
        yield Letterboxed(torch.cat(planes), torch.cat(inside))


def source_share(prior_pictures: float, pictures: int) -> float:
    """N / (N + n).

    >>> source_share(16, 48), source_share(0, 48)
    (0.25, 0.0)
    """
    return prior_pictures / (prior_pictures + pictures)


def check_has_norms(detector: Detector) -> None:
    """Raises ValueError where there are no BatchNorm statistics to adapt."""
    if not _norms(detector.network):
        folded = " (they were folded into the convolutions)" if detector.has_edit("fold_batchnorm") else ""
        raise ValueError(
            f"adapt_norms: this detector has no BatchNorm statistics{folded}; adapt the checkpoint before that step."
        )


def blend_statistics(family: Family, network: nn.Module, batches: Iterable[Letterboxed], source_share: float) -> None:
    """Blends every BatchNorm's running mean and variance with those of these pictures, in place.

    source_share: N / (N + n), the weight of what the network has, in [0, 1]
    Every branch is run, those too that only training uses (one-to-many of v10 and 26).
    """
    was_training = network.training
    network.eval()
    measured = [_Measured(norm, source_share) for norm in _norms(network)]
    hooks = [item.norm.register_forward_hook(item) for item in measured]
    try:
        with torch.no_grad():
            for batch in batches:
                for item in measured:
                    item.inside = batch.inside
                family.training_maps(network, batch.images.to(device_of(network)))
    finally:
        for hook in hooks:
            hook.remove()
    for item in measured:
        item.blend()
    network.train(was_training)


class _Measured:
    """A BatchNorm whose input is measured; what it gives is normalized by the blend with the batch's own statistics."""

    def __init__(self, norm: _Norm, source_share: float) -> None:
        self.norm = norm
        self.inside = torch.ones(1, 1, 1, 1)  # of the batch to come
        self._share = source_share
        self._positions = 0.0
        self._sum = torch.zeros(norm.num_features, dtype=torch.float64)
        self._sum_of_squares = torch.zeros(norm.num_features, dtype=torch.float64)

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Tensor:
        values = inputs[0]  # (B, C, H, W)
        shares = nn.functional.adaptive_avg_pool2d(
            self.inside.to(values), (values.shape[2], values.shape[3])
        )  # (B, 1, H, W)
        positions = float(shares.sum())
        mean = (shares * values).sum(dim=(0, 2, 3)) / positions
        variance = (shares * (values - mean[:, None, None]) ** 2).sum(dim=(0, 2, 3)) / positions
        self._positions += positions
        self._sum += positions * mean.double().cpu()
        self._sum_of_squares += positions * (variance + mean**2).double().cpu()
        assert self.norm.running_mean is not None and self.norm.running_var is not None
        return nn.functional.batch_norm(
            values,
            self._blended(self.norm.running_mean, mean),
            self._blended(self.norm.running_var, variance),
            self.norm.weight,
            self.norm.bias,
            training=False,
            eps=self.norm.eps,
        )

    def blend(self) -> None:
        """Writes the blend into the layer; one that no picture came through stays as it is."""
        if not self._positions:
            return
        mean = self._sum / self._positions
        variance = (self._sum_of_squares / self._positions - mean**2).clamp(min=0)
        for kept, measured in ((self.norm.running_mean, mean), (self.norm.running_var, variance)):
            assert kept is not None
            kept.copy_(self._blended(kept, measured.to(kept)))

    def _blended(self, source: Tensor, target: Tensor) -> Tensor:
        return self._share * source + (1 - self._share) * target


def _norms(network: nn.Module) -> list[_Norm]:
    return [item for item in network.modules() if isinstance(item, _Norm) and item.running_mean is not None]
