"""`tiny`: our own small anchor-free detector (about half a million parameters), and the family around it.

    stem  ->  stage 4  ->  stage 8  ->  stage 16  ->  stage 32, pooled     backbone; a number is a stride
                              |             |             |
                              +--- top down: upsample, concat, block       neck (FPN, Lin 2017, arXiv 1612.03144)
                              +--- bottom up: stride, concat, block        (PAN, Liu 2018, arXiv 1803.01534)
                              |             |             |
                           head 8        head 16       head 32             four distances and class logits a cell

Its parts are those that compression must cope with: split and concat inside blocks, residual sums, depthwise
convolutions, pooling, upsampling and concat across scales, a decoupled head.  The forward code reads every size
from the tensors (`chunk(2, 1)`), so a pruned network needs no number changed beside its layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from helmlite.data.roles import Class
from helmlite.detector.detector import Architecture, ChannelTie, Detector, TaskLoss, TrainingMaps
from helmlite.detector.tiny_loss import TinyLoss
from helmlite.runtime.decode import HeadLayout

STRIDES = (8, 16, 32)
_LIBRARY = "helmlite tiny 1"
_FIRST_SCORE = 0.01  # what an untrained head answers everywhere, so that the first steps do not drown in false alarms
_FIRST_DISTANCE = 1.5  # and its box sides' distance, in strides


class TinyFamily:
    """What this family knows about itself (see `detector.Family`)."""

    def build(self, architecture: Architecture) -> nn.Module:
        """A fresh network from the architecture's description.  Raises ValueError where that is not one of ours."""
        return TinyNetwork(_shape_of(architecture.description), len(architecture.classes))

    def task_loss(self, architecture: Architecture, network: nn.Module, epochs: int) -> TaskLoss:
        """Task-aligned assignment, complete IoU and cross-entropy; the same in every epoch."""
        return TinyLoss(architecture.layout.strides)

    def training_maps(self, network: nn.Module, images: Tensor) -> TrainingMaps:
        """The raw maps and the neck's outputs from one forward pass."""
        kept: list[tuple[Tensor, ...]] = []
        handle = network.get_submodule("neck").register_forward_hook(lambda module, given, made: kept.append(made))
        try:
            maps = network(images)
        finally:
            handle.remove()
        return TrainingMaps(tuple(maps), (), kept[0])

    def channel_ties(self, network: nn.Module) -> Sequence[ChannelTie]:
        """None: tensor operations say everything."""
        return ()

    def attributes_after(
        self, network: nn.Module, widths: Mapping[str, int], splits: Mapping[str, tuple[int, ...]]
    ) -> dict[tuple[str, str], int | list[int]]:
        """Nothing: no size is kept outside the layers."""
        return {}


def new_tiny(classes: Sequence[Class], input_size: int = 320, width: float = 1.0, seed: int = 0) -> Detector:
    """An untrained `tiny` detector.

    classes: at least one; input_size: a multiple of 32 pixels; width: factor on all channel counts (kept at
    multiples of 8); seed: of the random weights, which leave the global random state as it was.
    """
    if not classes:
        raise ValueError("A detector needs at least one class; got none.")
    if input_size < STRIDES[-1] or input_size % STRIDES[-1]:
        raise ValueError(f"tiny needs an input size that is a multiple of {STRIDES[-1]} pixels; got {input_size}.")
    if not width > 0:
        raise ValueError(f"tiny needs a width above 0; got {width}.")
    architecture = Architecture(
        family="tiny",
        description=_description(width),
        classes=tuple(classes),
        layout=HeadLayout(STRIDES, reg_max=1, class_count=len(classes)),
        input_size=input_size,
        library=_LIBRARY,
        notes={"licence": "Apache-2.0"},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TinyFamily().build(architecture)
    return Detector(architecture, network.eval())


@dataclass(frozen=True)
class Stage:
    """One level of the backbone: halves the picture, then mixes.  `blocks` residual blocks; depthwise or full."""

    channels: int
    blocks: int
    depthwise: bool


@dataclass(frozen=True)
class TinyShape:
    """Everything that the layers are built from.  stages: of strides 4, 8, 16 and 32; head: channels of its branches"""

    stem: int
    stages: tuple[Stage, Stage, Stage, Stage]
    neck: tuple[int, int, int]
    head: int


class ConvUnit(nn.Module):
    """Convolution, BatchNorm, SiLU.  (B, in, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class SeparableUnit(nn.Module):
    """A depthwise and a pointwise convolution in the place of a full one: a ninth of its cost."""

    def __init__(self, channels: int, out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvUnit(channels, channels, kernel, stride, groups=channels)
        self.pointwise = ConvUnit(channels, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, channels: int, depthwise: bool) -> None:
        super().__init__()
        unit = SeparableUnit if depthwise else ConvUnit
        self.first = unit(channels, channels, 3)
        self.second = unit(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class SplitBlock(nn.Module):
    """Half of the channels goes through residual blocks, one after the other; all that arises is joined."""

    def __init__(self, channels: int, out: int, blocks: int, depthwise: bool) -> None:
        super().__init__()
        half = out // 2
        self.enter = ConvUnit(channels, 2 * half)
        self.blocks = nn.ModuleList(ResidualBlock(half, depthwise) for _ in range(blocks))
        self.leave = ConvUnit((2 + blocks) * half, out)

    def forward(self, x: Tensor) -> Tensor:
        passed, worked = self.enter(x).chunk(2, 1)
        parts = [passed, worked]
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class PooledContext(nn.Module):
    """Each cell sees its surroundings 5, 9 and 13 cells wide: one pooling used three times in a row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = ConvUnit(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.leave = ConvUnit(channels // 2 * 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class Backbone(nn.Module):
    """Pictures -> features of strides 8, 16 and 32."""

    def __init__(self, shape: TinyShape) -> None:
        super().__init__()
        self.stem = ConvUnit(3, shape.stem, 3, 2)
        down, mix, channels = [], [], shape.stem
        for stage in shape.stages:
            down.append((SeparableUnit if stage.depthwise else ConvUnit)(channels, stage.channels, 3, 2))
            mix.append(SplitBlock(stage.channels, stage.channels, stage.blocks, stage.depthwise))
            channels = stage.channels
        self.down, self.mix = nn.ModuleList(down), nn.ModuleList(mix)
        self.context = PooledContext(channels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(images)
        features = []
        for down, mix in zip(self.down, self.mix):
            x = mix(down(x))
            features.append(x)
        return features[1], features[2], self.context(x)


class Neck(nn.Module):
    """Carries what coarse scales know to the fine ones, and back.  Three maps -> those of `scales`, of the same sizes.

    scales: 0 is the finest; all three, until one is dropped
    """

    def __init__(self, given: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.scales: tuple[int, ...] = (0, 1, 2)
        fine, middle, coarse = channels
        self.down_middle = SplitBlock(given[2] + given[1], middle, 1, depthwise=True)
        self.down_fine = SplitBlock(middle + given[0], fine, 1, depthwise=False)
        self.stride_fine = SeparableUnit(fine, fine, 3, 2)
        self.up_middle = SplitBlock(fine + middle, middle, 1, depthwise=True)
        self.stride_middle = SeparableUnit(middle, middle, 3, 2)
        self.up_coarse = SplitBlock(middle + given[2], coarse, 1, depthwise=True)

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        fine, middle, coarse = features
        middle = self.down_middle(torch.cat([_doubled(coarse), middle], 1))
        fine = self.down_fine(torch.cat([_doubled(middle), fine], 1))
        if self.scales[-1] >= 1:
            middle = self.up_middle(torch.cat([self.stride_fine(fine), middle], 1))
        if self.scales[-1] >= 2:
            coarse = self.up_coarse(torch.cat([self.stride_middle(middle), coarse], 1))
        made = fine, middle, coarse
        return tuple(made[scale] for scale in self.scales)

    def drop_scale(self, position: int) -> None:
        """Gives one of the maps no more, in place; layers that nothing reads become an identity."""
        self.scales = tuple(scale for place, scale in enumerate(self.scales) if place != position)
        unread = [] if self.scales[-1] >= 2 else ["stride_middle", "up_coarse"]
        unread += [] if self.scales[-1] >= 1 else ["stride_fine", "up_middle"]
        for name in unread:
            setattr(self, name, nn.Identity())


class Head(nn.Module):
    """One scale's answers: (B, in, h, w) -> distances (B, 4, h, w) in strides, class logits (B, C, h, w)."""

    def __init__(self, channels: int, hidden: int, class_count: int) -> None:
        super().__init__()
        self.box = nn.Sequential(SeparableUnit(channels, hidden), SeparableUnit(hidden, hidden))
        self.score = nn.Sequential(SeparableUnit(channels, hidden), SeparableUnit(hidden, hidden))
        self.distances = nn.Conv2d(hidden, 4, 1)
        self.logits = nn.Conv2d(hidden, class_count, 1)
        nn.init.constant_(self.distances.bias, _FIRST_DISTANCE)  # type: ignore[arg-type]
        nn.init.constant_(self.logits.bias, -math.log(1 / _FIRST_SCORE - 1))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.distances(self.box(x)), self.logits(self.score(x))


class TinyNetwork(nn.Module):
    """Images (B, 3, H, W) RGB in [0, 1] -> (distances_8, logits_8, distances_16, logits_16, ..32, ..32)."""

    def __init__(self, shape: TinyShape, class_count: int) -> None:
        super().__init__()
        self.backbone = Backbone(shape)
        self.neck = Neck([stage.channels for stage in shape.stages[1:]], shape.neck)
        self.heads = nn.ModuleList(Head(channels, shape.head, class_count) for channels in shape.neck)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.neck(self.backbone(images))
        return tuple(item for head, feature in zip(self.heads, features) for item in head(feature))

    def drop_scale(self, position: int) -> None:
        """Leaves out one of the scales, in place, and every layer that nothing reads any more."""
        self.neck.drop_scale(position)
        del self.heads[position]


def _doubled(x: Tensor) -> Tensor:
    """Twice as high and wide: each cell becomes four."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _description(width: float) -> dict[str, Any]:
    """The layers of `tiny` as plain JSON data.  Channel counts are multiples of 8 and at least 8."""

    def wide(channels: int) -> int:
        return max(round(channels * width / 8), 1) * 8

    stages = [(32, 1, False), (64, 2, False), (96, 1, False), (128, 1, True)]
    return {
        "stem": wide(16),
        "stages": [
            {"channels": wide(channels), "blocks": blocks, "depthwise": depthwise}
            for channels, blocks, depthwise in stages
        ],
        "neck": [wide(64), wide(96), wide(128)],
        "head": wide(64),
    }


def _shape_of(description: Mapping[str, Any]) -> TinyShape:
    """The description as checked numbers."""
    try:
        stages = tuple(Stage(**stage) for stage in description["stages"])
        shape = TinyShape(int(description["stem"]), stages, tuple(description["neck"]), int(description["head"]))  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"This is not a description of a tiny detector ({error!r}).") from error
    if len(shape.stages) != 4 or len(shape.neck) != 3:
        raise ValueError(f"tiny has 4 stages and 3 scales; got {len(shape.stages)} and {len(shape.neck)}.")
    return shape
