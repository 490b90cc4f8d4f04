"""Settings that do something only where another one says so: a recipe that states one in vain is refused.

Every setting has a default, whether it does something or not; so only those are looked at that a recipe states.  What
a technique's constructor refuses already (epochs without a schedule that trains) is not said again here, nor is a loss
whose weight is set to 0: who does that has turned it off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from helmlite.compress.teaching.stored_teacher import is_stored
from helmlite.compress.technique import Technique


@dataclass(frozen=True)
class Rule:
    """settings: that do nothing unless the technique's others are so;  words: how they must be, after "unless"."""

    settings: tuple[str, ...]
    is_used: Callable[[Any], bool]
    words: str


_FROM_MAPS = ("box_temperature", "features", "feature_loss", "feature_temperature")  # of a teacher's own maps

# technique -> its rules
RULES: Mapping[str, tuple[Rule, ...]] = {
    "prune": (
        Rule(
            ("teacher", "learning_rate", "batch_size"), lambda step: step.schedule == "gradual", 'schedule is "gradual"'
        ),
        Rule(
            ("shares", "measure", "measure_images", "measure_size"),
            lambda step: step.ranking == "sensitivity",
            'ranking is "sensitivity"',
        ),
    ),
    "drop_block": (
        Rule(("measure", "shortlist"), lambda step: not step.paths, "count or macs_ratio is given, not paths"),
        Rule(("shortlist",), lambda step: step.measure != "none", 'measure is "loss" or "map"'),
    ),
    "sparsify": (
        Rule(("scope",), lambda step: step.pattern is None, "sparsity is given, not pattern"),
        Rule(("keep_ends",), lambda step: not step.only, "only is left out"),
        Rule(("images",), lambda step: step.schedule == "one_shot", 'schedule is "one_shot"'),
        Rule(
            ("ramp", "every", "learning_rate", "batch_size"),
            lambda step: step.schedule == "gradual",
            'schedule is "gradual"',
        ),
    ),
    "low_rank": (Rule(("energy",), lambda step: step.ranks == "energy", 'ranks is "energy"'),),
    "distill": (
        Rule(
            ("task", "classes", "boxes", "class_temperature", *_FROM_MAPS),
            lambda step: step.teacher != "none",
            "there is a teacher",
        ),
        Rule(
            _FROM_MAPS,
            lambda step: not is_stored(step.teacher),
            "the teacher itself is there, not its stored detections",
        ),
        Rule(
            ("feature_temperature",), lambda step: step.feature_loss in ("cwd", "fgd"), 'feature_loss is "cwd" or "fgd"'
        ),
        Rule(("stored_score",), lambda step: is_stored(step.teacher), 'teacher is "stored:..."'),
        Rule(("unlabelled_share",), lambda step: step.unlabelled is not None, "unlabelled is given"),
    ),
    "quantize": (
        Rule(("percentile",), lambda step: step.ranges == "percentile", 'ranges is "percentile"'),
        Rule(
            ("adaround_steps", "adaround_pictures"), lambda step: step.rounding == "adaround", 'rounding is "adaround"'
        ),
        Rule(("drop_of", "drop_pictures", "raised_bits"), lambda step: step.max_drop is not None, "max_drop is given"),
        Rule(("raised_bits",), lambda step: step.bits_of_weights < step.bits_of_raised, "weight_bits is lower"),
    ),
    "weight_only": (Rule(("group_size",), lambda step: step.bits == 4, "bits is 4"),),
}


def check_used(step: Technique, stated: Iterable[str]) -> None:
    """Raises ValueError, one line, for the first of the stated settings that does nothing in this step."""
    for key in stated:
        for rule in RULES.get(step.name, ()):
            if key in rule.settings and not rule.is_used(step):
                raise ValueError(f"{step.name}: {key} does nothing unless {rule.words}; leave out {key}.")
