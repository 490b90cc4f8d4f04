"""Settings that a recipe states in vain: each is refused where it does nothing, and taken where it does something."""

from __future__ import annotations

from dataclasses import fields

import pytest

from helmlite.compress.recipe import parse_recipe
from helmlite.compress.techniques import TECHNIQUES
from helmlite.compress.unused_settings import RULES

_PRUNE = 'technique = "prune"; macs_ratio = 0.5'
_GRADUAL = f'{_PRUNE}; schedule = "gradual"; epochs = 3'
_SENSITIVITY = f'{_PRUNE}; ranking = "sensitivity"'
_SPARSIFY = 'technique = "sparsify"; sparsity = 0.5'
_SPARSIFY_SLOWLY = f'{_SPARSIFY}; schedule = "gradual"; epochs = 3'
_DROP = 'technique = "drop_block"; count = 1'
_DROP_NAMED = 'technique = "drop_block"; paths = ["a"]'
_DISTILL = 'technique = "distill"; epochs = 1'
_ALONE = f'{_DISTILL}; teacher = "none"'
_STORED = f'{_DISTILL}; teacher = "stored:there"'
_QUANTIZE = 'technique = "quantize"'
_LOW_RANK = 'technique = "low_rank"'
_WEIGHTS = 'technique = "weight_only"'
_HERE = "unless there is a teacher"
_ASKED = "unless the teacher itself is there"

# what is stated in vain, the step where it is, a step where it is not, and what is said
_CASES = [
    ('teacher = "none"', _PRUNE, _GRADUAL, 'unless schedule is "gradual"'),
    ("learning_rate = 1e-4", _PRUNE, _GRADUAL, 'unless schedule is "gradual"'),
    ("batch_size = 8", _PRUNE, _GRADUAL, 'unless schedule is "gradual"'),
    ("shares = [0.5]", _PRUNE, _SENSITIVITY, 'unless ranking is "sensitivity"'),
    ('measure = "map"', _PRUNE, _SENSITIVITY, 'unless ranking is "sensitivity"'),
    ("measure_images = 4", _PRUNE, _SENSITIVITY, 'unless ranking is "sensitivity"'),
    ("measure_size = 64", _PRUNE, _SENSITIVITY, 'unless ranking is "sensitivity"'),
    ('measure = "map"', _DROP_NAMED, _DROP, "unless count or macs_ratio is given"),
    ("shortlist = 3", _DROP_NAMED, _DROP, "unless count or macs_ratio is given"),
    ("shortlist = 3", f'{_DROP}; measure = "none"', f'{_DROP}; measure = "map"', 'unless measure is "loss" or "map"'),
    ('scope = "layer"', 'technique = "sparsify"; pattern = "2:4"', _SPARSIFY, "unless sparsity is given"),
    ("keep_ends = false", f'{_SPARSIFY}; only = ["a"]', _SPARSIFY, "unless only is left out"),
    ("images = 8", _SPARSIFY_SLOWLY, _SPARSIFY, 'unless schedule is "one_shot"'),
    ("ramp = 0.5", _SPARSIFY, _SPARSIFY_SLOWLY, 'unless schedule is "gradual"'),
    ("every = 5", _SPARSIFY, _SPARSIFY_SLOWLY, 'unless schedule is "gradual"'),
    ("learning_rate = 1e-3", _SPARSIFY, _SPARSIFY_SLOWLY, 'unless schedule is "gradual"'),  # its default, but stated
    ("batch_size = 8", _SPARSIFY, _SPARSIFY_SLOWLY, 'unless schedule is "gradual"'),
    ("energy = 0.8", f'{_LOW_RANK}; ranks = "vbmf"', _LOW_RANK, 'unless ranks is "energy"'),
    ("task = 2", _ALONE, _STORED, _HERE),
    ("classes = 2", _ALONE, _STORED, _HERE),
    ("boxes = 2", _ALONE, _STORED, _HERE),
    ("class_temperature = 2", _ALONE, _STORED, _HERE),
    ("box_temperature = 1", _ALONE, _DISTILL, _HERE),
    ("box_temperature = 1", _STORED, _DISTILL, _ASKED),
    ("features = 0.5", _STORED, _DISTILL, _ASKED),
    ('feature_loss = "pkd"', _STORED, f'{_DISTILL}; teacher = "teacher.pt"', _ASKED),
    ("feature_temperature = 2", _STORED, _DISTILL, _ASKED),
    (
        "feature_temperature = 2",
        f'{_DISTILL}; feature_loss = "l2"',
        f'{_DISTILL}; feature_loss = "fgd"',
        'unless feature_loss is "cwd" or "fgd"',
    ),
    ("stored_score = 0.2", _DISTILL, _STORED, 'unless teacher is "stored:'),
    ("unlabelled_share = 0.2", _DISTILL, f'{_DISTILL}; unlabelled = "more"', "unless unlabelled is given"),
    ("percentile = 99.9", _QUANTIZE, f'{_QUANTIZE}; ranges = "percentile"', 'unless ranges is "percentile"'),
    ("adaround_steps = 9", _QUANTIZE, f'{_QUANTIZE}; rounding = "adaround"', 'unless rounding is "adaround"'),
    ("adaround_pictures = 9", _QUANTIZE, f'{_QUANTIZE}; rounding = "adaround"', 'unless rounding is "adaround"'),
    ('drop_of = "map50"', _QUANTIZE, f"{_QUANTIZE}; max_drop = 0.01", "unless max_drop is given"),
    ("drop_pictures = 9", _QUANTIZE, f"{_QUANTIZE}; max_drop = 0.01", "unless max_drop is given"),
    ("raised_bits = 6", _QUANTIZE, f"{_QUANTIZE}; weight_bits = 4; max_drop = 0.01", "unless max_drop is given"),
    (
        "raised_bits = 6",
        f"{_QUANTIZE}; max_drop = 0.01",
        f"{_QUANTIZE}; weight_bits = 4; max_drop = 0.01",
        "unless weight_bits is lower",
    ),
    ("group_size = 16", _WEIGHTS, f"{_WEIGHTS}; bits = 4", "unless bits is 4"),
]


def _text(step: str, stated: str) -> str:
    return "\n".join(["[[step]]", *step.split("; "), stated])


@pytest.mark.parametrize(("stated", "vain", "useful", "message"), _CASES)
def test_what_does_nothing_is_refused_where_it_does_nothing(stated: str, vain: str, useful: str, message: str) -> None:
    key, name = stated.split(" = ")[0], vain.split('"')[1]
    with pytest.raises(
        ValueError, match=f"^a.toml:1: {name}: {key} does nothing {message}.*; leave out {key}"
    ) as caught:
        parse_recipe(_text(vain, stated), "a.toml")
    assert "\n" not in str(caught.value)
    assert len(parse_recipe(_text(useful, stated), "a.toml").steps) == 1


@pytest.mark.parametrize(("stated", "vain", "useful", "message"), _CASES)
def test_defaults_are_no_statement(stated: str, vain: str, useful: str, message: str) -> None:
    assert len(parse_recipe(_text(vain, ""), "a.toml").steps) == 1


def test_every_rule_is_about_settings_that_there_are_and_is_tried_above() -> None:
    for name, rules in RULES.items():
        known = {item.name for item in fields(TECHNIQUES[name])}  # type: ignore[arg-type]
        assert all(set(rule.settings) <= known for rule in rules), name
        tried = {stated.split(" = ")[0] for stated, vain, _, _ in _CASES if f'technique = "{name}"' in vain}
        assert {key for rule in rules for key in rule.settings} == tried, name
