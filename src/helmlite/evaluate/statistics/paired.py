"""How far a paired difference may go beyond what was seen: the interval that few changes, or none, leave open.

A bootstrap draws only what the pictures hold.  Where no head changed, no resample shows a change, and its interval is
a point: 40 heads that all stayed found would prove that nothing is ever lost, though a detector that loses every
fiftieth head leaves 40 as they were in 45 of 100 sets.  Tango's score interval of a paired difference asks instead for
which true differences so few changes are still likely (T. Tango, Equivalence test and confidence interval for the
difference in proportions for the paired-sample design, Statistics in Medicine 17, 1998, 891-908, equations 4 and 5).
It takes heads as independent; what those of one picture share is the bootstrap's part.
"""

from __future__ import annotations

import math

_NORMAL_95 = 1.959964
_HALVINGS = 60


def tango_interval(lost: int, won: int, count: int) -> tuple[float, float]:
    """95 % interval of (lost - won) / count, in [-1, 1].

    lost, won: of `count` things seen twice, those that changed one way and the other.  Without any change the ends are
    +- z^2 / (count + z^2).

    >>> [round(end, 3) for end in tango_interval(1, 7, 21)]  # as in M. Fagerland et al., BMC 13:91 (2013), table 5
    [-0.517, -0.026]
    >>> [round(end, 3) for end in tango_interval(0, 0, 54)]
    [-0.066, 0.066]
    """
    if not count:
        return -1.0, 1.0
    return -_upper_end(won, lost, count), _upper_end(lost, won, count)


def widened(interval: tuple[float, float], lost: int, won: int, count: int) -> tuple[float, float]:
    """An interval of 100 * (lost - won) / count, in points, made as wide as so few changes leave open."""
    low, high = tango_interval(lost, won, count)
    return min(interval[0], 100 * low), max(interval[1], 100 * high)


def count_that_resolves(share: float) -> int:
    """How many things must stay unchanged for the interval's end to be at most `share`, above 0.

    >>> count_that_resolves(0.02)
    189
    """
    return math.ceil(_NORMAL_95**2 * (1 - share) / share)


def _upper_end(lost: int, won: int, count: int) -> float:
    """The largest difference that is not refuted, by bisection: the score falls as the difference grows."""
    low, high = (lost - won) / count, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _score(lost, won, count, middle) > -_NORMAL_95:
            low = middle
        else:
            high = middle
    return high


def _score(lost: int, won: int, count: int, difference: float) -> float:
    """Tango's z for a true difference: what was seen beyond it, in standard errors at the likeliest share of `won`."""
    slack = difference * (1 - difference)
    linear = (2 * count - lost + won) * difference - lost - won
    likeliest = (math.sqrt(linear**2 + 8 * count * won * slack) - linear) / (4 * count)
    variance = count * (2 * likeliest + slack)
    beyond = lost - won - count * difference
    if variance <= 0:
        return 0.0 if beyond == 0 else math.copysign(math.inf, beyond)
    return beyond / math.sqrt(variance)
