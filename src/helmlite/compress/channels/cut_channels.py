"""The cut: units that were chosen become one `KeepChannels` edit, made on a copy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from helmlite.compress.channels.channel_groups import ChannelGroup, ChannelGroups, Member
from helmlite.compress.edits.keep_channels import KeepChannels, KeptConv
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of

Choice = Mapping[ChannelGroup, tuple[int, ...]]  # indices of the units that each group keeps, ascending


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
