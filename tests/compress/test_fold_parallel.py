"""Merging parallel convolutions: a sum of two kernels by hand, and the families that train with such branches."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import (
    MergeParallelConvs,
    ParallelConvs,
    merge_parallel_convs,
    parallel_blocks,
)
from helmlite.data.roles import with_roles
from helmlite.detector.families import family_of
from helmlite.detector.tiny import new_tiny
from helmlite.detector.trace import trace

_CLASSES = with_roles(["helmet", "no_helmet"])


class _Block(nn.Module):
    """A 3x3 and a 1x1 convolution of one value, added; `extra` is added on top."""

    def __init__(self, extra: float = 0.0, padding: int = 1) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=padding)
        self.act = nn.ReLU()
        self._extra = extra

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = self.large(x)
        return self.act(self.small(x)[..., : large.shape[2], : large.shape[3]] + large + self._extra)


class _Plain(nn.Module):
    def __init__(self, extra: float = 0.0) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)
        self.act = nn.ReLU()
        self._extra = extra

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.small(x) + self.large(x) + self._extra)


class _Network(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.block(images),)


def test_kernels_are_added_at_their_centre() -> None:
    network = _Network(_Plain()).eval()
    block = network.block
    with torch.no_grad():
        block.small.weight.fill_(10.0)
        block.small.bias.fill_(1.0)
        block.large.weight.fill_(1.0)
        block.large.bias.fill_(2.0)
    blocks = parallel_blocks(network, trace(network, 32))
    assert blocks == (ParallelConvs("block", ("block.large", "block.small"), "block.act"),)
    images = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        expected = network(images)[0]
        MergeParallelConvs(blocks).redo(network)
        assert torch.allclose(network(images)[0], expected, rtol=1e-5)
    assert network.block.conv.weight[0, 0].tolist() == [[1, 1, 1], [1, 11, 1], [1, 1, 1]]
    assert network.block.conv.bias.tolist() == [3, 3, 3]


@pytest.mark.parametrize("block", [_Plain(extra=1.0), _Block(padding=0)], ids=["added number", "other centre"])
def test_what_is_not_only_a_sum_is_left_alone(block: nn.Module) -> None:
    network = _Network(block).eval()
    assert parallel_blocks(network, trace(network, 32)) == ()


def test_a_detector_without_such_blocks_is_given_back() -> None:
    detector = fold_batchnorm(new_tiny(_CLASSES, 64))
    assert merge_parallel_convs(detector) is detector


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("yolov9t", 42), ("yolov10n", 1)])
def test_families_with_parallel_branches(name: str, count: int) -> None:
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    detector = fold_batchnorm(new_ultralytics(name, _CLASSES))
    merged = merge_parallel_convs(detector)
    edit = merged.edits[-1]
    assert isinstance(edit, MergeParallelConvs)
    assert len(edit.blocks) == count
    assert MergeParallelConvs.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    images = torch.rand(1, 3, 64, 64)
    rebuilt = family_of(detector).build(detector.architecture)
    for step in merged.edits:
        step.redo(rebuilt)
    rebuilt.load_state_dict(merged.network.state_dict())
    with torch.no_grad():
        expected, got, again = detector.network(images), merged.network(images), rebuilt.eval()(images)
    for a, b, c in zip(expected, got, again):
        assert float((a - b).abs().max()) <= 1e-4 * float(a.abs().max())
        assert torch.equal(b, c)
