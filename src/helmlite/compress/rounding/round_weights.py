"""The edit of weight-only quantization: rounded weights, values in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from helmlite.compress.rounding.insert_quantizers import insert
from helmlite.compress.rounding.quantization_plan import QuantizationPlan


@dataclass(frozen=True)
class RoundWeights:
    """Rounds the weights that the plan names, in every forward pass, and nothing else."""

    kind: ClassVar[str] = "round_weights"
    plan: QuantizationPlan

    def redo(self, network: nn.Module) -> None:
        """Inserts in place.  Raises ValueError where a weight of the plan is missing or of another shape."""
        insert(network, self.plan)

    def to_json(self) -> dict[str, Any]:
        return {"plan": self.plan.to_json()}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> RoundWeights:
        return RoundWeights(QuantizationPlan.from_json(values["plan"]))
