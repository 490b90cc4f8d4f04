"""Precision against recall, and F1 against the threshold, as points that a plot draws as they are.

Both are at IoU 0.5 and for one class.  Precision over recall is COCO's own: at each of 101 recall points the best
precision at this or a higher recall, so that its mean is AP50.  F1 is taken from the same matches as the thresholds of
a device (`errors.py`), unsmoothed, so that its peak is the threshold that `thresholds.py` chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.evaluate.accuracy import Evaluation
from helmlite.evaluate.errors import Matches
from helmlite.evaluate.thresholds import CountsByScore, best_f1_threshold, count_by_score

MOST_POINTS = 200


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """COCO's curve at IoU 0.5: 101 points of recall from 0 to 1, and the precision at each.  Its mean is AP50."""

    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True)
class ThresholdCurve:
    """What each threshold gives, lowest first: at most 200 of the scores that occur.

    thresholds, precision, recall, f1: (P,) in [0, 1]; detections with at least this score count
    best_f1:        the highest of all, thinned out or not; None where no labelled box is ever found
    best_threshold: where it is reached, halfway to the next lower score
    """

    thresholds: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    best_f1: float | None
    best_threshold: float | None


def precision_recall_curve(evaluation: Evaluation, label: int) -> PrecisionRecallCurve | None:
    """The curve of one class from `accuracy.coco_evaluation`, accumulated; None where nothing of it is labelled."""
    precision = np.asarray(evaluation.eval["precision"])[0, :, label, 0, -1]  # IoU 0.5, every size; -1: unknown
    if (precision < 0).any():
        return None
    return PrecisionRecallCurve(_numbers(np.asarray(evaluation.params.rec_thrs)), _numbers(precision))


def threshold_curve(matches: Matches, most_points: int = MOST_POINTS) -> ThresholdCurve | None:
    """Precision, recall and F1 of one class against the threshold; None where nothing of it is labelled.

    Kept are the lowest and the highest score, the best F1, and what stands next to evenly spaced thresholds.
    Raises ValueError for fewer than three points.
    """
    if most_points < 3:
        raise ValueError(f"A curve needs at least 3 points for its ends and its best F1; got {most_points}.")
    if not matches.head_count:
        return None
    counts = count_by_score(matches)
    kept = _thinned(counts, most_points)
    best = best_f1_threshold(matches)
    return ThresholdCurve(
        thresholds=_numbers(counts.scores[kept]),
        precision=_numbers((counts.found / (counts.found + counts.alarms))[kept]),
        recall=_numbers((counts.found / counts.heads)[kept]),
        f1=_numbers(counts.f1[kept]),
        best_f1=None if best is None else best[1],
        best_threshold=None if best is None else best[0],
    )


def _thinned(counts: CountsByScore, most_points: int) -> NDArray[np.int64]:
    """Places among the scores, lowest score first.  Even steps of the score, since faint detections outnumber all."""
    number = len(counts.scores)
    if number <= most_points:
        return np.arange(number)[::-1]
    rising = counts.scores[::-1]
    even = np.searchsorted(rising, np.linspace(rising[0], rising[-1], most_points - 1))  # both ends among them
    best = number - 1 - int(counts.f1.argmax())
    return number - 1 - np.union1d(even, [best])


def _numbers(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
