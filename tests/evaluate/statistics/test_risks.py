"""Risks against published numbers and scipy, traits on facts that are written down."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from helmlite.evaluate.causes.box_facts import BoxFacts
from helmlite.evaluate.causes.traits import (
    TRAITS,
    choose_limits,
    likeliest_first,
    measure_risks,
    shown_among,
    trait_in_words,
    traits_of,
)
from helmlite.evaluate.statistics.risks import difference_interval, measure_risk, wilson_interval


def _facts(height: float = 40.0, luma: float | None = 100.0, iou: float = 0.0, near: int = 0) -> BoxFacts:
    return BoxFacts(height, 1.0, luma, 100.0, iou, near, False)


def _mask(hits: int, count: int) -> list[bool]:
    return [number < hits for number in range(count)]


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (0, 10), (3, 3), (9, 20), (1, 500)])
def test_wilson_equals_scipy(hits: int, count: int) -> None:
    expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson_interval(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_nothing_has_no_interval() -> None:
    assert wilson_interval(0, 0) is None


@pytest.mark.parametrize(
    ("counts", "interval"),  # Newcombe 1998, table II, method 10
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 10), (-0.2775, 0.2775)),
    ],
)
def test_the_difference_is_newcombes(counts, interval) -> None:  # type: ignore[no-untyped-def]
    assert difference_interval(*counts) == pytest.approx(interval, abs=5e-5)


def test_a_trait_that_goes_with_misses() -> None:
    risk = measure_risk("small", np.array([True] * 20 + [False] * 120), np.array(_mask(9, 20) + _mask(6, 120)))
    assert (risk.with_it, risk.heads_with, risk.without_it, risk.heads_without) == (9, 20, 6, 120)
    assert risk.times == pytest.approx(9.0)
    assert risk.is_shown
    assert risk.in_words() == "small: 9 of 20 missed, 6 of 120 of the others: 9.0 times as often"


def test_a_trait_that_does_not() -> None:
    risk = measure_risk("dark", np.array([True] * 20 + [False] * 120), np.array(_mask(2, 20) + _mask(6, 120)))
    assert not risk.is_shown
    assert risk.in_words() == "dark: 2 of 20 missed, 6 of 120 of the others; not shown to matter"


def test_few_heads_show_nothing_whatever_the_interval() -> None:
    few = measure_risk("crowded", np.array([True] * 6 + [False] * 134), np.array(_mask(2, 6) + _mask(7, 134)))
    assert few.more_ci99 is not None
    assert few.more_ci99[0] > 0
    assert not few.is_shown


def test_what_no_head_has_is_unknown() -> None:
    risk = measure_risk("dark", np.zeros(5, bool), np.ones(5, bool))
    assert (risk.share_with, risk.share_with_ci95, risk.times, risk.more_ci99) == (None, None, None, None)
    assert risk.in_words() == "dark: 0 heads with it and 5 without, so nothing is said"


def test_every_miss_among_those_with_it_is_no_number_of_times() -> None:
    risk = measure_risk("small", np.array([True] * 10 + [False] * 50), np.array([True] * 10 + [False] * 50))
    assert risk.times is None
    assert risk.is_shown
    assert risk.in_words() == "small: 10 of 10 missed, 0 of 50 of the others"


def test_limits_are_the_lowest_fifth() -> None:
    facts = [_facts(height=float(10 + number)) for number in range(11)]
    limits = choose_limits(facts)
    assert limits.height_pixels == 12.0
    assert [bool("small" in traits_of(item, limits)) for item in facts] == [True, True] + [False] * 9
    assert limits.luma == 100.0
    assert not any("dark" in traits_of(item, limits) for item in facts)  # all are equal: none is dark


def test_limits_of_nothing_and_of_unknown_pixels() -> None:
    assert choose_limits([]).height_pixels is None
    limits = choose_limits([_facts(luma=None)])
    assert limits.luma is None
    assert traits_of(_facts(luma=3.0), limits) == ()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_lies_between_0_and_1(share: float) -> None:
    with pytest.raises(ValueError, match=f"lies between 0 and 1; got {share}"):
        choose_limits([], share)


def test_crowded_by_overlap_or_by_number() -> None:
    limits = choose_limits([_facts()])
    crowded = [traits_of(_facts(iou=iou, near=near), limits) for iou, near in ((0.1, 1), (0.0, 3), (0.09, 2))]
    assert crowded == [("crowded",), ("crowded",), ()]


def test_unknown_heads_are_in_neither_group_and_the_surest_trait_comes_first() -> None:
    facts = [_facts(height=5.0, luma=float(number)) for number in range(12)]
    facts += [_facts(luma=None)] + [_facts(luma=float(50 + number)) for number in range(47)]
    is_missed = np.array([item.height_pixels < 10 for item in facts])
    limits = choose_limits(facts, share=0.2)
    risks = measure_risks(facts, limits, is_missed)
    by_trait = {item.trait: item for item in risks}
    assert set(by_trait) == set(TRAITS)
    assert by_trait["dark"].heads_with + by_trait["dark"].heads_without == 59
    assert by_trait["small"].heads_with + by_trait["small"].heads_without == 60
    assert risks[0].trait in ("small", "dark")
    assert shown_among(("crowded", "small"), risks) == ("small",)
    assert likeliest_first(("crowded", "small"), risks) == ("small", "crowded")


def test_traits_in_words() -> None:
    assert trait_in_words("small", _facts(height=13.6)) == "small (14 px high)"
    assert trait_in_words("crowded", _facts(iou=0.25, near=2)) == "crowded (IoU 0.25, heads near: 2)"
    assert trait_in_words("cut off by the border", _facts()) == "cut off by the border"
