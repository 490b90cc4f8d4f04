"""The shipped weights load, are small, and find what they were trained to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmlite.compress.checkpoint import read_provenance
from helmlite.compress.shipped import DEMO_WEIGHTS, load_demo_detector
from helmlite.data.scenes import write_scenes
from helmlite.data.yolo import load_yolo
from helmlite.evaluate.accuracy import evaluate


def test_the_demo_weights_are_small_and_say_where_they_come_from() -> None:
    assert sum(path.stat().st_size for path in DEMO_WEIGHTS.iterdir()) < 3_000_000
    provenance = read_provenance(DEMO_WEIGHTS)
    assert provenance["licence"] == "Apache-2.0"
    assert "drawn by helmlite.data.scenes" in provenance["data"]
    assert 0.4 < provenance["accuracy"]["map"] < 0.95


def test_the_demo_detector_finds_heads_in_new_drawn_scenes(tmp_path: Path) -> None:
    pytest.importorskip("hotcoco")
    detector = load_demo_detector()
    assert [item.role for item in detector.classes] == ["helmet", "no_helmet"]
    path = write_scenes(tmp_path, train=0, val=0, test=40, seed=77)
    accuracy = evaluate(detector.predictor(detector.architecture.input_size), load_yolo(path, "test"))
    assert accuracy.map50 is not None
    assert accuracy.map50 > 0.6
