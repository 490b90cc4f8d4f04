"""benchmarks/technique_results.py and technique_findings.py: their arithmetic, worked by hand on written rows."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

_FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(_FOLDER))
    return importlib.import_module("technique_results")


@pytest.fixture
def findings(results: ModuleType) -> ModuleType:
    return importlib.import_module("technique_findings")


def _written(folder: Path, name: str, points: float, *, seed: int = 0, val: float | None = None, **more: Any) -> None:
    """A row whose mAP50-95 on test is `points`, and in 200 resamples a little more or less, alike in all rows."""
    noise = np.random.default_rng(0).normal(0, 0.1, 200)
    stated = {
        "val_map": (points if val is None else val) / 100,
        "test_map": points / 100,
        "test_map50": points / 50,
        "resampled": [points, *(points + noise)],
        "macs": 1e6,
        "size_bytes": 2000.0,
        "download_bytes": 1000.0,
        "edits": [],
    }
    (folder / f"{name}-s{seed}.json").write_text(json.dumps({**stated, **more}))


def test_a_difference_is_paired_by_picture(results: ModuleType, tmp_path: Path) -> None:
    _written(tmp_path, "no-teacher", 20.0)
    _written(tmp_path, "kd-boxes", 21.0)
    found, _ = results.read_rows(tmp_path)
    change = results.difference_ci95(found["kd-boxes"].maps(), found["no-teacher"].maps())
    assert (change.value, change.low, change.high) == pytest.approx((1.0, 1.0, 1.0))  # the noise is of both


def test_the_spread_over_seeds_widens_the_interval(results: ModuleType, tmp_path: Path) -> None:
    _written(tmp_path, "no-teacher", 20.0)
    for seed, points in enumerate((20.0, 21.0, 22.0)):
        _written(tmp_path, "kd-boxes", points, seed=seed)
    found, _ = results.read_rows(tmp_path)
    change = results.difference_ci95(found["kd-boxes"].maps(), found["no-teacher"].maps())
    assert change.value == pytest.approx(1.0)
    assert change.low < 0.4 and change.high > 1.6


def test_what_is_won_back_is_a_share_of_what_was_lost(results: ModuleType, tmp_path: Path) -> None:
    for name, points in (("baseline", 24.0), ("w3", 14.0), ("w3-adaround", 21.5)):
        _written(tmp_path, name, points)
    found, _ = results.read_rows(tmp_path)
    share = results.share_won_back(found["w3"], found["w3-adaround"], found["baseline"])
    assert share.value == pytest.approx(75.0)
    assert share.low == pytest.approx(75.0) and share.high == pytest.approx(75.0)


def test_sentences_judge_by_the_interval(findings: ModuleType, results: ModuleType, tmp_path: Path) -> None:
    _written(tmp_path, "baseline", 24.0)
    for name, before, after in (("prune-uniform-50", 1.0, 19.0), ("prune-sensitivity-50", 5.0, 21.0)):
        _written(tmp_path, name, after, before_resampled=[before] * 201)
    _written(tmp_path, "admm-50", 20.0, before_resampled=[16.0] * 201)
    for name, points in (("no-teacher", 22.0), ("kd-boxes", 23.0), ("kd-classes", 22.5), ("no-teacher-repeat", 25.0)):
        _written(tmp_path, name, points)
    _written(tmp_path, "w3", 14.0)
    _written(tmp_path, "w3-adaround", 21.0)
    for name in ("int8-mse", "int8-before-activation", "relu-int8"):
        _written(tmp_path, name, 23.0)
    times = {"baseline": 6.0, "int8-mse": 5.0, "int8-before-activation": 4.0, "relu-int8": 2.0}
    found, _ = results.read_rows(tmp_path)
    text = "\n".join(findings.findings(found, results.Timing({"onnxruntime": times})))
    assert "before training +4.0 (+4.0 to +4.0), after it +2.0 (+2.0 to +2.0): better (1 seed and 1 seed)" in text
    assert "admm-50 against prune-sensitivity-50: before the last training +11.0 (+11.0 to +11.0)" in text
    assert "after it -1.0 (-1.0 to -1.0): worse" in text
    assert "The best distillation loss by val is kd-boxes (23.0; the control 22.0)" in text  # not what has no teacher
    assert "costs -10.0 (-10.0 to -10.0); w3-adaround wins back 70 % of it (70 to 70 %)." in text
    assert "relu-int8 is 2.00× as fast as SiLU (int8-before-activation)" in text  # against the faster of the two


def test_the_choice_is_made_on_val(findings: ModuleType, results: ModuleType, tmp_path: Path) -> None:
    _written(tmp_path, "baseline", 24.0, size_bytes=4000.0)
    _written(tmp_path, "prune-taylor-50", 24.0, val=22.5, size_bytes=1000.0)  # good on test, 1.5 points off on val
    _written(tmp_path, "int8-mse", 23.0, val=23.5, size_bytes=2000.0)
    found, _ = results.read_rows(tmp_path)
    lines = [line for line in findings.to_reach_for(found, results.Timing({})) if line.startswith("| smallest file")]
    assert [line.split(" | ")[1:3] for line in lines] == [["1", "int8-mse"], ["3", "prune-taylor-50"]]
    assert not any("fastest" in line for line in findings.to_reach_for(found, results.Timing({})))  # never timed


def test_what_is_not_there_is_not_told(findings: ModuleType, results: ModuleType) -> None:
    assert findings.findings({}, results.Timing({})) == []
    assert findings.to_reach_for({}, results.Timing({})) == []
