"""Sensitivity: the curve by hand, a flat curve for what is known to give nothing, and runs that were killed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helmlite.compress.channels import sensitivity
from helmlite.compress.channels.channel_groups import ChannelGroups, build_channel_groups
from helmlite.compress.channels.importance import group_l2
from helmlite.compress.channels.ranking import Levels, allowed_steps, smallest_steps
from helmlite.compress.channels.sensitivity import (
    Curve,
    Measuring,
    affordable,
    draw_curves,
    measured_curves,
    noise_of,
)
from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.prune import Prune
from helmlite.compress.shipped import load_demo_detector
from helmlite.compress.technique import Context
from helmlite.data.dataset import dataset_of
from helmlite.data.load import load_dataset
from helmlite.data.scenes import write_scenes
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.detector.macs import count_macs

_SIZE = 64
_MULTIPLE = 32  # few levels, so that few points are measured
_HOW = Measuring("loss", (0.5,), images=2, norm_images=2, input_size=_SIZE)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder / "scenes", train=4, val=2, test=1, seed=0)
    train, val = (load_dataset(folder / "scenes", split) for split in ("train", "val"))
    return Context(
        train,
        load_demo_detector(),
        _SIZE,
        0,
        folder / "work",
        log=lambda line: None,
        channel_multiple=_MULTIPLE,
        val=val,
    )


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The index of each bundle that is measured; appending a negative number makes the next measurement fail."""
    calls: list[int] = []
    look_at: Callable[..., float] = sensitivity._look_at

    def counting(*arguments: object) -> float:
        if len(calls) == 3 and calls[0] < 0:
            raise KeyboardInterrupt
        index = arguments[4]
        assert isinstance(index, int)
        calls.append(index)
        return look_at(*arguments)

    monkeypatch.setattr(sensitivity, "_look_at", counting)
    return calls


def _parts(detector: Detector) -> tuple[ChannelGroups, Levels]:
    groups = build_channel_groups(family_of(detector), detector.network)
    return groups, allowed_steps(groups, _MULTIPLE, smallest_steps(groups, 0.1))


def test_a_curve_is_straight_between_points_and_never_falls_as_more_goes() -> None:
    """8 steps; the point at 4 was measured lower than that at 6, and is lifted to it."""
    curve = Curve("a", 8, ((6, 0.5), (4, 0.25), (2, 2.5)))
    assert curve.at([2, 3, 4, 5, 6, 7, 8]) == pytest.approx([2.5, 1.5, 0.5, 0.5, 0.5, 0.25, 0.0])
    assert Curve("gain", 4, ((2, -0.1),)).at([2, 3, 4]).tolist() == [0, 0, 0]
    assert Curve("whole", 4, ()).at([4]).tolist() == [0]
    assert Curve("gain", 4, ((2, -0.1),)).at([2, 3, 4], noise=0.2).tolist() == [0.1, 0.05, 0]


def test_noise_is_what_measured_gains_amount_to() -> None:
    """Gains of 0.3 and 0.1: the root of (0.09 + 0.01) / 2."""
    curves = [Curve("a", 4, ((3, 0.5), (2, -0.3))), Curve("b", 4, ((2, -0.1), (1, 0.0)))]
    assert noise_of(curves) == pytest.approx(0.05**0.5)
    assert noise_of([Curve("a", 4, ((3, 0.5),))]) == 0.0


@pytest.mark.slow
def test_a_killed_measurement_goes_on_point_by_point(context: Context, tmp_path: Path, counted: list[int]) -> None:
    detector = load_demo_detector()
    groups, levels = _parts(detector)
    scores = group_l2(detector, groups)
    whole = dataclasses.replace(context, workspace=tmp_path / "whole")
    expected = measured_curves(detector, groups, scores, levels, _HOW, whole, {"importance": "l2"})
    points = sum(len(curve.points) for curve in expected)
    assert len(counted) == points > 5

    here = dataclasses.replace(context, workspace=tmp_path / "killed")
    counted[:] = [-1]
    with pytest.raises(KeyboardInterrupt):
        measured_curves(detector, groups, scores, levels, _HOW, here, {"importance": "l2"})
    assert len(counted) == 1 + 2
    counted.clear()
    again = measured_curves(detector, groups, scores, levels, _HOW, here, {"importance": "l2"})
    assert len(counted) == points - 2
    assert again == expected
    counted.clear()
    assert measured_curves(detector, groups, scores, levels, _HOW, here, {"importance": "l2"}) == expected
    assert not counted


def test_other_weights_or_settings_are_measured_anew(context: Context, tmp_path: Path, counted: list[int]) -> None:
    detector = load_demo_detector()
    groups, levels = _parts(detector)
    here = dataclasses.replace(context, workspace=tmp_path)
    levels = [allowed if index < 12 else allowed[-1:] for index, allowed in enumerate(levels)]
    scores = group_l2(detector, groups)

    def measured(detector: Detector, how: Measuring) -> int:
        counted.clear()
        measured_curves(detector, groups, scores, levels, how, here, {})
        return len(counted)

    first = measured(detector, _HOW)
    assert first > 0
    assert measured(detector, _HOW) == 0
    assert measured(detector, dataclasses.replace(_HOW, images=1)) == first
    other = detector.copy()
    with torch.no_grad():
        next(other.network.parameters()).mul_(1.1)
    assert measured(other, _HOW) == first


def test_channels_that_give_nothing_have_a_flat_curve(context: Context, tmp_path: Path) -> None:
    """Half of a bundle is silenced: losing that half changes nothing, losing the other half does."""
    detector = load_demo_detector()
    norm = detector.network.get_submodule("heads.0.score.1.pointwise.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight.data[:32], norm.bias.data[:32] = 0.0, 0.0
    groups, levels = _parts(detector)
    owner = next(
        index
        for index, bundle in enumerate(groups.bundles)
        if any(member.path == "heads.0.score.1.pointwise.norm" for member in bundle.groups[0].units[0])
    )
    group = groups.bundles[owner].groups[0]
    only = [allowed if index == owner else allowed[-1:] for index, allowed in enumerate(levels)]
    worth = np.arange(len(group.units), dtype=np.float64)
    rises = []
    for order in (worth, -worth):
        scores = group_l2(detector, groups) | {group: order}
        here = dataclasses.replace(context, workspace=tmp_path / str(order[0]))
        curves = measured_curves(detector, groups, scores, only, _HOW, here, {"order": float(order[-1])})
        assert [steps for steps, _ in curves[owner].points] == [32]
        assert all(not curve.points for index, curve in enumerate(curves) if index != owner)
        rises.append(curves[owner].points[0][1])
    assert rises[0] == pytest.approx(0.0, abs=1e-5)
    assert abs(rises[1]) > 1e-3


@pytest.mark.parametrize(("is_silent", "points"), [(True, [16]), (False, [48, 32, 16])])
def test_where_the_lowest_level_hardly_hurts_no_other_is_measured(
    context: Context, tmp_path: Path, is_silent: bool, points: list[int]
) -> None:
    detector = load_demo_detector()
    norm = detector.network.get_submodule("heads.0.score.1.pointwise.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    if is_silent:
        norm.weight.data[:], norm.bias.data[:] = 0.0, 0.0
    groups, _ = _parts(detector)
    is_it = [bundle.groups[0].name == "heads.0.score.1.pointwise.conv" for bundle in groups.bundles]
    levels = [(16, 32, 48, 64) if it else (bundle.steps,) for it, bundle in zip(is_it, groups.bundles)]
    how = dataclasses.replace(_HOW, shares=(0.75, 0.5))
    curves = measured_curves(detector, groups, group_l2(detector, groups), levels, how, context, {"is": is_silent})
    assert [steps for steps, _ in curves[is_it.index(True)].points] == points


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["loss", pytest.param("map", marks=pytest.mark.matrix)])
def test_pruning_by_sensitivity_meets_the_target_and_shows_its_curves(
    context: Context, tmp_path: Path, measure: str
) -> None:
    detector = load_demo_detector()
    here = dataclasses.replace(context, workspace=tmp_path / "work")
    technique = Prune(
        macs_ratio=0.7,
        importance="l2",
        rounds=2,
        images=4,
        ranking="sensitivity",
        shares=(0.5,),
        measure=measure,
        measure_images=2,
    )
    lighter = technique.apply(detector, here)
    assert 0.5 < count_macs(lighter.network, _SIZE) / count_macs(detector.network, _SIZE) <= 0.7
    assert (here.workspace / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    shown = json.loads((here.workspace / "sensitivity.json").read_text())
    assert shown["measured"]["measure"] == measure
    assert len(shown["bundles"]) == len(_parts(detector)[0].bundles)
    assert any(0 < item["kept"] < item["steps"] for item in shown["bundles"])
    save_checkpoint(lighter, tmp_path / "checkpoint", {})
    images = torch.rand(1, 3, _SIZE, _SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = lighter.network(images), load_checkpoint(tmp_path / "checkpoint").network(images)
    assert all(torch.equal(a, b) for a, b in zip(expected, found))


@pytest.mark.parametrize(
    ("macs", "shares", "images"),
    [(10**9, (0.75, 0.5, 0.25), 64), (10**11, (0.6, 0.3), 32), (10**12, (0.5,), 16), (10**15, (0.5,), 16)],
)
def test_a_large_detector_is_looked_at_less_closely(macs: int, shares: tuple[float, ...], images: int) -> None:
    assert affordable(macs) == (shares, images)


def test_what_the_user_says_is_measured_whatever_the_size(context: Context) -> None:
    detector = load_demo_detector()
    chosen = Prune(macs_ratio=0.5, ranking="sensitivity", shares=(0.9,), measure_images=3)
    assert chosen._measuring(detector, 10**6, context) == Measuring("loss", (0.9,), 3, 3, _SIZE)
    left_open = Prune(macs_ratio=0.5, ranking="sensitivity", images=8)
    assert left_open._measuring(detector, 1, context) == Measuring("loss", (0.75, 0.5, 0.25), 64, 8, _SIZE)
    assert left_open._measuring(detector, 10**6, context) == Measuring("loss", (0.5,), 16, 8, _SIZE)


def test_pictures_without_labels_are_refused(context: Context, tmp_path: Path) -> None:
    detector = load_demo_detector()
    groups, levels = _parts(detector)
    bare = [
        dataclasses.replace(sample, boxes_xyxy=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64))
        for sample in context.data
    ]
    here = dataclasses.replace(context, workspace=tmp_path, val=dataset_of(bare, context.data.classes))
    with pytest.raises(ValueError, match="ranking 'sensitivity' needs labels; none of 2 pictures has one"):
        measured_curves(detector, groups, group_l2(detector, groups), levels, _HOW, here, {})


def test_the_figure_has_a_line_for_every_bundle_and_names_the_steepest() -> None:
    curves = [Curve(f"layer{index}", 8, ((4, 0.1 * index), (2, 0.3 * index))) for index in range(12)]
    figure = draw_curves(curves, "title", kept=[4] * 12)
    lines, bars = figure.axes
    assert len(lines.get_lines()) == 12
    assert [text.get_text() for text in lines.get_legend().get_texts()] == [f"layer{index}" for index in range(2, 12)]
    assert [bar.get_height() for bar in bars.patches] == [0.5] * 12
    assert len(draw_curves(curves, "title").axes) == 1
