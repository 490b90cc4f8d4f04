"""Pruning: the choice by hand, and exact equivalence on every family."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.channels.channel_groups import ChannelGroups, Member, build_channel_groups
from helmlite.compress.channels.importance import group_l2
from helmlite.compress.channels.ledger import macs_ledger
from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.edits.keep_channels import KeepChannels, KeptConv
from helmlite.compress.prune import Choice, Prune, choose_units, cut, prune_by_scores, smallest_steps
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.detector.macs import count_macs
from helpers import halved

_CLASSES = with_roles(["helmet", "no_helmet"])
_ULTRALYTICS = ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n")
_MORE_GROUPS = tuple(pytest.param(name, marks=pytest.mark.matrix) for name in _ULTRALYTICS)
_OTHER_SIZES = ("yolov9e", "yolo12x", "yolov10b", "yolo26m")


def _lively(detector: Detector) -> Detector:
    """Random BatchNorm statistics and biases, so that outputs are not constant."""
    generator = torch.Generator().manual_seed(1)
    for module in detector.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5)):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return detector


def _detector(name: str) -> Detector:
    if name == "tiny":
        from helmlite.detector.tiny import new_tiny

        return _lively(new_tiny(_CLASSES))
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    return _lively(new_ultralytics(name, _CLASSES))


def _removed(groups: ChannelGroups, choice: Choice) -> list[Member]:
    return [
        member
        for bundle in groups.bundles
        for group in bundle.groups
        for index in set(range(len(group.units))) - set(choice[group])
        for member in group.units[index]
    ]


def _all_maps(detector: Detector, network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        maps = family_of(detector).training_maps(network.eval(), images)
    return (*maps.maps, *maps.extra)


def _silenced(detector: Detector, members: list[Member]) -> nn.Module:
    """The original with these channels set to zero wherever a convolution reads them."""
    network = detector.copy().network
    dead: dict[str, list[int]] = {}
    for member in members:
        if member.role == "in":
            dead.setdefault(member.path, []).append(member.index)
    for path, channels in dead.items():

        def hook(module: nn.Module, arguments: tuple[Tensor], channels: list[int] = channels) -> tuple[Tensor]:
            quiet = arguments[0].clone()
            quiet[:, channels] = 0
            return (quiet,)

        network.get_submodule(path).register_forward_pre_hook(hook)
    return network


@pytest.mark.parametrize(
    "name",
    ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in _ULTRALYTICS)]
    + [pytest.param(name, marks=pytest.mark.matrix) for name in _OTHER_SIZES],
)
def test_removing_channels_equals_silencing_them(name: str, tmp_path: Path) -> None:
    detector = _detector(name)
    untouched = {key: value.clone() for key, value in detector.network.state_dict().items()}
    images = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))

    groups, choice, pruned = halved(detector, 128)

    assert all(torch.equal(untouched[key], value) for key, value in detector.network.state_dict().items())
    ratio = count_macs(pruned.network, 128) / count_macs(detector.network, 128)
    assert 0.35 < ratio <= 0.5
    expected = _all_maps(detector, _silenced(detector, _removed(groups, choice)), images)
    found = _all_maps(detector, pruned.network, images)
    assert all(a.shape == b.shape for a, b in zip(found, expected))
    assert max(float(item.std()) for item in expected) > 1e-3  # not constant
    assert all(float((a - b).abs().max() / b.abs().max()) < 1e-5 for a, b in zip(found, expected))

    save_checkpoint(pruned, tmp_path / "checkpoint", {"seed": 0})
    again = load_checkpoint(tmp_path / "checkpoint")
    assert all(torch.equal(a, b) for a, b in zip(_all_maps(again, again.network, images), found))
    assert again.edits == pruned.edits


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", *_MORE_GROUPS])
def test_every_group_alone(name: str) -> None:
    """Half of one bundle goes at a time: an error in any group shows, and is not hidden by others."""
    detector = _detector(name)
    groups = build_channel_groups(family_of(detector), detector.network)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for bundle in groups.bundles:
        choice = {
            group: tuple(range(len(group.units) * max(bundle.steps // 2, 1) // bundle.steps)) for group in bundle.groups
        }
        members = [
            member
            for group in bundle.groups
            for index in set(range(len(group.units))) - set(choice[group])
            for member in group.units[index]
        ]
        found = _all_maps(detector, cut(detector, groups, choice).network, images)
        expected = _all_maps(detector, _silenced(detector, members), images)
        assert all(
            torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max())) for a, b in zip(found, expected)
        ), bundle.groups[0].name


def test_channel_counts_stay_multiples() -> None:
    _, _, pruned = halved(_detector("tiny"), 128)
    edit = pruned.edits[0]
    assert isinstance(edit, KeepChannels)
    assert edit.convs
    assert all(len(kept.outputs) % 8 == 0 for path, kept in edit.convs.items() if len(kept.outputs) > 8)


@pytest.mark.parametrize("multiple", [4, 16])
def test_channel_counts_are_what_the_target_likes(multiple: int) -> None:
    detector = _detector("yolov8n")
    groups = build_channel_groups(family_of(detector), detector.network)
    ledger = macs_ledger(detector, 64)
    floors = smallest_steps(groups, 0.1)
    choice = choose_units(groups, group_l2(detector, groups), ledger, ledger.left / 2, multiple, floors)
    edit = cut(detector, groups, choice).edits[0]
    assert isinstance(edit, KeepChannels)
    widths = {
        len(kept.outputs)
        for path, kept in edit.convs.items()
        if len(kept.outputs) < detector.network.get_submodule(path).out_channels  # type: ignore[operator]
    }
    assert widths
    assert all(width % multiple == 0 for width in widths)
    assert multiple == 16 or any(width % 16 for width in widths)


def test_an_edit_survives_json() -> None:
    edit = KeepChannels(
        {"a": KeptConv((0, 1, 5), (2,))}, {"n": (0, 3)}, {"p": (1,)}, (("m", "c", 4), ("m", "c2s", [1, 2]))
    )
    assert KeepChannels.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    assert edit.to_json()["convs"]["a"]["out"] == [[0, 1], [5, 5]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"macs_ratio": 1.0}, "between 0 and 1"),
        ({"macs_ratio": -0.5}, "between 0 and 1"),
        ({"latency_ratio": 0.0}, "latency_ratio must lie between 0 and 1"),
        ({}, "one of them"),
        ({"macs_ratio": 0.5, "latency_ratio": 0.5}, "one of them"),
        ({"macs_ratio": 0.5, "importance": "luck"}, "unknown importance 'luck'; known are l1_filter"),
        ({"macs_ratio": 0.5, "rounds": 0}, "at least 1"),
        ({"macs_ratio": 0.5, "ranking": "local"}, "unknown ranking 'local'; known are global, uniform, sensitivity"),
        ({"macs_ratio": 0.5, "schedule": "linear"}, "unknown schedule 'linear'; known are one_shot"),
        ({"macs_ratio": 0.5, "measure": "ap"}, "unknown measure 'ap'; known are loss, map"),
        ({"macs_ratio": 0.5, "teacher": "other"}, "unknown teacher 'other'; known are original, none"),
        ({"macs_ratio": 0.5, "schedule": "one_shot", "rounds": 3}, "has one round; got rounds = 3"),
        ({"macs_ratio": 0.5, "schedule": "gradual"}, "give minutes or epochs"),
        ({"macs_ratio": 0.5, "schedule": "gradual", "rounds": 1, "epochs": 1}, "at least 2"),
        ({"macs_ratio": 0.5, "schedule": "gradual", "epochs": 2}, "2 epochs cannot be divided over the 3 gaps"),
        ({"macs_ratio": 0.5, "schedule": "gradual", "minutes": -1.0}, "at least 1 epoch or some minutes"),
        ({"macs_ratio": 0.5, "minutes": 3.0}, "for schedule 'gradual'"),
        ({"macs_ratio": 0.5, "keep": "head"}, "keep is a list of module paths; got 'head'"),
        ({"macs_ratio": 0.5, "keep": ("",)}, r"keep is a list of module paths; got \(''"),
        ({"macs_ratio": math.nan}, "between 0 and 1"),
        ({"macs_ratio": 0.5, "min_keep": math.nan}, "min_keep in"),
        ({"macs_ratio": 0.5, "learning_rate": math.nan}, "prune: learning_rate must be above 0 and finite"),
        ({"macs_ratio": 0.5, "learning_rate": -1.0}, "prune: learning_rate must be above 0 and finite"),
        ({"macs_ratio": 0.5, "batch_size": 0}, "batch_size at least 1; got None and 0"),
        ({"macs_ratio": 0.5, "shares": (0.5, math.nan)}, "shares must be numbers between 0 and 1"),
        ({"macs_ratio": 0.5, "shares": (0.5, 1.0)}, "shares must be numbers between 0 and 1"),
        ({"macs_ratio": 0.5, "measure_size": 100}, "measure_size must be a multiple of 32; got 100"),
        ({"macs_ratio": 0.5, "measure_images": 0}, "measure_images must be at least 1; got 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prune(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("ranking", ["global", "uniform"])
def test_an_impossible_target_says_so_for_given_scores(ranking: str) -> None:
    detector = _detector("tiny")
    groups = build_channel_groups(family_of(detector), detector.network)
    with pytest.raises(ValueError, match="cannot be reached"):
        prune_by_scores(detector, groups, group_l2(detector, groups), 0.01, 64, min_keep=0.5, ranking=ranking)


def test_an_impossible_target_says_so() -> None:
    detector = _detector("tiny")
    groups = build_channel_groups(family_of(detector), detector.network)
    with pytest.raises(ValueError, match="cannot be reached"):
        choose_units(
            groups, group_l2(detector, groups), macs_ledger(detector, 128), 10.0, 8, smallest_steps(groups, 0.5)
        )
