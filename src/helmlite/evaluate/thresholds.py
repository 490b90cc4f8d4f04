"""From which score on a box is shown: one threshold for each class, chosen again for each artifact.

Scores shift when a model is compressed, so that a threshold that was right before is wrong after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.errors import Matches, match_class
from helmlite.runtime.manifest import Thresholds

DEFAULT_THRESHOLD = 0.25


@dataclass(frozen=True)
class CountsByScore:
    """What is found and what rings falsely when each score in turn is the lowest that counts.

    scores: (S,) every score that occurs, best first;  found, alarms: (S,) counts;  heads: labelled boxes
    """

    scores: NDArray[np.float64]
    found: NDArray[np.int64]
    alarms: NDArray[np.int64]
    heads: int

    @property
    def f1(self) -> NDArray[np.float64]:
        """2 * found / (labelled + found + false alarms) at each score.  (S,)"""
        return np.asarray(2 * self.found / (self.heads + self.found + self.alarms))


def count_by_score(matches: Matches) -> CountsByScore:
    """Found boxes and false alarms of one class at every threshold at which they change."""
    found = matches.found_scores[np.isfinite(matches.found_scores)]
    scores = np.unique(np.concatenate([found, matches.alarm_scores]))[::-1]  # best first
    return CountsByScore(
        scores,
        np.searchsorted(np.sort(-found), -scores, side="right"),
        np.searchsorted(np.sort(-matches.alarm_scores), -scores, side="right"),
        matches.head_count,
    )


def best_f1_threshold(matches: Matches) -> tuple[float, float] | None:
    """The threshold with the best F1 of one class, and that F1; None where no labelled box is ever found.

    F1 = 2 * found / (labelled + found + false alarms).  Of equal thresholds the highest is taken.  It lies halfway
    between the lowest score that counts and the next lower one, so that runtimes whose scores differ in the last
    digit report the same boxes.

    >>> # scores 0.9 (found), 0.6 (found), 0.4 (alarm) on two labelled boxes -> (0.5, 1.0)
    """
    counts = count_by_score(matches)
    if not counts.found.any():
        return None
    best = int(counts.f1.argmax())  # the first, so the highest threshold
    next_lower = counts.scores[best + 1] if best + 1 < len(counts.scores) else 0.0
    return float(counts.scores[best] + next_lower) / 2, float(counts.f1[best])


def choose_thresholds(predictions: Predictions, dataset: Dataset) -> Thresholds:
    """One threshold for each class by best F1 on these pictures, and the rule in words, for the manifest."""
    by_class: list[float] = []
    not_chosen: list[str] = []
    for label, item in enumerate(dataset.classes):
        best = best_f1_threshold(match_class(predictions, dataset, (label,)))
        by_class.append(DEFAULT_THRESHOLD if best is None else best[0])
        if best is None:
            not_chosen.append(item.name)
    rule = f"best F1 of each class at IoU 0.5 on {len(predictions)} pictures of the {dataset.split} split"
    if not_chosen:
        rule += f"; {', '.join(not_chosen)}: {DEFAULT_THRESHOLD}, as nothing of it is labelled or found there"
    return Thresholds(tuple(by_class), rule)


def above_thresholds(predictions: Predictions, thresholds: Sequence[float]) -> Predictions:
    """What a device shows of these predictions: the detections with at least the score of their class.

    thresholds: one for each class.  Raises ValueError where a detection has a label beyond them.
    """
    limits = np.array(thresholds, dtype=np.float32)
    for found in predictions.detections:
        if len(found) and int(found.labels.max()) >= len(limits):
            raise ValueError(
                f"A detection has label {int(found.labels.max())}, but {len(limits)} thresholds were given."
            )
    shown = tuple(found[found.scores >= limits[found.labels]] for found in predictions.detections)
    return replace(predictions, detections=shown)
