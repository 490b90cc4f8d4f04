"""All techniques by the name that recipes use, and what may follow what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from helmlite.compress.activation import ReplaceActivation
from helmlite.compress.distill import Distill
from helmlite.compress.prune import Prune
from helmlite.compress.quantize import Quantize
from helmlite.compress.technique import Technique, TechniqueOrderError

TECHNIQUES: Mapping[str, Callable[..., Technique]] = {
    technique.name: technique for technique in (Prune, ReplaceActivation, Distill, Quantize)
}

# technique -> techniques that cannot come after it, since they change what it has already settled
_CANNOT_FOLLOW: Mapping[str, frozenset[str]] = {
    "quantize": frozenset({"prune", "activation", "quantize"}),
}


def check_order(steps: Sequence[Technique]) -> None:
    """Raises TechniqueOrderError, naming both steps and the right order, before any work is done."""
    for index, step in enumerate(steps):
        forbidden = _CANNOT_FOLLOW.get(step.name, frozenset())
        for later in steps[index + 1 :]:
            if later.name in forbidden:
                raise TechniqueOrderError(
                    f"{later.name} cannot follow {step.name}: put {later.name} before {step.name}."
                )
