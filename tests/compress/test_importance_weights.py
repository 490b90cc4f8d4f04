"""Importance from the weights, by hand on three channels, and on whole detectors without a single picture."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from helmlite.compress.channels.channel_groups import Bundle, ChannelGroup, ChannelGroups, Member, build_channel_groups
from helmlite.compress.channels.importance import IMPORTANCES, random_scores, scores_named
from helmlite.compress.channels.importance_weights import FROM_WEIGHTS, lamp_scores
from helmlite.compress.prune import prune_by_scores
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.families import family_of
from helmlite.detector.macs import count_macs
from helmlite.detector.tiny import new_tiny

_CLASSES = with_roles(["helmet", "no_helmet"])


class _Three(nn.Module):
    """Three channels: 1x1 filters on two inputs, BatchNorm, and one 1x1 filter that reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Conv2d(2, 3, 1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.read = nn.Conv2d(3, 1, 1, bias=False)
        self.make.weight.data = torch.tensor([[3.0, 4.0], [0.0, -1.0], [0.0, 0.0]]).view(3, 2, 1, 1)
        self.norm.weight.data = torch.tensor([2.0, -1.0, 0.5])
        self.norm.bias.data = torch.tensor([7.0, 7.0, 7.0])  # shifts do not count
        self.read.weight.data = torch.tensor([[2.0, 1.0, -1.0]]).view(1, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.read(self.norm(self.make(images)))
        return found


def _three() -> tuple[Detector, ChannelGroups, ChannelGroup]:
    units = tuple(
        (Member("make", "out", index), Member("norm", "norm", index), Member("read", "in", index)) for index in range(3)
    )
    group = ChannelGroup(units, 1)
    detector = Detector(new_tiny(_CLASSES, 64).architecture, _Three())
    return detector, ChannelGroups((Bundle((group,), 3),), {}, {}), group


def _mean_one(values: list[float]) -> NDArray[np.float64]:
    return np.array(values) / np.mean(values)


@pytest.mark.parametrize(
    ("importance", "expected"),
    [
        ("l1_filter", _mean_one([7, 1, 0])),
        ("l2_filter", _mean_one([5, 1, 0])),
        ("l1", _mean_one([7 + 2 + 2, 1 + 1 + 1, 0.5 + 1])),
        ("l2", _mean_one([math.sqrt(25 + 4 + 4), math.sqrt(1 + 1 + 1), math.sqrt(0.25 + 1)])),
        ("bn_scale", np.array([2, 1, 0.5])),
        # filters (3, 4), (0, -1), (0, 0): distances sqrt(34), 5 and 1; the last is nearest to the others
        ("fpgm", _mean_one([math.sqrt(34) + 5, math.sqrt(34) + 1, 6])),
        ("lamp", np.array([1, 3 / (3 + 33), 1.25 / (1.25 + 3 + 33)])),
    ],
)
def test_three_channels_by_hand(importance: str, expected: NDArray[np.float64]) -> None:
    detector, groups, group = _three()
    scores = scores_named(importance, detector, groups)
    assert list(scores) == [group]
    assert scores[group] == pytest.approx(expected, abs=1e-7)


def test_lamp_by_hand() -> None:
    """Lee 2021, eq. 3: each over itself and all that are not smaller; of equals the first in order comes before."""
    assert lamp_scores(np.array([4.0, 1.0, 3.0])) == pytest.approx([1, 1 / 8, 3 / 7])
    assert lamp_scores(np.array([2.0, 2.0])) == pytest.approx([0.5, 1.0])
    assert lamp_scores(np.array([0.0, 0.0])) == pytest.approx([0.0, 0.0])


def _no_picture_may_be_read() -> Iterator[Batch]:
    raise AssertionError("a picture was read")
    yield


@pytest.mark.parametrize("name", ["tiny", "yolo11n"])
@pytest.mark.parametrize("importance", [*FROM_WEIGHTS, "random"])
def test_no_picture_is_read_and_every_unit_is_scored(name: str, importance: str) -> None:
    detector, groups = _detector_and_groups(name)
    scores = scores_named(importance, detector, groups, _no_picture_may_be_read())
    all_groups = [group for bundle in groups.bundles for group in bundle.groups]
    assert list(scores) == all_groups
    assert all(scores[group].shape == (len(group.units),) for group in all_groups)
    assert all(np.isfinite(scores[group]).all() and (scores[group] >= 0).all() for group in all_groups)
    if importance == "lamp":
        assert all(scores[group].max() == pytest.approx(1.0) for group in all_groups)


@pytest.mark.parametrize("name", ["tiny", *(pytest.param(f"yolo{v}", marks=pytest.mark.matrix) for v in (
    "v5n", "v8n", "v9t", "v10n", "11n", "12n", "26n",
))])  # fmt: skip
def test_given_scores_prune_to_the_ratio(name: str) -> None:
    detector, groups = _detector_and_groups(name)
    for importance in ("fpgm", "lamp", "random"):
        lighter = prune_by_scores(detector, groups, scores_named(importance, detector, groups), 0.5, 64)
        assert 0.35 < count_macs(lighter.network, 64) / count_macs(detector.network, 64) <= 0.5


def test_random_is_the_same_for_the_same_seed() -> None:
    _, groups, group = _three()
    assert np.array_equal(random_scores(groups, 1)[group], random_scores(groups, 1)[group])
    assert not np.array_equal(random_scores(groups, 1)[group], random_scores(groups, 2)[group])


def test_what_is_wrong_is_said() -> None:
    detector, groups, group = _three()
    with pytest.raises(ValueError, match=f"unknown importance 'luck'; known are {', '.join(IMPORTANCES)}"):
        scores_named("luck", detector, groups)
    bare = ChannelGroup(tuple((unit[0], unit[2]) for unit in group.units), 1)
    with pytest.raises(ValueError, match="'bn_scale' needs a BatchNorm behind 'make'; choose 'l2'"):
        scores_named("bn_scale", detector, ChannelGroups((Bundle((bare,), 3),), {}, {}))


def _detector_and_groups(name: str) -> tuple[Detector, ChannelGroups]:
    if name == "tiny":
        detector = new_tiny(_CLASSES, 64)
    else:
        pytest.importorskip("ultralytics")
        from helmlite.detector.ultralytics import new_ultralytics

        detector = new_ultralytics(name, _CLASSES)
    return detector, build_channel_groups(family_of(detector), detector.network)
