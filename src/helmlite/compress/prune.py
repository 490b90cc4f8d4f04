"""Structured channel pruning: whole channels go, so that files shrink and every runtime gets faster.

    1. channel groups   which channels can only go together       channel_groups.py
    2. importance       how much each unit of them matters        importance.py
    3. choice           the least important units, until the multiply-accumulates meet the target
    4. cut              `KeepChannels`, fully resolved             keep_channels.py
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
from helmlite.compress.technique import Context, TechniqueOrderError
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Detector
from helmlite.detector.device import training_device
from helmlite.detector.families import family_of
from helmlite.detector.macs import ConvCost, conv_costs, count_macs, shape_trace

_BATCH = 8


@dataclass(frozen=True)
class Prune:
    """Removes the least important channels until `macs_ratio` of the multiply-accumulates are left.

    macs_ratio:  multiply-accumulates after / before, in (0, 1)
    importance:  "taylor" (needs labels) or "l2" (needs none)
    rounds:      cuts on the way, each after a new look at what matters
    min_keep:    share of its channels that every group keeps at least
    images:      pictures of the train split for gradients and for BatchNorm statistics
    """

    name: ClassVar[str] = "prune"
    macs_ratio: float
    importance: str = "taylor"
    rounds: int = 4
    min_keep: float = 0.1
    images: int = 128

    def __post_init__(self) -> None:
        if not 0 < self.macs_ratio < 1:
            raise ValueError(f"prune: macs_ratio must lie between 0 and 1 (both excluded); got {self.macs_ratio}.")
        if self.importance not in IMPORTANCES:
            raise ValueError(f"prune: unknown importance '{self.importance}'; known are {', '.join(IMPORTANCES)}.")
        if self.rounds < 1 or self.images < 1 or not 0 < self.min_keep <= 1:
            raise ValueError("prune: rounds and images must be at least 1, min_keep in (0, 1].")

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with fewer channels.  Raises TechniqueOrderError after quantization or BatchNorm folding."""
        for edit, earlier in (("insert_quantizers", "quantize"), ("fold_batchnorm", "fold_batchnorm")):
            if detector.has_edit(edit):
                raise TechniqueOrderError(f"prune cannot follow {earlier}: put prune before {earlier}.")
        before = count_macs(detector.network, context.input_size)
        floors: list[int] = []
        current = detector
        for step in range(1, self.rounds + 1):
            target = before * self.macs_ratio ** (step / self.rounds)
            groups = build_channel_groups(family_of(current), current.network)
            floors = floors or smallest_steps(groups, self.min_keep)
            current = self._one_round(current, groups, target, floors, context)
            left = count_macs(current.network, context.input_size)
            context.log(f"prune: round {step} of {self.rounds}, {left / before:.1%} of the multiply-accumulates left")
        return current

    def _one_round(
        self, detector: Detector, groups: ChannelGroups, target_macs: float, floors: Sequence[int], context: Context
    ) -> Detector:
        scores = self._scores(detector, groups, context)
        choice = choose_units(
            detector, groups, scores, target_macs, context.input_size, context.channel_multiple, floors
        )
        pruned = cut(detector, groups, choice)
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
Loss = Mapping[str, tuple[int, int]]  # module path -> output and input channels that it loses


def choose_units(
    detector: Detector,
    groups: ChannelGroups,
    scores: Scores,
    target_macs: float,
    input_size: int,
    channel_multiple: int,
    floors: Sequence[int],
) -> Choice:
    """Units to keep so that at most `target_macs` remain: the cheapest cuts go first, over all groups at once.

    A cut takes one slice of a bundle: as many units as keep its channel count a multiple of `channel_multiple`.
    Its price is the importance lost for each multiply-accumulate saved.
    floors: for each bundle the steps that stay at least
    Raises ValueError where even the smallest allowed network is above the target.
    """
    costs = conv_costs(detector.network, shape_trace(detector.network, input_size))
    ledger = _Ledger(costs, count_macs(detector.network, input_size) - sum(cost.macs for cost in costs))
    slices = [
        _Slices(bundle, scores, channel_multiple, floor) for bundle, floor in zip(groups.bundles, floors, strict=True)
    ]
    while ledger.macs > target_macs:
        prices = [
            (item.price / max(ledger.saving(item.loss), 1.0), index)
            for index, item in enumerate(slices)
            if item.can_cut
        ]
        if not prices:
            raise ValueError(
                f"prune: {target_macs / 1e9:.2f} G MACs cannot be reached: {ledger.macs / 1e9:.2f} G remain "
                "when every group is at its minimum. Raise macs_ratio or lower min_keep."
            )
        _, cheapest = min(prices)
        ledger.remove(slices[cheapest].loss)
        slices[cheapest].cut()
    return {group: kept for item in slices for group, kept in item.kept().items()}


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


class _Ledger:
    """Multiply-accumulates of the network while channels go."""

    def __init__(self, costs: tuple[ConvCost, ...], other_macs: int) -> None:
        self._calls = costs
        self._outputs = {cost.path: float(cost.out_channels) for cost in costs}
        self._inputs = {cost.path: float(cost.in_channels) for cost in costs}
        self._depthwise = {cost.path for cost in costs if cost.groups == cost.in_channels > 1}
        self._by_path: dict[str, list[ConvCost]] = defaultdict(list)
        for cost in costs:
            self._by_path[cost.path].append(cost)
        self.macs = float(other_macs + sum(cost.macs for cost in costs))

    def saving(self, loss: Loss) -> float:
        """Multiply-accumulates that go with these channels."""
        return sum(
            self._macs(path, self._outputs[path], self._inputs[path])
            - self._macs(path, self._outputs[path] - outputs, self._inputs[path] - inputs)
            for path, (outputs, inputs) in loss.items()
            if path in self._by_path
        )

    def remove(self, loss: Loss) -> None:
        self.macs -= self.saving(loss)
        for path, (outputs, inputs) in loss.items():
            if path in self._by_path:
                self._outputs[path] -= outputs
                self._inputs[path] -= inputs

    def _macs(self, path: str, outputs: float, inputs: float) -> float:
        per_position = outputs if path in self._depthwise else outputs * inputs / self._by_path[path][0].groups
        return sum(cost.positions * cost.kernel_area * per_position for cost in self._by_path[path])


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
