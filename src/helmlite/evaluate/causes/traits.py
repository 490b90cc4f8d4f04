"""Traits that make a head hard to find (small, blurred, dark, ...), and how often heads with each are missed.

Small, blurred and dark are said against the data set's own heads: below the lowest fifth of them.  An absolute limit
would call every head of one camera small and none of another's.  A fifth and not a tenth, because what is missed
among a tenth of a few hundred heads shows nothing.  Crowded and cut off mean the same everywhere.

A trait is a cause only where heads with it are provably missed more often (`risks.py`).  That is still no proof of
cause and effect: heads far away are small *and* dark *and* crowded, and each stands in for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helmlite.evaluate.causes.box_facts import BoxFacts
from helmlite.evaluate.statistics.risks import Risk, measure_risk

LOWEST_SHARE = 0.2
CROWDED_IOU = 0.1  # with another labelled head
CROWDED_HEADS = 3  # near ones


@dataclass(frozen=True)
class Limits:
    """Below which value a head is small, blurred or dark here; None where nothing could be measured.

    share: of the heads that lies below each
    """

    share: float
    height_pixels: float | None
    sharpness: float | None
    luma: float | None
    picture_luma: float | None


def _below(value: float | None, limit: float | None) -> bool | None:
    return None if value is None or limit is None else value < limit


def _is_crowded(facts: BoxFacts, limits: Limits) -> bool | None:
    return facts.highest_iou >= CROWDED_IOU or facts.near_heads >= CROWDED_HEADS


# trait -> whether a box has it; None where that is unknown
TRAITS: Mapping[str, Callable[[BoxFacts, Limits], bool | None]] = {
    "small": lambda facts, limits: _below(facts.height_pixels, limits.height_pixels),
    "blurred": lambda facts, limits: _below(facts.sharpness, limits.sharpness),
    "dark": lambda facts, limits: _below(facts.luma, limits.luma),
    "in a dark picture": lambda facts, limits: _below(facts.picture_luma, limits.picture_luma),
    "crowded": _is_crowded,
    "cut off by the border": lambda facts, limits: facts.is_truncated,
}


def choose_limits(facts: Sequence[BoxFacts], share: float = LOWEST_SHARE) -> Limits:
    """The limits below which `share` of these heads lies.  Of equal values none is below: on equal heads none is small.

    Raises ValueError for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"The share of heads that count as small, blurred or dark lies between 0 and 1; got {share}.")
    return Limits(
        share=share,
        height_pixels=_lowest([item.height_pixels for item in facts], share),
        sharpness=_lowest([item.sharpness for item in facts], share),
        luma=_lowest([item.luma for item in facts], share),
        picture_luma=_lowest([item.picture_luma for item in facts], share),
    )


def traits_of(facts: BoxFacts, limits: Limits) -> tuple[str, ...]:
    """The traits that this box is known to have, in the order of TRAITS."""
    return tuple(name for name, has in TRAITS.items() if has(facts, limits))


def measure_risks(facts: Sequence[BoxFacts], limits: Limits, is_hit: NDArray[np.bool_]) -> tuple[Risk, ...]:
    """What goes with each trait, the surest first.  is_hit: (G,) for instance which of these heads are missed."""
    risks = []
    for name, has in TRAITS.items():
        known = [has(item, limits) for item in facts]
        is_known = np.array([item is not None for item in known], dtype=bool)
        has_trait = np.array([bool(item) for item in known], dtype=bool)
        risks.append(measure_risk(name, has_trait[is_known], is_hit[is_known]))
    return tuple(sorted(risks, key=lambda item: -np.inf if item.more_ci99 is None else item.more_ci99[0], reverse=True))


def likeliest_first(traits: Sequence[str], risks: Sequence[Risk]) -> tuple[str, ...]:
    """These traits in the order of what goes with them."""
    return tuple(item.trait for item in risks if item.trait in traits)


def shown_among(traits: Sequence[str], risks: Sequence[Risk]) -> tuple[str, ...]:
    """Those of these traits with which heads are provably missed more often, the surest first: the causes."""
    return tuple(item.trait for item in risks if item.trait in traits and item.is_shown)


def trait_in_words(trait: str, facts: BoxFacts) -> str:
    """`small (14 px high)`, `dark (luma 31)`: a trait and the fact that it stands on."""
    measured = {
        "small": f"{facts.height_pixels:.0f} px high",
        "blurred": "" if facts.sharpness is None else f"sharpness {facts.sharpness:.2f}",
        "dark": "" if facts.luma is None else f"luma {facts.luma:.0f}",
        "in a dark picture": "" if facts.picture_luma is None else f"luma {facts.picture_luma:.0f}",
        "crowded": f"IoU {facts.highest_iou:.2f}, heads near: {facts.near_heads}",
    }.get(trait)
    return f"{trait} ({measured})" if measured else trait


def _lowest(values: Sequence[float | None], share: float) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.quantile(known, share, method="higher")) if known else None
