"""Putting a chain of plain convolutions in the place of one: which places there are, and what a chain costs there.

The chain is an `nn.Sequential` at the convolution's own path, so whatever reads it, and the BatchNorm behind it, stay.
Left alone, in the order in which a reason is looked for:

    kept           below a path that the user keeps
    depthwise or grouped
    thin           fewer than 16 channels on one side: the stem's 3 colours, the class maps of the head
    frozen         not trained, such as the ramp that decodes YOLO's distances
    unusual        padding by other than zeros, or stated as a word
    parallel       branches that are only added up (YOLOv9's RepConv): they merge into one convolution, which is a
                   larger gain than splitting each.  Fold and merge first to have the merged ones split
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helmlite.compress.edits.merge_parallel import parallel_paths
from helmlite.compress.edits.module_swap import put_module
from helmlite.compress.kernels.decompositions import Kernels
from helmlite.compress.layer_times import measured_once
from helmlite.compress.paths import is_below
from helmlite.compress.technique import Context
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Detector
from helmlite.detector.device import training_device
from helmlite.detector.families import family_of
from helmlite.detector.macs import shape_trace

Pair = tuple[int, int]
_THIN = 16
_BATCH = 8
_LEAST_RATIO = 0.25  # of variances: what a channel has lost beyond that is gone, and more gain would lift its errors


@dataclass(frozen=True)
class Link:
    """One convolution of a chain."""

    in_channels: int
    out_channels: int
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def weights(self) -> int:
        return self.out_channels * self.in_channels // self.groups * self.kernel[0] * self.kernel[1]

    def size_after(self, size: Pair) -> Pair:
        """Height and width of what it gives for an input of this height and width."""
        height, width = (
            (size[side] + 2 * self.padding[side] - self.dilation[side] * (self.kernel[side] - 1) - 1)
            // self.stride[side]
            + 1
            for side in (0, 1)
        )
        return height, width


@dataclass(frozen=True)
class DenseConv:
    """A convolution that a chain can replace.

    path:   where it is
    conv:   the layer itself, which nobody changes
    inputs: height and width of what it reads, for each of its calls in one forward pass
    """

    path: str
    conv: nn.Conv2d
    inputs: tuple[Pair, ...]

    @property
    def macs(self) -> int:
        return self.macs_of([link_like(self.conv)])

    @property
    def weights(self) -> int:
        return self.conv.weight.numel()

    def macs_of(self, links: Sequence[Link]) -> int:
        """Multiply-accumulates of a chain in its place."""
        total = 0
        for size in self.inputs:
            for link in links:
                size = link.size_after(size)
                total += size[0] * size[1] * link.weights
        return total


def link_like(conv: nn.Conv2d) -> Link:
    """A convolution as the only link of its chain."""
    return Link(
        conv.in_channels,
        conv.out_channels,
        pair(conv.kernel_size),
        pair(conv.stride),
        pair(conv.padding),
        pair(conv.dilation),
        conv.groups,
    )


def pair(values: object) -> Pair:
    """A convolution's setting as two plain numbers."""
    assert isinstance(values, tuple) and len(values) == 2
    return int(values[0]), int(values[1])


def dense_convs(
    detector: Detector, input_size: int, keep: Sequence[str] = ()
) -> tuple[dict[str, DenseConv], Counter[str]]:
    """The convolutions that a forward pass of the branch that ships runs and a chain can replace, in order.

    keep: paths; what is at or below them stays
    Gives them by path, and for the others why they are left and how many they are.
    """
    network = detector.network
    inputs: dict[str, tuple[Pair, ...]] = {}
    for op in shape_trace(network, input_size).ops:
        if op.kind == "conv2d":
            height, width = op.input_shapes[0][-2:]
            inputs[op.module] = (*inputs.get(op.module, ()), (height, width))
    parallel = parallel_paths(detector)
    found: dict[str, DenseConv] = {}
    left: Counter[str] = Counter()
    for path, sizes in inputs.items():
        conv = network.get_submodule(path)
        assert isinstance(conv, nn.Conv2d)
        reason = "kept" if is_below(path, keep) else _why_left(conv) or ("parallel" if path in parallel else "")
        if reason:
            left[reason] += 1
        else:
            found[path] = DenseConv(path, conv, sizes)
    return found, left


def put_chain(network: nn.Module, path: str, links: Sequence[Link]) -> None:
    """Replaces the convolution at `path`, in place; kernels are zero until `set_kernels`, the bias is the old one."""
    conv = network.get_submodule(path)
    assert isinstance(conv, nn.Conv2d)
    last = len(links) - 1
    convs = [_empty(link, conv, has_bias=index == last and conv.bias is not None) for index, link in enumerate(links)]
    put_module(network, path, nn.Sequential(*convs))


def set_kernels(network: nn.Module, path: str, kernels: Kernels) -> None:
    """Gives the chain at `path` its kernels, in place."""
    for index, kernel in enumerate(kernels):
        conv = network.get_submodule(f"{path}.{index}")
        assert isinstance(conv, nn.Conv2d)
        assert conv.weight.shape == kernel.shape, (path, index, conv.weight.shape, kernel.shape)
        with torch.no_grad():
            conv.weight.copy_(kernel)


def correct_statistics(before: Detector, after: Detector, images: int, context: Context) -> None:
    """Moves the BatchNorm statistics of `after` by what splitting has changed, in place.

    Both detectors' statistics are measured on the same training pictures; the means move by the difference, the
    variances by the ratio.  Replacing them by what was measured would also replace what training (with its
    augmentation) has left there: on the demo detector at 192 pixels that alone moves the maps by more than the split.
    A split without error so changes nothing.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in after.network.modules()):
        return
    first, second = _statistics(before, images, context), _statistics(after, images, context)
    for path, module in after.network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and path in first and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean += second[path][0] - first[path][0]
            ratio = (second[path][1] + module.eps) / (first[path][1] + module.eps)
            module.running_var *= ratio.clamp(min=_LEAST_RATIO)


def _statistics(detector: Detector, images: int, context: Context) -> dict[str, tuple[Tensor, Tensor]]:
    """BatchNorm path -> mean and variance on so many training pictures."""
    network = detector.copy().network.to(training_device(context.device)).to(memory_format=torch.channels_last)
    batches = plain_batches(context.data, context.input_size, images, _BATCH, context.seed)
    reestimate_batchnorm(family_of(detector), network, batches)
    return {
        path: (module.running_mean.cpu(), module.running_var.cpu())
        for path, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None
    }


def slower_chains(before: Detector, after: Detector, lengths: Mapping[str, int], context: Context) -> set[str]:
    """The paths at which the chain of `after` takes as long as the convolution of `before` or longer, as measured.

    lengths: path -> links of its chain.  Empty where there is no clock.
    """
    if context.layer_clock is None:
        return set()
    whole, split = measured_once(context.layer_clock, (before, after), context.input_size, context.workspace)
    return {
        path
        for path, length in lengths.items()
        if sum(split.convolutions[f"{path}.{index}"] for index in range(length)) >= whole.convolutions[path]
    }


def told(left: Mapping[str, int]) -> str:
    """Why layers were left, in one line: "12 depthwise or grouped, 3 thin"."""
    counts = sorted(left.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {reason}" for reason, count in counts if count) or "none"


def _why_left(conv: nn.Conv2d) -> str:
    if conv.groups > 1:
        return "depthwise or grouped"
    if min(conv.in_channels, conv.out_channels) < _THIN:
        return "thin"
    if not conv.weight.requires_grad:
        return "frozen"
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return "unusual"
    return ""


def _empty(link: Link, conv: nn.Conv2d, has_bias: bool) -> nn.Conv2d:
    made = nn.Conv2d(
        link.in_channels,
        link.out_channels,
        link.kernel,
        link.stride,
        link.padding,
        link.dilation,
        link.groups,
        bias=has_bias,
        device="meta",
    )
    made.weight = nn.Parameter(torch.zeros(made.weight.shape, dtype=conv.weight.dtype, device=conv.weight.device))
    if has_bias:
        assert conv.bias is not None
        made.bias = nn.Parameter(conv.bias.detach().clone())
    return made
