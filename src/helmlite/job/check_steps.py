"""What is wrong with a recipe for this very detector, said before its first step and not hours later."""

from __future__ import annotations

from collections.abc import Sequence

from helmlite.compress.distill import Distill
from helmlite.compress.edits.shared_weights import shared_weights
from helmlite.compress.equalize import Equalize, equalizable
from helmlite.compress.paths import check_paths
from helmlite.compress.quantize import Quantize
from helmlite.compress.recipe import Recipe
from helmlite.compress.rounding.insert_quantizers import has_quantizers
from helmlite.compress.technique import Technique, Training
from helmlite.detector.detector import Detector

_ALWAYS_TRAIN = ("distill", "slim", "admm", "growing", "gates")
_OF_PATHS = ("keep", "keep_float", "only", "paths")
_MAKE_MODULES = ("low_rank", "separable", "quantize", "cluster", "weight_only")  # after them there are other paths


def check_steps(recipe: Recipe, detector: Detector) -> None:
    """Raises ValueError, naming the step, where one of them cannot be done."""
    for number, step in enumerate(recipe.steps, start=1):
        if step.name in _ALWAYS_TRAIN and isinstance(step, Training) and step.minutes is None and step.epochs is None:
            raise ValueError(
                f"{recipe.name}, step {number}: {step.name} needs `share` (of --minutes), `minutes` or `epochs`."
            )
        try:
            _check(step, recipe.steps[: number - 1], detector)
        except ValueError as error:
            raise ValueError(f"{recipe.name}, step {number}: {error}") from error


def _check(step: Technique, before: Sequence[Technique], detector: Detector) -> None:
    names = {item.name for item in before}
    if not names & set(_MAKE_MODULES):
        for setting in _OF_PATHS:
            check_paths(step.name, setting, detector.network, getattr(step, setting, None) or ())
    if isinstance(step, Distill):
        step.check_outside(detector)
        if step.step_sizes and not names & {"quantize", "weight_only"} and not has_quantizers(detector.network):
            raise ValueError("distill: step_sizes needs a quantized detector; put quantize before distill.")
    if isinstance(step, Quantize) and ("tie" in names or shared_weights(detector.network)):
        step.check_tied()
    if isinstance(step, Equalize) and "activation" not in names:
        equalizable(detector)
