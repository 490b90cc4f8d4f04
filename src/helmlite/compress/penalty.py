"""Pruning as training: a penalty draws whole units towards zero while the network is trained, then they are cut.

    objective = base objective (the detection loss, with the original as teacher or without) + penalty

The penalty's own step is made after the optimizer's, not through the loss.  Adam divides each gradient by its own
size, so a penalty inside the loss would lose its strength just when it dominates, and a strong one would use up the
limit on the gradient's norm; the same reasons for which AdamW keeps weight decay out of the gradient (Loshchilov
2019, arXiv 1711.05101).  A strength of s moves or shrinks a weight by s * rate(step), where the rate falls along a
cosine as the learning rate does, and since Adam moves a weight by about its learning rate, strengths mean the same
for every loss.

    1. channel groups and the budget, which must be reachable before anything is trained
    2. `fit`, the one training loop, with the objective
    3. the units that the objective leaves, within the budget, cut as `KeepChannels`
    4. BatchNorm statistics measured again
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from helmlite.compress.channels.channel_groups import ChannelGroup, build_channel_groups
from helmlite.compress.channels.channel_sums import Scores
from helmlite.compress.channels.cut_channels import Choice, cut
from helmlite.compress.channels.ledger import macs_ledger
from helmlite.compress.channels.ranking import (
    allowed_steps,
    choose_units,
    kept_units,
    smallest_steps,
    threshold_steps,
    uniform_steps,
)
from helmlite.compress.channels.unit_tensors import UnitTensors
from helmlite.compress.distill import base_objective
from helmlite.compress.prune import Prune
from helmlite.compress.technique import Context
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.device import training_device
from helmlite.detector.families import family_of
from helmlite.detector.fit import FitSettings, fit, rate_factor
from helmlite.detector.fit_state import EpochPlan, below
from helmlite.detector.macs import count_macs
from helmlite.detector.objective import Objective

TEACHERS = ("original", "none")
RANKINGS = ("uniform", "global")
_BATCH = 8
_FINAL_RATE = 0.02  # as the learning rate's


class CutSettings(Protocol):
    """What every technique that trains and then cuts has among its settings.

    macs_ratio:    multiply-accumulates after / before, in (0, 1)
    minutes, epochs: how long; where both are given the shorter counts; with neither it is until the deadline
    learning_rate, batch_size: of the training
    teacher:       "original" (the detector that the run began with) or "none"
    min_keep:      share of its channels that every group keeps at least
    images:        pictures of the train split for BatchNorm statistics after the cut
    """

    @property
    def name(self) -> str: ...
    @property
    def macs_ratio(self) -> float: ...
    @property
    def minutes(self) -> float | None: ...
    @property
    def epochs(self) -> int | None: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def teacher(self) -> str: ...
    @property
    def min_keep(self) -> float: ...
    @property
    def images(self) -> int: ...


def check_settings(settings: CutSettings) -> None:
    """Raises ValueError, one line, for common settings that cannot be."""
    name = settings.name
    if not 0 < settings.macs_ratio < 1:
        raise ValueError(f"{name}: macs_ratio must lie between 0 and 1 (both excluded); got {settings.macs_ratio}.")
    if settings.teacher not in TEACHERS:
        raise ValueError(f"{name}: teacher must be 'original' or 'none'; got '{settings.teacher}'.")
    if settings.images < 1 or not 0 < settings.min_keep <= 1:
        raise ValueError(
            f"{name}: images must be at least 1 and min_keep in (0, 1]; got {settings.images} and {settings.min_keep}."
        )
    try:
        fit_settings(settings, input_size=64)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def check_ranking(name: str, ranking: str) -> None:
    """Raises ValueError, one line, for a way of sharing out the cut that there is not."""
    if ranking not in RANKINGS:
        raise ValueError(f"{name}: unknown ranking '{ranking}'; known are {', '.join(RANKINGS)}.")


def fit_settings(settings: CutSettings, input_size: int, device: str = "auto") -> FitSettings:
    """How `fit` trains for such a technique."""
    return FitSettings(
        input_size,
        epochs=settings.epochs,
        minutes=settings.minutes,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        device=device,
    )


def untrained_stand_in(settings: CutSettings, ranking: str = "global") -> Prune:
    """What gives a network of such shapes without training."""
    return Prune(
        settings.macs_ratio,
        importance="l2",
        rounds=1,
        min_keep=settings.min_keep,
        images=settings.images,
        ranking=ranking,
    )


class Budget:
    """What may stay: at most `macs_ratio` of the multiply-accumulates, in whole slices, and a share of every group.

    Raises ValueError where that cannot be reached, and where `is_judged` leaves nothing to cut.
    is_judged: whether a group can be cut by what the technique goes by; a bundle with another one stays whole
    """

    def __init__(
        self,
        settings: CutSettings,
        detector: Detector,
        context: Context,
        is_judged: Callable[[ChannelGroup], bool] = lambda group: True,
    ) -> None:
        found = build_channel_groups(family_of(detector), detector.network)
        bundles = tuple(bundle for bundle in found.bundles if all(is_judged(group) for group in bundle.groups))
        if not bundles:
            raise ValueError(f"{settings.name}: there is no group of channels that it could cut.")
        self.groups = replace(found, bundles=bundles)
        self.units = UnitTensors(self.groups, detector.network)
        self._ledger = macs_ledger(detector, context.input_size)
        self.macs = round(self._ledger.left)
        self._target = settings.macs_ratio * self.macs
        self._multiple = context.channel_multiple
        self._floors = smallest_steps(self.groups, settings.min_keep)
        self._name = settings.name
        self.choose(self.units.by_group(torch.ones(self.units.count)))  # before any work is done

    def choose_by(self, ranking: str, scores: Scores, is_loss: bool = False) -> Choice:
        """The units that stay, by one of `RANKINGS`.  is_loss: whether scores foretell the loss, and so have a price"""
        if ranking == "uniform":
            return self.choose_evenly(scores)
        return self.choose(scores) if is_loss else self.choose_smallest(scores)

    def choose_evenly(self, scores: Scores) -> Choice:
        """The units that stay where every bundle keeps the same share: those that score most in it."""
        return kept_units(self.groups, scores, self._even_steps)

    @cached_property
    def _even_steps(self) -> tuple[int, ...]:
        levels = allowed_steps(self.groups, self._multiple, self._floors)
        whole = [bundle.steps for bundle in self.groups.bundles]
        return uniform_steps(self.groups, self._ledger, levels, whole, self._target)

    def choose(self, scores: Scores) -> Choice:
        """The units that stay.  What goes is what scores least for the multiply-accumulates that it costs."""
        ledger = copy.deepcopy(self._ledger)  # a choice uses it up
        try:
            return choose_units(self.groups, scores, ledger, self._target, self._multiple, self._floors)
        except ValueError as error:
            raise ValueError(str(error).replace("prune:", f"{self._name}:")) from error

    def choose_smallest(self, values: Scores) -> Choice:
        """The units that stay when those with the smallest values go first, whatever they cost: a global threshold."""
        levels = allowed_steps(self.groups, self._multiple, self._floors)
        steps = threshold_steps(self.groups, values, self._ledger, levels, self._target)
        return kept_units(self.groups, values, steps)


class CuttingObjective(Objective, Protocol):
    """An objective that says in the end what is to be cut."""

    def finished(self, trained: Detector) -> tuple[Detector, Choice]:
        """The trained detector with what the objective leaves in its weights, and the units that stay."""
        ...


class Penalty(Protocol):
    """What draws units towards zero, step by step."""

    def after_step(self, network: nn.Module, step: int) -> None:
        """Moves the network's weights, in place."""
        ...

    def figures(self, step: int) -> Mapping[str, float]:
        """What a user may want to watch before this step, by name."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...

    def choice(self, trained: Detector) -> Choice:
        """The units of the trained detector that stay."""
        ...


class PenalizedObjective:
    """A base objective and a penalty.  about: what the penalty is, as plain data."""

    def __init__(self, base: Objective, penalty: Penalty, about: Mapping[str, Any]) -> None:
        self._base, self._about = base, about
        self.penalty = penalty

    def identity(self) -> Mapping[str, Any]:
        return {**self._about, "base": self._base.identity()}

    def parameters(self) -> Iterable[nn.Parameter]:
        return self._base.parameters()

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        loss, parts = self._base.loss(network, batch, step)
        return loss, {**parts, **self.penalty.figures(step)}

    def after_step(self, network: nn.Module, step: int) -> None:
        self._base.after_step(network, step)
        with torch.no_grad():
            self.penalty.after_step(network, step)

    def epoch_ended(self) -> None:
        self._base.epoch_ended()

    def state_dict(self) -> dict[str, Tensor]:
        return joined_state(self._base, self.penalty.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._base.load_state_dict(below("base.", state))
        self.penalty.load_state_dict(below("penalty.", state))

    def finished(self, trained: Detector) -> tuple[Detector, Choice]:
        return trained, self.penalty.choice(trained)


def joined_state(base: Objective, penalty: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of both, under names that `below` takes apart again."""
    return {
        **{f"base.{name}": tensor for name, tensor in base.state_dict().items()},
        **{f"penalty.{name}": tensor for name, tensor in penalty.items()},
    }


# Builds the objective from its base, the network that is being trained and the plan.
MakeCutting = Callable[[Objective, nn.Module, EpochPlan], CuttingObjective]


def train_and_cut(
    settings: CutSettings, detector: Detector, context: Context, budget: Budget, make: MakeCutting
) -> Detector:
    """The detector trained with the objective that `make` builds, then cut to the budget, its BatchNorms measured anew.

    Raises what `fit` raises, and ValueError where the teacher cannot teach this detector.
    """
    made: list[CuttingObjective] = []

    def make_objective(student: Detector, network: nn.Module, plan: EpochPlan) -> Objective:
        base = base_objective(settings.teacher, student, network, plan, context)
        made.append(make(base, network, plan))
        return made[-1]

    trained = fit(
        detector,
        make_objective,
        context.data,
        fit_settings(settings, context.input_size, context.device),
        context.seed,
        context.workspace,
        context.log,
        context.deadline,
    )
    settled, choice = made[-1].finished(trained)  # the last one made is the one that was trained with
    lighter = cut(settled, budget.groups, choice)
    network = lighter.network.to(training_device(context.device))
    batches = plain_batches(context.data, context.input_size, settings.images, _BATCH, context.seed)
    reestimate_batchnorm(family_of(lighter), network, batches)
    network.to("cpu")
    left = count_macs(network, context.input_size) / budget.macs
    context.log(f"{settings.name}: {left:.1%} of the multiply-accumulates left; fine-tune afterwards")
    return lighter


def about(settings: CutSettings, context: Context) -> dict[str, Any]:
    """What the result depends on beside weights and data, as plain data, for an objective's identity."""
    return {"objective": settings.name, **asdict(settings), "channel_multiple": context.channel_multiple}  # type: ignore[call-overload]


def rates(plan: EpochPlan) -> list[float]:
    """Of every step of the plan: 1 at first, falling along a cosine as the learning rate does."""
    total = plan.epochs * plan.steps_per_epoch
    return [rate_factor(step, total, 0, _FINAL_RATE) for step in range(total)]


def rate_at(step: int, every_rate: Sequence[float]) -> float:
    """The rate of a step; those beyond the plan, which only a measurement of speed makes, have the last one's."""
    return every_rate[min(step, len(every_rate) - 1)]
