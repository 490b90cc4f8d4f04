"""Network slimming: BatchNorm scales under an L1 penalty say which channels are not needed.

Liu 2017, "Learning Efficient Convolutional Networks through Network Slimming", arXiv 1708.06519, eq. 1:

    L = sum of l(f(x, W), y) + lambda * sum over scales |gamma|

Each channel's BatchNorm scale gamma is pulled towards zero with the same force; the loss holds those that it needs,
and the others go.  That takes a step in proportion to the gradient g of l, as SGD's is, which the paper uses: a scale
is held where |g| reaches lambda.  Adam divides by the gradient's own size, and would hold every scale alike.  So the
scales are taken out of the optimizer and move by proximal gradient steps (the L1 penalty's exact step, which stops at
zero where the paper's subgradient would oscillate around it):

    gamma <- soft(gamma - eta * g, eta * lambda)        soft(v, t) = sign(v) * max(|v| - t, 0)

The penalty alone would bring each scale towards zero by the sum of eta * lambda, which is planned: `drift` mean scales
over the whole training, though in no step more than the network can follow.  And lambda is `hold` times the mean |g|
of all scales so far, so that the same settings mean the same for every loss, data set and length; from both follows
eta.

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

_LONGEST_PULL = 0.02  # eta * lambda of one step, in mean scales


@dataclass(frozen=True)
class Slim:
    """Trains with an L1 penalty on BatchNorm scales, then cuts the channels with the smallest.

    drift: how far the penalty alone would bring each scale towards zero over the whole training, in mean scales of
           the network; less in a training of few steps
    hold:   the gradient that holds a scale against the penalty, as a multiple of the mean gradient of all scales
    the others: see `penalty.CutSettings`
    """

    name: ClassVar[str] = "slim"
    macs_ratio: float
    minutes: float | None = None
    epochs: int | None = None
    learning_rate: float = 1e-3
    batch_size: int = 16
    teacher: str = "original"
    drift: float = 1.5
    hold: float = 1.0
    min_keep: float = 0.1
    images: int = 128

    def __post_init__(self) -> None:
        check_settings(self)
        if not (0 < self.drift < math.inf and 0 < self.hold < math.inf):  # nan is refused too
            raise ValueError(f"slim: drift and hold must be above 0 and finite; got {self.drift} and {self.hold}.")

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with fewer channels and trained weights.

        Raises TechniqueOrderError after what fixes channels, ValueError where the ratio cannot be reached.
        """
        check_follows(self.name, detector)
        budget = Budget(self, detector, context, _has_norm)

        def make(base: Objective, network: nn.Module, plan: EpochPlan) -> PenalizedObjective:
            pull = ScalePull(budget, network, plan, self.drift, self.hold)
            return PenalizedObjective(base, pull, about(self, context))

        return train_and_cut(self, detector, context, budget, make)

    def stand_in(self) -> Prune:
        """L2 pruning to the same multiply-accumulates."""
        return untrained_stand_in(self)


class ScalePull:
    """The proximal gradient steps of the scales of every BatchNorm with channels that can go."""

    def __init__(self, budget: Budget, network: nn.Module, plan: EpochPlan, drift: float, hold: float) -> None:
        self._budget, self._hold = budget, hold
        scales = scales_of(network, budget.units)
        self._owned = {name: (budget.units.owners[name].rows >= 0).to(item.device) for name, item in scales.items()}
        self._values = {name: item.detach().clone() for name, item in scales.items()}
        every_rate = rates(plan)
        longest = min(drift / sum(every_rate), _LONGEST_PULL) * self._mean()
        self._pulls = [longest * rate for rate in every_rate]  # eta * lambda of each step
        self._gradient = 0.0  # sum over steps of the mean |g|

    def after_step(self, network: nn.Module, step: int) -> None:
        scales = scales_of(network, self._budget.units)
        gradients = {name: torch.zeros_like(item) if item.grad is None else item.grad for name, item in scales.items()}
        of_owned = torch.cat([gradient[self._owned[name]] for name, gradient in gradients.items()])
        self._gradient += float(of_owned.abs().mean())
        pull = rate_at(step, self._pulls)
        strength = self._hold * self._gradient / (step + 1)  # lambda
        rate = pull / strength if strength > 0 else 0.0  # eta
        for name, scale in scales.items():
            moved = soft_threshold(self._values[name] - rate * gradients[name], pull)
            scale.copy_(torch.where(self._owned[name], moved, scale))  # the optimizer's own step counts for nothing
            self._values[name] = scale.detach().clone()

    def figures(self, step: int) -> Mapping[str, float]:
        return {"scale": self._mean()}

    def state_dict(self) -> dict[str, Tensor]:
        values = {f"value.{name}": value for name, value in self._values.items()}
        return {"gradient": torch.tensor(self._gradient, dtype=torch.float64), **values}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._gradient = float(state["gradient"])
        self._values = {name: state[f"value.{name}"].to(value) for name, value in self._values.items()}

    def choice(self, trained: Detector) -> Choice:
        return self._budget.choose_smallest(bn_scale(trained, self._budget.groups))

    def _mean(self) -> float:
        """Of |gamma|, over the channels that can go."""
        return float(torch.cat([value[self._owned[name]] for name, value in self._values.items()]).abs().mean())


def soft_threshold(values: Tensor, threshold: float) -> Tensor:
    """Each value moved towards zero by `threshold`, and no further than zero."""
    return values.sign() * (values.abs() - threshold).clamp(min=0)


def scales_of(network: nn.Module, units: UnitTensors) -> dict[str, nn.Parameter]:
    """The scales of every BatchNorm that units own channels of, by parameter name."""
    norms = {path for path, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    return {name: item for name, item in units.tensors(network).items() if name.removesuffix(".weight") in norms}


def _has_norm(group: ChannelGroup) -> bool:
    return any(member.role == "norm" for member in group.units[0])
