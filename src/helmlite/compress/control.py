"""The twin that shows what a teacher brought: the same detector trained as long on the same batches without one.

Same seed, same plan of epochs, same order of pictures and changes to them; only the teacher's losses are missing.  (A
step without a teacher is faster, so that equal epochs are not equal minutes.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from helmlite.compress.checkpoint import is_checkpoint, load_checkpoint, save_checkpoint
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset
from helmlite.detector.detector import Detector
from helmlite.detector.fit import FitSettings, fit
from helmlite.detector.fit_state import planned_epochs
from helmlite.detector.objective import MakeObjective, TaskObjective

FOLDER = "control"


def train_control(
    detector: Detector,
    data: Dataset,
    settings: FitSettings,
    context: Context,
    make_objective: MakeObjective = TaskObjective,
    finish: Callable[[Detector], Detector] | None = None,
) -> Detector:
    """The twin, also as a checkpoint in the step's workspace.  Trained once, after the taught one.

    detector, data, settings: what the taught one was trained from, and with
    make_objective: the taught one's without its teacher;  finish: what is done to the taught one after training
    """
    folder = context.workspace / FOLDER
    if is_checkpoint(folder):
        return load_checkpoint(folder)
    epochs = planned_epochs(context.workspace)
    context.log(f"control: the same {epochs} epochs without a teacher")
    equal = replace(settings, epochs=epochs, minutes=None)
    twin = fit(detector, make_objective, data, equal, context.seed, context.workspace / f"{FOLDER}.work", context.log)
    twin = twin if finish is None else finish(twin)
    save_checkpoint(twin, folder, {"technique": "control", "epochs": epochs, "seed": context.seed})
    return twin


def find_control(workspace: Path) -> tuple[Detector, int] | None:
    """The twin in a distillation's workspace and its epochs, or None where none was asked for."""
    folder = workspace / FOLDER
    return (load_checkpoint(folder), planned_epochs(workspace)) if is_checkpoint(folder) else None
