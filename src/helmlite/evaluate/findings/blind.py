"""Heads that are too low, or too high, for the candidate to see: a scale of its head that is dead.

The heads that the baseline finds are put in the order of their heights, and the height is looked for that best parts
those that the candidate finds from those that it does not: two shares, one on each side, of the highest likelihood.
It fires where next to nothing is left on one side (as for a dead class, `dead.is_gone`), while on the other at least
KEPT_MORE more are kept for certain, by Newcombe's 99 % interval of the difference.  A search over all heights finds
something in any noise; that eight heads in a row are lost is beyond what it could find.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.evaluate.findings.chance import NORMAL_99, Unsaid
from helmlite.evaluate.findings.dead import is_gone
from helmlite.evaluate.findings.pairs import Heads
from helmlite.evaluate.statistics.risks import difference_interval

FAMILY = "blind"
FEWEST_HEADS = 8  # on either side
KEPT_MORE = 0.25


@dataclass(frozen=True)
class BlindHeights:
    """Heads on one side of a height are no longer found.

    limit_px: height in pixels of the original picture;  is_below: whether it is blind below it, else from it on
    heads, kept:             heads on the blind side that the baseline finds, and how many of them the candidate does
    other_heads, other_kept: the same on the other side
    """

    limit_px: float
    is_below: bool
    heads: int
    kept: int
    other_heads: int
    other_kept: int


def find_blind_heights(heads: Heads) -> tuple[BlindHeights | None, list[Unsaid]]:
    """The height below or above which the candidate is blind, None where there is none.

    heads: of the classes that are alive, since a dead class is blind to every height
    """
    known = heads.before
    order = np.argsort(heads.heights_px[known], kind="stable")
    heights, kept = heads.heights_px[known][order], heads.after[known][order]
    if len(kept) < 2 * FEWEST_HEADS:
        return None, [Unsaid(FAMILY, None, len(kept), 2 * FEWEST_HEADS)]
    cut = _best_cut(heights, kept)
    if cut is None:
        return None, []
    sides = [(len(part), int(part.sum())) for part in (kept[:cut], kept[cut:])]
    is_below = sides[0][1] * sides[1][0] < sides[1][1] * sides[0][0]  # shares, without a division
    (count, left), (other_count, other_left) = sides if is_below else sides[::-1]
    more = difference_interval(other_left, other_count, left, count, NORMAL_99)
    if not is_gone(left, count) or more[0] < KEPT_MORE:
        return None, []
    limit = float(heights[cut - 1] + heights[cut]) / 2
    return BlindHeights(limit, is_below, count, left, other_count, other_left), []


def _best_cut(heights: NDArray[np.float64], kept: NDArray[np.bool_]) -> int | None:
    """How many of the lowest heads lie on one side of the best cut, at least FEWEST_HEADS on either; None without.

    heights: (G,) rising;  kept: (G,)
    """
    numbers = np.arange(FEWEST_HEADS, len(kept) - FEWEST_HEADS + 1)
    numbers = numbers[heights[numbers - 1] < heights[numbers]]  # equal heights stay together
    if not len(numbers):
        return None
    found = np.cumsum(kept.astype(np.int64))
    below, above = found[numbers - 1], found[-1] - found[numbers - 1]
    likelihood = _log_likelihood(below, numbers) + _log_likelihood(above, len(kept) - numbers)
    return int(numbers[likelihood.argmax()])


def _log_likelihood(hits: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of so many hits at the share that they make; 0 log 0 is 0."""
    shares = hits / counts
    parts = [
        number * np.log(np.where(number > 0, share, 1.0))
        for number, share in ((hits, shares), (counts - hits, 1 - shares))
    ]
    return np.asarray(parts[0] + parts[1])
