"""Heads that are too low, or too high, for the candidate to see: a scale of its head that is dead.

The heads that the baseline finds are put in the order of their heights.  From the lowest on, the blind side reaches as
far up as next to nothing of it is left (as of a dead class, `dead.is_gone`), ending with a head that is lost; from the
highest on likewise.  It fires where on the other side at least KEPT_MORE more are kept for certain, by Newcombe's 99 %
interval of the difference.  A search over all heights finds something in any noise; that eight heads in a row are lost
is beyond what it could find.

The heads that are lost must lie in as many pictures as those of a dead class: one crowd that is lost is a bad picture.
Small heads have low scores, and a threshold that happens to be chosen high loses them all.  That is no
blindness, so the candidate is asked at a quarter of the lower threshold of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.evaluate.findings.chance import NORMAL_99, Draws, Unsaid
from helmlite.evaluate.findings.dead import FEWEST_PICTURES, is_gone
from helmlite.evaluate.findings.pairs import Heads
from helmlite.evaluate.statistics.risks import difference_interval

FAMILY = "blind"
FEWEST_HEADS = 8  # on either side
KEPT_MORE = 0.25
SHARE_OF_LOWER = 0.25


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


def find_blind_heights(heads: Heads, draws: Draws) -> tuple[BlindHeights | None, list[Unsaid]]:
    """The height below or above which the candidate is blind, None where there is none.

    heads: of the classes that are alive, since a dead class is blind to every height, at SHARE_OF_LOWER
    """
    known = heads.before
    order = np.argsort(heads.heights_px[known], kind="stable")
    heights, kept = heads.heights_px[known][order], heads.after[known][order]
    pictures = heads.pictures[known][order]
    if len(kept) < 2 * FEWEST_HEADS:
        return None, [Unsaid(FAMILY, None, len(kept), 2 * FEWEST_HEADS)]
    low, high = _blind_count(heights, kept), _blind_count(-heights[::-1], kept[::-1])
    if not low and not high:
        return None, []
    is_below = low >= high
    cut = low if is_below else len(kept) - high
    blind, other = (kept[:cut], kept[cut:]) if is_below else (kept[cut:], kept[:cut])
    if not draws.enough(pictures[:cut] if is_below else pictures[cut:], FEWEST_PICTURES):
        return None, [Unsaid(FAMILY, None, len(blind), FEWEST_HEADS)]
    limit = float(heights[cut - 1] + heights[cut]) / 2
    return BlindHeights(limit, is_below, len(blind), int(blind.sum()), len(other), int(other.sum())), []


def _blind_count(heights: NDArray[np.float64], kept: NDArray[np.bool_]) -> int:
    """How many of the first heads lie on a blind side: the most for which all conditions hold; 0 where for none.

    heights: (G,) rising;  kept: (G,)
    """
    found = np.cumsum(kept.astype(np.int64))
    for count in range(len(kept) - FEWEST_HEADS, FEWEST_HEADS - 1, -1):
        left, other = int(found[count - 1]), int(found[-1] - found[count - 1])
        is_end = not kept[count - 1] and heights[count - 1] < heights[count]  # equal heights stay together
        if is_end and is_gone(left, count):
            more = difference_interval(other, len(kept) - count, left, count, NORMAL_99)
            if more[0] >= KEPT_MORE:
                return count
    return 0
