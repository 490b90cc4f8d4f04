"""Network slimming: BatchNorm scales under an L1 penalty say which channels are not needed.

Liu 2017, "Learning Efficient Convolutional Networks through Network Slimming", arXiv 1708.06519, eq. 1:

    L = sum of l(f(x, W), y) + lambda * sum over scales |gamma|

Each channel's BatchNorm scale gamma is pulled towards zero with the same force; the loss holds those that it needs,
and the others go.  The paper takes the subgradient lambda * sign(gamma) into SGD's step.  Here each scale moves
towards zero and stops there after the optimizer's step (soft threshold, the L1 penalty's exact proximal step):

    gamma <- sign(gamma) * max(|gamma| - lambda * eta, 0)        eta: the step's learning rate

Adam moves a scale by about eta, so with lambda below 1 the loss can hold any scale.  What lambda brings about follows
from the number of steps, so it is planned: all steps together pull by `drift` of the mean scale.

Then the smallest scales go first, over all layers at once and whatever they cost, as in the paper (a global threshold
on |gamma|), until the multiply-accumulates asked for are left.  A unit of several channels has their mean |gamma|.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from helmlite.compress.channels.channel_groups import ChannelGroup
from helmlite.compress.channels.cut_channels import Choice
from helmlite.compress.channels.importance import bn_scale
from helmlite.compress.channels.unit_tensors import UnitTensors
from helmlite.compress.order import check_follows
from helmlite.compress.penalty import (
    Budget,
    PenalizedObjective,
    about,
    check_settings,
    rate_at,
    rates,
    train_and_cut,
    untrained_stand_in,
)
from helmlite.compress.prune import Prune
from helmlite.compress.technique import Context
from helmlite.detector.detector import Detector
from helmlite.detector.fit_state import EpochPlan
from helmlite.detector.objective import Objective

_STRONGEST = 0.5  # lambda: the optimizer can win back twice as much


@dataclass(frozen=True)
class Slim:
    """Trains with an L1 penalty on BatchNorm scales, then cuts the channels with the smallest.

    drift: how far the penalty alone would bring each scale towards zero over the whole training, in mean scales of
           the network; lambda follows from it and from the number of steps, and is at most 0.5
    the others: see `penalty.CutSettings`
    """

    name: ClassVar[str] = "slim"
    macs_ratio: float
    minutes: float | None = None
    epochs: int | None = None
    learning_rate: float = 1e-3
    batch_size: int = 16
    teacher: str = "original"
    drift: float = 0.5
    min_keep: float = 0.1
    images: int = 128

    def __post_init__(self) -> None:
        check_settings(self)
        if not 0 < self.drift < math.inf:  # nan is refused too
            raise ValueError(f"slim: drift must be above 0 and finite; got {self.drift}.")

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with fewer channels and trained weights.

        Raises TechniqueOrderError after what fixes channels, ValueError where the ratio cannot be reached.
        """
        check_follows(self.name, detector)
        budget = Budget(self, detector, context, _has_norm)

        def make(base: Objective, network: nn.Module, plan: EpochPlan) -> PenalizedObjective:
            pull = ScalePull(budget, network, plan, self.drift, self.learning_rate)
            return PenalizedObjective(base, pull, about(self, context))

        return train_and_cut(self, detector, context, budget, make)

    def stand_in(self) -> Prune:
        """L2 pruning to the same multiply-accumulates."""
        return untrained_stand_in(self)


class ScalePull:
    """The L1 penalty's step on the scales of every BatchNorm with channels that can go.

    strength: lambda
    """

    def __init__(self, budget: Budget, network: nn.Module, plan: EpochPlan, drift: float, learning_rate: float) -> None:
        self._budget = budget
        self._rates = [learning_rate * rate for rate in rates(plan)]
        scales = scales_of(network, budget.units)
        self._owned = {name: (budget.units.owners[name].rows >= 0).to(item.device) for name, item in scales.items()}
        self._mean = self._mean_of(scales)
        self.strength = min(drift * self._mean / sum(self._rates), _STRONGEST)

    def after_step(self, network: nn.Module, step: int) -> None:
        threshold = self.strength * rate_at(step, self._rates)
        scales = scales_of(network, self._budget.units)
        for name, scale in scales.items():
            scale.copy_(torch.where(self._owned[name], soft_threshold(scale, threshold), scale))
        self._mean = self._mean_of(scales)

    def figures(self, step: int) -> Mapping[str, float]:
        return {"scale": self._mean}

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": torch.tensor(self._mean, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._mean = float(state["mean"])

    def choice(self, trained: Detector) -> Choice:
        return self._budget.choose_smallest(bn_scale(trained, self._budget.groups))

    def _mean_of(self, scales: Mapping[str, Tensor]) -> float:
        """Of |gamma|, over the channels that can go."""
        return float(torch.cat([scale.detach()[self._owned[name]] for name, scale in scales.items()]).abs().mean())


def soft_threshold(values: Tensor, threshold: float) -> Tensor:
    """Each value moved towards zero by `threshold`, and no further than zero."""
    return values.sign() * (values.abs() - threshold).clamp(min=0)


def scales_of(network: nn.Module, units: UnitTensors) -> dict[str, nn.Parameter]:
    """The scales of every BatchNorm that units own channels of, by parameter name."""
    norms = {path for path, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    return {name: item for name, item in units.tensors(network).items() if name.removesuffix(".weight") in norms}


def _has_norm(group: ChannelGroup) -> bool:
    return any(member.role == "norm" for member in group.units[0])
