"""Which way of running the finished detector ships."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from helmlite.job import compress as job


def _ship(monkeypatch: pytest.MonkeyPatch, ways: dict[str, tuple[str, float]]) -> str:
    """ways: name -> verdict and milliseconds"""
    candidates: Any = [SimpleNamespace(name=name) for name in ("baseline", *ways)]
    seen: Any = {item.name: SimpleNamespace(val=item.name) for item in candidates}
    timings: Any = {name: SimpleNamespace(network=SimpleNamespace(median_ms=ms)) for name, (_, ms) in ways.items()}
    settings = SimpleNamespace(max_drop=1.0, max_recall_drop=2.0, seed=0)
    prepared: Any = SimpleNamespace(settings=settings, target=SimpleNamespace(precisions=("f32", "int8")), val=None)
    monkeypatch.setattr(job, "finished", lambda candidates, precisions: candidates[1:])
    monkeypatch.setattr(job, "judge", lambda before, after, *rest: SimpleNamespace(verdict=ways[after][0]))
    result, _ = job._chosen(prepared, candidates, seen, timings)
    return result.name


def test_the_fastest_that_passes_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _ship(monkeypatch, {"int8": ("passed", 9.0), "bf16": ("passed", 7.0), "f32": ("passed", 20.0)}) == "bf16"
    assert _ship(monkeypatch, {"int8": ("failed", 5.0), "bf16": ("passed", 7.0), "f32": ("passed", 20.0)}) == "bf16"


def test_where_none_passes_the_best_verdict_goes_before_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _ship(monkeypatch, {"int8": ("failed", 5.0), "bf16": ("undecided", 7.0), "f32": ("failed", 20.0)}) == "bf16"
    assert _ship(monkeypatch, {"int8": ("failed", 5.0), "bf16": ("failed", 7.0)}) == "int8"
