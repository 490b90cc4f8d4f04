"""Which channels can only be removed together: channel dependency groups, found by following channels.

Every convolution gives each of its output channels a number of its own.  The network is then run once on *labels*:
beside each tensor travels a tensor of the same shape that holds, at every element, the number of the channel it came
from.  What only moves data (concat, split, chunk, reshape, permute, ...) moves the labels in the same way; where an
operator mixes elements (add, multiply, matmul, softmax), the labels that meet are joined, since neither can be
removed without the other.  Nothing needs to know about C2f, attention heads or reshapes.

    y = conv1(x)            channels 0 1 2 3 of conv1          labels  0 1 2 3
    a, b = y.chunk(2, 1)                                       a: 0 1        b: 2 3
    c = conv2(b)            channels 0 1 of conv2              labels  4 5
    d = b + c               2 meets 4, 3 meets 5               labels  {2,4} {3,5}
    conv3(cat(a, d))        reads labels 0, 1, {2,4}, {3,5}

gives the units   0: conv1 out 0, conv3 in 0                   and   {2,4}: conv1 out 2, conv2 out 0, conv2 in 0,
                  1: conv1 out 1, conv3 in 1                                conv3 in 2
                                                                     {3,5}: ...

A *unit* is what is removed at once (in attention, a whole head: q, k and v meet in the matmuls).  Units that touch
the same places form a *group*.  Both halves of a `chunk` must stay equally wide, as must the blocks of a grouped
convolution: those groups form a *bundle*, which shrinks in equal steps.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from helmlite.detector.detector import Family
from helmlite.detector.trace import intercept, tensors_in

_TRACE_SIZE = 64  # pixels: the smallest picture that all strides and attention areas divide

_ELEMENTWISE = {
    "silu", "relu", "relu6", "hardswish", "sigmoid", "gelu", "leaky_relu", "mish", "tanh", "dropout", "identity",
    "contiguous", "clone", "to", "float", "exp", "clamp", "neg", "type", "detach",
}  # fmt: skip
_JOINING = {"add", "sub", "mul", "div", "maximum", "minimum"}
_MOVING = {
    "view", "reshape", "permute", "transpose", "flatten", "unflatten", "squeeze", "unsqueeze", "chunk", "split", "cat",
    "getitem", "expand", "unbind", "stack",
}  # fmt: skip
_SPATIAL = {"max_pool2d", "avg_pool2d", "interpolate", "adaptive_avg_pool2d", "adaptive_max_pool2d", "pad", "_pad"}


@dataclass(frozen=True, order=True)
class Member:
    """One place of a module that belongs to a channel.

    role:  "out" or "in" of a convolution, "norm" of a BatchNorm, "parameter" of a bare parameter
    block: for "out" and "in" of a grouped convolution, which of its blocks; else 0
    """

    path: str
    role: str
    index: int
    block: int = 0


@dataclass(frozen=True)
class ChannelGroup:
    """Interchangeable units: each is a set of places that must go together.

    units[i] lists the members of unit i; `width` is how many channels each unit takes in its narrowest place.
    """

    units: tuple[tuple[Member, ...], ...]
    width: int

    @property
    def name(self) -> str:
        """The first convolution that produces the group's channels, for messages and plots."""
        outs = sorted({member.path for member in self.units[0] if member.role == "out"})
        return outs[0] if outs else self.units[0][0].path


@dataclass(frozen=True)
class Bundle:
    """Groups that must shrink together.  Step j of `steps` keeps j / steps of the units of every group.

    channels: how many channels step `steps` has in the bundle's first group, for rounding to multiples
    """

    groups: tuple[ChannelGroup, ...]
    steps: int

    @property
    def channels(self) -> int:
        return len(self.groups[0].units) * self.groups[0].width


@dataclass(frozen=True)
class ChannelGroups:
    """All bundles of a network.

    protected: convolutions with output channels that cannot be removed, and why
    splits:    for each module that splits channels, the labels' units of every part, as group members of that part
    """

    bundles: tuple[Bundle, ...]
    protected: dict[str, str]
    splits: dict[str, tuple[tuple[Member | None, ...], ...]]


def build_channel_groups(family: Family, network: nn.Module) -> ChannelGroups:
    """The channel groups of `network`, which is left as it was.  Takes a second or two for the largest detectors."""
    labels = _Labels(network)
    was_training = network.training
    network.eval()
    images = torch.zeros(1, 3, _TRACE_SIZE, _TRACE_SIZE)
    labels.protect(labels.give_new(images, dim=1), "the picture's own channels")
    try:
        with torch.no_grad(), intercept(network, labels.on_op):
            maps = family.training_maps(network, images)
    finally:
        network.train(was_training)
    for item in (*maps.maps, *maps.extra):
        labels.protect(labels.of(item), "output of the head")
    return _grouped(labels, [(tie.first_conv, tie.second_conv) for tie in family.channel_ties(network)])


class _Labels:
    """Follows channel labels through one forward pass."""

    def __init__(self, network: nn.Module) -> None:
        self._modules = dict(network.named_modules())
        self._parameters = {id(item): path for path, item in network.named_parameters()}
        self._label_of: dict[int, Tensor] = {}
        self._alive: list[Tensor] = []
        self._parent: list[int] = []
        self._why_protected: dict[int, str] = {}
        self.members: list[tuple[int, Member]] = []
        self.ties: list[list[Tensor]] = []  # parts that must stay equally wide
        self.parts: dict[str, list[Tensor]] = {}  # module path -> labels of the parts that it splits channels into
        self.inputs_of: dict[str, Tensor] = {}  # convolution path -> labels of its input channels

    # --- union-find over labels

    def root(self, label: int) -> int:
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label

    def join(self, first: Tensor, second: Tensor) -> None:
        """Labels that meet element by element can only go together."""
        first, second = torch.broadcast_tensors(first, second)  # type: ignore[no-untyped-call]
        pairs = torch.unique(torch.stack([first.reshape(-1), second.reshape(-1)]), dim=1)
        for left, right in pairs.T.tolist():
            one, other = self.root(left), self.root(right)
            if one != other:
                self._parent[max(one, other)] = min(one, other)

    def join_along(self, label: Tensor, dim: int) -> Tensor:
        """All labels along `dim` meet; the result keeps that dimension with length 1."""
        first = label.narrow(dim, 0, 1)
        self.join(first, label)
        return first

    def new_labels(self, count: int) -> Tensor:
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return torch.arange(start, start + count)

    def protect(self, label: Tensor | None, why: str) -> None:
        if label is not None:
            for item in torch.unique(label).tolist():
                self._why_protected.setdefault(item, why)

    def protection(self) -> dict[int, str]:
        """Why each root is protected."""
        return {self.root(label): why for label, why in self._why_protected.items()}

    # --- labels of tensors

    def of(self, tensor: Tensor) -> Tensor | None:
        return self._label_of.get(id(tensor))

    def set(self, tensor: Tensor, label: Tensor) -> None:
        assert label.shape == tensor.shape, (label.shape, tensor.shape)
        self._label_of[id(tensor)] = label
        self._alive.append(tensor)

    def give_new(self, tensor: Tensor, dim: int) -> Tensor:
        """New labels for the channels of a tensor along `dim`."""
        fresh = self.new_labels(tensor.shape[dim])
        shape = [1] * tensor.ndim
        shape[dim] = -1
        self.set(tensor, fresh.view(shape).expand(tensor.shape))
        return fresh

    def _of_argument(self, tensor: Tensor) -> Tensor | None:
        """Labels of an operator's argument; a bare parameter (layer scale) gets labels of its own."""
        known = self.of(tensor)
        path = self._parameters.get(id(tensor))
        if known is None and path is not None and tensor.ndim >= 1:
            dim = int(np.argmax(tensor.shape))
            for index, label in enumerate(self.give_new(tensor, dim).tolist()):
                self.members.append((label, Member(path, "parameter", index)))
            return self.of(tensor)
        return known

    # --- operators

    def on_op(self, name: str, module: str, kind: str, args: Any, kwargs: Any, function: Callable[..., Any]) -> Any:
        result = function(*args, **kwargs)
        if kind == "conv2d":
            self._conv(module, args[0], result)
        elif kind == "batch_norm":
            self._norm(module, args[0], result)
        else:
            self._other(name, module, kind, args, kwargs, function, result)
        return result

    def _conv(self, path: str, images: Tensor, result: Tensor) -> None:
        conv = self._modules[path]
        assert isinstance(conv, nn.Conv2d)
        entering = self._channels(images)
        self.inputs_of[path] = entering
        count = result.shape[1]
        if conv.groups == conv.in_channels and count % conv.groups == 0 and conv.groups > 1:
            leaving = entering.repeat_interleave(count // conv.groups)  # depthwise: a channel stays itself
            in_blocks = out_blocks = [0] * max(len(entering), count)
            if count == conv.groups:
                self._note(path, "out", leaving, out_blocks)
            else:
                self.protect(entering, "depthwise convolution with a multiplier")
        else:
            leaving = self.new_labels(count)
            in_blocks = [index // (len(entering) // conv.groups) for index in range(len(entering))]
            out_blocks = [index // (count // conv.groups) for index in range(count)]
            self._note(path, "in", entering, in_blocks)
            self._note(path, "out", leaving, out_blocks)
            if conv.groups > 1:
                self.ties += [list(entering.chunk(conv.groups)), list(leaving.chunk(conv.groups))]
        self.set(result, leaving.view(1, -1, 1, 1).expand(result.shape))

    def _norm(self, path: str, images: Tensor, result: Tensor) -> None:
        label = self._channels(images)
        self._note(path, "norm", label, [0] * len(label))
        self.set(result, label.view(1, -1, 1, 1).expand(result.shape))

    def _other(
        self, name: str, module: str, kind: str, args: Any, kwargs: Any, function: Callable[..., Any], result: Any
    ) -> None:
        given = [
            label for label in (self._of_argument(tensor) for tensor in tensors_in((args, kwargs))) if label is not None
        ]
        made = [tensor for tensor in tensors_in(result) if tensor.ndim > 0]
        if not given or not made:
            return
        if kind in _ELEMENTWISE:
            self.set(made[0], given[0])
        elif kind in _JOINING:
            self._joined(given, made[0])
        elif kind in _MOVING:
            self._moved(module, kind, args, kwargs, function, made)
        elif kind in _SPATIAL:
            channels = self._channels_of_label(given[0])
            self.set(made[0], channels.view(1, -1, 1, 1).expand(made[0].shape))
        elif kind == "softmax":
            dim = kwargs.get("dim", args[1] if len(args) > 1 else -1)
            self.set(made[0], self.join_along(given[0], dim).expand(made[0].shape))
        elif kind in ("sum", "mean"):
            self._reduced(given[0], args, kwargs, made[0])
        elif kind == "matmul":
            self._matmul(given, made[0])
        else:
            for label in given:
                self.protect(label, f"operator '{kind}' at {name} is not known to keep channels apart")
            for tensor in made:
                self.protect(self.give_new(tensor, 1 if tensor.ndim > 1 else 0), f"result of '{kind}' at {name}")

    def _joined(self, given: list[Tensor], result: Tensor) -> None:
        if len(given) > 1:
            self.join(given[0], given[1])
        self.set(result, torch.broadcast_to(given[0], result.shape))

    def _moved(
        self, module: str, kind: str, args: Any, kwargs: Any, function: Callable[..., Any], made: Sequence[Tensor]
    ) -> None:
        """The same movement, made with the labels."""
        move = torch.reshape if kind == "view" else function  # labels are expanded, which `view` refuses
        arguments = _with_labels(args, self)
        if kind in ("view", "reshape") and len(arguments) > 2:
            arguments = (arguments[0], arguments[1:])
        with torch._C.DisableTorchFunction():
            moved = tensors_in(move(*arguments, **_with_labels(kwargs, self)))
        for tensor, label in zip(made, moved):
            self.set(tensor, label)
        if kind in ("chunk", "split"):
            self._split(module, moved)

    def _split(self, module: str, parts: Sequence[Tensor]) -> None:
        if not all(_is_one_channel_each(part) for part in parts):
            return  # a split of something else, such as q, k and v inside each head
        channels = [self._channels_of_label(part) for part in parts]
        if len(channels) > 1 and len({len(part) for part in channels}) == 1:
            self.ties.append(channels)
        self.parts.setdefault(module, channels)

    def _reduced(self, label: Tensor, args: Any, kwargs: Any, result: Tensor) -> None:
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        dims = [dim] if isinstance(dim, int) else list(dim) if dim is not None else list(range(label.ndim))
        for item in dims:
            label = self.join_along(label, item)
        self.set(result, label.reshape(result.shape))

    def _matmul(self, given: list[Tensor], result: Tensor) -> None:
        left = self.join_along(given[0], -1)  # (..., M, 1): everything that is summed meets
        right = self.join_along(given[1], -2)  # (..., 1, N)
        self.join(left, right)
        self.set(result, torch.broadcast_to(left, result.shape))

    def _note(self, path: str, role: str, labels: Tensor, blocks: Sequence[int]) -> None:
        for index, label in enumerate(labels.tolist()):
            self.members.append((label, Member(path, role, index, blocks[index])))

    def _channels(self, tensor: Tensor) -> Tensor:
        label = self.of(tensor)
        assert label is not None, "a convolution reads a tensor that no followed operator made"
        return self._channels_of_label(label)

    def _channels_of_label(self, label: Tensor) -> Tensor:
        """(B, C, H, W) labels -> one for each channel; a channel must be the same everywhere in the picture."""
        assert _is_one_channel_each(label), "channels are mixed over positions"
        return label[0, :, 0, 0].clone()


def _is_one_channel_each(label: Tensor) -> bool:
    return label.ndim == 4 and bool((label == label[:1, :, :1, :1]).all())


def _with_labels(value: Any, labels: _Labels) -> Any:
    if isinstance(value, Tensor):
        label = labels.of(value)
        return value if label is None else label
    if isinstance(value, (tuple, list)):
        return type(value)(_with_labels(item, labels) for item in value)
    if isinstance(value, dict):
        return {key: _with_labels(item, labels) for key, item in value.items()}
    return value


def _grouped(labels: _Labels, conv_ties: Sequence[tuple[str, str]]) -> ChannelGroups:
    units: dict[int, list[Member]] = defaultdict(list)
    for label, member in labels.members:
        units[labels.root(label)].append(member)
    protection = labels.protection()
    protected = {
        member.path: protection[root]
        for root, members in units.items()
        if root in protection
        for member in members
        if member.role == "out"
    }
    group_of_root, groups = _groups_of_units({r: m for r, m in units.items() if r not in protection}, labels)
    bundles = _bundles(groups, group_of_root, _tied_roots(labels, conv_ties))
    splits = {
        path: tuple(tuple(_any_member(units, labels.root(int(label))) for label in part) for part in parts)
        for path, parts in labels.parts.items()
    }
    return ChannelGroups(bundles, protected, splits)


def _any_member(units: dict[int, list[Member]], root: int) -> Member | None:
    return units[root][0] if units.get(root) else None


def _groups_of_units(
    units: dict[int, list[Member]], labels: _Labels
) -> tuple[dict[int, int], list[tuple[list[int], ChannelGroup]]]:
    """Units with the same signature (places they touch, and parts of splits they are in) are interchangeable."""
    part_of: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for tie, parts in enumerate(labels.ties):
        for part, channels in enumerate(parts):
            for root in dict.fromkeys(labels.root(label) for label in channels.tolist()):
                part_of[root].append((tie, part))
    by_signature: dict[Any, list[int]] = defaultdict(list)
    for root, members in units.items():
        places: dict[tuple[str, str, int], int] = defaultdict(int)
        for member in members:
            places[member.path, member.role, member.block] += 1
        by_signature[tuple(sorted(places.items())), tuple(sorted(set(part_of[root])))].append(root)
    groups: list[tuple[list[int], ChannelGroup]] = []
    group_of_root: dict[int, int] = {}
    for signature, roots in by_signature.items():
        narrowest = min(count for _, count in signature[0])
        for root in roots:
            group_of_root[root] = len(groups)
        groups.append((roots, ChannelGroup(tuple(tuple(sorted(units[root])) for root in roots), narrowest)))
    return group_of_root, groups


def _tied_roots(labels: _Labels, conv_ties: Sequence[tuple[str, str]]) -> list[list[set[int]]]:
    """Ties as sets of roots: the parts of each must stay equally wide."""
    tied = [[{labels.root(label) for label in part.tolist()} for part in parts] for parts in labels.ties]
    for first, second in conv_ties:
        pair = labels.inputs_of[first], labels.inputs_of[second]
        tied.append([{labels.root(label) for label in channels.tolist()} for channels in pair])
    return tied


def _bundles(
    groups: list[tuple[list[int], ChannelGroup]], group_of_root: dict[int, int], ties: list[list[set[int]]]
) -> tuple[Bundle, ...]:
    """Groups joined by ties.  A tie with a protected part freezes all groups in it."""
    leader = list(range(len(groups)))

    def find(index: int) -> int:
        while leader[index] != index:
            index = leader[index]
        return index

    frozen = set()
    for parts in ties:
        touched = sorted({group_of_root[root] for part in parts for root in part if root in group_of_root})
        for index in touched[1:]:
            leader[find(index)] = find(touched[0])
        if touched and any(root not in group_of_root for part in parts for root in part):
            frozen.add(touched[0])
    together: dict[int, list[int]] = defaultdict(list)
    for index in range(len(groups)):
        together[find(index)].append(index)
    stuck = {find(index) for index in frozen}
    return tuple(
        Bundle(tuple(groups[index][1] for index in members), math.gcd(*(len(groups[index][0]) for index in members)))
        for lead, members in together.items()
        if lead not in stuck
    )
