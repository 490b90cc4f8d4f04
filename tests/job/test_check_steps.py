"""A recipe that cannot be done is refused before its first step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helmlite.compress.checkpoint import save_checkpoint
from helmlite.compress.recipe import parse_recipe
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helmlite.job.check_steps import check_steps
from helmlite.job.compress import _without_clock


@pytest.fixture(scope="module")
def detector() -> Detector:
    return new_tiny(with_roles(["helmet", "no_helmet"]), 64, width=0.25)


def check(detector: Detector, *steps: str) -> None:
    text = "\n".join(f"[[step]]\n{step}" for step in steps)
    check_steps(parse_recipe(text, "mine.toml"), detector)


PRUNE, HEAL, TIE = 'technique = "prune"\nmacs_ratio = 0.5', 'technique = "distill"\nshare = 1.0', 'technique = "tie"'


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((PRUNE, 'technique = "distill"'), r"mine, step 2: distill needs `share` \(of --minutes\), `minutes` or"),
        ((PRUNE, HEAL, 'technique = "cluster"\nkeep = ["no.such"]'), "mine, step 3: cluster: keep names 'no.such'"),
        ((PRUNE, 'technique = "quantize"\nkeep_float = ["heads.9"]'), "step 2: quantize: keep_float names 'heads.9'"),
        ((HEAL, 'technique = "equalize"'), "step 2: equalize: no pair of convolutions has only a ReLU between them"),
        ((f"{HEAL}\nstep_sizes = true",), "step 1: distill: step_sizes needs a quantized detector; put quantize"),
        ((TIE, HEAL, 'technique = "quantize"\nrounding = "adaround"'), "step 3: quantize: adaround learns one layer's"),
        ((f'{HEAL}\nteacher = "nowhere.pt"',), "step 1: nowhere.pt: no such file"),
    ],
)
def test_what_is_wrong_is_said_with_its_step(detector: Detector, steps: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check(detector, *steps)
    assert "\n" not in str(caught.value)


def test_a_teacher_of_other_classes_is_refused(detector: Detector, tmp_path: Path) -> None:
    save_checkpoint(new_tiny(with_roles(["cat", "dog"]), 64, width=0.25), tmp_path / "pets", {})
    with pytest.raises(ValueError, match=r"step 1: .*no class for 'helmet'"):
        check(detector, f'{HEAL}\nteacher = "{tmp_path / "pets"}"')


def test_what_earlier_steps_make_possible_is_let_through(detector: Detector) -> None:
    check(detector, 'technique = "quantize"', f"{HEAL}\nstep_sizes = true")
    check(detector, 'technique = "activation"\nto = "relu"', HEAL, 'technique = "equalize"')
    check(detector, 'technique = "low_rank"', 'technique = "cluster"\nkeep = ["backbone.down.0.conv.0"]')
    check(detector, TIE, HEAL, 'technique = "quantize"')


def test_a_step_that_could_not_measure_the_target_is_told() -> None:
    recipe = parse_recipe('[[step]]\ntechnique = "low_rank"\n[[step]]\ntechnique = "distill"\nepochs = 1', "mine.toml")
    prepared: Any = SimpleNamespace(recipe=recipe)

    def lines(had_clock: bool) -> list[str]:
        made: Any = [SimpleNamespace(had_clock=had_clock)] * 2
        return _without_clock(prepared, made)

    (line,) = lines(had_clock=False)
    assert line.startswith("Step 1 (low_rank) was made by --train-only, on a machine that is not the target")
    assert lines(had_clock=True) == []
