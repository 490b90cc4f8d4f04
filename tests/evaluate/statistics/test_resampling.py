"""One matching, thousands of resamples: identity is COCO's number, multiplicity is COCO on duplicated pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helmlite.data.dataset import dataset_of
from helmlite.evaluate.accuracy import SIZES, Predictions, measure_accuracy
from helmlite.evaluate.statistics.intervals import percentile_interval
from helmlite.evaluate.statistics.resampling import (
    bootstrap_weights,
    jackknife_weights,
    map_ci95,
    map_loss_ci95,
    map_without_each,
    match_records,
    mean_average_precision,
    unit_count,
)


@pytest.mark.parametrize("seed", range(6))
def test_weights_of_one_give_cocos_number(random_set, seed: int) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(seed)
    accuracy = measure_accuracy(predictions, data)
    records = match_records(predictions, data)
    one = np.ones((1, len(data)), dtype=np.int64)
    assert mean_average_precision(records, one)[0] == pytest.approx(accuracy.map, abs=1e-12)
    assert mean_average_precision(records, one, ious=[0])[0] == pytest.approx(accuracy.map50, abs=1e-12)
    for size in SIZES:
        assert mean_average_precision(records, one, size)[0] == pytest.approx(accuracy.by_size[size], abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_a_picture_that_counts_twice_is_two_equal_pictures(random_set, seed: int) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(seed, pictures=12, digits=7)  # scores that are equal in one picture are not ordered
    weights = bootstrap_weights([None] * 12, 3, seed)
    resampled = mean_average_precision(match_records(predictions, data), weights)
    for row, expected in zip(weights, resampled, strict=True):
        chosen = np.repeat(np.arange(12), row)
        copies = data.subset(chosen)
        found = Predictions(tuple(predictions.detections[i] for i in chosen), tuple(range(len(chosen))))
        assert measure_accuracy(found, copies).map == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_leaving_a_picture_out_is_a_resample_without_it(random_set, seed: int) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(seed, pictures=15)
    records = match_records(predictions, data)
    for groups in ([None] * 15, ["gate" if n % 4 == 0 else None for n in range(15)]):
        expected = mean_average_precision(records, jackknife_weights(groups))
        assert map_without_each(records, groups) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_without_the_only_picture_that_is_labelled_nothing_is_known(random_set) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(1)
    labelled = next(n for n in range(len(data)) if len(data[n].labels))
    empty = next(n for n in range(len(data)) if not len(data[n].labels))
    two = Predictions(tuple(predictions.detections[n] for n in (labelled, empty)), (0, 1))
    without = map_without_each(match_records(two, data.subset([labelled, empty])), [None, None])
    assert np.isnan(without[0]) and not np.isnan(without[1])


def test_a_resample_without_labels_is_unknown(random_set) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(2)
    empty = np.array([[int(len(data[i].labels) == 0) for i in range(len(data))]])
    assert empty.sum() > 0
    assert np.isnan(mean_average_precision(match_records(predictions, data), empty)).all()


def test_draws_keep_the_number_of_pictures_and_follow_the_seed() -> None:
    weights = bootstrap_weights([None] * 7, 50, seed=3)
    assert weights.shape == (50, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert (weights == bootstrap_weights([None] * 7, 50, seed=3)).all()
    assert (weights != bootstrap_weights([None] * 7, 50, seed=4)).any()


def test_pictures_of_a_scene_are_drawn_together() -> None:
    groups = ["gate", "gate", None, "gate", None]
    weights = bootstrap_weights(groups, 200, seed=0)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 0] == weights[:, 3]).all()
    assert (weights[:, [0, 2, 4]].sum(axis=1) == 3).all()
    assert unit_count(groups) == 3
    assert unit_count([None, None]) == 2
    assert unit_count([]) == 0


def test_scenes_widen_the_interval(random_set) -> None:  # type: ignore[no-untyped-def]
    """Ten equal copies of six scenes are six observations, not sixty."""
    scenes, found = random_set(5, pictures=6)
    samples = [replace(scenes[i % 6], group=str(i % 6)) for i in range(60)]
    predictions = Predictions(tuple(found.detections[i % 6] for i in range(60)), tuple(range(60)))
    grouped = map_ci95(predictions, dataset_of(samples, scenes.classes))
    alone = map_ci95(predictions, dataset_of([replace(item, group=None) for item in samples], scenes.classes))
    assert grouped is not None
    assert alone is not None
    assert grouped[1] - grouped[0] > 2 * (alone[1] - alone[0])


def test_pairing_narrows_the_interval_of_a_loss(random_set) -> None:  # type: ignore[no-untyped-def]
    data, before = random_set(7, pictures=40)
    after = replace(before, detections=tuple(item[item.scores > 0.25] for item in before.detections))
    alone, paired = map_ci95(before, data), map_loss_ci95(before, after, data)
    assert alone is not None
    assert paired is not None
    assert paired[1] - paired[0] < 100 * (alone[1] - alone[0]) / 2
    with pytest.raises(ValueError, match="same pictures; they saw 40 and 39, 39 of them in common"):
        map_loss_ci95(before, Predictions(before.detections[1:], before.indices[1:]), data)


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Shares of 60 coins: about 95 of 100 percentile intervals hold the truth."""
    random = np.random.default_rng(0)
    weights = bootstrap_weights([None] * 60, 400, seed=1)
    held = 0
    for _ in range(300):
        coins = random.random(60) < 0.4
        low, high = percentile_interval((weights @ coins) / 60) or (1.0, 0.0)
        held += low <= 0.4 <= high
    assert 0.90 < held / 300 < 0.98


def test_an_interval_needs_half_of_the_resamples() -> None:
    assert percentile_interval(np.array([1.0, np.nan, np.nan])) is None
    assert percentile_interval(np.zeros(0)) is None
    assert percentile_interval(np.array([1.0, 1.0, np.nan])) == (1.0, 1.0)
