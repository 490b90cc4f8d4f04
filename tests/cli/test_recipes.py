"""`helmlite techniques` and `helmlite recipe`: what there is is said, and what a recipe will do to a detector."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from helmlite.compress.checkpoint import save_checkpoint
from helmlite.compress.describe import PAPERS, described
from helmlite.compress.prune import Prune
from helmlite.compress.recipe import parse_recipe, recipe_names
from helmlite.compress.shipped import load_demo_detector
from helmlite.compress.techniques import TECHNIQUES
from helmlite.detector.macs import count_macs
from helmlite.job.show import changed_modules, show_recipe
from helmlite.job.target import load_target
from helpers import helmlite_command

_RECIPE = """
[[step]]
technique = "prune"
macs_ratio = 0.6
importance = "l2"
rounds = 1

[[step]]
technique = "distill"
epochs = 3

[[step]]
technique = "quantize"
"""


def test_every_technique_is_described() -> None:
    assert set(PAPERS) == set(TECHNIQUES)
    for name in TECHNIQUES:
        about = described(name)
        assert about.purpose.endswith((".", ":")) or len(about.purpose) > 20, name
        assert about.papers and all(any(letter.isdigit() for letter in paper) for paper in about.papers), name
        assert about.settings, name
    assert described("prune").settings["importance"] == Prune(macs_ratio=0.5).importance
    assert described("slim").settings["macs_ratio"] == "required"


def test_the_command_lists_techniques_and_recipes() -> None:
    listed = helmlite_command("techniques")
    assert listed.returncode == 0, listed.stderr
    for name in TECHNIQUES:
        assert f"\n{name}: " in f"\n{listed.stdout}"
    assert "arXiv 1510.00149" in listed.stdout
    recipes = helmlite_command("recipe", "list")
    assert all(name in recipes.stdout for name in recipe_names())


def test_changed_modules_by_hand() -> None:
    before = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 2, 1))
    after = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    assert changed_modules(before, before) == 0
    assert changed_modules(before, after) == 3
    assert changed_modules(before, nn.Sequential(before[0], before[1])) == 1


@pytest.mark.slow
def test_a_recipe_shows_what_it_does_to_this_detector() -> None:
    detector = load_demo_detector()
    weights = {name: item.clone() for name, item in detector.network.state_dict().items()}
    lines: list[str] = []
    recipe = parse_recipe(_RECIPE, "mine")
    rows = show_recipe(recipe, detector, load_target("x86-openvino"), 96, lines.append)
    assert [row.name for row in rows] == ["as it is", "prune", "distill", "quantize"]
    assert all(torch.equal(weights[name], item) for name, item in detector.network.state_dict().items())
    assert rows[0].macs == count_macs(detector.network, 96)
    assert rows[0].changed == 0
    assert rows[1].macs <= 0.6 * rows[0].macs
    assert rows[1].changed > 10
    assert rows[2] == type(rows[1])("distill", rows[1].layers, 0, rows[1].macs, rows[1].params, rows[1].size_bytes)
    assert rows[3].size_bytes < 0.7 * rows[2].size_bytes  # a third of so small a file is not weights
    assert lines == ["plan: 1. prune", "plan: 2. distill", "plan: 3. quantize"]


@pytest.mark.slow
def test_show_as_it_is_typed(tmp_path: Path) -> None:
    save_checkpoint(load_demo_detector(), tmp_path / "model", {})
    (tmp_path / "mine.toml").write_text(_RECIPE)
    done = helmlite_command("recipe", "show", tmp_path / "mine.toml", tmp_path / "model", "--input-size", "96")
    assert done.returncode == 0, done.stderr
    assert "as it is" in done.stdout
    assert "quantize" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing", "model"), "Unknown recipe 'nothing'"),
        (("balanced", "nowhere.pt"), "no such file"),
        (("balanced", "nowhere.pt", "--target", "toaster"), "Unknown target 'toaster'"),
    ],
)
def test_what_cannot_be_shown_is_one_line(words: tuple[str, ...], message: str) -> None:
    done = helmlite_command("recipe", "show", *words)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr
