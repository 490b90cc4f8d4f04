"""Structured ADMM: weights are drawn to the nearest network that the budget allows, while that network may change.

Boyd 2011 (scaled form); Zhang 2018, "A Systematic DNN Weight Pruning Framework using ADMM", arXiv 1804.03294;
structured: Zhang 2018, "StructADMM", arXiv 1807.11091.

    minimize  loss(W) + indicator of S(Z)   with  W = Z          S: networks in which at most the chosen units are not 0

    W   trained on   loss(W) + rho / 2 * |W - Z + U|^2
    Z   <-  projection of W + U onto S                           every `interval` steps
    U   <-  U + W - Z                                            the scaled dual: what W has resisted so far

W is everything that units own: rows and columns of kernels, biases, BatchNorm scales and shifts.  Given the units
that stay, the nearest point of S is W + U with every element of a unit that goes set to zero.  As in the papers each
layer (here: each bundle) keeps a number of them that is settled beforehand, the same share everywhere, and those with
the largest norms in W + U stay.  With `ranking = "global"` the numbers move too: one threshold for all bundles on the
norms, relative to their group's mean.  Units share kernel elements and go in slices, so the choice is greedy; the
papers' is exact for each layer alone.

The quadratic term is stepped after the optimizer, exactly (penalty.py says why): W goes 1 - exp(-rho * rate) of the
way to Z - U.  rho is constant, and such that W comes near Z - U before Z moves: ADMM asks for the minimum over W
between two updates.  A pull that begins weakly and grows was tried: what is left of W went into U again and again, so
that W + U of units that should go was soon the largest, and at every update nearly all of them changed places with
units that should stay.  How far W and Z are apart, |W - Z| / |W|, is told after every epoch as `residual`, and must
fall.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from helmlite.compress.channels.cut_channels import Choice
from helmlite.compress.channels.unit_tensors import UnitTensors
from helmlite.compress.order import check_follows
from helmlite.compress.penalty import (
    Budget,
    PenalizedObjective,
    about,
    check_ranking,
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

_SLOWEST = 0.02  # rho at least, where updates are many steps apart


@dataclass(frozen=True)
class Admm:
    """Trains with ADMM over channel groups, then cuts the units that the last projection has set to zero.

    updates: of Z and U over the whole training, evenly spaced; at most one a step
    rho:     strength of the pull: about the share of the way to Z - U that a weight would go in a step at the full
             learning rate; None means 2 / (steps between updates), and 0.02 at least: by the next update W would have
             gone 86 % of the way.  With much less units only change places
    ranking: "uniform" or "global", see above
    the others: see `penalty.CutSettings`
    """

    name: ClassVar[str] = "admm"
    macs_ratio: float
    minutes: float | None = None
    epochs: int | None = None
    learning_rate: float = 1e-3
    batch_size: int = 16
    teacher: str = "original"
    updates: int = 10
    rho: float | None = None
    ranking: str = "uniform"
    min_keep: float = 0.1
    images: int = 128

    def __post_init__(self) -> None:
        check_settings(self)
        if self.updates < 1:
            raise ValueError(f"admm: updates must be at least 1; got {self.updates}.")
        check_ranking(self.name, self.ranking)
        if self.rho is not None and not 0 < self.rho < math.inf:  # nan is refused too
            raise ValueError(f"admm: rho must be above 0 and finite; got {self.rho}.")

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with fewer channels and trained weights.

        Raises TechniqueOrderError after what fixes channels, ValueError where the ratio cannot be reached.
        """
        check_follows(self.name, detector)
        budget = Budget(self, detector, context)
        units = budget.units
        first = units.chosen(
            budget.choose_by(self.ranking, units.relative(units.norms(units.tensors(detector.network))))
        )

        def make(base: Objective, network: nn.Module, plan: EpochPlan) -> PenalizedObjective:
            return PenalizedObjective(base, Splitting(self, budget, first, network, plan), about(self, context))

        return train_and_cut(self, detector, context, budget, make)

    def stand_in(self) -> Prune:
        """L2 pruning to the same multiply-accumulates."""
        return untrained_stand_in(self, self.ranking)


class Splitting:
    """Z and U beside the weights that are trained.

    kept: (units,) bool, of the last projection; residuals: |W - Z| / |W| before the first step and after each update
    """

    def __init__(self, settings: Admm, budget: Budget, first: Tensor, network: nn.Module, plan: EpochPlan) -> None:
        self._budget, self._units, self._ranking = budget, budget.units, settings.ranking
        self._rates = rates(plan)
        self.interval = max(len(self._rates) // settings.updates, 1)
        self.rho = max(2 / self.interval, _SLOWEST) if settings.rho is None else settings.rho
        self.kept = first.clone()
        weights = self._units.tensors(network)
        self.target = projected(self._units, weights, self.kept)  # Z
        self.dual = {name: torch.zeros_like(item) for name, item in self.target.items()}  # U
        self.residuals = [residual(weights, self.target)]
        self._aim()

    def after_step(self, network: nn.Module, step: int) -> None:
        weights = self._units.tensors(network)
        share = -math.expm1(-self.rho * rate_at(step, self._rates))
        for name, weight in weights.items():
            weight.lerp_(self._aims[name], share)
        if (step + 1) % self.interval == 0 or step + 1 == len(self._rates):
            self._update(weights)

    def figures(self, step: int) -> Mapping[str, float]:
        return {"residual": self.residuals[-1]}

    def state_dict(self) -> dict[str, Tensor]:
        return {
            **{f"z.{name}": item for name, item in self.target.items()},
            **{f"u.{name}": item for name, item in self.dual.items()},
            "kept": self.kept,
            "residuals": torch.tensor(self.residuals, dtype=torch.float64),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name in self.target:
            self.target[name].copy_(state[f"z.{name}"])
            self.dual[name].copy_(state[f"u.{name}"])
        self._aim()
        self.kept = state["kept"].clone()
        self.residuals = state["residuals"].tolist()

    def choice(self, trained: Detector) -> Choice:
        return self._units.choice(self.kept)

    def _update(self, weights: Mapping[str, Tensor]) -> None:
        """Z <- projection of W + U, U <- U + W - Z."""
        moved = {name: weight.detach() + self.dual[name] for name, weight in weights.items()}
        self.kept = self._units.chosen(
            self._budget.choose_by(self._ranking, self._units.relative(self._units.norms(moved)))
        )
        self.target = projected(self._units, moved, self.kept)
        self.dual = {name: item - self.target[name] for name, item in moved.items()}
        self.residuals.append(residual(weights, self.target))
        self._aim()

    def _aim(self) -> None:
        """Where W is drawn to until the next update: Z - U."""
        self._aims = {name: item - self.dual[name] for name, item in self.target.items()}


def projected(units: UnitTensors, tensors: Mapping[str, Tensor], kept: Tensor) -> dict[str, Tensor]:
    """The nearest tensors in which only these units are not zero.  kept: (units,) bool."""
    found = {}
    for name, tensor in tensors.items():
        stays = units.mask(name, kept).to(tensor.device)
        found[name] = tensor.detach() * stays
    return found


def residual(weights: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> float:
    """|W - Z| / |W| over all tensors together."""
    apart = sum(float((weight.detach() - target[name]).double().square().sum()) for name, weight in weights.items())
    size = sum(float(weight.detach().double().square().sum()) for weight in weights.values())
    return math.sqrt(apart / size) if size > 0 else 0.0
