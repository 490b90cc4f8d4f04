"""Recipes: what a TOML says, what is refused, and that nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from helmlite.compress.activation import ReplaceActivation
from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.distill import Distill
from helmlite.compress.drop_block import DropBlock
from helmlite.compress.prune import Prune
from helmlite.compress.quantize import Quantize
from helmlite.compress.recipe import (
    _said,
    _starting_key,
    load_recipe,
    parse_recipe,
    recipe_names,
    run_recipe,
    step_folders,
)
from helmlite.compress.technique import Context, Technique, TechniqueOrderError
from helmlite.compress.techniques import TECHNIQUES
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny

_CLASSES = with_roles(["helmet", "no_helmet"])
_TEXT = """
name = "half"
input_size = 64

[[step]]
technique = "prune"
macs_ratio = 0.6
importance = "l2"

[[step]]
technique = "distill"
share = 0.5
"""


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    random = np.random.default_rng(0)
    samples = []
    for index in range(4):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), random.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        box = np.array([[10, 10, 30, 40]], np.float32)
        samples.append(Sample(path, box, np.array([index % 2], np.int64)))
    return dataset_of(samples, _CLASSES)


def test_a_share_becomes_minutes() -> None:
    recipe = parse_recipe(_TEXT, "half.toml", minutes=30)
    assert recipe.input_size == 64
    assert [step.name for step in recipe.steps] == ["prune", "distill"]
    assert recipe.steps[1] == Distill(minutes=15.0)


@pytest.mark.parametrize("header", ["[[step]]  # first", "[[ step ]]", "  [[step]]"])
def test_a_step_is_a_step_however_its_header_is_written(header: str) -> None:
    recipe = parse_recipe(_TEXT.replace("[[step]]", header), "half.toml", minutes=30)
    assert [step.name for step in recipe.steps] == ["prune", "distill"]


def test_steps_in_one_line_are_counted_where_lines_cannot_be() -> None:
    text = 'step = [{technique = "prune", macs_ratio = 0.6}, {technique = "distil"}]'
    with pytest.raises(ValueError, match=r"one\.toml, step 2: unknown technique 'distil'"):
        parse_recipe(text, "one.toml", minutes=30)


def test_another_teacher_under_the_same_name_makes_another_step(tmp_path: Path) -> None:
    step = Distill(epochs=1, teacher=str(tmp_path / "teacher"))
    hashes = []
    for seed in (0, 1):
        save_checkpoint(new_tiny(_CLASSES, 64, seed=seed), tmp_path / "teacher", {})
        hashes.append(step.outside_sha256())
    assert hashes[0] != hashes[1]
    assert Distill(epochs=1).outside_sha256() == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("share = 0.5", 'share = "all"'), r"half.toml:10: share is a part of the minutes"),
        (lambda text: text.replace("share = 0.5", "epochs = 2.5"), r"half.toml:10: distill: epochs must be a whole"),
        (
            lambda text: text.replace("share = 0.5", "epochs = 1\nteacher = 5"),
            r"half.toml:10: distill: teacher must be",
        ),
        (lambda text: text.replace("0.6", "true"), r"half.toml:5: prune: macs_ratio must be a number; got True"),
        (lambda text: 'step = "prune"', r"each technique is a \[\[step\]\]"),
        (
            lambda text: text.replace("prune", "prun"),
            f"half.toml:5: unknown technique 'prun'; known are {', '.join(TECHNIQUES)}.",
        ),
        (
            lambda text: text.replace("macs_ratio", "ratio"),
            r"half.toml:5: prune has no setting 'ratio'; it has macs_ratio",
        ),
        (lambda text: text.replace("0.6", "1.0"), r"half.toml:5: prune: macs_ratio must lie between 0 and 1"),
        (lambda text: text.replace("input_size = 64", "input_size = 65"), "multiple of 32"),
        (lambda text: text.replace("input_size", "size"), "unknown key 'size'"),
        (lambda text: text.replace("input_size = 64", "minutes = 0"), "minutes must be a number above 0; got 0"),
        (lambda text: text.replace("input_size = 64", "minutes = true"), "minutes must be a number above 0; got True"),
        (lambda text: text.split("[[step]]")[0], r"no \[\[step\]\]"),
        (lambda text: text + "[[", "not readable as TOML"),
    ],
)
def test_wrong_recipes_are_refused_by_line(change: Callable[[str], str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_recipe(change(_TEXT), "half.toml", minutes=1)


def test_the_command_s_minutes_go_before_the_recipe_s() -> None:
    own = _TEXT.replace("input_size = 64", "minutes = 22")
    shared = [parse_recipe(text, "x.toml", minutes) for text, minutes in ((_TEXT, None), (own, None), (own, 10.0))]
    assert [(item.minutes, item.steps[1].minutes) for item in shared] == [(60, 30), (22, 11), (10, 5)]  # type: ignore[attr-defined]
    assert load_recipe("half-hour").minutes < 30


def test_an_unknown_recipe_names_the_known() -> None:
    with pytest.raises(ValueError, match="Unknown recipe 'fastest'"):
        load_recipe("fastest")


def test_only_a_changed_step_is_done_again(data: Dataset, tmp_path: Path) -> None:
    detector = new_tiny(_CLASSES, input_size=64)
    lines: list[str] = []
    context = Context(data, detector, 64, 0, tmp_path, log=lines.append)
    prune = Prune(0.6, importance="l2", rounds=1, images=4)

    def run(*steps: Technique) -> list[bool]:
        return [result.resumed for result in run_recipe(detector, steps, context, tmp_path / "steps")]

    first = Distill(epochs=1, batch_size=4, teacher="none")
    assert run(prune, first) == [False, False]
    assert run(prune, first) == [True, True]
    assert run(prune, Distill(epochs=2, batch_size=4, teacher="none")) == [True, False]


def test_the_folders_are_those_of_the_latest_run(data: Dataset, tmp_path: Path) -> None:
    """Another last step leaves the first run's checkpoint beside its own; only its own count."""
    detector = new_tiny(_CLASSES, input_size=64)
    context = Context(data, detector, 64, seed=0, workspace=tmp_path / "steps")
    first = run_recipe(detector, [Prune(0.8, importance="l2"), ReplaceActivation("relu")], context, tmp_path / "steps")
    again = run_recipe(detector, [Prune(0.8, importance="l2"), ReplaceActivation("relu6")], context, tmp_path / "steps")
    assert first[0].folder == again[0].folder
    assert first[1].folder != again[1].folder
    assert first[1].folder.is_dir()
    assert step_folders(tmp_path / "steps") == [item.folder for item in again]
    with pytest.raises(ValueError, match="no run of all steps was finished there"):
        step_folders(tmp_path / "nothing")


def test_whatever_goes_into_a_step_makes_another_step(data: Dataset, tmp_path: Path) -> None:
    """Other tuning pictures where it chooses by them, another teacher, another graph with the same tensors."""
    detector = new_tiny(_CLASSES, input_size=64)
    val = data.subset([0, 1])
    context = Context(data, detector, 64, seed=0, workspace=tmp_path, val=val)
    others = [
        replace(context, val=data.subset([0, 2])),
        replace(context, original=new_tiny(_CLASSES, input_size=64, seed=1)),
    ]
    drop = DropBlock(count=1, images=2)
    keys = {_key(detector, drop, item) for item in (context, *others)}
    assert len(keys) == 3
    relu = ReplaceActivation("relu").apply(detector, context)
    assert _key(relu, drop, replace(context, original=relu)) not in keys
    plain = Distill(epochs=1)  # looks at no tuning picture
    assert _key(detector, plain, others[0]) == _key(detector, plain, context)


def _key(detector: Detector, step: Technique, context: Context) -> str:
    return f"{_starting_key(detector, context)} {_said(step, context)}"


def test_a_resumed_step_gives_the_same_detector(data: Dataset, tmp_path: Path) -> None:
    detector = new_tiny(_CLASSES, input_size=64)
    context = Context(data, detector, 64, 0, tmp_path, log=lambda line: None)
    steps = (Prune(0.6, importance="l2", rounds=1, images=4),)
    (made,) = run_recipe(detector, steps, context, tmp_path / "steps")
    (again,) = run_recipe(detector, steps, context, tmp_path / "steps")
    ours, theirs = made.detector.network.state_dict(), again.detector.network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not list((tmp_path / "steps").glob(".*"))  # no half-written folder is left


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_reads(name: str) -> None:
    recipe = load_recipe(name, minutes=30)
    assert recipe.name == name
    assert recipe.purpose
    names = [step.name for step in recipe.steps]
    assert names[-1] in ("quantize", "distill")
    assert {"quantize", "cluster"} & set(names)  # each ends smaller than it began, in whatever way


def test_a_wrong_order_is_refused_before_any_work() -> None:
    text = '[[step]]\ntechnique = "quantize"\n[[step]]\ntechnique = "prune"\nmacs_ratio = 0.5\n'
    with pytest.raises(TechniqueOrderError, match="put prune before quantize"):
        parse_recipe(text, "wrong.toml")


def test_all_edits_of_a_whole_recipe_are_rebuilt(data: Dataset, tmp_path: Path) -> None:
    detector = new_tiny(_CLASSES, input_size=64)
    context = Context(data, detector, 64, 0, tmp_path, log=lambda line: None)
    prune = Prune(0.6, importance="l2", rounds=1, images=4)
    steps: tuple[Technique, ...] = (
        ReplaceActivation("relu"),
        prune,
        Distill(epochs=1, batch_size=4, teacher="none"),
        Quantize(pictures=4),
    )
    results = run_recipe(detector, steps, context, tmp_path / "steps")
    kinds = [edit.kind for edit in results[-1].detector.edits]
    assert kinds[:2] == ["replace_activation", "keep_channels"]
    assert kinds[-1] == "insert_quantizers"
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    again = load_checkpoint(results[-1].folder)
    with torch.no_grad():
        for ours, theirs in zip(again.network.eval()(images), results[-1].detector.network.eval()(images)):
            assert torch.equal(ours, theirs)
