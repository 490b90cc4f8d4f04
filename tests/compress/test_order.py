"""What may follow what: the table is about techniques that exist, and says both steps and the right order."""

from __future__ import annotations

import pytest

from helmlite.compress.checkpoint import EDITS
from helmlite.compress.edits.tie_weights import TieWeights
from helmlite.compress.order import CANNOT_FOLLOW, TECHNIQUE_OF_EDIT, check_follows, check_order
from helmlite.compress.recipe import load_recipe, recipe_names
from helmlite.compress.technique import TechniqueOrderError
from helmlite.compress.techniques import TECHNIQUES
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny


def test_the_table_names_what_exists() -> None:
    known = {*TECHNIQUES, "fold_batchnorm"}
    assert set(CANNOT_FOLLOW) <= known
    assert all(later <= known for later in CANNOT_FOLLOW.values())
    assert set(TECHNIQUE_OF_EDIT) <= set(EDITS)
    assert set(TECHNIQUE_OF_EDIT.values()) <= known


def test_only_training_follows_quantization() -> None:
    assert CANNOT_FOLLOW["quantize"] == set(TECHNIQUES) - {"distill"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["tie", "prune"], "prune cannot follow tie: put prune before tie."),
        (["low_rank", "distill", "gates"], "gates cannot follow low_rank: put gates before low_rank."),
        (["quantize", "distill", "quantize"], "quantize cannot follow quantize: it is done once."),
        (
            ["tie", "distill", "weight_only"],
            "weight_only cannot follow tie, nor tie weight_only: files cannot hold the integers of a weight that "
            "several layers share. Leave one of them out.",
        ),
        (
            ["quantize", "cluster"],
            "cluster cannot follow quantize, nor quantize cluster: both settle for good which values the weights have. "
            "Leave one of them out.",
        ),
        (["cluster", "activation"], "activation cannot follow cluster: put activation before cluster."),
    ],
)
def test_a_wrong_order_names_both_steps(names: list[str], message: str) -> None:
    with pytest.raises(TechniqueOrderError) as raised:
        check_order(names)
    assert str(raised.value) == message


def test_no_advice_is_refused_itself() -> None:
    for earlier, refused in CANNOT_FOLLOW.items():
        for later in refused - {earlier, "fold_batchnorm"}:
            with pytest.raises(TechniqueOrderError) as raised:
                check_order([earlier, later])
            if f"put {later} before {earlier}" in str(raised.value):
                check_order([later, earlier])


def test_a_right_order_is_let_through() -> None:
    check_order(["drop_scale", "prune", "activation", "distill", "low_rank", "tie", "distill", "quantize", "distill"])
    for name in recipe_names():
        check_order(step.name for step in load_recipe(name, minutes=1.0).steps)


def test_what_a_detector_has_been_through_counts_too() -> None:
    plain = new_tiny(with_roles(["helmet", "no_helmet"]), 64)
    tied = Detector(plain.architecture, plain.network, (TieWeights(()),))
    check_follows("distill", tied)
    with pytest.raises(TechniqueOrderError, match="prune cannot follow tie: put prune before tie"):
        check_follows("prune", tied)
