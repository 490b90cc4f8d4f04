"""What bad conditions cost: measured against the same pictures, one at a time, at thresholds that stay."""

from __future__ import annotations

import json
import tracemalloc
import weakref
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import Detections, Image, no_detections
from helmlite.evaluate.accuracy import Predictions, predict_all
from helmlite.evaluate.conditions import CONDITIONS
from helmlite.evaluate.pages.terminal import show_robustness
from helmlite.evaluate.plain import from_plain, to_plain
from helmlite.evaluate.robustness import (
    Case,
    Robustness,
    WorsePredictions,
    all_cases,
    draw_cases,
    measure_robustness,
    predict_worsened,
    worsened_kept,
)

BOX = np.array([(5, 5, 45, 45)], np.float32)
NIGHT = all_cases(["night"])


def make_pictures(folder: Path, count: int, side: int = 64) -> Dataset:
    """Evenly lit pictures, each with one bare head, and one picture more that is gone."""
    samples = []
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((side, side, 3), 120 + number % 24, np.uint8))
        samples.append(Sample(folder / f"{number}.png", BOX, np.array([1])))
    gone = Sample(folder / "gone.png", BOX, np.array([1]))
    return dataset_of([*samples[:3], gone, *samples[3:]], with_roles(["helmet", "no_helmet"]))


@pytest.fixture
def bright(tmp_path: Path) -> Dataset:
    return make_pictures(tmp_path, 24)


@pytest.fixture
def many(tmp_path: Path) -> Dataset:
    """So many that there is an interval."""
    return make_pictures(tmp_path, 76)


def _sees_by_day(image: Image) -> Detections:
    if image.mean() < 60:
        return no_detections()
    return Detections(BOX, np.array([0.9], np.float32), np.array([1]))


def test_a_detector_that_is_blind_at_night(many: Dataset) -> None:
    seen: list[tuple[int, int]] = []
    untouched = predict_all(_sees_by_day, many)
    found = predict_worsened(_sees_by_day, many, untouched, progress=lambda *done: seen.append(done))
    assert seen[-1] == (76, 76)  # the picture that is gone was left out
    result = measure_robustness(draw_cases(found, many, resamples=100))
    assert [(item.condition, item.severity) for item in result.cases] == [
        (name, severity) for name in CONDITIONS for severity in (1, 2, 3)
    ]
    assert (result.pictures, result.units, result.untouched.map) == (76, 76, 1.0)
    for item in result.cases:
        dark = item.condition == "night"
        assert (item.measures.map, item.measures.map50) == ((0.0, 0.0) if dark else (1.0, 1.0))
        assert item.measures.recall_no_helmet == (0.0 if dark else 1.0)
        assert item.loss_points == pytest.approx(100.0 if dark else 0.0)
        open_by_76 = (-4.81, 4.81)  # where no picture changed
        assert item.loss_ci95 == pytest.approx((100.0, 100.0) if dark else open_by_76, abs=0.005)
        assert item.is_told_from_none == dark
    assert result.mean_map == pytest.approx(24 / 27)  # three of 27 cases are lost
    assert result.kept == pytest.approx(24 / 27)
    assert result.cases[3].strength == "visibility 200 m"


def test_recall_is_at_the_threshold_of_the_untouched_pictures(bright: Dataset) -> None:
    """At night the score falls from 0.9 to 0.4: found still, and no longer reported."""

    def fades(image: Image) -> Detections:
        return Detections(BOX, np.array([0.4 if image.mean() < 60 else 0.9], np.float32), np.array([1]))

    found = predict_worsened(fades, bright, predict_all(fades, bright), NIGHT[:1])
    by_f1 = measure_robustness(draw_cases(found, bright, resamples=20))
    assert by_f1.thresholds == (pytest.approx(0.45),)  # half way from 0.9 to nothing
    assert (by_f1.cases[0].measures.map, by_f1.cases[0].measures.recall_no_helmet) == (1.0, 0.0)
    given = measure_robustness(draw_cases(found, bright, resamples=20), [0.99, 0.3])
    assert (given.thresholds, given.cases[0].measures.recall_no_helmet) == ((0.3,), 1.0)
    assert given.cases[0].measures.false_alarms_per_100 == 0.0


def test_each_picture_is_read_once_and_forgotten(bright: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = Sample.read_image
    monkeypatch.setattr(Sample, "read_image", lambda self: reads.append(self.image_path.name) or read(self))
    alive: list[weakref.ref[Image]] = []
    most = 0

    def watch(image: Image) -> Detections:
        nonlocal most
        alive.append(weakref.ref(image))
        most = max(most, sum(item() is not None for item in alive))
        return no_detections()

    untouched = Predictions((no_detections(),) * 24, tuple(index for index in range(25) if index != 3))
    predict_worsened(watch, bright, untouched)
    assert len(alive) == 24 * 27
    assert most <= 2  # the one that is looked at, and the last until its name is given anew
    assert sorted(reads) == sorted(f"{number}.png" for number in range(24))


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Of 4 and of 20 pictures of 0.5 MB the peak is the same to within one of them."""
    peaks = []
    for count in (4, 20):
        folder = tmp_path / str(count)
        folder.mkdir()
        pictures = make_pictures(folder, count, side=420)
        untouched = Predictions((no_detections(),) * 3, (0, 1, 2))
        if count == 20:
            untouched = Predictions((no_detections(),) * 16, tuple(range(4, 20)))
        tracemalloc.start()
        predict_worsened(lambda _: no_detections(), pictures, untouched, all_cases(["fog", "JPEG"]))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert abs(peaks[1] - peaks[0]) < 420 * 420 * 3


def _looks_of(dataset: Dataset, indices: Sequence[int], seed: int = 5) -> dict[int, list[int]]:
    """Sums of the changed pictures, by index."""
    sums: list[int] = []

    def watch(image: Image) -> Detections:
        sums.append(int(image.astype(np.int64).sum()))
        return no_detections()

    cases = (Case("noise", 1), Case("night", 2), Case("rain", 3))
    predict_worsened(watch, dataset, Predictions((no_detections(),) * len(indices), tuple(indices)), cases, seed)
    return {index: sums[3 * place : 3 * place + 3] for place, index in enumerate(indices)}


def test_what_is_drawn_does_not_depend_on_what_was_skipped(bright: Dataset) -> None:
    every = _looks_of(bright, [0, 1, 2, 4, 5, 6])
    assert _looks_of(bright, [6, 4, 1]) == {index: every[index] for index in (6, 4, 1)}
    few = bright.subset([6, 4])  # other positions, same pictures
    assert list(_looks_of(few, [0, 1]).values()) == [every[6], every[4]]
    assert len({looks[0] for looks in every.values()}) == 6  # each picture has its own noise
    assert _looks_of(bright, [0], seed=6)[0] != every[0]


def test_few_pictures_have_no_interval_and_nothing_labelled_no_accuracy(tmp_path: Path, bright: Dataset) -> None:
    few = bright.subset([0, 1])
    found = predict_worsened(_sees_by_day, few, predict_all(_sees_by_day, few), NIGHT)
    result = measure_robustness(draw_cases(found, few, resamples=20))
    assert [(item.loss_points, item.loss_ci95) for item in result.cases] == [(pytest.approx(100.0), None)] * 3

    bare = dataset_of([Sample(few[0].image_path, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))], few.classes)
    found = predict_worsened(_sees_by_day, bare, predict_all(_sees_by_day, bare), NIGHT)
    result = measure_robustness(draw_cases(found, bare, resamples=20))
    assert (result.mean_map, result.kept, result.thresholds) == (None, None, ())
    assert {item.measures.recall_no_helmet for item in result.cases} == {None}
    assert {item.loss_points for item in result.cases} == {None}


def test_no_case_is_no_mean_and_an_unknown_one_is_refused(bright: Dataset) -> None:
    found = WorsePredictions(predict_all(_sees_by_day, bright), {})
    assert measure_robustness(draw_cases(found, bright, resamples=20)).mean_map is None
    with pytest.raises(ValueError, match="Unknown condition 'hail'"):
        all_cases(["hail"])


def test_json_and_terminal(many: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    found = predict_worsened(_sees_by_day, many, predict_all(_sees_by_day, many), all_cases(["fog", "night"]))
    result = measure_robustness(draw_cases(found, many, resamples=50))
    assert from_plain(Robustness, json.loads(json.dumps(to_plain(result)))) == result
    show_robustness(result, width=80)
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "76 pictures made worse; as they are: mAP50-95 100.0, mAP50 100.0, recall of no_helmet 100.0 %" in lines
    assert "night 0.0 0.0 0 % 0.0 0.0 0 % 0.0 0.0 0 %" in lines
    assert "100.0 points lost 100.0 points lost 100.0 points lost" in lines
    assert "no change proved no change proved no change proved" in lines
    assert "mean over all: mAP50-95 50.0, 50.0 % of what it is on the pictures as they are" in lines
    assert max(len(line) for line in out.splitlines()[1:12]) <= 80


def test_what_was_found_in_bad_conditions_is_kept(bright: Dataset, tmp_path: Path) -> None:
    untouched, asked, told = predict_all(_sees_by_day, bright), [], []

    def watch(image: Image) -> Detections:
        asked.append(1)
        return _sees_by_day(image)

    first = worsened_kept(tmp_path / "worse", watch, bright, untouched, 3, told.append)
    assert len(asked) == 27 * len(untouched) and not told
    again = worsened_kept(tmp_path / "worse", watch, bright, untouched, 3, told.append)
    assert len(asked) == 27 * len(untouched) and not told
    assert again.worse.keys() == first.worse.keys() == set(all_cases()) and again.seed == 3
    for case, found in first.worse.items():
        for before, after in zip(found.detections, again.worse[case].detections, strict=True):
            assert np.array_equal(before.boxes_xyxy, after.boxes_xyxy) and np.array_equal(before.scores, after.scores)
    next((tmp_path / "worse").iterdir()).unlink()
    worsened_kept(tmp_path / "worse", watch, bright, untouched, 3, told.append)
    assert len(asked) == 2 * 27 * len(untouched) and "made again" in told[0]


@pytest.mark.parametrize("number", [0, 13])  # the first file is held against the pictures, the others against it
def test_what_was_found_in_other_pictures_of_the_same_names_is_not_taken(
    bright: Dataset, tmp_path: Path, number: int
) -> None:
    untouched, told = predict_all(_sees_by_day, bright), []
    worsened_kept(tmp_path, _sees_by_day, bright, untouched, 3, told.append)
    of_case = {case: f"{case.condition.replace(' ', '-')}-{case.severity}-seed-3.json" for case in all_cases()}
    path = tmp_path / list(of_case.values())[number]
    right = path.read_bytes()
    path.write_text(json.dumps({**json.loads(right), "sha256": "0" * 64}))
    worsened_kept(tmp_path, _sees_by_day, bright, untouched, 3, told.append)
    assert told == [f"{tmp_path}: not of these very pictures, labels and classes, and made again"]
    assert path.read_bytes() == right
