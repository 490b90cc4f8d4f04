"""How much of each bundle stays: uniform shares and one threshold by hand, and what the user protects."""

from __future__ import annotations

import numpy as np
import pytest

from helmlite.compress.channels.channel_groups import Bundle, ChannelGroup, ChannelGroups, Member, build_channel_groups
from helmlite.compress.channels.importance import group_l2
from helmlite.compress.channels.ledger import Ledger, macs_ledger
from helmlite.compress.channels.ranking import (
    allowed_steps,
    global_steps,
    kept_units,
    smallest_steps,
    threshold_steps,
    uniform_steps,
)
from helmlite.compress.prune import floors_with_kept
from helmlite.data.roles import with_roles
from helmlite.detector.families import family_of
from helmlite.detector.macs import ConvCost
from helmlite.detector.tiny import new_tiny

_CLASSES = with_roles(["helmet", "no_helmet"])


def _two_layers() -> tuple[ChannelGroups, Ledger]:
    """conv0 (1 -> 16), conv1 (16 -> 64), conv2 (64 -> 1) on one position: 16 + 1024 + 64 = 1104."""
    bundles = (_between("conv0", "conv1", 16), _between("conv1", "conv2", 64))
    costs = (ConvCost("conv0", 1, 1, 1, 16, 1), ConvCost("conv1", 1, 1, 16, 64, 1), ConvCost("conv2", 1, 1, 64, 1, 1))
    return ChannelGroups(bundles, {}, {}), Ledger(costs, 0.0, {cost.path: 1.0 for cost in costs}, "MACs")


def _between(first: str, second: str, channels: int) -> Bundle:
    units = tuple((Member(first, "out", channel), Member(second, "in", channel)) for channel in range(channels))
    return Bundle((ChannelGroup(units, 1),), channels)


def test_uniform_keeps_the_same_share_of_everything_as_near_as_multiples_allow() -> None:
    """Half of each is 8 and 32: 8 + 256 + 32 = 296.  With 40 of the 64 (0.625: 16 rounds to 8 below 0.75) it is 368."""
    groups, ledger = _two_layers()
    levels = allowed_steps(groups, 8, [1, 1])
    assert levels == [(8, 16), (8, 16, 24, 32, 40, 48, 56, 64)]
    assert uniform_steps(groups, ledger, levels, [16, 64], 0.27 * 1104) == (8, 32)
    assert uniform_steps(groups, ledger, levels, [16, 64], 0.34 * 1104) == (8, 40)
    assert uniform_steps(groups, ledger, levels, [16, 64], 1104) == (16, 64)
    with pytest.raises(ValueError, match="5% of the MACs cannot be reached in this round: 7% remain"):
        uniform_steps(groups, ledger, levels, [16, 64], 0.05 * 1104)


def test_one_threshold_for_all_by_hand() -> None:
    """Of 16 units with 0 .. 15 and 64 with 8 .. 71 those above 23 stay: none (8 at least) and 48; above 31: 40."""
    groups, ledger = _two_layers()
    first, second = (bundle.groups[0] for bundle in groups.bundles)
    scores = {first: np.arange(16.0), second: 8.0 + np.arange(64.0)}
    levels = [(8, 16), tuple(range(8, 65, 8))]
    assert threshold_steps(groups, scores, ledger, levels, 8 + 8 * 48 + 48) == (8, 48)
    assert threshold_steps(groups, scores, ledger, levels, 8 + 8 * 48 + 47) == (8, 40)
    assert threshold_steps(groups, scores, ledger, levels, 10_000) == (16, 64)
    alike = {first: np.full(16, 0.5), second: np.full(64, 0.5)}  # nothing to tell them apart by
    assert threshold_steps(groups, alike, ledger, levels, 500) == (8, 8)
    with pytest.raises(ValueError, match=r"7% of the MACs cannot be reached in this round: 7% remain"):
        threshold_steps(groups, scores, ledger, levels, 79)


def test_units_that_are_only_compared_do_not_go_where_they_cost_most() -> None:
    """By price all of a costly layer goes first, whatever its units are; one threshold takes the worst of each."""
    groups, ledger = _two_layers()
    first, second = (bundle.groups[0] for bundle in groups.bundles)
    random = np.random.default_rng(0)
    scores = {group: random.permutation(len(group.units)) / len(group.units) * 2 for group in (first, second)}
    levels = [tuple(range(1, 17)), tuple(range(1, 65))]
    target = 0.5 * ledger.left
    steps = threshold_steps(groups, scores, ledger, levels, target)
    shares = [kept / of for kept, of in zip(steps, (16, 64))]
    assert abs(shares[0] - shares[1]) < 0.1  # both groups have the same spread
    by_price = global_steps(groups, scores, _two_layers()[1], levels, target)
    assert abs(by_price[0] / 16 - by_price[1] / 64) > 0.2


def test_uniform_goes_by_the_first_width_in_later_rounds() -> None:
    """32 of 64 are left and 16 of 16: a common share of 0.5 is 8 and 32, not half of what is left."""
    groups, ledger = _two_layers()
    levels = [(8, 16), (8, 16, 24, 32)]
    assert uniform_steps(groups, ledger, levels, [16, 64], 0.27 * 1104) == (8, 32)


def test_uniform_differs_from_global_on_a_detector() -> None:
    detector = new_tiny(_CLASSES, 64)
    groups = build_channel_groups(family_of(detector), detector.network)
    levels = allowed_steps(groups, 4, smallest_steps(groups, 0.1))
    whole = [bundle.steps for bundle in groups.bundles]
    ledger = macs_ledger(detector, 64)
    target = ledger.left / 2
    uniform = uniform_steps(groups, ledger, levels, whole, target)
    shares = [kept / steps for kept, steps in zip(uniform, whole)]
    assert max(shares) - min(shares) <= 0.25  # a step of 4 in 16
    overall = global_steps(groups, group_l2(detector, groups), ledger, levels, target)
    assert max(kept / steps for kept, steps in zip(overall, whole)) == 1.0


def test_the_units_that_matter_most_are_kept() -> None:
    groups, _ = _two_layers()
    first, second = (bundle.groups[0] for bundle in groups.bundles)
    detector_scores = {first: -((2.0 - np.arange(16.0)) ** 2), second: np.arange(64.0)}
    choice = kept_units(groups, detector_scores, (3, 2))
    assert choice == {first: (1, 2, 3), second: (62, 63)}


def test_what_the_user_keeps_stays_whole() -> None:
    detector = new_tiny(_CLASSES, 64)
    groups = build_channel_groups(family_of(detector), detector.network)
    keep = ("backbone.stem", "backbone.mix.1.blocks.0.first.conv")
    floors = floors_with_kept(groups, detector, 0.1, keep)
    scores = group_l2(detector, groups)
    ledger = macs_ledger(detector, 64)
    levels = allowed_steps(groups, 8, floors)
    steps = global_steps(groups, scores, ledger, levels, 0.3 * ledger.left)
    by_name = {bundle.groups[0].name: kept == bundle.steps for bundle, kept in zip(groups.bundles, steps, strict=True)}
    assert by_name["backbone.stem.conv"]
    assert by_name["backbone.mix.1.blocks.0.first.conv"]
    assert not by_name["backbone.down.0.conv"]
    with pytest.raises(ValueError, match=r"keep names 'backbone\.steam', which the detector does not have"):
        floors_with_kept(groups, detector, 0.1, ("backbone.steam",))
