"""Importance from gradients: against the loss itself, by hand on one unit, and a unit that is known not to matter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helmlite.compress.channels.channel_groups import ChannelGroup, build_channel_groups
from helmlite.compress.channels.importance import obd, scores_named, taylor
from helmlite.compress.channels.importance_gradient import saliency
from helmlite.compress.prune import Prune
from helmlite.compress.shipped import load_demo_detector
from helmlite.compress.technique import Context
from helmlite.data.load import load_dataset
from helmlite.data.roles import with_roles
from helmlite.data.scenes import write_scenes
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.families import family_of
from helmlite.detector.tiny import new_tiny

_CLASSES = with_roles(["helmet", "no_helmet"])
_SIZE = 96


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("scenes")
    data = load_dataset(write_scenes(folder / "scenes", train=8, val=1, test=1, seed=0), "train")
    return Context(data, _detector(), _SIZE, 0, folder / "work", log=lambda line: None)


def _detector() -> Detector:
    """`tiny` with BatchNorm scales, shifts and statistics that differ from channel to channel."""
    detector = new_tiny(_CLASSES, input_size=_SIZE)
    generator = torch.Generator().manual_seed(1)
    for module in detector.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return detector


def _batches(context: Context) -> Iterator[Batch]:
    return plain_batches(context.data, _SIZE, 8, 8, seed=0)


def _loss(detector: Detector, batch: Batch) -> float:
    family = family_of(detector)
    loss_of = family.task_loss(detector.architecture, detector.network, epochs=1)
    with torch.no_grad():
        loss, _ = loss_of(family.training_maps(detector.network, batch.images), batch)
    return float(loss)


def _norms(detector: Detector, group: ChannelGroup, unit: int) -> list[tuple[nn.BatchNorm2d, int]]:
    modules = dict(detector.network.named_modules())
    found = []
    for member in group.units[unit]:
        module = modules[member.path]
        if member.role == "norm" and isinstance(module, nn.BatchNorm2d):
            found.append((module, member.index))
    return found


def _silence(detector: Detector, group: ChannelGroup, unit: int, scale: float = 0.0) -> None:
    for norm, channel in _norms(detector, group, unit):
        norm.weight.data[channel] *= scale
        norm.bias.data[channel] *= scale


def test_taylor_is_the_squared_slope_of_the_loss_along_the_unit_s_gate(context: Context) -> None:
    """Molchanov 2019, eq. 8: (g dL/dg)^2 with a gate g = 1 on the unit's BatchNorms, here by central difference.

    The assigner's targets follow the predictions and give no gradient, so the two agree closely and not exactly.
    """
    detector = load_demo_detector()
    detector.network.eval()
    groups = build_channel_groups(family_of(detector), detector.network)
    scores = taylor(detector, groups, _batches(context))
    batch, step = next(_batches(context)), 1e-2
    ratios = []
    for bundle in groups.bundles:
        group = bundle.groups[0]
        unit = int(np.argmax(scores[group]))
        if scores[group][unit] < 1e-6:  # its slope drowns in float32's rounding
            continue
        up, down = detector.copy(), detector.copy()
        _silence(up, group, unit, 1 + step)
        _silence(down, group, unit, 1 - step)
        slope = (_loss(up, batch) - _loss(down, batch)) / (2 * step)
        ratios.append(abs(slope) / float(scores[group][unit]) ** 0.5)
    assert len(ratios) > 20
    assert np.median(ratios) == pytest.approx(1.0, abs=0.05)
    low, high = np.quantile(ratios, [0.1, 0.9])  # beyond these the assigner chooses other cells on the way
    assert 0.8 < low <= high < 1.35


def test_obd_is_half_of_squared_weight_times_squared_gradient_of_single_pictures(context: Context) -> None:
    """LeCun 1989, eq. 5, with the empirical Fisher: every weight that goes with the unit, picked out one by one."""
    detector = _detector()
    groups = build_channel_groups(family_of(detector), detector.network)
    group = next(bundle.groups[0] for bundle in groups.bundles if bundle.groups[0].name == "backbone.down.1.conv")
    batch = next(plain_batches(context.data, _SIZE, 3, 3, seed=0))
    scores = obd(detector, groups, [batch])
    expected = 0.0
    for index in range(3):
        targets = batch.targets[batch.targets[:, 0] == index].clone()
        targets[:, 0] = 0
        network = _with_gradients(detector, Batch(batch.images[index : index + 1], targets))
        for member in group.units[5]:
            module = network.get_submodule(member.path)
            for parameter in module.parameters():
                if member.role == "in":
                    weight, slope = parameter[:, member.index], parameter.grad[:, member.index]  # type: ignore[index]
                else:
                    weight, slope = parameter[member.index], parameter.grad[member.index]  # type: ignore[index]
                expected += float((weight.detach().double() ** 2 * slope.double() ** 2).sum()) / 2 / 3
    assert expected > 0
    assert scores[group][5] == pytest.approx(expected, rel=1e-4)


def test_saliency_by_hand() -> None:
    assert saliency(torch.tensor([2.0, 1.0]), torch.tensor([3.0, 0.5])).tolist() == [6.0, 0.25]


@pytest.mark.parametrize("importance", ["taylor", "obd"])
def test_pictures_without_labels_are_refused(context: Context, importance: str) -> None:
    detector = _detector()
    groups = build_channel_groups(family_of(detector), detector.network)
    batch = Batch(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.zeros(0, 6))
    with pytest.raises(ValueError, match=f"importance '{importance}' needs labelled pictures; none of 2 has a label"):
        scores_named(importance, detector, groups, [batch])


@pytest.mark.parametrize("importance", ["taylor", "obd"])
def test_an_ultralytics_head_is_asked_as_well(context: Context, importance: str) -> None:
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    detector = new_ultralytics("yolo11n", _CLASSES)
    groups = build_channel_groups(family_of(detector), detector.network)
    scores = scores_named(importance, detector, groups, plain_batches(context.data, 64, 2, 2, seed=0))
    values = np.concatenate([scores[group] for bundle in groups.bundles for group in bundle.groups])
    assert np.isfinite(values).all()
    assert (values > 0).mean() > 0.9


def _with_gradients(detector: Detector, batch: Batch) -> nn.Module:
    family, network = family_of(detector), detector.copy().network.eval()
    loss_of = family.task_loss(detector.architecture, network, epochs=1)
    loss, _ = loss_of(family.training_maps(network, batch.images), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    return network


def test_a_unit_that_gives_nothing_is_worth_nothing(context: Context) -> None:
    detector = _detector()
    groups = build_channel_groups(family_of(detector), detector.network)
    group = max((item for bundle in groups.bundles for item in bundle.groups), key=lambda item: len(item.units))
    _silence(detector, group, 3)
    scores = taylor(detector, groups, _batches(context))
    assert scores[group][3] == 0.0
    assert np.argmin(scores[group]) == 3
    assert (np.delete(scores[group], 3) > 0).mean() > 0.9


@pytest.mark.parametrize("importance", ["taylor", "l2"])
def test_no_round_goes_below_the_share_that_every_group_keeps(context: Context, importance: str) -> None:
    """The floor is a share of the first width, whatever the number of rounds."""
    detector = _detector()
    lighter = Prune(macs_ratio=0.5, importance=importance, rounds=3, min_keep=0.5, images=8).apply(detector, context)
    before = dict(detector.network.named_modules())
    thinner = 0
    for path, module in lighter.network.named_modules():
        if isinstance(module, nn.Conv2d):
            width = before[path].out_channels
            assert isinstance(width, int)
            assert module.out_channels >= width // 2, path
            thinner += module.out_channels < width
    assert thinner > 5


def test_batchnorm_is_measured_again_in_every_branch(tmp_path: Path) -> None:
    """The one-to-many branch of YOLO26 does not ship, but its loss decides what is pruned next."""
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    detector = new_ultralytics("yolo26n", _CLASSES)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    reestimate_batchnorm(family_of(detector), detector.network, [Batch(pictures, torch.zeros(0, 6))])
    for path, module in detector.network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_mean.abs().max() > 0, path
