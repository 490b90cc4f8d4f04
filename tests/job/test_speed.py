"""How a speed-up is split, by hand; which way of running a detector ships; measuring on a restless machine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from helmlite.evaluate.cost import product
from helmlite.job import speed
from helmlite.job.candidates import cause_of
from helmlite.job.speed import fastest, speedup_factors
from helmlite.runtime.bench import PredictorTiming, Timing


def _timing(milliseconds: float) -> PredictorTiming:
    return PredictorTiming(Timing((milliseconds,)), Timing((milliseconds + 5,)))


def test_a_speed_up_is_split_by_cause() -> None:
    """100 -> 50 by input size, -> 25 and 20 -> 10 by structure (4x), 25 -> 20 by activation, 10 -> 5 by INT8."""
    chain = [("fp32", ""), ("small", "input size"), ("cut", "structure"), ("relu", "activation")]
    chain += [("cut again", "structure"), ("int8", "precision")]
    timings = {"fp32": _timing(100), "small": _timing(50), "cut": _timing(25), "relu": _timing(20)}
    timings |= {"cut again": _timing(10), "int8": _timing(5)}
    factors = speedup_factors(chain, timings)
    assert {item.name: item.ratio for item in factors} == pytest.approx(
        {"input size": 2.0, "structure": 4.0, "activation": 1.25, "precision": 2.0}
    )
    assert product(factors) == pytest.approx(20.0)


def test_a_chain_of_one_has_no_factors() -> None:
    assert speedup_factors([("fp32", "")], {"fp32": _timing(100)}) == ()


def test_each_technique_has_its_cause() -> None:
    causes = {name: cause_of(name) for name in ("prune", "distill", "activation", "quantize")}
    assert causes == {"prune": "structure", "distill": "structure", "activation": "activation", "quantize": "precision"}


def _ship(ways: dict[str, tuple[str, float]]) -> str:
    """ways: name -> verdict and milliseconds"""
    candidates: Any = [SimpleNamespace(name=name) for name in ways]
    verdicts: Any = {name: SimpleNamespace(verdict=verdict) for name, (verdict, _) in ways.items()}
    return fastest(candidates, verdicts, {name: _timing(ms) for name, (_, ms) in ways.items()}).name


def test_the_fastest_that_passes_ships() -> None:
    assert _ship({"int8": ("passed", 9.0), "bf16": ("passed", 7.0), "f32": ("passed", 20.0)}) == "bf16"
    assert _ship({"int8": ("failed", 5.0), "bf16": ("passed", 7.0), "f32": ("passed", 20.0)}) == "bf16"


def test_where_none_passes_the_best_verdict_goes_before_speed() -> None:
    assert _ship({"int8": ("failed", 5.0), "bf16": ("undecided", 7.0), "f32": ("failed", 20.0)}) == "bf16"
    assert _ship({"int8": ("failed", 5.0), "bf16": ("failed", 7.0)}) == "int8"


def _measured(monkeypatch: pytest.MonkeyPatch, *runs: tuple[float, float]) -> tuple[float, float, list[str]]:
    """runs: milliseconds of the result in turn and alone, the baseline always at 100.  Whole, product, what was told"""
    candidates: Any = [SimpleNamespace(name="baseline", predictor="b"), SimpleNamespace(name="int8", predictor="i")]
    clocks = iter([milliseconds for run in runs for milliseconds in run])

    def timed(predictors: dict[str, str], *rest: object) -> dict[str, PredictorTiming]:
        assert list(predictors) == ["baseline", "int8"]
        return {"baseline": _timing(100), "int8": _timing(next(clocks))}

    monkeypatch.setattr(speed, "time_predictors", timed)
    told: list[str] = []
    found = speed.measure_speed(candidates, [], lambda timings: candidates[1], told.append)
    assert list(clocks) == []
    return found.whole, product(speedup_factors([("baseline", ""), ("int8", "x")], found.timings)), told


def test_a_calm_machine_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, factors, told = _measured(monkeypatch, (5.0, 5.4))
    assert whole == pytest.approx(100 / 5.4)
    assert factors == pytest.approx(20.0)
    assert told == ["speed: all artifacts in turn", "speed: the baseline and the result alone, once more"]


def test_where_factors_and_whole_disagree_both_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, factors, told = _measured(monkeypatch, (5.0, 4.0), (5.0, 5.0))
    assert whole == pytest.approx(20.0)
    assert factors == pytest.approx(20.0)
    assert "speed: the machine is not calm, so all of it again" in told


def test_a_machine_that_is_never_calm_gives_the_time_when_they_were_closest(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, factors, _ = _measured(monkeypatch, (5.0, 4.0), (4.0, 5.0 / 1.1), (5.0, 9.0))
    assert whole == pytest.approx(22.0)
    assert factors == pytest.approx(25.0)
