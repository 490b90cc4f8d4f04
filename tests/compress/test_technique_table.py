"""benchmarks/technique_results.py and technique_findings.py: their arithmetic, worked by hand on written rows."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helmlite.data.dataset import dataset_of
from helmlite.data.roles import with_roles

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
        "seed": seed,
        "baseline": "b",
        "recall_no_helmet": None,
        "minutes": 1.0,
        "commit": "c",
    }
    (folder / f"{name}-s{seed}.json").write_text(json.dumps({**stated, **more}))


def _timed(times: Mapping[str, float], runtime: str = "openvino") -> dict[str, Any]:
    """Three turns on a machine that gets slower: of the last two the ratio is that of `times`."""
    found = {}
    for name, time in times.items():
        turns = [time * drift for drift in (0.5, 1.0, 2.0)]
        found[name] = {"median_ms": turns, "times_as_fast": [0.1, times["baseline"] / time, times["baseline"] / time]}
    return {runtime: found}


def test_speed_is_that_of_the_median_turn(results: ModuleType) -> None:
    timing = results.Timing(_timed({"baseline": 6.0, "w4": 3.0, "relu-int8": 1.5}))
    assert timing.median_ms("openvino", "w4") == 3.0 and timing.median_ms("onnxruntime", "w4") is None
    assert timing.faster("openvino", "w4") == 2.0 and timing.faster("openvino", "relu-int8", than="w4") == 2.0
    assert timing.faster("openvino", "w3") is None and timing.faster("onnxruntime", "w4") is None


def test_a_difference_is_paired_by_picture(results: ModuleType, tmp_path: Path) -> None:
    _written(tmp_path, "no-teacher", 20.0)
    _written(tmp_path, "kd-boxes", 21.0)
    found, _ = results.read_rows(tmp_path)
    change = results.Pair.of(found["kd-boxes"], found["no-teacher"]).difference
    assert (change.value, change.low, change.high) == pytest.approx((1.0, 1.0, 1.0))  # the noise is of both


def test_a_difference_is_paired_by_seed(results: ModuleType, tmp_path: Path) -> None:
    """A seed that is good for both says nothing of the difference, and a seed that only one has counts for nothing."""
    for seed, points in enumerate((20.0, 25.0, 30.0)):
        _written(tmp_path, "no-teacher", points, seed=seed)
        _written(tmp_path, "kd-boxes", points + 1, seed=seed)
    _written(tmp_path, "kd-mgd", 20.5)
    found, _ = results.read_rows(tmp_path)
    pair = results.Pair.of(found["kd-boxes"], found["no-teacher"])
    assert (pair.difference.value, pair.difference.low, pair.seeds) == pytest.approx((1.0, 1.0, 3))
    alone = results.Pair.of(found["kd-mgd"], found["no-teacher"])
    assert (alone.difference.value, alone.seeds) == pytest.approx((0.5, 1))


def test_the_spread_over_seeds_widens_the_interval(results: ModuleType, tmp_path: Path) -> None:
    for seed, points in enumerate((20.0, 21.0, 22.0)):
        _written(tmp_path, "no-teacher", 20.0, seed=seed)
        _written(tmp_path, "kd-boxes", points, seed=seed)
    found, _ = results.read_rows(tmp_path)
    change = results.Pair.of(found["kd-boxes"], found["no-teacher"]).difference
    assert change.value == pytest.approx(1.0)
    assert change.low < 0.4 and change.high > 1.6


def test_the_baseline_is_held_against_every_seed(results: ModuleType, tmp_path: Path) -> None:
    _written(tmp_path, "baseline", 24.0)
    for seed, points in enumerate((20.0, 21.0, 22.0)):
        _written(tmp_path, "longer", points, seed=seed)
    found, _ = results.read_rows(tmp_path)
    pair = results.Pair.of(found["longer"], found["baseline"])
    assert (pair.difference.value, pair.seeds) == pytest.approx((-3.0, 3))


def test_rows_of_several_baselines_are_refused(results: ModuleType, tmp_path: Path) -> None:
    _written(tmp_path, "baseline", 24.0)
    _written(tmp_path, "longer", 24.0, baseline="another")
    with pytest.raises(ValueError, match="2 different baselines"):
        results.read_rows(tmp_path)


def test_what_is_won_back_is_a_share_of_what_was_lost(results: ModuleType, tmp_path: Path) -> None:
    for name, points in (("baseline", 24.0), ("w3", 14.0), ("w3-adaround", 21.5)):
        _written(tmp_path, name, points)
    found, _ = results.read_rows(tmp_path)
    share = results.share_won_back(found["w3"], found["w3-adaround"], found["baseline"])
    assert share.value == pytest.approx(75.0)
    assert share.low == pytest.approx(75.0) and share.high == pytest.approx(75.0)
    _written(tmp_path, "w4", 24.0)
    found, _ = results.read_rows(tmp_path)
    assert results.share_won_back(found["w4"], found["w3-adaround"], found["baseline"]) is None  # nothing was lost


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
    text = "\n".join(findings.findings(found, results.Timing(_timed(times, "onnxruntime"))))
    assert "before training +4.0 (+4.0 to +4.0), after it +2.0 (+2.0 to +2.0): better (1 seed)" in text
    assert "against prune-sensitivity-50 -1.0 (-1.0 to -1.0): worse (1 seed)" in text
    assert "+11.0" not in text and "+15.0" not in text  # ADMM has trained before its cut, so that is no comparison
    assert "The best distillation loss by val (seed 0) is kd-boxes: 23.0 there" in text  # not what has no teacher
    assert "changes mAP50-95 by -10.0 (-10.0 to -10.0); without training w3-adaround wins back 70 % of that" in text
    assert "relu-int8 is 2.00× as fast as SiLU (int8-before-activation)" in text  # against the faster of the two


def test_the_choice_is_made_on_val(findings: ModuleType, results: ModuleType, tmp_path: Path) -> None:
    _written(tmp_path, "baseline", 24.0, size_bytes=4000.0)
    _written(tmp_path, "prune-taylor-50", 24.0, val=22.5, size_bytes=1000.0)  # good on test, 1.5 points off on val
    _written(tmp_path, "int8-mse", 23.0, val=23.5, size_bytes=2000.0)
    found, _ = results.read_rows(tmp_path)
    lines = [line for line in findings.to_reach_for(found, results.Timing({})) if line.startswith("| smallest file")]
    assert [line.split(" | ")[1:3] for line in lines] == [["1", "int8-mse"], ["3", "prune-taylor-50"]]
    assert not any("| fastest" in line for line in findings.to_reach_for(found, results.Timing({})))  # never timed


def test_what_is_not_there_is_not_told(findings: ModuleType, results: ModuleType) -> None:
    assert findings.findings({}, results.Timing({})) == []
    assert findings.to_reach_for({}, results.Timing({})) == []


def test_a_few_bytes_do_not_decide(findings: ModuleType, results: ModuleType, tmp_path: Path) -> None:
    _written(tmp_path, "baseline", 24.0, download_bytes=4000.0)
    _written(tmp_path, "w4", 23.2, download_bytes=1000.0)
    _written(tmp_path, "w4-adaround", 23.9, download_bytes=1001.0)
    _written(tmp_path, "w4-mse", 24.0, download_bytes=1100.0)
    found, _ = results.read_rows(tmp_path)
    lines = findings.to_reach_for(found, results.Timing({}))
    assert [line.split(" | ")[2] for line in lines if "smallest download" in line] == ["w4-adaround"] * 4


def test_chance_does_not_decide_what_is_fastest(findings: ModuleType, results: ModuleType, tmp_path: Path) -> None:
    """Two rows of one network differ by 25 %, so that much says nothing of two others either."""
    for name, points in (("baseline", 24.0), ("int8-mse", 23.9), ("w4", 23.2), ("relu-int8", 23.3)):
        _written(tmp_path, name, points)
    found, _ = results.read_rows(tmp_path)
    timing = results.Timing(_timed({"baseline": 4.0, "int8-mse": 2.5, "w4": 2.0, "relu-int8": 1.9}))
    assert timing.spread("openvino") == pytest.approx(1.25) and timing.spread("onnxruntime") == 1.0
    lines = [line for line in findings.to_reach_for(found, timing) if line.startswith("| fastest in OpenVINO |")]
    assert [line.split(" | ")[2] for line in lines] == ["relu-int8"] * 2  # 2.5 is more than 1.25 times 1.9
    lines = [line for line in findings.to_reach_for(found, timing) if "OpenVINO, no training" in line]
    assert [line.split(" | ")[2] for line in lines] == ["int8-mse"] * 2  # the same network as w4


def test_the_page_says_what_is_there_and_what_is_missing(
    results: ModuleType, findings: ModuleType, tmp_path: Path
) -> None:
    table = importlib.import_module("technique_table")
    rows = tmp_path / "rows"
    rows.mkdir()
    _written(rows, "baseline", 24.0)
    for name, before in (("prune-uniform-50", 1.0), ("prune-taylor-50", 5.0)):
        _written(rows, name, 20.0, before_resampled=[before] * 201)
    _written(rows, "admm-50", 21.0, before_resampled=[16.0] * 201)
    (rows / "tie-head-s0.json").write_text(json.dumps({"refused": "tie: nothing to tie."}))
    stated = {"machine": "a box", "flags": ["avx2"], "rounds": 3, "turns": 2, "versions": {"openvino": "1"}}
    stated |= _timed({"baseline": 6.0, "prune-taylor-50": 3.0})
    (rows / "timing.json").write_text(json.dumps(stated))
    pictures = {"test": dataset_of([], with_roles(["helmet", "no_helmet"]))}
    table.write_page(rows, tmp_path / "page", pictures, "abc1234")
    text = (tmp_path / "page" / "techniques.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| prune-taylor-50"))
    assert "prune-uniform-50: +0.0 (+0.0 to +0.0) | 5.0 | prune-uniform-50: +4.0 (+4.0 to +4.0)" in line
    assert "| 2.00× | – |" in line
    learned = next(line for line in text.splitlines() if line.startswith("| admm-50"))
    assert "| 16.0 | – |" in learned  # trained already
    assert "- tie-head: tie: nothing to tie." in text
    assert "Not made yet: longer, prune-l1-50" in text
    assert (tmp_path / "page" / "techniques-latency.png").stat().st_size > 1000
