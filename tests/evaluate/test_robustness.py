"""Pictures made worse: each change does what it says, and its cost is measured against the same pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import Detections, Image, no_detections
from helmlite.evaluate.accuracy import predict_all
from helmlite.evaluate.robustness import CONDITIONS, blurred, compressed, darkened, hazy, measure_robustness, noisy

GREY = np.full((120, 200, 3), 120, dtype=np.uint8)


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_picture_stays_a_picture_and_the_input_untouched(name: str) -> None:
    image = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    before = image.copy()
    changed = CONDITIONS[name](image, _random())
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert (changed != image).any()
    assert (image == before).all()


def test_each_change_by_its_numbers() -> None:
    dark = darkened(GREY, _random()).astype(float)
    assert (dark.mean(), dark.std()) == (pytest.approx(20, abs=0.3), pytest.approx(6, abs=0.3))
    assert noisy(GREY, _random()).astype(float).std() == pytest.approx(20, abs=0.5)
    assert (hazy(GREY, _random()) == 160).all()
    edge = GREY.copy()
    edge[:, 100:] = 240
    row = blurred(edge, _random())[60, :, 0]
    assert sorted({int(value) for value in row}) == [120, 160, 200, 240]  # three pixels share the step
    fine = np.random.default_rng(2).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    assert compressed(fine, _random()).astype(float).std() < fine.astype(float).std()


@pytest.fixture
def bright(tmp_path: Path) -> Dataset:
    samples = []
    for number in range(24):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((64, 64, 3), 120 + number, np.uint8))
        box = np.array([(5, 5, 45, 45)], np.float32)
        samples.append(Sample(tmp_path / f"{number}.png", box, np.array([0])))
    return dataset_of([*samples, Sample(tmp_path / "gone.png", box, np.array([0]))], with_roles(["helmet"]))


def _sees_by_day(image: Image) -> Detections:
    if image.mean() < 60:
        return no_detections()
    return Detections(np.array([(5, 5, 45, 45)], np.float32), np.array([0.9], np.float32), np.array([0]))


def test_a_detector_that_is_blind_at_night(bright: Dataset) -> None:
    seen: list[tuple[int, int]] = []
    untouched = predict_all(_sees_by_day, bright)
    results = measure_robustness(
        _sees_by_day, bright, untouched, progress=lambda done, total: seen.append((done, total))
    )
    by_name = {item.condition: item for item in results}
    assert list(by_name) == list(CONDITIONS)
    assert (by_name["dark"].map, by_name["dark"].loss_points) == (0.0, pytest.approx(100.0))
    assert by_name["dark"].loss_ci95 == (pytest.approx(100.0), pytest.approx(100.0))
    for name in ("noise", "motion blur", "JPEG 15", "haze"):
        assert by_name[name].loss_points == pytest.approx(0.0)
    assert seen[-1] == (120, 120)  # the picture that is gone was left out


def test_two_detectors_see_the_same_noise(bright: Dataset) -> None:
    means: list[list[float]] = [[], []]
    untouched = predict_all(_sees_by_day, bright)
    for seen in means:

        def watch(image: Image, seen: list[float] = seen) -> Detections:
            seen.append(float(image.astype(float).std()))
            return no_detections()

        measure_robustness(watch, bright, untouched, {"noise": noisy}, seed=5)
    assert means[0] == means[1]
    assert len(set(means[0])) == 24  # each picture has its own noise
