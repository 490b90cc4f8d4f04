"""How often a picture is trained on: more often where it shows a class that few pictures show.

    f(c)   share of the pictures that show class c
    r(c) = max(1, sqrt(t / f(c)))     repeat factor of a class; t, the threshold, is a share too
    r(i) = max of r(c) over the classes c that picture i shows, 1 where it shows none

Repeat factor sampling, Gupta 2019 (LVIS, arXiv 1908.03195v2), appendix B.2.  There an epoch grows
by the factors; here it keeps its length, and pictures with common classes only come less often, so that as many
minutes give as many epochs with it as without.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def repeat_factors(labels: Sequence[NDArray[np.int64]], threshold: float) -> NDArray[np.float64]:
    """The factor of each picture, (N,), at least 1.

    labels: of each picture the classes of its boxes;  threshold: t in [0, 1]; 0 gives 1 everywhere

    Of four pictures all show class 0 and one shows class 1 too: sqrt(1 / 0.25) = 2.

    >>> repeat_factors([np.array([0]), np.array([0, 1]), np.array([0, 0]), np.array([0])], 1.0).tolist()
    [1.0, 2.0, 1.0, 1.0]
    """
    shown = [np.unique(item) for item in labels]
    classes, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *shown]), return_counts=True)
    of_class = dict(zip(classes.tolist(), np.sqrt(threshold * len(labels) / counts).tolist(), strict=True))
    return np.array([max([1.0, *(of_class[label] for label in item.tolist())]) for item in shown], dtype=np.float64)


def drawn(factors: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.int64]:
    """As many positions as there are factors, (N,), in random order; each comes in proportion to its factor.

    Of a position with three times the mean factor there are three; where the number is not whole, it is rounded up or
    down by chance (systematic sampling), so that an epoch is never luckier than it must be.

    >>> sorted(drawn(np.array([1.0, 1.0, 2.0, 0.0]), np.random.default_rng(0)).tolist())
    [0, 1, 2, 2]
    """
    count = len(factors)
    ends = np.cumsum(factors) * (count / factors.sum())
    ends[-1] = count  # whatever rounding made of it
    marks = np.arange(count) + random.random()
    return random.permutation(np.searchsorted(ends, marks, side="right"))
