"""Replacing SiLU by an activation that INT8 kernels run well.

SiLU needs an exponential; after an INT8 convolution most runtimes leave the integer domain for it.  ReLU is one
comparison and fuses into the convolution.  The network answers differently afterwards: fine-tune it (`distill`).
Hardswish (Howard 2019, MobileNetV3, arXiv 1905.02244) is x * relu6(x + 3) / 6, the closest of the three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from helmlite.compress.order import check_follows
from helmlite.compress.paths import check_paths, is_below
from helmlite.compress.technique import Context
from helmlite.detector.detector import Detector

REPLACEMENTS: Mapping[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish}


@dataclass(frozen=True)
class ReplaceActivation:
    """SiLU -> `to` everywhere, or only in the modules that `only` names.

    to:   relu | relu6 | hardswish
    only: paths of modules; an activation is replaced where its path is one of them or lies below one.  () means all
    """

    name: ClassVar[str] = "activation"
    to: str = "relu"
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.to not in REPLACEMENTS:
            raise ValueError(f"activation: unknown replacement '{self.to}'; known are {', '.join(REPLACEMENTS)}.")

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with the other activation.

        Raises ValueError where nothing is there to replace, TechniqueOrderError after quantization.
        """
        check_follows(self.name, detector)
        check_paths(self.name, "only", detector.network, self.only)
        paths = tuple(path for path in silu_paths(detector.network) if not self.only or is_below(path, self.only))
        if not paths:
            where = f" below {', '.join(self.only)}" if self.only else ""
            raise ValueError(f"activation: the detector has no SiLU{where} to replace.")
        edit = SwapActivations(paths, self.to)
        changed = detector.copy()
        edit.redo(changed.network)
        context.log(f"activation: {len(paths)} SiLU became {self.to}; fine-tune afterwards")
        return detector.edited(edit, changed.network)


@dataclass(frozen=True)
class SwapActivations:
    """The modules at these paths become activations of this kind."""

    kind: ClassVar[str] = "replace_activation"
    paths: tuple[str, ...]
    to: str

    def redo(self, network: nn.Module) -> None:
        """Swaps in place.  Each path gets an instance of its own, whatever was shared before."""
        for path in self.paths:
            parent_path, _, name = path.rpartition(".")
            parent = network.get_submodule(parent_path)
            setattr(parent, name, REPLACEMENTS[self.to]().train(parent.training))

    def to_json(self) -> dict[str, Any]:
        return {"paths": list(self.paths), "to": self.to}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> SwapActivations:
        return SwapActivations(tuple(values["paths"]), values["to"])


def silu_paths(network: nn.Module) -> tuple[str, ...]:
    """Every path at which a SiLU is reached; one instance that many layers share has many paths."""
    return tuple(path for path, module in network.named_modules(remove_duplicate=False) if isinstance(module, nn.SiLU))
