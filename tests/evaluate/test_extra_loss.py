"""Does compression break the model first in the dark?  Only where more is lost than chance would take."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import count

import pytest

from helmlite.data.dataset import Dataset
from helmlite.detections import no_detections
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.extra_loss import RobustnessComparison, compare_robustness
from helmlite.evaluate.pages.plots import HeatBlock, HeatCell, heat_map
from helmlite.evaluate.pages.robustness_plot import robustness_plot
from helmlite.evaluate.robustness import Case, WorsePredictions, all_cases, draw_cases, measure_robustness
from helmlite.evaluate.statistics.resolution import disturbed

BOX = (0.0, 0.0, 40.0, 40.0)
CASES = all_cases(["fog", "night"])


@pytest.fixture
def heads(sample, dataset):  # type: ignore[no-untyped-def]
    def build(pictures: int) -> Dataset:
        return dataset(*[sample([BOX], [1], str(number)) for number in range(pictures)])

    return build


@pytest.fixture
def side(found):  # type: ignore[no-untyped-def]
    def build(pictures: int, seen: dict[Case, int], untouched: int | None = None, seed: int = 0) -> WorsePredictions:
        """A detector that finds the head in the first so many pictures of each case, and in all elsewhere."""

        def first(number: int) -> Predictions:
            hit = found([BOX], [0.9], [1])
            items = tuple(hit if place < number else no_detections() for place in range(pictures))
            return Predictions(items, tuple(range(pictures)))

        worse = {case: first(seen.get(case, pictures)) for case in CASES}
        return WorsePredictions(first(pictures if untouched is None else untouched), worse, seed)

    return build


def _compared(
    before: WorsePredictions, after: WorsePredictions, data: Dataset, resamples: int = 20
) -> RobustnessComparison:
    return compare_robustness(*(draw_cases(item, data, resamples=resamples) for item in (before, after)))


def _extra(comparison: RobustnessComparison, case: Case) -> float | None:
    return next(item.extra_points for item in comparison.cases if Case(item.condition, item.severity) == case)


def test_the_night_that_only_the_result_loses(heads, side) -> None:  # type: ignore[no-untyped-def]
    """Of 80 heads both lose 40 in the worst fog; the result alone loses 60 in the middle night and all in the worst."""
    both = {Case("fog", 3): 40}
    before = side(80, both)
    after = side(80, {**both, Case("night", 2): 20, Case("night", 3): 0})
    comparison = _compared(before, after, heads(80), resamples=400)
    assert _extra(comparison, Case("fog", 3)) == pytest.approx(0.0)
    assert _extra(comparison, Case("night", 1)) == pytest.approx(0.0)
    assert _extra(comparison, Case("night", 3)) == pytest.approx(100.0)
    # 20 of 80 at precision 1: the 26 recall points up to 0.25 have it, of 101
    assert _extra(comparison, Case("night", 2)) == pytest.approx(100 * (1 - 26 / 101))
    assert comparison.first is not None
    assert (comparison.first.condition, comparison.first.severity) == ("night", 2)
    low, high = comparison.first.extra_all_ci95 or (0, 0)
    alone = comparison.first.extra_ci95 or (0, 0)
    assert 0 < low < comparison.first.extra_points < high
    assert high - low == pytest.approx(alone[1] - alone[0], rel=0.15)  # only one case varies: nothing to pay for others
    assert comparison.in_words() == (
        "The result breaks first in night at severity 2 (4.5 stops less (1/23)): 74.3 points more lost than by the "
        f"input (95 % interval over all 6 cases: {low:.1f} to {high:.1f})."
    )


def test_other_conditions_are_named_too(heads, side) -> None:  # type: ignore[no-untyped-def]
    after = side(80, {Case("night", 2): 10, Case("fog", 3): 10})
    assert _compared(side(80, {}), after, heads(80), resamples=100).in_words().endswith("lost in fog too.")


def test_one_head_of_eighty_is_chance(heads, side) -> None:  # type: ignore[no-untyped-def]
    comparison = _compared(side(80, {}), side(80, {Case("night", 1): 79}), heads(80), resamples=400)
    assert (_extra(comparison, Case("night", 1)) or 0) > 1
    assert comparison.first is None
    assert comparison.in_words() == (
        "In none of the 6 cases is it proved that the result loses more than the input: what differs cannot be told "
        "from chance on 80 pictures."
    )


@pytest.mark.slow
def test_chance_is_not_called_a_loss(random_set) -> None:  # type: ignore[no-untyped-def]
    """Eight pairs of equally good detectors in six cases: 48 chances to be taken in by noise."""
    data, base = random_set(3, pictures=80)
    numbers = count()

    def noise() -> Predictions:
        return disturbed(base, next(numbers))

    said = alone = 0
    for _ in range(8):
        pair = [WorsePredictions(noise(), {case: noise() for case in CASES}) for _ in range(2)]
        comparison = _compared(*pair, data, resamples=100)
        said += comparison.first is not None
        alone += sum(item.extra_ci95 is not None and item.extra_ci95[0] > 0 for item in comparison.cases)
        assert all(
            item.extra_all_ci95[0] < item.extra_ci95[0]
            for item in comparison.cases
            if item.extra_ci95 and item.extra_all_ci95
        )
    assert said <= 1
    assert said <= alone


def test_a_result_that_is_still_the_better_one_has_not_broken(heads, side) -> None:  # type: ignore[no-untyped-def]
    """From 80 to 40 heads is a larger loss than from 10 to 0, and not a break."""
    before = side(80, dict.fromkeys(CASES, 0), untouched=10)
    after = side(80, dict.fromkeys(CASES, 40))
    comparison = _compared(before, after, heads(80), resamples=100)
    assert all((item.extra_all_ci95 or (0, 0))[0] > 0 for item in comparison.cases)
    assert comparison.first is None


def test_few_pictures_and_nothing_labelled(heads, side, sample, dataset) -> None:  # type: ignore[no-untyped-def]
    few = _compared(side(5, {}), side(5, {Case("night", 1): 0}), heads(5), resamples=20)
    assert few.in_words().startswith("5 independent pictures are too few to tell")
    assert {item.extra_ci95 for item in few.cases} == {item.extra_all_ci95 for item in few.cases} == {None}
    nothing = Predictions((no_detections(),) * 25, tuple(range(25)))
    unlabelled = WorsePredictions(nothing, dict.fromkeys(CASES, nothing))
    comparison = _compared(unlabelled, unlabelled, dataset(*[sample([], [])] * 25), resamples=20)
    assert comparison.in_words().endswith("is unknown: nothing is labelled.")
    assert {item.extra_points for item in comparison.cases} == {None}


def test_both_must_have_seen_the_same(heads, side) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="6 cases with seed 0 and 6 with seed 1"):
        _compared(side(25, {}), side(25, {}, seed=1), heads(25))
    fewer = replace(side(25, {}), worse={CASES[0]: side(25, {}).untouched})
    with pytest.raises(ValueError, match="6 cases with seed 0 and 1 with seed 0"):
        _compared(side(25, {}), fewer, heads(25))
    with pytest.raises(ValueError, match="must be measured on the same pictures"):
        _compared(side(25, {}), side(24, {}), heads(25))
    drawn = [draw_cases(side(25, {}), heads(25), seed, resamples=20) for seed in (0, 1)]
    with pytest.raises(ValueError, match="must be drawn with the same seed and number of resamples"):
        compare_robustness(*drawn)


def test_the_plot_colours_what_is_proved(heads, side) -> None:  # type: ignore[no-untyped-def]
    data, before, after = heads(80), side(80, {Case("fog", 3): 0}), side(80, {Case("fog", 3): 0, Case("night", 3): 0})
    comparison = _compared(before, after, data, resamples=50)
    svg = robustness_plot(
        *(measure_robustness(draw_cases(one, data, resamples=50)) for one in (before, after)), comparison
    )
    cells = re.findall(r'class="heat (\w+)" x="([\d.]+)" y="([\d.]+)".*?<title>(.*?)</title>', svg)
    assert len(cells) == 2 * 3 * 3
    lost = [says for kind, _, _, says in cells if kind == "lost"]
    assert [says.split(",")[0].split(" at ")[0] for says in lost] == ["fog", "fog", "night", "night"]
    assert lost[-1].startswith("night at severity 3, result against input: 100.00 points lost")
    assert "input: change from 100.0" in svg


def test_a_heat_map_by_its_numbers() -> None:
    cells = [
        [HeatCell(-20.0, True, "a&b"), HeatCell(5.0, True, ""), HeatCell(-1.0, False, ""), HeatCell(None, False, "")]
    ]
    svg = heat_map("t", ["fog"], ["1", "2", "3", "4"], [HeatBlock("input", cells), HeatBlock("result", cells)])
    found = re.findall(r'class="heat (\w+)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)".*?fill-opacity="([\d.]+)"', svg)
    assert [kind for kind, *_ in found] == ["lost", "gained", "unknown", "unknown"] * 2
    assert [float(share) for *_, share in found[:2]] == [0.58, pytest.approx(0.205, abs=0.006)]  # a quarter as far
    ends = [float(x) + float(width) for _, x, width, _ in found]
    assert ends == sorted(ends)
    assert ends[-1] <= 960
    assert re.findall(r">([^<>]+)</text>", svg)[6:10] == ["−20.0", "+5.0", "−1.0", "unknown"]
    assert "a&amp;b" in svg
    assert "input, row fog: −20.0, +5.0, −1.0, unknown" in svg
    assert heat_map("t", [], ["1"], [HeatBlock("input", [])]) == ""
