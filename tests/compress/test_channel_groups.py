"""Channel groups on networks small enough to see the answer, and on every family."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.channels.channel_groups import ChannelGroups, Member, build_channel_groups
from helmlite.detector.detector import ChannelTie, TrainingMaps


class _Family:
    """Just enough of a family to trace a plain module."""

    def training_maps(self, network: nn.Module, images: Tensor) -> TrainingMaps:
        return TrainingMaps((network(images),), (), ())

    def channel_ties(self, network: nn.Module) -> Sequence[ChannelTie]:
        return ()


class _Worked(nn.Module):
    """The example in the module's docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 1)
        self.conv2 = nn.Conv2d(2, 2, 1)
        self.conv3 = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv1(x).chunk(2, 1)
        return self.conv3(torch.cat([a, b + self.conv2(b)], 1))


def _groups(network: nn.Module) -> ChannelGroups:
    return build_channel_groups(_Family(), network)  # type: ignore[arg-type]


def test_the_worked_example() -> None:
    groups = _groups(_Worked())
    units = {frozenset(unit) for bundle in groups.bundles for group in bundle.groups for unit in group.units}
    assert units == {
        frozenset({Member("conv1", "out", 0), Member("conv3", "in", 0)}),
        frozenset({Member("conv1", "out", 1), Member("conv3", "in", 1)}),
        frozenset(
            {Member("conv1", "out", 2), Member("conv2", "in", 0), Member("conv2", "out", 0), Member("conv3", "in", 2)}
        ),
        frozenset(
            {Member("conv1", "out", 3), Member("conv2", "in", 1), Member("conv2", "out", 1), Member("conv3", "in", 3)}
        ),
    }
    assert len(groups.bundles) == 1  # the halves of the chunk shrink together
    assert groups.bundles[0].steps == 2
    assert groups.protected == {"conv3": "output of the head"}


def test_depthwise_and_residual_share_one_unit() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)
            self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
            self.last = nn.Conv2d(4, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.last(y + self.depthwise(y))

    (bundle,) = _groups(Network()).bundles
    assert [set(unit) for unit in bundle.groups[0].units] == [
        {Member("first", "out", i), Member("depthwise", "out", i), Member("last", "in", i)} for i in range(4)
    ]


def test_attention_heads_go_as_a_whole() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Conv2d(3, 12, 1, stride=8)  # 2 heads of q, k, v with 2 channels each
            self.proj = nn.Conv2d(4, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            made = self.qkv(x)
            batch, _, height, width = made.shape
            q, k, v = made.view(batch, 2, 6, height * width).split([2, 2, 2], dim=2)
            attention = (q.transpose(-2, -1) @ k).softmax(-1)
            return self.proj((v @ attention.transpose(-2, -1)).view(batch, 4, height, width))

    (bundle,) = _groups(Attention()).bundles
    heads = [sorted({member.index for member in unit if member.path == "qkv"}) for unit in bundle.groups[0].units]
    assert heads == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert bundle.groups[0].width == 2


def test_blocks_of_a_grouped_convolution_shrink_together() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 1, groups=2), nn.Conv2d(8, 1, 1))
    bundles = _groups(network).bundles
    assert sorted((bundle.steps, len(bundle.groups)) for bundle in bundles) == [(2, 2), (4, 2)]


def test_an_unknown_operator_protects_its_channels() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x).cumsum(1))

    groups = _groups(Network())
    assert groups.bundles == ()
    assert "cumsum" in groups.protected["first"]


@pytest.mark.parametrize("size", [1, 3])
def test_one_channel_has_one_unit(size: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, size, 1), nn.Conv2d(size, 1, 1))
    (bundle,) = _groups(network).bundles
    assert len(bundle.groups[0].units) == size
