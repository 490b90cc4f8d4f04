"""Accuracy by head height: the same code equals COCO's numbers where its ranges are COCO's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import COCO_RANGES, Predictions, SizeRanges, coco_evaluation, measure_accuracy
from helmlite.evaluate.diagnosis.heights import HeightBand, accuracy_by_height, ap50_by_range, box_heights
from helmlite.evaluate.errors import match_class


def _bands(predictions, data, thresholds=(0.5, 0.5), **settings) -> tuple[HeightBand, ...]:  # type: ignore[no-untyped-def]
    matches = [match_class(predictions, data, (label,)) for label in (0, 1)]
    return accuracy_by_height(predictions, data, thresholds, matches, **settings)


def _signed_areas(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """COCO's own: a box upside down has less than nothing, and is outside every range."""
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    return np.asarray(sides[:, 0] * sides[:, 1])


def _equal_to_cocos(predictions: Predictions, data: Dataset) -> list[list[float]]:
    """AP50 of each class in all, small, medium and large, from our ranges; asserts that hotcoco says the same."""
    ours = ap50_by_range(predictions, data, SizeRanges(COCO_RANGES.limits, _signed_areas))
    evaluation = coco_evaluation(predictions, data)
    evaluation.accumulate()
    cocos = evaluation.eval["precision"][0, ..., -1].mean(axis=0).T  # (size, class); -1: unknown
    known = [[-1.0 if value is None else value for value in row] for row in ours]
    assert np.array(known) == pytest.approx(cocos)
    return known


@pytest.mark.parametrize("seed", range(4))
def test_with_cocos_areas_the_numbers_are_cocos(random_set, seed: int) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(seed, noise=2.0)
    ours = _equal_to_cocos(predictions, data)
    assert all(0.1 < value < 1 for value in ours[0])
    assert np.mean(ours[0]) == pytest.approx(measure_accuracy(predictions, data).map50)


def test_on_real_labels_too(shared: Path) -> None:
    data = load_dataset(shared / "data" / "bikes_helmets" / "data.yaml", "val")
    random = np.random.default_rng(0)
    found = [
        Detections(
            (item.boxes_xyxy + random.normal(0, 3, item.boxes_xyxy.shape)).astype(np.float32),
            random.random(len(item.labels)).astype(np.float32),
            item.labels,
        )
        for item in data
    ]
    predictions = Predictions(tuple(found), tuple(range(len(data))))
    ours = _equal_to_cocos(predictions, data)
    assert 0 < ours[1][1] < ours[2][1]  # a few pixels cost small bare heads most
    assert sum(band.boxes for band in _bands(predictions, data)) == sum(len(item.labels) for item in data)


def _row(heights: list[float]) -> list[tuple[float, float, float, float]]:
    return [(100 * place, 0, 100 * place + 20, height) for place, height in enumerate(heights)]


def test_bands_by_hand(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    """Two of three low heads found, above an alarm as low as they: 67 recall points at 1.  Both high ones, below one.

    The alarm of the other band is ignored in either.
    """
    heads = _row([10, 12, 14, 40, 50])
    low_alarm, high_alarm = (0, 200, 20, 212), (0, 300, 20, 350)
    data = dataset(sample(heads, [1] * 5))
    seen = predictions(
        found([heads[0], heads[1], low_alarm, high_alarm, heads[3], heads[4]], [0.9, 0.4, 0.3, 0.8, 0.7, 0.6], [1] * 6)
    )
    low, high = _bands(seen, data, (0.5, 0.5), edges_px=(0, 20), fewest_boxes=2)
    assert (low.boxes, high.boxes) == (3, 2)
    assert low.per_class[1].ap50 == pytest.approx(67 / 101)
    assert high.per_class[1].ap50 == pytest.approx((51 * 2 / 3 + 50 * 2 / 3) / 101)
    assert low.per_class[1].recall == pytest.approx(1 / 3)  # at 0.5; the second low head is found at 0.4 only
    assert high.per_class[1].recall == 1.0
    assert (low.per_class[0].ap50, low.ap50) == (None, low.per_class[1].ap50)  # no helmet is labelled


def test_few_boxes_are_unknown_not_bad(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    nothing = predictions(found([], [], []))
    nine, ten = (_bands(nothing, dataset(sample(_row([10] * count), [0] * count)))[0] for count in (9, 10))
    assert (nine.boxes, nine.ap50, nine.per_class[0].ap50, nine.per_class[0].recall) == (9, None, None, None)
    assert (ten.boxes, ten.ap50, ten.per_class[0].ap50, ten.per_class[0].recall) == (10, 0.0, 0.0, 0.0)
    empty = _bands(predictions(), dataset())
    assert [(band.boxes, band.ap50) for band in empty] == [(0, None)] * 4


def test_a_height_on_an_edge_is_in_one_band_only(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    heads = _row([16, 32, 64, 15.9])
    seen = predictions(found(heads, [0.9] * 4, [0] * 4))
    bands = _bands(seen, dataset(sample(heads, [0] * 4)), fewest_boxes=1)
    assert [band.boxes for band in bands] == [1, 1, 1, 1]
    assert [band.ap50 for band in bands] == pytest.approx([1.0] * 4)
    assert [band.in_words() for band in bands] == ["below 16 px", "16 to 32 px", "32 to 64 px", "64 px or more"]


def test_one_band_of_all_heights_is_ap50(random_set) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(3, noise=1.0)
    (band,) = _bands(predictions, data, edges_px=(0,))
    assert band.ap50 == pytest.approx(measure_accuracy(predictions, data).map50)
    assert band.in_words() == "any height"
    for label, item in enumerate(band.per_class):
        assert item.recall == match_class(predictions, data, (label,)).recall_at(0.5)


@pytest.mark.parametrize("edges", [(), (0, 16, 16), (-1, 5), (32, 16)])
def test_edges_that_do_not_rise_are_refused(random_set, edges: tuple[float, ...]) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(0, pictures=1)
    with pytest.raises(ValueError, match="rise from 0 or more"):
        _bands(predictions, data, edges_px=edges)


def test_a_box_upside_down_has_no_height() -> None:
    assert box_heights(np.array([[0.0, 5, 9, 2], [0, 2, 9, 5]])).tolist() == [0, 3]
