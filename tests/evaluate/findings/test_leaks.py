"""Tested pictures that a model has learned from: by their looks, and by its provenance."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.findings.leaks import (
    LookAlike,
    OwnPictures,
    find_leak,
    find_own_pictures,
    pictures_made_with,
)
from helmlite.evaluate.findings.words import in_words
from helmlite.evaluate.plain import from_plain, to_plain
from written_data import CLASSES, make_found, make_predictions

BOX = (4.0, 4.0, 24.0, 24.0)


def _pictures(folder: Path, split: str, seeds: list[int]) -> Dataset:
    folder.mkdir(exist_ok=True)
    samples = []
    for place, seed in enumerate(seeds):
        coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3)).astype(np.uint8)
        path = folder / f"{split}{place}.png"
        cv2.imwrite(str(path), cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC))
        samples.append(Sample(path, np.array([BOX], np.float32), np.array([1], np.int64)))
    return dataset_of(samples, CLASSES, split)


def _found(hits: list[bool]) -> Predictions:
    return make_predictions(*[make_found([BOX] if hit else [], [0.9] * hit, [1] * hit) for hit in hits])


def test_a_leak_and_the_figures_without_it(tmp_path: Path) -> None:
    """Of four tested pictures the first two were learned from; the model finds the heads of those, and one more."""
    tested, learned = _pictures(tmp_path, "test", [0, 1, 2, 3]), _pictures(tmp_path, "train", [7, 1, 0, 1])
    leak = find_leak(tested, learned, {"m": _found([True, True, True, False]), "all": _found([True] * 4)})
    assert leak is not None
    assert (leak.pictures, leak.tested, leak.learned) == (2, 4, 4)
    assert leak.first == (LookAlike("test0.png", "train2.png"), LookAlike("test1.png", "train1.png"))
    first, second = leak.without
    assert first.map == pytest.approx(76 / 101), "three of four: 76 of 101 recall points"
    assert first.map_without == pytest.approx(51 / 101), "one of two: 51"
    assert first.map_without_ci95 is None and second.map_without == pytest.approx(1.0)
    assert in_words(leak) == (
        "2 of 4 pictures of test look the same as pictures of train: test0.png ≈ train2.png, test1.png ≈ "
        "train1.png. m: 75.2 points of mAP50-95, 50.5 without them, no interval. all: 100.0 points of mAP50-95, 100.0 "
        "without them, no interval."
    )
    assert from_plain(type(leak), to_plain(leak)) == leak


def test_no_leak_is_none(tmp_path: Path) -> None:
    tested, learned = _pictures(tmp_path, "test", [0, 1]), _pictures(tmp_path, "train", [2, 3])
    assert find_leak(tested, learned, {"m": _found([True, True])}) is None


def test_when_all_leak_nothing_is_left_to_say(tmp_path: Path) -> None:
    tested = _pictures(tmp_path, "test", list(range(7)))
    leak = find_leak(tested, _pictures(tmp_path, "train", list(range(7))), {"m": _found([True] * 7)})
    assert leak is not None and leak.without[0].map_without is None and len(leak.first) == 5
    assert "test4.png ≈ train4.png and 2 more." in in_words(leak)
    assert "100.0 points of mAP50-95, unknown without them" in in_words(leak)


def test_many_pictures_have_an_interval_without_the_leak(tmp_path: Path) -> None:
    tested = _pictures(tmp_path, "test", list(range(78)))
    hits = [number % 2 == 0 for number in range(78)]
    leak = find_leak(tested, _pictures(tmp_path, "train", [0, 1]), {"m": _found(hits)})
    assert leak is not None and leak.pictures == 2
    interval = leak.without[0].map_without_ci95
    assert interval is not None and interval[0] < 0.5 < interval[1]
    assert f"(95 % interval: {100 * interval[0]:.1f} to {100 * interval[1]:.1f})" in in_words(leak)


def test_a_model_tested_on_its_own_pictures() -> None:
    made_with = {"ours": {"train": "ab12", "val": "cd", "test": "ef"}, "foreign": {}}
    own = find_own_pictures("ab12", made_with)
    assert own == (OwnPictures("ours", "train", "ab12"),)
    assert in_words(own[0]).startswith("ours learned from these very pictures (train, ab12)")
    assert "was tuned and judged on these very pictures" in in_words(find_own_pictures("cd", made_with)[0])
    assert find_own_pictures("ef", made_with) == (), "its test split is what test pictures are for"
    assert find_own_pictures("xx", made_with) == ()


def test_what_a_provenance_says() -> None:
    assert pictures_made_with({}) == {}
    assert pictures_made_with({"data": "damaged", "data_sha256": 3}) == {}
    assert pictures_made_with({"data": {"train": "a", "val": None}}) == {"train": "a"}
