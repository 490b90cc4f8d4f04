"""From which score on a box is shown: one threshold for each class, chosen again for each artifact.

Scores shift when a model is compressed, so that a threshold that was right before is wrong after.
"""

from __future__ import annotations

import numpy as np

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.errors import Matches, match_class
from helmlite.runtime.manifest import Thresholds

DEFAULT_THRESHOLD = 0.25


def best_f1_threshold(matches: Matches) -> tuple[float, float] | None:
    """The threshold with the best F1 of one class, and that F1; None where no labelled box is ever found.

    F1 = 2 * found / (labelled + found + false alarms).  Of equal thresholds the highest is taken.  It lies halfway
    between the lowest score that counts and the next lower one, so that runtimes whose scores differ in the last
    digit report the same boxes.

    >>> # scores 0.9 (found), 0.6 (found), 0.4 (alarm) on two labelled boxes -> (0.5, 1.0)
    """
    found = matches.found_scores[np.isfinite(matches.found_scores)]
    if not found.size:
        return None
    scores = np.unique(np.concatenate([found, matches.alarm_scores]))[::-1]  # best first
    found_count = np.searchsorted(np.sort(-found), -scores, side="right")
    alarm_count = np.searchsorted(np.sort(-matches.alarm_scores), -scores, side="right")
    f1 = 2 * found_count / (matches.head_count + found_count + alarm_count)
    best = int(f1.argmax())  # the first, so the highest threshold
    next_lower = scores[best + 1] if best + 1 < len(scores) else 0.0
    return float(scores[best] + next_lower) / 2, float(f1[best])


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
