"""What a set of pictures can prove."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helmlite.data.dataset import dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import no_detections
from helmlite.evaluate.statistics.resolution import DROPPED, SCORE_NOISE, disturbed, resolvable_loss


def test_four_times_the_pictures_show_half_the_loss(random_set) -> None:  # type: ignore[no-untyped-def]
    few, many = (
        resolvable_loss(found, data) for data, found in (random_set(4, pictures=80), random_set(5, pictures=320))
    )
    assert few.loss_points is not None
    assert many.loss_points is not None
    assert few.loss_points / many.loss_points == pytest.approx(2.0, rel=0.3)
    assert few.pictures_for_one_point == pytest.approx(80 * few.loss_points**2, abs=1)


def test_heads_and_what_one_is_worth(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    box = (0.0, 0.0, 40.0, 40.0)
    data = dataset(*[sample([box], [1]) for _ in range(80)])
    resolution = resolvable_loss(
        predictions(*[found([box], [0.5 + n / 200], [1]) for n in range(80)]), data, resamples=100
    )
    assert (resolution.bare_heads, resolution.points_per_head) == (80, 1.25)
    assert "80 bare heads: one head is 1.2 points of recall." in resolution.in_words()
    assert resolution.loss_points is not None and resolution.loss_points > 0
    assert resolution.in_words().startswith(f"80 pictures: a loss below {resolution.loss_points:.1f} points cannot")


def test_what_too_few_pictures_can_show_is_unknown_and_not_everything(random_set) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(3, pictures=75)
    resolution = resolvable_loss(predictions, data, resamples=20)
    assert resolution.loss_points is resolution.pictures_for_one_point is None
    assert "75 of them independent, at least 76 are needed" in resolution.in_words()
    data, predictions = random_set(3, pictures=200)
    one_video = dataset_of([replace(item, group="video") for item in data], data.classes)
    assert "1 of them independent" in resolvable_loss(predictions, one_video, resamples=20).in_words()


def test_a_baseline_that_finds_nothing_shows_no_loss(random_set) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(3, pictures=100)
    silent = replace(predictions, detections=tuple(no_detections() for _ in predictions.detections))
    resolution = resolvable_loss(silent, data, resamples=20)
    assert resolution.loss_points is None
    assert "the baseline finds nothing in them" in resolution.in_words()


def test_nothing_labelled_shows_no_loss(sample, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    resolution = resolvable_loss(predictions(no_detections()), dataset(sample([], [])), resamples=10)
    assert resolution.loss_points is None
    assert resolution.pictures_for_one_point is None
    assert resolution.in_words() == (
        "1 pictures: nothing is labelled, so that no loss can be seen. No bare head is labelled."
    )


def test_without_the_role(random_set) -> None:  # type: ignore[no-untyped-def]
    data, found = random_set(1)
    data = data.with_classes(with_roles(["helmet", "dog"]), {0: 0, 1: 1})
    assert "No class has the role no_helmet" in resolvable_loss(found, data, resamples=20).in_words()


def test_the_stand_in_differs_as_much_as_is_said(found, predictions) -> None:  # type: ignore[no-untyped-def]
    many = predictions(found([(0, 0, 100, 50)] * 4000, [0.5] * 4000, [1] * 4000))
    stand_in = disturbed(many, seed=1).detections[0]
    assert len(stand_in) / 4000 == pytest.approx(1 - DROPPED, abs=0.01)
    odds = np.log(stand_in.scores / (1 - stand_in.scores))
    assert odds.std() == pytest.approx(SCORE_NOISE, rel=0.05)
    spread = (stand_in.boxes_xyxy - np.array([0, 0, 100, 50])).std(axis=0)
    assert spread == pytest.approx(np.array([4, 2, 4, 2]), rel=0.1)
    assert (np.diff(stand_in.scores) <= 0).all()
    same = disturbed(many, seed=1).detections[0]
    assert (same.boxes_xyxy == stand_in.boxes_xyxy).all()
