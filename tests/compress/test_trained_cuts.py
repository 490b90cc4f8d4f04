"""What slim, admm, growing and gates have in common: a YOLO, a stop in between, wrong order, a target out of reach."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from helmlite.compress.admm import Admm
from helmlite.compress.gates import Gates
from helmlite.compress.growing import Growing
from helmlite.compress.slim import Slim
from helmlite.compress.technique import Technique
from helmlite.detector.tiny import new_tiny
from trained_cuts import (
    CLASSES,
    MORE_YOLOS,
    SIZE,
    check_contract,
    check_order_errors,
    check_resumes_bitwise,
    small_context,
    small_detector,
)

Make = Callable[..., Technique]
_TECHNIQUES = [pytest.param(make, id=make.name) for make in (Slim, Admm, Growing, Gates)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo11n", *MORE_YOLOS])
@pytest.mark.parametrize(
    "make", [Slim, partial(Admm, updates=1), Growing, Gates], ids=["slim", "admm", "growing", "gates"]
)
def test_training_and_cutting_a_yolo(make: Make, name: str, tmp_path: Path) -> None:
    technique = make(macs_ratio=0.6, epochs=1, batch_size=4, images=4, teacher="none")
    check_contract(technique, small_detector(name), 0.6, tmp_path, multiple=8)


@pytest.mark.slow
@pytest.mark.parametrize("make", [*_TECHNIQUES, pytest.param(partial(Growing, variant=2), id="growing-2")])
def test_a_stopped_training_goes_on_bitwise(make: Make, tmp_path: Path) -> None:
    check_resumes_bitwise(make, tmp_path)


@pytest.mark.parametrize("make", _TECHNIQUES)
def test_order_errors_name_both_steps(make: Make, tmp_path: Path) -> None:
    check_order_errors(make(macs_ratio=0.5, epochs=1), tmp_path)


@pytest.mark.parametrize("make", _TECHNIQUES)
def test_an_impossible_target_is_refused_before_training(make: Make, tmp_path: Path) -> None:
    detector = new_tiny(CLASSES, SIZE, width=0.25)
    technique = make(macs_ratio=0.01, epochs=1)
    with pytest.raises(ValueError, match=f"{technique.name}: 1% of the MACs cannot be reached"):
        technique.apply(detector, small_context(detector, tmp_path))
    assert not (tmp_path / "run").exists()
