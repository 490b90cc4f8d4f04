"""Accuracy of every artifact of a run, measured the same way for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from helmlite.data.dataset import Dataset
from helmlite.data.roles import labels_of_role
from helmlite.detections import Image
from helmlite.detector.detector import Log
from helmlite.evaluate.accuracy import Accuracy, Predictions, measure_accuracy, predictions_kept
from helmlite.evaluate.errors import match_class, threshold_for_alarms
from helmlite.evaluate.fidelity import Fidelity, Parity, measure_fidelity
from helmlite.export.parity import measure_parity
from helmlite.job.candidates import Candidate
from helmlite.runtime.bundle import BundlePredictor

_BOX_PIXELS, _SCORE = 0.1, 1e-3  # what a float file may be off, on average over all cells


@dataclass(frozen=True)
class Seen:
    """What one artifact found in the tuning and in the reported pictures."""

    val: Predictions
    test: Predictions
    accuracy: Accuracy  # on test


def look(predictor: BundlePredictor, val: Dataset, test: Dataset, folder: Path, log: Log = print) -> Seen:
    """Predictions on both splits, kept in `folder` so that a resumed run need not look again."""
    found = [predictions_kept(folder / f"{split.split}.json", predictor, split, log) for split in (val, test)]
    return Seen(found[0], found[1], measure_accuracy(found[1], test))


def recall_at_alarms(found: Seen, alarms_per_100: float, val: Dataset, test: Dataset) -> float | None:
    """Recall of no_helmet on test, at the threshold with so many false alarms on val; None without such heads."""
    labels = labels_of_role(val.classes, "no_helmet")
    threshold = threshold_for_alarms(match_class(found.val, val, labels), alarms_per_100)
    return match_class(found.test, test, labels).recall_at(threshold)


def check_exports(candidates: Sequence[Candidate], pictures: Sequence[Image]) -> dict[str, Parity]:
    """How far the exported files are from their detectors in PyTorch, by the names of their rows."""
    found = {}
    for item in candidates:
        if not item.in_chain:  # an earlier row's file, run in another way
            continue
        runtime = item.predictor.session.runtime
        found[item.name] = measure_parity(item.detector, item.bundle.model_path(runtime), pictures, runtime)
    return found


def export_defects(candidates: Sequence[Candidate], parities: Mapping[str, Parity]) -> tuple[str, ...]:
    """A line for each float file that is not its detector: a defect of an exporter or a runtime.

    Its figures stand, since it is the file that would ship; but they are not what compression cost.
    """
    lines = []
    for item in candidates:
        parity = parities.get(item.name)
        if parity is None or item.precision != "f32":
            continue
        if parity.box_mean_pixels > _BOX_PIXELS or parity.score_mean > _SCORE:
            lines.append(
                f"The exported file of '{item.name}' does not give what its detector gives in PyTorch: boxes are "
                f"{parity.box_mean_pixels:.2f} pixels and scores {parity.score_mean:.4f} apart on average. Its figures "
                "are the file's, and not what compression cost."
            )
    return tuple(lines)


def fidelity_of(item: Candidate, seen: Mapping[str, Seen]) -> Fidelity | None:
    """What its precision cost a row, against the float row that it is a copy of; None where it is no copy."""
    if not item.copy_of:
        return None
    return measure_fidelity(item.copy_of, seen[item.copy_of].test, seen[item.name].test)
