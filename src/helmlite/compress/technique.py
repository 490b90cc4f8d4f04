"""Read this first: what a technique is.

A technique is a frozen dataclass of settings with one method.  It takes a detector, leaves it untouched, and
returns a new one:

    lighter = Prune(macs_ratio=0.5).apply(detector, context)
    healed = Distill(minutes=30).apply(lighter, context)
    small = Quantize().apply(healed, context)

What it changes in the structure it writes down as an `Edit` (plain data, redone on a fresh network); what it
changes in the weights is simply in the network.  A recipe is a list of techniques, nothing more.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from helmlite.compress.layer_times import LayerClock
from helmlite.data.dataset import Dataset
from helmlite.detector.detector import Detector, Log


@dataclass(frozen=True)
class Context:
    """What a technique may use beside the detector.

    data:       the train split (calibration and fine-tuning pictures), labels numbered as the detector's classes
    original:   the detector that the run began with, which is the teacher unless another is named
    input_size: side of the square input in pixels
    seed:       every random choice follows from it
    workspace:  folder for this step's own files: training checkpoints, the epoch plan, caches
    deadline:   `time.monotonic()` value by which the step should end, or None
    log:        takes one line for the user
    channel_multiple: channel counts are kept at multiples of this, as the target's kernels like it
    device:     where training and gradients compute: "auto" (a GPU where there is one), "cpu" or "cuda"
    layer_clock: measures convolutions on the target, for techniques that go by latency; None where there is no target
    val:        the tuning split, for techniques that choose by accuracy; None where there is none (they use `data`)
    """

    data: Dataset
    original: Detector
    input_size: int
    seed: int
    workspace: Path
    deadline: float | None = None
    log: Log = print
    channel_multiple: int = 8
    device: str = "auto"
    layer_clock: LayerClock | None = None
    val: Dataset | None = None

    def seconds_left(self) -> float | None:
        """Time until the deadline, or None where there is none."""
        return None if self.deadline is None else max(self.deadline - time.monotonic(), 0.0)


class Technique(Protocol):
    """Settings and one method.  `name` is how recipes call it."""

    name: ClassVar[str]

    def apply(self, detector: Detector, context: Context) -> Detector:
        """A new detector; `detector` stays untouched.

        Raises TechniqueOrderError where `detector` has been through something that must come later.
        """
        ...


@runtime_checkable
class WithOutside(Protocol):
    """A technique whose settings point to something outside, such as a teacher's file."""

    def outside_sha256(self) -> str:
        """Hash of the content of what they point to, so that a run notices when it has changed; "" for nothing."""
        ...


@runtime_checkable
class ChoosesOnVal(Protocol):
    """A technique that may choose what it does by looking at the tuning pictures."""

    @property
    def uses_val(self) -> bool:
        """Whether it does so with these settings: other tuning pictures may then give another detector."""
        ...


@runtime_checkable
class MeasuresTarget(Protocol):
    """A technique that may choose what it does by `Context.layer_clock`, and by multiply-accumulates without one."""

    @property
    def measures_target(self) -> bool:
        """Whether it does so with these settings: another machine may then give another detector."""
        ...


@runtime_checkable
class WithRemarks(Protocol):
    """A technique of which a report must say something that its name and settings do not tell."""

    def remarks(self, detector: Detector) -> tuple[str, ...]:
        """Sentences about what it does to `detector`, or to another of its architecture."""
        ...


@runtime_checkable
class WithStandIn(Protocol):
    """A technique that trains, or looks at many pictures, and can say what it will make without that."""

    def stand_in(self) -> Technique | None:
        """A cheap technique that gives networks of the same shapes; None where no shape changes."""
        ...


@runtime_checkable
class Training(Protocol):
    """A technique that trains, or may.  minutes, epochs: how long, where one of them is set."""

    minutes: float | None
    epochs: int | None


class TechniqueOrderError(ValueError):
    """A technique was put where it cannot work; the message names both steps and the right order."""
