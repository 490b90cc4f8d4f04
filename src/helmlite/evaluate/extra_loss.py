"""Whether compression costs more in bad conditions than in good ones: does it break the model first in the dark?

    extra loss   what the result loses under a condition minus what the input loses, on the same pictures

Whoever looks at 27 cases finds one that seems worse.  So "it loses more in the dark" is said only where the extra loss
is above 0 by intervals that hold for all cases at once: as many standard errors wide as the largest of all deviations
is in 95 % of the resamples (Westfall & Young 1993, "Resampling-Based Multiple Testing", section 2; the maximum of
studentized deviations).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helmlite.evaluate.robustness import Case, DrawnCases
from helmlite.evaluate.statistics.intervals import Floats, known
from helmlite.evaluate.statistics.resamples import FEWEST_PICTURES
from helmlite.evaluate.statistics.resampling import check_pairing

_ROUNDING = 1e-9  # points


@dataclass(frozen=True)
class ExtraLoss:
    """How much more the result loses in a case than the input does.

    input_map, result_map:   mAP50-95 of each under the case, in [0, 1]
    input_loss, result_loss: points, each against its own accuracy on the untouched pictures
    extra_points:            result_loss - input_loss; negative where the result loses less
    extra_ci95:              its 95 % interval, paired by picture, for this case alone
    extra_all_ci95:          the interval that holds for all cases at once
    """

    condition: str
    severity: int
    input_map: float | None
    result_map: float | None
    input_loss: float | None
    result_loss: float | None
    extra_points: float | None
    extra_ci95: tuple[float, float] | None
    extra_all_ci95: tuple[float, float] | None

    @property
    def is_proved(self) -> bool:
        """Whether the result provably loses more here, whichever of the cases is looked at, and ends below the input.

        A result that is still the better one has not broken: it only had more to lose.
        """
        if self.extra_all_ci95 is None or self.input_map is None or self.result_map is None:
            return False
        return self.extra_all_ci95[0] > _ROUNDING and self.result_map < self.input_map


@dataclass(frozen=True)
class RobustnessComparison:
    """Extra loss in every case, and where the result breaks first.

    first: the case of the lowest severity in which the result provably loses more, of several the one with the largest
           extra loss; None where there is none
    A detector that starts lower has less to lose: where both come near 0 the result "loses less" by that alone, so look
    at both accuracies as well.
    """

    cases: tuple[ExtraLoss, ...]
    first: ExtraLoss | None
    pictures: int
    units: int

    def in_words(self) -> str:
        """Does compression break the detector first in the dark?  One sentence, in which noise is no loss.

        `The result breaks first in night at severity 2 (4.5 stops less (1/23)): 6.1 points more lost than by the input
        (95 % interval over all 27 cases: 2.0 to 10.2).`
        """
        measured = [case for case in self.cases if case.extra_points is not None]
        if not measured:
            return "Whether the result loses more than the input under any condition is unknown: nothing is labelled."
        if self.units < FEWEST_PICTURES:
            return (
                f"{self.units} independent pictures are too few to tell whether the result loses more than the input "
                f"under any condition (at least {FEWEST_PICTURES})."
            )
        if self.first is None:
            return (
                f"In none of the {len(measured)} cases is it proved that the result loses more than the input: what "
                f"differs cannot be told from chance on {self.pictures} pictures."
            )
        assert self.first.extra_points is not None and self.first.extra_all_ci95 is not None
        low, high = self.first.extra_all_ci95
        text = (
            f"The result breaks first in {Case(self.first.condition, self.first.severity).in_words()}: "
            f"{self.first.extra_points:.1f} points more lost than by the input (95 % interval over all {len(measured)} "
            f"cases: {low:.1f} to {high:.1f})"
        )
        others = dict.fromkeys(case.condition for case in measured if case.is_proved)
        others.pop(self.first.condition)
        return f"{text}; more is lost in {', '.join(others)} too." if others else f"{text}."


def compare_robustness(before: DrawnCases, after: DrawnCases) -> RobustnessComparison:
    """Whether `after`, the result, loses more under any condition than `before`, the input.

    Raises ValueError where the two did not see the same pictures, changed alike, or were not drawn alike.
    """
    seen = before.found, after.found
    check_pairing(seen[0].untouched, seen[1].untouched)
    if seen[0].seed != seen[1].seed or list(before.worse) != list(after.worse):
        raise ValueError(
            f"Input and result must see the same changes; they saw {len(before.worse)} cases with seed {seen[0].seed} "
            f"and {len(after.worse)} with seed {seen[1].seed}."
        )
    draws = before.draws
    if not np.array_equal(draws.weights, after.draws.weights):
        raise ValueError("Input and result must be drawn with the same seed and number of resamples.")
    maps = [(before.worse[case], after.worse[case]) for case in before.worse]
    losses = [(100 * (before.untouched - ours), 100 * (after.untouched - theirs)) for ours, theirs in maps]
    extras = np.array([after_loss - before_loss for before_loss, after_loss in losses]).reshape(len(losses), -1)
    together = _simultaneous(extras) if draws.has_enough_pictures else [None] * len(extras)
    rows = tuple(
        ExtraLoss(
            case.condition,
            case.severity,
            known(pair[0][0]),
            known(pair[1][0]),
            known(loss[0][0]),
            known(loss[1][0]),
            known(extra[0]),
            draws.interval(extra),
            both,
        )
        for case, pair, loss, extra, both in zip(before.worse, maps, losses, extras, together)
    )
    proved = [row for row in rows if row.is_proved]
    first = min(proved, key=lambda row: (row.severity, -(row.extra_points or 0.0)), default=None)
    return RobustnessComparison(rows, first, len(seen[0].untouched), draws.units)


def _simultaneous(extras: Floats) -> list[tuple[float, float] | None]:
    """Intervals that hold together in 95 % of the draws.  (K, 1 + B), the first column the values themselves -> K"""
    told = np.flatnonzero(~np.isnan(extras[:, 0]))
    intervals: list[tuple[float, float] | None] = [None] * len(extras)
    if not told.size:
        return intervals
    values, drawn = extras[told, 0], extras[told, 1:]
    drawn = drawn[:, ~np.isnan(drawn).any(axis=0)]  # draws in which something is labelled
    if drawn.shape[1] < max(extras.shape[1] - 1, 1) / 2:
        return intervals
    errors = drawn.std(axis=1)  # (K,)
    varies = errors > _ROUNDING
    scaled = np.abs(drawn - values[:, None])[varies] / errors[varies, None]
    reach = float(np.percentile(scaled.max(axis=0), 95)) if varies.any() else 0.0
    for place, value, error in zip(told.tolist(), values.tolist(), errors.tolist()):
        intervals[place] = (value - reach * error, value + reach * error)
    return intervals
