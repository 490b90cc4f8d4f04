"""Structured channel pruning: whole channels go, so that files shrink and every runtime gets faster.

    1. channel groups   which channels can only go together                      channel_groups.py
    2. importance       how much each unit of them matters                       importance.py
    3. choice           the units that matter least for what they cost, until    ledger.py
                        the target is met: multiply-accumulates or latency
    4. cut              `KeepChannels`, fully resolved                           keep_channels.py
    5. BatchNorm        statistics measured again
in several rounds, since a cut changes what matters.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from helmlite.compress.channel_groups import Bundle, ChannelGroup, ChannelGroups, Member, build_channel_groups
from helmlite.compress.importance import IMPORTANCES, Scores, group_l2, taylor
from helmlite.compress.keep_channels import KeepChannels, KeptConv
from helmlite.compress.layer_times import LayerTimes, measured_once
from helmlite.compress.ledger import Ledger, latency_ledger, macs_ledger
from helmlite.compress.order import check_follows
from helmlite.compress.technique import Context
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Detector
from helmlite.detector.device import training_device
from helmlite.detector.families import family_of
from helmlite.detector.macs import count_macs

_BATCH = 8
_CORRECTIONS = 2  # further cuts where a latency was missed
_NEAR_ENOUGH = 1.02  # of the latency asked for, since two measurements of one network differ by as much


@dataclass(frozen=True)
class Prune:
    """Removes the channels that matter least for what they cost, until one of two targets is met.

    macs_ratio:    multiply-accumulates after / before, in (0, 1)
    latency_ratio: time on the target after / before, in (0, 1), as `Context.layer_clock` measures it (float network)
    importance:    "taylor" (needs labels) or "l2" (needs none)
    rounds:        cuts on the way, each after a new look at what matters and, for a latency, at what it costs
    min_keep:      share of its channels that every group keeps at least
    images:        pictures of the train split for gradients and for BatchNorm statistics
    """

    name: ClassVar[str] = "prune"
    macs_ratio: float | None = None
    latency_ratio: float | None = None
    importance: str = "taylor"
    rounds: int = 4
    min_keep: float = 0.1
    images: int = 128

    def __post_init__(self) -> None:
        stated = {"macs_ratio": self.macs_ratio, "latency_ratio": self.latency_ratio}
        given = {name: value for name, value in stated.items() if value is not None}
        if len(given) != 1:
            raise ValueError("prune: give macs_ratio or latency_ratio, one of them.")
        for name, value in given.items():
            if not 0 < value < 1:
                raise ValueError(f"prune: {name} must lie between 0 and 1 (both excluded); got {value}.")
        if self.importance not in IMPORTANCES:
            raise ValueError(f"prune: unknown importance '{self.importance}'; known are {', '.join(IMPORTANCES)}.")
        if self.rounds < 1 or self.images < 1 or not 0 < self.min_keep <= 1:
            raise ValueError("prune: rounds and images must be at least 1, min_keep in (0, 1].")

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with fewer channels.  Raises TechniqueOrderError after quantization or BatchNorm folding."""
        check_follows(self.name, detector)
        before = count_macs(detector.network, context.input_size)
        floors: list[int] = []
        current = detector
        for step in range(1, self.rounds + 1):
            groups = build_channel_groups(family_of(current), current.network)
            floors = floors or smallest_steps(groups, self.min_keep)
            ledger, target = self._ledger_and_target(detector, current, before, step, context)
            current = self._cut(current, groups, ledger, target, floors, context)
            left = count_macs(current.network, context.input_size) / before
            context.log(f"prune: round {step} of {self.rounds}, {left:.1%} of the multiply-accumulates left")
        return current if self.latency_ratio is None else self._corrected(detector, current, floors, context)

    def _cut(
        self,
        current: Detector,
        groups: ChannelGroups,
        ledger: Ledger,
        target: float,
        floors: Sequence[int],
        context: Context,
    ) -> Detector:
        choice = choose_units(
            groups, self._scores(current, groups, context), ledger, target, context.channel_multiple, floors
        )
        return self._with_new_statistics(cut(current, groups, choice), context)

    def _corrected(self, original: Detector, current: Detector, floors: Sequence[int], context: Context) -> Detector:
        """Cut further where the clock does not confirm what the ledger foretold."""
        for remaining in reversed(range(_CORRECTIONS + 1)):
            before, now = self._times(original, current, context)
            context.log(f"prune: {now.total / before.total:.1%} of the time left, as measured in float")
            target = before.total * self.latency_ratio  # type: ignore[operator]
            if now.total <= target * _NEAR_ENOUGH or not remaining:
                break
            groups = build_channel_groups(family_of(current), current.network)
            ledger = latency_ledger(current, context.input_size, now)
            current = self._cut(current, groups, ledger, target, floors, context)
        return current

    def _ledger_and_target(
        self, original: Detector, current: Detector, before_macs: int, step: int, context: Context
    ) -> tuple[Ledger, float]:
        """The present cost, and what may be left of it after this round: the same share of what is left in each."""
        share = step / self.rounds
        if self.latency_ratio is not None:
            before, now = self._times(original, current, context)
            return latency_ledger(current, context.input_size, now), before.total * self.latency_ratio**share
        assert self.macs_ratio is not None
        return macs_ledger(current, context.input_size), before_macs * self.macs_ratio**share

    def _times(self, original: Detector, current: Detector, context: Context) -> tuple[LayerTimes, ...]:
        """Of both, in turn: only their ratio means anything on a machine that others use too."""
        if context.layer_clock is None:
            raise ValueError("prune: latency_ratio needs Context(layer_clock=...), which measures the target.")
        return measured_once(context.layer_clock, (original, current), context.input_size, context.workspace)

    def _with_new_statistics(self, pruned: Detector, context: Context) -> Detector:
        network = pruned.network.to(training_device(context.device))
        reestimate_batchnorm(
            family_of(pruned),
            network,
            plain_batches(context.data, context.input_size, self.images, _BATCH, context.seed),
        )
        network.to("cpu")
        return pruned

    def _scores(self, detector: Detector, groups: ChannelGroups, context: Context) -> Scores:
        if self.importance == "l2":
            return group_l2(detector, groups)
        return taylor(
            detector,
            groups,
            plain_batches(context.data, context.input_size, self.images, _BATCH, context.seed),
            training_device(context.device),
        )


def smallest_steps(groups: ChannelGroups, min_keep: float) -> list[int]:
    """For each bundle of the detector that pruning begins with the steps that stay, whatever the rounds.

    Cutting changes the sizes of bundles and neither their number nor their order.
    """
    return [max(1, math.ceil(bundle.steps * min_keep)) for bundle in groups.bundles]


Choice = Mapping[ChannelGroup, tuple[int, ...]]  # indices of the units that each group keeps, ascending


def choose_units(
    groups: ChannelGroups,
    scores: Scores,
    ledger: Ledger,
    target: float,
    channel_multiple: int,
    floors: Sequence[int],
) -> Choice:
    """Units to keep so that at most `target` remains: the cheapest cuts go first, over all groups at once.

    A cut takes one slice of a bundle: as many units as keep its channel count a multiple of `channel_multiple`.
    Its price is the importance lost for each unit of cost saved.
    ledger: what the network costs now, in the unit of `target`; it is left at what remains
    floors: for each bundle the steps that stay at least
    Raises ValueError where even the smallest allowed network is above the target.
    """
    slices = [
        _Slices(bundle, scores, channel_multiple, floor) for bundle, floor in zip(groups.bundles, floors, strict=True)
    ]
    before = ledger.left
    while ledger.left > target:
        prices = [(_price(item, ledger.saving(item.loss)), index) for index, item in enumerate(slices) if item.can_cut]
        if not prices:
            raise ValueError(
                f"prune: {target / before:.0%} of the {ledger.unit} cannot be reached in this round: "
                f"{ledger.left / before:.0%} remain when every group is at its minimum. "
                "Ask for a higher ratio or lower min_keep."
            )
        _, cheapest = min(prices)
        ledger.remove(slices[cheapest].loss)
        slices[cheapest].cut()
    return {group: kept for item in slices for group, kept in item.kept().items()}


def _price(item: _Slices, saving: float) -> float:
    """Importance for each unit of cost; what saves nothing goes last."""
    return item.price / saving if saving > 0 else math.inf


def cut(detector: Detector, groups: ChannelGroups, choice: Choice) -> Detector:
    """A new detector that keeps these units; groups that `choice` does not name stay whole."""
    removed = [
        member
        for bundle in groups.bundles
        for group in bundle.groups
        if group in choice
        for index in sorted(set(range(len(group.units))) - set(choice[group]))
        for member in group.units[index]
    ]
    edit = _resolved(detector, groups, removed)
    pruned = detector.copy()
    edit.redo(pruned.network)
    return detector.edited(edit, pruned.network)


class _Slices:
    """One bundle's units, least important first in each group, cut slice by slice.

    price: importance that the next cut loses; loss: the channels that go with it
    """

    def __init__(self, bundle: Bundle, scores: Scores, channel_multiple: int, floor: int) -> None:
        self._bundle = bundle
        self._order = {group: np.argsort(scores[group], kind="stable") for group in bundle.groups}
        self._scores = scores
        channels_per_step = bundle.channels // bundle.steps
        self._stride = channel_multiple // math.gcd(channel_multiple, channels_per_step)
        self._left = bundle.steps
        self._floor = floor
        self._look_ahead()

    @property
    def can_cut(self) -> bool:
        return self._next >= self._floor

    def cut(self) -> None:
        """Makes the next cut."""
        self._left = self._next
        self._look_ahead()

    def kept(self) -> dict[ChannelGroup, tuple[int, ...]]:
        kept = {}
        for group, order in self._order.items():
            count = self._left * (len(group.units) // self._bundle.steps)
            kept[group] = tuple(sorted(order[len(order) - count :].tolist()))
        return kept

    def _look_ahead(self) -> None:
        self._next = (self._left - 1) // self._stride * self._stride  # the next lower multiple of the stride
        self.price = 0.0
        self.loss: dict[str, tuple[int, int]] = {}
        for group, order in self._order.items():
            per_step = len(group.units) // self._bundle.steps
            units = order[len(group.units) - self._left * per_step : len(group.units) - max(self._next, 0) * per_step]
            self.price += float(self._scores[group][units].sum())
            for unit in units.tolist():
                for member in group.units[unit]:
                    outputs, inputs = self.loss.get(member.path, (0, 0))
                    self.loss[member.path] = (outputs + (member.role == "out"), inputs + (member.role == "in"))


def _resolved(detector: Detector, groups: ChannelGroups, removed: list[Member]) -> KeepChannels:
    """The edit: for every module touched, the channels that stay; and the family's stored sizes."""
    network = detector.network
    gone: dict[tuple[str, str], set[int]] = defaultdict(set)
    for member in removed:
        gone[member.path, member.role].add(member.index)
    modules = dict(network.named_modules())
    convs, norms, parameters = {}, {}, {}
    for path in dict.fromkeys(path for path, _ in gone):
        if (path, "parameter") in gone:
            length = max(network.get_parameter(path).shape)
            parameters[path] = _staying(length, gone[path, "parameter"])
        elif (path, "norm") in gone:
            norms[path] = _staying(modules[path].num_features, gone[path, "norm"])
        else:
            convs[path] = _kept_conv(modules[path], gone[path, "out"], gone[path, "in"])
    widths = {path: m.out_channels for path, m in modules.items() if hasattr(m, "out_channels")}
    widths.update({path: len(kept.outputs) for path, kept in convs.items()})
    lost = set(removed)
    splits = {
        path: tuple(sum(1 for member in part if member is None or member not in lost) for part in parts)
        for path, parts in groups.splits.items()
    }
    attributes = family_of(detector).attributes_after(network, widths, splits)
    stored = tuple((path, name, value) for (path, name), value in sorted(attributes.items(), key=lambda item: item[0]))
    return KeepChannels(convs, norms, parameters, stored)


def _kept_conv(conv: object, gone_out: set[int], gone_in: set[int]) -> KeptConv:
    outputs = _staying(conv.out_channels, gone_out)  # type: ignore[attr-defined]
    depthwise = conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1  # type: ignore[attr-defined]
    return KeptConv(outputs, outputs if depthwise else _staying(conv.in_channels, gone_in))  # type: ignore[attr-defined]


def _staying(count: int, gone: set[int]) -> tuple[int, ...]:
    return tuple(index for index in range(count) if index not in gone)
