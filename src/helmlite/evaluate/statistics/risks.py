"""How much likelier something happens to the heads that share a trait than to the others, and whether that is shown.

Shares have Wilson's interval (Wilson 1927), their difference Newcombe's, which is made of the two (Newcombe 1998,
"Interval estimation for the difference between independent proportions", method 10).  Both hold for few heads and
for shares of 0 and 1, where the usual +-1.96 standard errors give nothing.  Heads count as independent draws; those of
one picture are not quite, so that the intervals are rather too narrow: a pointer to where to look, not a verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NORMAL_95 = 1.959964
_NORMAL_99 = 2.575829  # six traits are looked at: at 95 % one without effect would be shown in every seventh data set

FEWEST_HEADS = 10  # 2 of 6 against 7 of 134 passes for shown, though Fisher's exact test finds it likely by luck


@dataclass(frozen=True)
class Risk:
    """One trait of heads and what goes with it, for instance `small` and being missed.

    with_it, heads_with:       how many of the heads that have the trait were hit, and how many have it
    without_it, heads_without: the same of those that have it not; heads of which it is unknown are in neither
    share_with, share_without: in [0, 1], with 95 % intervals; None where there are no such heads
    times:      share_with / share_without; None where either is unknown or the second is 0
    more_ci99:  99 % interval of share_with - share_without
    is_shown:   the whole of that interval is above 0, and at least FEWEST_HEADS have the trait
    """

    trait: str
    with_it: int
    heads_with: int
    without_it: int
    heads_without: int
    share_with: float | None
    share_with_ci95: tuple[float, float] | None
    share_without: float | None
    share_without_ci95: tuple[float, float] | None
    times: float | None
    more_ci99: tuple[float, float] | None
    is_shown: bool

    def in_words(self, hit: str = "missed") -> str:
        """`small: 9 of 20 missed, 6 of 120 of the others: 9.0 times as often`, or what keeps it from being shown."""
        if not self.heads_with or not self.heads_without:
            return f"{self.trait}: {self.heads_with} heads with it and {self.heads_without} without, so nothing is said"
        text = (
            f"{self.trait}: {self.with_it} of {self.heads_with} {hit}, "
            f"{self.without_it} of {self.heads_without} of the others"
        )
        if not self.is_shown:
            return f"{text}; not shown to matter"
        return text if self.times is None else f"{text}: {self.times:.1f} times as often"


def measure_risk(trait: str, has_trait: NDArray[np.bool_], is_hit: NDArray[np.bool_]) -> Risk:
    """The risk that goes with a trait.  has_trait, is_hit: (G,) of the same heads, those where it is known."""
    with_it, heads_with = int((has_trait & is_hit).sum()), int(has_trait.sum())
    without_it, heads_without = int((~has_trait & is_hit).sum()), int((~has_trait).sum())
    share_with = with_it / heads_with if heads_with else None
    share_without = without_it / heads_without if heads_without else None
    more = None
    if heads_with and heads_without:
        more = difference_interval(with_it, heads_with, without_it, heads_without, _NORMAL_99)
    return Risk(
        trait=trait,
        with_it=with_it,
        heads_with=heads_with,
        without_it=without_it,
        heads_without=heads_without,
        share_with=share_with,
        share_with_ci95=wilson_interval(with_it, heads_with),
        share_without=share_without,
        share_without_ci95=wilson_interval(without_it, heads_without),
        times=share_with / share_without if share_with is not None and share_without else None,
        more_ci99=more,
        is_shown=more is not None and more[0] > 0 and heads_with >= FEWEST_HEADS,
    )


def wilson_interval(hits: int, count: int, normal: float = _NORMAL_95) -> tuple[float, float] | None:
    """Interval of a share, 95 % unless told; None of nothing.

    >>> [round(end, 4) for end in wilson_interval(56, 70)]
    [0.6918, 0.877]
    """
    if not count:
        return None
    share, extra = hits / count, normal**2 / count
    centre = (share + extra / 2) / (1 + extra)
    reach = normal / (1 + extra) * math.sqrt(share * (1 - share) / count + extra / (4 * count))
    return max(centre - reach, 0.0), min(centre + reach, 1.0)


def difference_interval(
    hits: int, count: int, other_hits: int, other_count: int, normal: float = _NORMAL_95
) -> tuple[float, float]:
    """Interval of hits / count - other_hits / other_count, 95 % unless told; both counts are above 0.

    Newcombe's own example:

    >>> [round(end, 4) for end in difference_interval(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    own, other = wilson_interval(hits, count, normal), wilson_interval(other_hits, other_count, normal)
    assert own is not None
    assert other is not None
    share, other_share = hits / count, other_hits / other_count
    down = math.hypot(share - own[0], other[1] - other_share)
    up = math.hypot(own[1] - share, other_share - other[0])
    return share - other_share - down, share - other_share + up
