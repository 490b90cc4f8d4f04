"""The edit of weight-only quantization: rounded weights, values in float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from helmlite.compress.rounding.insert_quantizers import PlannedRounding


@dataclass(frozen=True)
class RoundWeights(PlannedRounding):
    """Rounds the weights that the plan names, in every forward pass, and nothing else."""

    kind: ClassVar[str] = "round_weights"
