"""Recipes: what a TOML says, what is refused, and that nothing is done twice."""

from __future__ import annotations

import math
import runpy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, get_origin, get_type_hints

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
    _in_words,
    _said,
    _starting_key,
    load_recipe,
    parse_recipe,
    recipe_names,
    run_recipe,
    step_folders,
)
from helmlite.compress.separable import Separable
from helmlite.compress.technique import Context, Technique, TechniqueOrderError
from helmlite.compress.techniques import TECHNIQUES
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny

_ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk"])
def test_a_recipe_is_read_as_windows_writes_it(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(f'purpose = "电动车头盔"\n{_TEXT}'.encode(encoding))
    recipe = load_recipe(str(path), minutes=30)
    assert recipe.purpose == "电动车头盔" or "purpose" in _TEXT
    assert [step.name for step in recipe.steps] == ["prune", "distill"]


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
        (
            lambda text: text.replace("share = 0.5", 'share = "all"'),
            r"half.toml:10: distill: share is a part of the minutes",
        ),
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
        (lambda text: text.replace('"prune"', '["prune"]'), r"half.toml:5: technique must be a text; got \['prune'\]"),
        (lambda text: text.replace('technique = "prune"', ""), r"half.toml:5: this step names no technique; known are"),
        (lambda text: text.replace("0.6", "nan"), "half.toml:5: prune: macs_ratio must be finite; got nan"),
        (lambda text: text.replace("share = 0.5", "epochs = 1\nlearning_rate = inf"), "learning_rate must be finite"),
        (lambda text: text.replace("share = 0.5", "minutes = nan"), "half.toml:10: distill: minutes must be finite"),
        (lambda text: text.replace("share = 0.5", "share = nan"), "share is a part of the minutes"),
        (lambda text: text.replace("input_size = 64", "minutes = nan"), "minutes must be a number above 0; got nan"),
        (
            lambda text: text.replace("share = 0.5", "share = 0.5\nminutes = 3"),
            "distill: give share or minutes, not both",
        ),
        (
            lambda text: text + '[[step]]\ntechnique = "distill"\nshare = 0.6\n',
            "half.toml: the shares of its steps add up to 1.1; together they may be at most 1",
        ),
        (
            lambda text: text + '[[step]]\ntechnique = "quantize"\nshare = 0.5\n',
            "half.toml:13: quantize does not train and takes no share",
        ),
        (lambda text: text.replace("macs_ratio = 0.6", ""), "half.toml:5: prune: give macs_ratio or latency_ratio"),
        (
            lambda text: (
                text.replace('"prune"', '"slim"').replace("macs_ratio = 0.6", "").replace('importance = "l2"', "")
            ),
            "half.toml:5: slim needs macs_ratio",
        ),
    ],
)
def test_wrong_recipes_are_refused_by_line(change: Callable[[str], str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_recipe(change(_TEXT), "half.toml", minutes=1)


@pytest.mark.parametrize(
    ("step", "stated", "message"),
    [
        ('technique = "prune"\nmacs_ratio = 0.5', 'keep = [["a"]]', "prune: keep must be a list of texts"),
        ('technique = "prune"\nmacs_ratio = 0.5', 'keep = ["a", 3]', "prune: keep must be a list of texts"),
        ('technique = "prune"\nmacs_ratio = 0.5', 'keep = [""]', "a list of texts, none of them empty"),
        ('technique = "prune"\nmacs_ratio = 0.5', 'keep = "a"', "prune: keep must be a list of texts"),
        ('technique = "prune"\nmacs_ratio = 0.5', 'shares = ["a"]', r"shares must be a list of numbers; got \['a'\]"),
        ('technique = "prune"\nmacs_ratio = 0.5', "shares = [true]", "shares must be a list of numbers"),
        ('technique = "prune"\nmacs_ratio = 0.5', "shares = [0.5, nan]", "shares must be finite"),
        ('technique = "drop_block"', 'paths = [["a"]]', "drop_block: paths must be a list of texts"),
        ('technique = "separable"', 'only = ["a", ""]', "separable: only must be a list of texts, none of them empty"),
        ('technique = "separable"', "max_error = nan", "separable: max_error must be above 0"),
        ('technique = "quantize"', 'keep_float = [""]', "quantize: keep_float must be a list of texts, none of them"),
        ('technique = "quantize"', "weight_bits = 4.5", "quantize: weight_bits must be a whole number"),
    ],
)
def test_lists_and_numbers_are_checked_to_the_last_element(step: str, stated: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_recipe(f"[[step]]\n{step}\n{stated}\n", "wrong.toml")
    assert str(caught.value).startswith("wrong.toml:1: ") and "\n" not in str(caught.value)


def test_infinity_is_taken_where_it_means_something() -> None:
    recipe = parse_recipe('[[step]]\ntechnique = "separable"\nmax_error = inf\n', "any.toml")
    assert recipe.steps == (Separable(max_error=math.inf),)


def test_shares_that_add_up_to_one_but_for_rounding_pass() -> None:
    step = '[[step]]\ntechnique = "distill"\nshare = 0.1\n'
    assert len(parse_recipe(step * 10, "tenths.toml").steps) == 10  # 0.1 ten times is 0.9999999999999999
    thirds = "".join(f'[[step]]\ntechnique = "distill"\nshare = {share}\n' for share in (0.7, 0.1, 0.2))
    assert len(parse_recipe(thirds + step.replace("0.1", "1e-10"), "more.toml").steps) == 4


@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_setting_has_a_type_that_a_recipe_can_state(name: str) -> None:
    for wanted in get_type_hints(TECHNIQUES[name]).values():
        assert get_origin(wanted) is ClassVar or _in_words(wanted)


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


@pytest.mark.parametrize("content", [b"", b'["1-pru', b"{}", b"[1]", b'["../1-prune"]', b"\x80\xff"])
def test_a_damaged_list_of_steps_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "order.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"order\.json: damaged \(.*\); remove it and give the command again\.$"):
        step_folders(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{}", "it states no technique"),
        (b'{"technique": "prune", "settings": {}, "seconds": "1"}', "it states no seconds"),
        (b'{"technique": "prune"', "it is not JSON"),
        (b"[1]", "it does not hold an object"),
        (b"\x80\xff", "it is not JSON"),
    ],
)
def test_a_step_that_does_not_say_where_it_comes_from_is_one_line(
    data: Dataset, tmp_path: Path, content: bytes, reason: str
) -> None:
    detector = new_tiny(_CLASSES, input_size=64)
    context = Context(data, detector, 64, seed=0, workspace=tmp_path / "steps")
    steps = [ReplaceActivation("relu")]
    (made,) = run_recipe(detector, steps, context, tmp_path / "steps")
    (made.folder / "provenance.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"provenance\.json: damaged \({reason}.*give the command again\.$"):
        run_recipe(detector, steps, context, tmp_path / "steps")
    shutil.rmtree(made.folder)  # as the line says
    assert not run_recipe(detector, steps, context, tmp_path / "steps")[0].resumed


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


def test_a_step_is_stored_with_the_input_size_it_was_made_for(data: Dataset, tmp_path: Path) -> None:
    """Else whatever opens it later, `adapt` for one, would run it at the size of the detector it was made from."""
    context = Context(data, new_tiny(_CLASSES, input_size=96), 64, 0, tmp_path, log=lambda line: None)
    steps = (Prune(0.6, importance="l2", rounds=1, images=4),)
    (made,) = run_recipe(context.original, steps, context, tmp_path / "steps")
    assert made.detector.architecture.input_size == 64
    assert load_checkpoint(made.folder).architecture.input_size == 64
    assert context.original.architecture.input_size == 96


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_reads(name: str) -> None:
    recipe = load_recipe(name, minutes=30)
    assert recipe.name == name
    assert recipe.purpose
    names = [step.name for step in recipe.steps]
    assert names[-1] in ("quantize", "distill")
    assert {"quantize", "cluster"} & set(names)  # each ends smaller than it began, in whatever way


@pytest.mark.parametrize("path", sorted((_ROOT / "docs").rglob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_a_reported_result_reads(path: Path) -> None:
    assert load_recipe(str(path)).steps


def test_every_row_of_the_techniques_benchmark_reads() -> None:
    rows = runpy.run_path(str(_ROOT / "benchmarks" / "technique_rows.py"))["ROWS"]
    recipes = {row.name: parse_recipe(row.recipe, row.name) for row in rows if row.recipe}
    assert len(recipes) > 80
    assert all(recipe.steps for recipe in recipes.values())


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
