"""The trainings of a run as curves, from what each left on disk."""

from __future__ import annotations

import json
from pathlib import Path

from helmlite.compress.recipe import step_folders
from helmlite.detector.fit_state import METRICS_NAME
from helmlite.evaluate.report import Curve

_NOT_PARTS = frozenset({"epoch", "loss", "learning_rate", "seconds", "score"})


def training_curves(steps: Path) -> tuple[Curve, ...]:
    """For each training the parts of its loss after every epoch, in the order of the steps.  steps: a run's folder."""
    found = []
    for place in step_folders(steps):
        path = place.with_name(f"{place.name}.work") / METRICS_NAME
        if not path.is_file():
            continue
        epochs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        names = [name for name in epochs[0] if name not in _NOT_PARTS] if epochs else []
        lines = {name: tuple((float(item["epoch"]), float(item[name])) for item in epochs) for name in names}
        number, technique = place.name.split("-")[:2]
        if lines:
            found.append(Curve(f"{number}. {technique}", "epoch", "parts of the loss", lines))
    return tuple(found)
