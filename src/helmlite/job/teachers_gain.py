"""What the teacher brought: a distilled step against its twin that trained as long without one, in pairs of pictures.

Both are asked in PyTorch, at the run's input size, on the reported pictures; their answers are kept for a resumed run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helmlite.compress.control import find_control
from helmlite.compress.recipe import StepResult
from helmlite.data.dataset import Dataset
from helmlite.detector.detector import Log
from helmlite.evaluate.accuracy import measure_accuracy, predictions_kept
from helmlite.evaluate.statistics.resamples import FEWEST_PICTURES
from helmlite.evaluate.statistics.resampling import map_loss_ci95, unit_count


@dataclass(frozen=True)
class TeachersGain:
    """mAP50-95 with and without a teacher, in [0, 1]; None where unknown.

    ci95: interval of the gain, points; None where the pictures are too few for one (as the gate has it)
    """

    step: str
    epochs: int
    with_teacher: float | None
    without: float | None
    ci95: tuple[float, float] | None

    def in_words(self) -> str:
        """One line for the report."""
        start = f"What the teacher brought in step {self.step}"
        if self.with_teacher is None or self.without is None:
            return f"{start}: unknown, nothing is labelled in these pictures."
        gain = 100 * (self.with_teacher - self.without)
        between = "too few pictures for an interval"
        if self.ci95 is not None:
            between = f"95 % interval {_signed(self.ci95[0])} to {_signed(self.ci95[1])}"
        return (
            f"{start}: {_signed(gain)} points of mAP50-95 ({between}), {100 * self.with_teacher:.1f} against "
            f"{100 * self.without:.1f} for the same detector trained the same {self.epochs} epochs without one."
        )


def teachers_gains(
    steps: Sequence[StepResult], test: Dataset, input_size: int, folder: Path, seed: int, log: Log
) -> tuple[TeachersGain, ...]:
    """One for each step that trained a control.  folder: where predictions are kept."""
    gains = []
    for number, step in enumerate(steps, start=1):
        found = find_control(step.folder.with_name(f"{step.folder.name}.work"))
        if found is None:
            continue
        control, epochs = found
        log(f"accuracy: {number}. {step.name} and its control")
        place = folder / f"control-{step.folder.name}"
        taught, twin = (
            predictions_kept(place / f"{name}-{test.split}.json", detector.predictor(input_size), test, log)
            for name, detector in (("taught", step.detector), ("control", control))
        )
        enough = unit_count([test[index].group for index in twin.indices]) >= FEWEST_PICTURES
        # what the taught one loses against its twin: negative where it is better
        loss = map_loss_ci95(twin, taught, test, seed=seed) if enough else None
        gains.append(
            TeachersGain(
                f"{number} ({step.name})",
                epochs,
                measure_accuracy(taught, test).map,
                measure_accuracy(twin, test).map,
                None if loss is None else (-loss[1], -loss[0]),
            )
        )
    return tuple(gains)


def _signed(points: float) -> str:
    """One digit with its sign; what rounds to nothing is +0.0."""
    return f"{round(points, 1) + 0.0:+.1f}"
