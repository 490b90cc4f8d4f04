"""From which score on a box is shown: one threshold for each class, chosen again for each artifact by a stated rule.

Scores shift when a model is compressed, so that a threshold that was right before is wrong after.  Three rules:

    f1            the best F1 of the class
    recall=0.9    the highest threshold that still finds this share of the labelled boxes
    alarms=5      the lowest threshold with at most so many false alarms of the class for every 100 pictures
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.errors import Matches, match_class, threshold_for_alarms
from helmlite.runtime.manifest import Thresholds

DEFAULT_THRESHOLD = 0.25


@dataclass(frozen=True)
class ThresholdRule:
    """How thresholds are chosen.  kind: `f1`, `recall` or `alarms`;  value: share to be found, alarms per 100 pictures

    Raises ValueError for an unknown kind, a recall outside (0, 1], or a negative number of alarms.
    """

    kind: str = "f1"
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("f1", "recall", "alarms"):
            raise ValueError(f"Unknown rule '{self.kind}' for thresholds. The rules are {RULES_IN_WORDS}.")
        if self.kind == "recall" and not 0 < self.value <= 1:
            raise ValueError(f"The share of boxes to be found is above 0 and at most 1; got {self.value:g}.")
        if self.kind == "alarms" and not 0 <= self.value < float("inf"):
            raise ValueError(f"False alarms for every 100 pictures are at least 0; got {self.value:g}.")

    def __str__(self) -> str:
        """As `parse_rule` reads it: `f1`, `recall=0.9`, `alarms=5`."""
        return self.kind if self.kind == "f1" else f"{self.kind}={self.value:g}"

    def in_words(self) -> str:
        """`best F1 of each class`, `recall of at least 90 % of each class`, ..."""
        if self.kind == "recall":
            return f"recall of at least {100 * self.value:g} % of each class"
        if self.kind == "alarms":
            return f"at most {self.value:g} false alarms of each class for every 100 pictures"
        return "best F1 of each class"


RULES_IN_WORDS = "f1, recall=SHARE (0.9) and alarms=NUMBER for every 100 pictures (5)"
BEST_F1 = ThresholdRule()


def parse_rule(text: str) -> ThresholdRule:
    """`f1`, `recall=0.9` or `alarms=5` as a rule.  Raises ValueError for anything else.

    >>> parse_rule("recall=0.9")
    ThresholdRule(kind='recall', value=0.9)
    """
    kind, separator, value = text.partition("=")
    try:
        number = float(value) if separator else 0.0
    except ValueError:
        number = float("nan")
    if (kind == "f1") == bool(separator) or number != number:
        raise ValueError(f"'{text}' is no rule for thresholds. The rules are {RULES_IN_WORDS}.")
    return ThresholdRule(kind, number)


def threshold_by(rule: ThresholdRule, matches: Matches) -> float | None:
    """The threshold of one class by this rule; None where no box of it is ever found, or the rule cannot be kept."""
    if rule.kind == "recall":
        return recall_threshold(matches, rule.value)
    if rule.kind == "alarms":
        is_ever_found = bool(np.isfinite(matches.found_scores).any())
        return threshold_for_alarms(matches, rule.value) if is_ever_found else None
    best = best_f1_threshold(matches)
    return None if best is None else best[0]


def recall_threshold(matches: Matches, share: float) -> float | None:
    """The highest threshold at which at least this share of the labelled boxes is found; None where none is so low.

    It lies halfway between the score of the last box that is needed and the next lower score.

    >>> # scores 0.9, 0.6 (found), 0.4 (alarm) on two boxes: a share of 0.5 -> 0.75, of 1.0 -> 0.5
    """
    found = np.sort(matches.found_scores[np.isfinite(matches.found_scores)])[::-1]
    needed = max(int(np.ceil(share * matches.head_count - 1e-9)), 1)
    if needed > len(found):
        return None
    last = float(found[needed - 1])
    lower = [score for score in (*found, *matches.alarm_scores) if score < last]
    return (last + max(lower, default=0.0)) / 2


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


def choose_thresholds(predictions: Predictions, dataset: Dataset, rule: ThresholdRule = BEST_F1) -> Thresholds:
    """One threshold for each class by this rule on these pictures, and the rule in words, for the manifest."""
    by_class: list[float] = []
    never_found: list[str] = []
    not_kept: list[str] = []
    for label, item in enumerate(dataset.classes):
        matches = match_class(predictions, dataset, (label,))
        threshold = threshold_by(rule, matches)
        found = matches.found_scores[np.isfinite(matches.found_scores)]
        if threshold is None and found.size:
            not_kept.append(item.name)
            threshold = float(found.min()) / 2
        elif threshold is None:
            never_found.append(item.name)
        by_class.append(DEFAULT_THRESHOLD if threshold is None else threshold)
    text = f"{rule.in_words()} at IoU 0.5 on {len(predictions)} pictures of the {dataset.split} split"
    if not_kept:
        text += f"; {', '.join(not_kept)}: not so many are found at any score, so that every score counts"
    if never_found:
        text += f"; {', '.join(never_found)}: {DEFAULT_THRESHOLD}, as nothing of it is labelled or found there"
    return Thresholds(tuple(by_class), text)


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
