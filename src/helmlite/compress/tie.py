"""Tying weights: like layers use one set of kernels, each with a BatchNorm of its own.

    head     the branches of the head at different scales, as RetinaNet (Lin 2017, arXiv 1708.02002, section 4) and
             EfficientDet (Tan 2020, arXiv 1911.09070, figure 3) share theirs; BatchNorm is kept apart for each scale,
             because their statistics differ
    blocks   blocks that repeat each other, one after the other (Lan 2020, ALBERT, arXiv 1909.11942, section 3.1)

What is alike is read off the structure, never off names: layers at the same place inside the members of a list, with
parameters of the same shapes.  The start is the mean of kernels that were brought to one scale (tie_weights.py).
Trained layers are seldom alike, so a tied detector needs training (`distill`) before it finds anything.

The file gets smaller and nothing gets faster: every use still computes its own convolution.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from torch import nn

from helmlite.compress.edits.fold_batchnorm import foldable_pairs
from helmlite.compress.edits.tie_weights import TiedConv, TieWeights, distances, kernels_and_gammas
from helmlite.compress.order import check_follows
from helmlite.compress.paths import is_below
from helmlite.compress.technique import Context
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Detector
from helmlite.detector.device import training_device
from helmlite.detector.families import family_of
from helmlite.detector.macs import count_parameters
from helmlite.detector.trace import Graph, trace

WHAT = ("head", "blocks", "all")
_TRACED_SIZE = 64  # pixels; what follows what does not depend on it
_BATCH = 8

Group = tuple[TiedConv, ...]


@dataclass(frozen=True)
class Tie:
    """Lets like convolutions share one kernel.

    what:         head | blocks | all
    max_distance: groups with a member farther from the common kernel than this are left (1 - cosine: 0 for kernels
                  that are the same up to scale, 0.42 for three unrelated ones); None ties them all
    images:       pictures of the train split for BatchNorm's statistics, measured again; 0 leaves them
    """

    name: ClassVar[str] = "tie"
    what: str = "head"
    max_distance: float | None = None
    images: int = 128

    def __post_init__(self) -> None:
        if self.what not in WHAT:
            raise ValueError(f"tie: what is one of {', '.join(WHAT)}; got '{self.what}'.")
        if self.max_distance is not None and not 0 <= self.max_distance <= 1:
            raise ValueError(f"tie: max_distance must lie between 0 and 1; got {self.max_distance}.")
        if self.images < 0:
            raise ValueError(f"tie: images must be at least 0; got {self.images}.")

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with tied kernels.

        Raises ValueError where no two layers are alike, or near enough; TechniqueOrderError after steps that settle
        every layer's own weights.
        """
        check_follows(self.name, detector)
        groups = like_convs(detector.network, self.what)
        if not groups:
            where = {"head": "in its head", "blocks": "in repeated blocks", "all": "in its head or in repeated blocks"}
            raise ValueError(
                f"tie: the detector has no two like convolutions of the same shape {where[self.what]}; layers "
                "that were pruned to different widths cannot share their weights."
            )
        far = {group: _distance(detector.network, group) for group in groups}
        near = tuple(group for group in groups if self.max_distance is None or far[group] <= self.max_distance)
        if not near:
            raise ValueError(
                f"tie: the nearest layers lie {min(far.values()):.2f} from their common kernel, above max_distance "
                f"{self.max_distance}."
            )
        tied = detector.copy()
        edit = TieWeights(near)
        edit.redo(tied.network)
        self._measure_norms(detector, tied.network, context)
        left = count_parameters(tied.network) / count_parameters(detector.network)
        ends = min(far[group] for group in near), max(far[group] for group in near)
        context.log(
            f"tie: {sum(map(len, near))} convolutions share {len(near)} kernels, {left:.1%} of the parameters left; "
            f"the farthest of each lies {ends[0]:.2f} to {ends[1]:.2f} from its common kernel"
        )
        return detector.edited(edit, tied.network)

    def _measure_norms(self, detector: Detector, network: nn.Module, context: Context) -> None:
        if self.images:
            network.to(training_device(context.device))
            batches = plain_batches(context.data, context.input_size, self.images, _BATCH, context.seed)
            reestimate_batchnorm(family_of(detector), network, batches)
            network.to("cpu")


def like_convs(network: nn.Module, what: str = "all") -> tuple[Group, ...]:
    """The groups of convolutions that can share a kernel, in the order of the network."""
    graph = trace(network, _TRACED_SIZE)
    heads = _head_lists(network, graph)
    lists: list[list[str]] = []
    if what in ("head", "all"):
        lists += [_children(network, path) for path in heads]
    if what in ("blocks", "all"):
        lists += [
            run
            for path, module in network.named_modules()
            if isinstance(module, (nn.ModuleList, nn.Sequential)) and not is_below(path, heads)
            for run in _repeats(network, path)
        ]
    return _groups(network, graph, lists)


def _head_lists(network: nn.Module, graph: Graph) -> list[str]:
    """Paths of the lists of which several members give results of the network: the head's branches by scale."""
    producers = graph.producers()
    giving = [producers[value].module for value in graph.results if value in producers]
    return [
        path
        for path, module in network.named_modules()
        if isinstance(module, nn.ModuleList)
        and sum(any(is_below(maker, [child]) for maker in giving) for child in _children(network, path)) > 1
    ]


def _repeats(network: nn.Module, path: str) -> Iterator[list[str]]:
    """Runs of neighbouring members of a list that are alike, parameter by parameter."""

    def likeness(child: str) -> tuple[object, ...]:
        module = network.get_submodule(child)
        return type(module), *((name, tuple(item.shape)) for name, item in module.named_parameters())

    for _, run in groupby(_children(network, path), likeness):
        members = list(run)
        if len(members) > 1:
            yield members


def _groups(network: nn.Module, graph: Graph, lists: Iterable[list[str]]) -> tuple[Group, ...]:
    """Convolutions at the same place inside the members of each list; what meets in two lists is one group."""
    norm_of = dict(foldable_pairs(network, graph))
    calls = Counter(op.module for op in graph.ops if op.kind == "conv2d")
    group_of: dict[str, set[str]] = {}
    for members in lists:
        alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
        for member in members:
            for inner, module in network.get_submodule(member).named_modules():
                path = f"{member}.{inner}" if inner else member
                if isinstance(module, nn.Conv2d) and calls[path] == 1:
                    alike[(inner, *_kind(module), path in norm_of)].append(path)
        for paths in alike.values():
            joined = set(paths).union(*(group_of.get(path, ()) for path in paths))
            group_of.update(dict.fromkeys(joined, joined))
    order = {path: place for place, (path, _) in enumerate(network.named_modules())}
    found = {id(group): sorted(group, key=order.__getitem__) for group in group_of.values() if len(group) > 1}
    tied = (tuple(TiedConv(path, norm_of.get(path, "")) for path in group) for group in found.values())
    return tuple(sorted(tied, key=lambda group: order[group[0].conv]))


def _kind(conv: nn.Conv2d) -> tuple[object, ...]:
    """What convolutions that share a kernel have in common."""
    return tuple(conv.weight.shape), conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode


def _distance(network: nn.Module, group: Group) -> float:
    """Of the farthest member."""
    return float(distances(*kernels_and_gammas(network, group)).max())


def _children(network: nn.Module, path: str) -> list[str]:
    return [f"{path}.{name}" if path else name for name, _ in network.get_submodule(path).named_children()]
