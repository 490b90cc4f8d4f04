"""The running mean of a network's weights, which is what training gives (Polyak 1992; Tarvainen 2017, 1703.01780)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class RunningMean:
    """A copy of a network that follows it: mean <- d * mean + (1 - d) * weights, with d = min(decay, (1+t) / (10+t)).

    In the first steps t the mean forgets fast, so that a short training is averaged over its last tenth and not
    over its beginning.  A tensor that does not change (a mask, a kept statistic) stays as it is, bit by bit.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval()
        self._decay = decay

    def update(self, network: nn.Module, step: int) -> None:
        """Moves the mean towards `network` after optimizer step `step`, counted from 0."""
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for (_, mean), (_, current) in zip(every_tensor(self.network), every_tensor(network)):
                if mean.is_floating_point():
                    mean.add_(current - mean, alpha=share)
                else:
                    mean.copy_(current)


def every_tensor(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers under their names, tied ones once."""
    yield from network.named_parameters()
    yield from network.named_buffers()
