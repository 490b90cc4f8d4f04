"""Schedules of pruning: what each round leaves, by hand, and training between cuts that goes on after a kill."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from helmlite.compress.channels.channel_groups import build_channel_groups
from helmlite.compress.channels.importance import group_l2
from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.distill import Distill
from helmlite.compress.prune import Prune, prune_by_scores
from helmlite.compress.technique import Context
from helmlite.data.load import load_dataset
from helmlite.data.roles import with_roles
from helmlite.data.scenes import write_scenes
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.detector.macs import count_macs
from helmlite.detector.tiny import new_tiny
from helpers import alive, check_float_export

_CLASSES = with_roles(["helmet", "no_helmet"])
_SIZE = 64
_GRADUAL = Prune(0.5, importance="l2", schedule="gradual", rounds=2, epochs=1, images=4, batch_size=4)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("scenes")
    data = load_dataset(write_scenes(folder / "scenes", train=4, val=1, test=1, seed=0), "train")
    return Context(data, new_tiny(_CLASSES, _SIZE), _SIZE, 0, folder / "work", log=lambda line: None)


def test_what_each_round_leaves_by_hand() -> None:
    """Zhu and Gupta 2017, eq. 1, with s_f = 0.5 and n = 4: s_1 = 0.5 * (1 - 0.75^3) = 0.2890625."""
    gradual = Prune(0.5, schedule="gradual", rounds=4, epochs=3)
    assert [gradual.left_after(step) for step in (1, 2, 3, 4)] == [0.7109375, 0.5625, 0.5078125, 0.5]
    iterative = Prune(0.25, rounds=2)
    assert [iterative.left_after(step) for step in (1, 2)] == [0.5, 0.25]
    one_shot = Prune(0.25, schedule="one_shot")
    assert (one_shot.cuts, one_shot.left_after(1)) == (1, 0.25)
    assert Prune(0.25).cuts == 4


def test_epochs_and_minutes_are_divided_over_the_gaps() -> None:
    gradual = Prune(0.5, schedule="gradual", rounds=4, epochs=5, minutes=6, teacher="none", learning_rate=1e-4)
    assert [gradual._distill(step).epochs for step in (1, 2, 3)] == [1, 2, 2]
    assert gradual._distill(2) == Distill(minutes=2.0, epochs=2, teacher="none", learning_rate=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["original", pytest.param("none", marks=pytest.mark.matrix)])
def test_gradual_trains_between_its_cuts_and_goes_on_after_a_kill(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: str
) -> None:
    technique = dataclasses.replace(_GRADUAL, teacher=teacher)
    lines: list[str] = []
    whole = dataclasses.replace(context, workspace=tmp_path / "whole", log=lines.append)
    expected = technique.apply(context.original, whole)
    assert count_macs(expected.network, _SIZE) <= 0.5 * count_macs(context.original.network, _SIZE)
    assert any(line.startswith("epoch 1 of 1") for line in lines)
    assert [edit.kind for edit in expected.edits] == ["keep_channels", "keep_channels"]
    assert {path.name for path in whole.workspace.glob("round-1-*/*")} == {"cut", "trained", "training"}

    here = dataclasses.replace(context, workspace=tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(Distill, "apply", _killed)
        with pytest.raises(KeyboardInterrupt):
            technique.apply(context.original, here)
    assert _same(expected, technique.apply(context.original, here))
    with monkeypatch.context() as patch:  # and then nothing is trained again
        patch.setattr(Distill, "apply", _killed)
        assert _same(expected, technique.apply(context.original, here))


@pytest.mark.slow
def test_gradual_gives_each_gap_its_part_of_the_time_that_is_left(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def noted(technique: Distill, detector: Detector, here: Context) -> Detector:
        given.append(here.seconds_left() or 0.0)
        return detector

    monkeypatch.setattr(Distill, "apply", noted)
    here = dataclasses.replace(context, workspace=tmp_path, deadline=time.monotonic() + 3000)
    dataclasses.replace(_GRADUAL, rounds=3, epochs=2).apply(context.original, here)
    assert given[0] == pytest.approx(1500, rel=0.1)
    assert given[1] == pytest.approx(3000, rel=0.1)  # nothing was used of the first part


@pytest.mark.slow
def test_what_the_user_keeps_stays_through_all_rounds(context: Context) -> None:
    keep = ("backbone.stem", "neck.down_fine")
    lighter = Prune(0.5, importance="random", ranking="uniform", rounds=2, images=2, keep=keep).apply(
        context.original, context
    )
    for path, module in lighter.network.named_modules():
        if path.startswith(keep) and isinstance(module, torch.nn.Conv2d):
            assert module.out_channels == context.original.network.get_submodule(path).out_channels, path
    assert count_macs(lighter.network, _SIZE) <= 0.5 * count_macs(context.original.network, _SIZE)
    with pytest.raises(ValueError, match=r"keep names 'model\.99', which the detector does not have"):
        Prune(0.5, importance="l2", keep=("model.99",)).apply(context.original, context)


def test_a_stand_in_needs_no_training_and_no_curves() -> None:
    assert _GRADUAL.stand_in() == Prune(0.5, importance="l2", schedule="one_shot", rounds=1, images=4, batch_size=4)
    assert Prune(0.5, ranking="sensitivity").stand_in().ranking == "global"
    assert Prune(0.5, ranking="uniform").stand_in().ranking == "uniform"


@pytest.mark.parametrize(
    "name",
    ["tiny", pytest.param("yolo11n", marks=pytest.mark.slow)]
    + [
        pytest.param(f"yolo{version}", marks=pytest.mark.matrix)
        for version in ("v5n", "v8n", "v9t", "v10n", "12n", "26n")
    ],
)
def test_a_uniform_cut_survives_a_checkpoint_and_export(name: str, tmp_path: Path) -> None:
    if name == "tiny":
        detector = alive(new_tiny(_CLASSES, _SIZE))
    else:
        pytest.importorskip("ultralytics")
        from helmlite.detector.ultralytics import new_ultralytics

        detector = alive(new_ultralytics(name, _CLASSES))
    groups = build_channel_groups(family_of(detector), detector.network)
    lighter = prune_by_scores(detector, groups, group_l2(detector, groups), 0.5, _SIZE, ranking="uniform")
    planes = np.random.default_rng(0).random((1, 3, _SIZE, _SIZE), dtype=np.float32)
    boxes, scores = lighter.predictor(_SIZE).decode(planes)
    save_checkpoint(lighter, tmp_path / "lighter", {})
    again = load_checkpoint(tmp_path / "lighter").predictor(_SIZE).decode(planes)
    assert np.array_equal(again[0], boxes)
    assert np.array_equal(again[1], scores)
    assert scores.std() > 1e-4  # not constant
    check_float_export(lighter, planes, tmp_path / "lighter.onnx")


def _killed(technique: Distill, detector: Detector, context: Context) -> Detector:
    raise KeyboardInterrupt


def _same(first: Detector, second: Detector) -> bool:
    one, other = first.network.state_dict(), second.network.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
