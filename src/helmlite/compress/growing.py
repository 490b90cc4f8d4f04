"""Growing regularization: units that will go are decayed ever more strongly, so that the others can take over.

Wang 2021, "Neural Pruning via Growing Regularization", arXiv 2012.09243.

    GReg-1   the units that go are picked at once; the factor lambda of their L2 penalty grows by delta every
             `interval` steps (the paper's K_u), up to a ceiling tau
    GReg-2   at first every unit is decayed; what the loss holds against that (its curvature) tells the units apart,
             and after a while those with the smallest norms are picked.  From then on as GReg-1

    w <- w * exp(-lambda * rate)        after the optimizer's step: the penalty's gradient flow, exact (penalty.py)

For a quadratic loss GReg-2 compares units by curvature without computing it: under an equal penalty a weight with
curvature h keeps h / (h + lambda) of its value (the paper's section 3.3).

lambda is the share of a weight that one of the first steps takes.  The number of steps is planned: the factor grows
in `raises` equal steps over the first `growth` of the training and then stays at its ceiling.  In a training so short
that this would leave more than a thousandth of a picked weight, the ceiling is raised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from helmlite.compress.channels.cut_channels import Choice
from helmlite.compress.channels.importance import IMPORTANCES, Scores, scores_named
from helmlite.compress.channels.importance_gradient import FROM_GRADIENTS
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
from helmlite.detector.batches import plain_batches
from helmlite.detector.detector import Detector
from helmlite.detector.device import training_device
from helmlite.detector.fit_state import EpochPlan
from helmlite.detector.objective import Objective

_BATCH = 8
_LEFT = 1e-3  # of a picked weight, by the penalty alone
_PICKED_AFTER = 0.2  # of the steps, in GReg-2


@dataclass(frozen=True)
class Growing:
    """Trains with an L2 penalty that grows on the units that go, then cuts them.

    variant:    1 (GReg-1: picked before training) or 2 (GReg-2: picked after a fifth of it, by norm)
    importance: what GReg-1 picks by, one of `IMPORTANCES`; "taylor" and "obd" need labels
    ranking:    "uniform", the paper's: every bundle keeps the same share; "global": over all bundles at once, as
                `Prune` ranks by the same importance
    ceiling:    tau: highest share of a weight that the penalty takes in a step
    raises:     how often lambda grows, by delta = ceiling / raises; at most once a step
    growth:     share of the training in which it grows
    the others: see `penalty.CutSettings`
    """

    name: ClassVar[str] = "growing"
    macs_ratio: float
    minutes: float | None = None
    epochs: int | None = None
    learning_rate: float = 1e-3
    batch_size: int = 16
    teacher: str = "original"
    variant: int = 1
    importance: str = "l2"
    ranking: str = "uniform"
    ceiling: float = 0.2
    raises: int = 50
    growth: float = 0.75
    min_keep: float = 0.1
    images: int = 128

    def __post_init__(self) -> None:
        check_settings(self)
        if self.variant not in (1, 2):
            raise ValueError(f"growing: variant must be 1 or 2; got {self.variant}.")
        if self.importance not in IMPORTANCES:
            raise ValueError(f"growing: unknown importance '{self.importance}'; known are {', '.join(IMPORTANCES)}.")
        if self.variant == 2 and self.importance != "l2":
            raise ValueError("growing: variant 2 picks by norm; importance is for variant 1.")
        check_ranking(self.name, self.ranking)
        if not 0 < self.ceiling < math.inf or self.raises < 1 or not 0 < self.growth <= 1:  # nan is refused too
            raise ValueError(
                "growing: ceiling must be above 0 and finite, raises at least 1 and growth in (0, 1]; "
                f"got {self.ceiling:g}, {self.raises} and {self.growth:g}."
            )

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with fewer channels and trained weights.

        Raises TechniqueOrderError after what fixes channels, ValueError where the ratio cannot be reached.
        """
        check_follows(self.name, detector)
        budget = Budget(self, detector, context)
        first: Tensor | None = None
        if self.variant == 1:
            scores = self._scores(detector, budget, context)
            first = budget.units.chosen(
                budget.choose_by(self.ranking, scores, is_loss=self.importance in FROM_GRADIENTS)
            )

        def make(base: Objective, network: nn.Module, plan: EpochPlan) -> PenalizedObjective:
            return PenalizedObjective(base, GrowingDecay(self, budget, first, plan), about(self, context))

        return train_and_cut(self, detector, context, budget, make)

    def stand_in(self) -> Prune:
        """L2 pruning to the same multiply-accumulates."""
        return untrained_stand_in(self, self.ranking)

    def _scores(self, detector: Detector, budget: Budget, context: Context) -> Scores:
        batches = plain_batches(context.data, context.input_size, self.images, _BATCH, context.seed)
        device = training_device(context.device)
        return scores_named(self.importance, detector, budget.groups, batches, context.seed, device)


class GrowingDecay:
    """The growing penalty's step.

    kept:    (units,) bool, the units that are not picked; None while GReg-2 has not picked yet
    factors: lambda at every step of the plan
    """

    def __init__(self, settings: Growing, budget: Budget, first: Tensor | None, plan: EpochPlan) -> None:
        self._budget, self._ranking = budget, settings.ranking
        self._rates = rates(plan)
        self.factors = growing_factors(self._rates, settings.raises, settings.growth, settings.ceiling)
        self._pick_at = int(_PICKED_AFTER * len(self._rates))  # the step after which GReg-2 picks
        self.kept = None if first is None else first.clone()
        self._decayed: dict[str, Tensor] = {}  # elements that the penalty takes from, on the network's device

    def after_step(self, network: nn.Module, step: int) -> None:
        weights = self._budget.units.tensors(network)
        left = math.exp(-rate_at(step, self.factors) * rate_at(step, self._rates))
        decayed = self._decayed or self._elements(weights)
        for name, weight in weights.items():
            weight.mul_(torch.where(decayed[name], left, 1.0))
        self._decayed = decayed
        if self.kept is None and step >= self._pick_at:
            self.kept, self._decayed = self._picked(network), {}

    def figures(self, step: int) -> Mapping[str, float]:
        return {"factor": rate_at(step, self.factors)}

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.kept is None else {"kept": self.kept}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.kept, self._decayed = state["kept"].clone() if "kept" in state else None, {}

    def choice(self, trained: Detector) -> Choice:
        return self._budget.units.choice(self._picked(trained.network) if self.kept is None else self.kept)

    def _picked(self, network: nn.Module) -> Tensor:
        units = self._budget.units
        return units.chosen(self._budget.choose_by(self._ranking, units.relative(units.norms(units.tensors(network)))))

    def _elements(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Elements of units that are picked; while none is picked, of all units."""
        units = self._budget.units
        kept = torch.zeros(units.count, dtype=torch.bool) if self.kept is None else self.kept
        return {name: ~units.mask(name, kept).to(weight.device) for name, weight in weights.items()}


def growing_factors(every_rate: Sequence[float], raises: int, growth: float, ceiling: float) -> list[float]:
    """lambda at every step: `raises` equal steps over the first `growth` of the training, then the ceiling.

    The ceiling is raised where all steps together would leave more than a thousandth of a weight.

    >>> growing_factors([1.0] * 8, 2, 0.5, 4.0)
    [2.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    """
    total = len(every_rate)
    growing = max(int(growth * total), 1)
    raises = min(raises, growing)
    interval = growing // raises
    parts = [min(step // interval + 1, raises) / raises for step in range(total)]
    needed = math.log(1 / _LEFT) / sum(part * rate for part, rate in zip(parts, every_rate))
    return [max(ceiling, needed) * part for part in parts]
