"""How a speed-up is split, by hand."""

from __future__ import annotations

import pytest

from helmlite.evaluate.cost import product
from helmlite.job.candidates import cause_of
from helmlite.job.measure import speedup_factors
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


@pytest.mark.parametrize(
    ("technique", "cause"),
    [("prune", "structure"), ("distill", "structure"), ("activation", "activation"), ("quantize", "precision")],
)
def test_each_technique_has_its_cause(technique: str, cause: str) -> None:
    assert cause_of(technique) == cause
