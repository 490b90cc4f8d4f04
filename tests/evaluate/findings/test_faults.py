"""Faults that have a name: each planted in predictions written by hand, and none where nothing is planted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from helmlite.data.dataset import Dataset, dataset_of
from helmlite.detections import Detections, Image
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.findings.blind import BlindHeights
from helmlite.evaluate.findings.chance import Draws, Unsaid
from helmlite.evaluate.findings.colours import find_swapped_colours, probed_indices, swap_red_and_blue
from helmlite.evaluate.findings.dead import DeadClass
from helmlite.evaluate.findings.faults import Faults, find_faults
from helmlite.evaluate.findings.moved import MovedBoxes
from helmlite.evaluate.findings.pairs import partners, side_of
from helmlite.evaluate.findings.words import in_words
from helmlite.evaluate.plain import from_plain, to_plain
from helmlite.evaluate.statistics.resolution import disturbed
from helmlite.evaluate.thresholds import choose_thresholds
from written_data import CLASSES, make_found, make_predictions, make_random, make_sample

PICTURES = 40


def _written(pictures: int = PICTURES) -> tuple[Dataset, Predictions]:
    """In every picture a helmet of 40 x 40 pixels and a bare head, 12 pixels high in the first and one more in each.

    Both are found where they are, with scores from 0.61 to 0.80; an alarm of each class at 0.5 is in every fourth.
    """
    samples, found = [], []
    for number in range(pictures):
        boxes = [(10.0, 10.0, 50.0, 50.0), (100.0, 100.0, 140.0, 112.0 + number)]
        samples.append(make_sample(boxes, [0, 1], str(number)))
        score = 0.61 + 0.19 * (number * 7 % pictures) / pictures
        alarms = [(200.0, 200.0, 240.0, 240.0)] * 2 if number % 4 == 0 else []
        scores = [score, score] + [0.5] * len(alarms)
        found.append(make_found([*boxes, *alarms], scores, [0, 1, 0, 1] if alarms else [0, 1]))
    return dataset_of(samples, CLASSES, "test"), make_predictions(*found)


def _changed(found: Predictions, change: Callable[[Detections], Detections]) -> Predictions:
    return replace(found, detections=tuple(change(item) for item in found.detections))


def _faults(dataset: Dataset, before: Predictions, after: Predictions) -> Faults:
    thresholds = [choose_thresholds(side, dataset).by_class for side in (before, after)]
    return find_faults(before, after, dataset, (thresholds[0], thresholds[1]))


def test_the_same_detector_has_no_fault() -> None:
    dataset, found = _written()
    assert _faults(dataset, found, found) == Faults()


@pytest.mark.parametrize("seed", range(12))
def test_a_detector_that_only_differs_has_no_fault(seed: int) -> None:
    """Scores moved by half a unit of log-odds, boxes by 4 % of their side, 3 % of the detections gone."""
    dataset, found = make_random(seed, pictures=80, noise=2.0, false=2)
    assert _faults(dataset, found, disturbed(found, seed)).found() == ()


def test_a_dead_class() -> None:
    dataset, found = _written()
    faults = _faults(dataset, found, _changed(found, lambda item: item[item.labels != 1]))
    assert faults.found() == (DeadClass("no_helmet", "no_helmet", 40, 40, 0, 40, 0),)
    assert in_words(faults.dead[0], "A") == ("class no_helmet: never reported; of 40 heads A finds 40, this model 0.")


def test_a_class_that_was_never_alive_is_not_said_to_have_died() -> None:
    dataset, found = _written()
    helmets = _changed(found, lambda item: item[item.labels == 0])
    faults = _faults(dataset, helmets, helmets)
    assert faults.found() == ()
    assert Unsaid("dead", "no_helmet", 0, 8) in faults.unsaid and Unsaid("scores", "no_helmet", 0, 20) in faults.unsaid


def test_one_bad_picture_is_no_dead_class_and_no_blindness() -> None:
    """A crowd of 12 small bare heads in one picture, the only ones but for one high head in each other: all lost."""
    crowd = [(20.0 * number, 200.0, 20.0 * number + 16, 212.0) for number in range(12)]
    samples = [make_sample([(10.0, 10.0, 50.0, 50.0)], [0], str(number)) for number in range(PICTURES)]
    samples[0] = make_sample(crowd, [1] * 12, "0")
    seen = [make_found([(10.0, 10.0, 50.0, 50.0)], [0.8], [0])] * PICTURES
    seen[0] = make_found(crowd, [0.8] * 12, [1] * 12)
    lost = [make_found([], [], []), *seen[1:]]
    dataset = dataset_of(samples, CLASSES, "test")
    faults = _faults(dataset, make_predictions(*seen), make_predictions(*lost))
    assert faults.found() == ()
    assert Unsaid("dead", "no_helmet", 12, 8) in faults.unsaid and Unsaid("blind", None, 12, 8) in faults.unsaid


def test_boxes_that_are_moved() -> None:
    dataset, found = _written()
    shifted = _changed(found, lambda item: replace(item, boxes_xyxy=item.boxes_xyxy + np.float32([4, -3, 4, -3])))
    moved = _faults(dataset, found, shifted).moved
    assert isinstance(moved, MovedBoxes)
    assert (moved.right_px, moved.down_px, moved.right_px_ci99, moved.down_px_ci99) == (4, -3, (4, 4), (-3, -3))
    assert (moved.before_off_px, moved.after_off_px) == ((0, 0), (4, -3))
    assert in_words(moved).startswith(
        "boxes are moved: they lie 4.0 px to the right and 3.0 px up from where the baseline has them"
    )
    assert "the baseline is (+0.0, +0.0) px away, this model (+4.0, -3.0) px" in in_words(moved)


def test_a_move_that_costs_small_heads_is_no_blindness() -> None:
    """Eight pixels down: heads below 24 pixels overlap their place by less than a half, and none is found."""
    dataset, found = _written()
    shifted = _changed(found, lambda item: replace(item, boxes_xyxy=item.boxes_xyxy + np.float32([0, 8, 0, 8])))
    assert choose_thresholds(shifted, dataset).by_class[0] > 0.5
    faults = _faults(dataset, found, shifted)
    assert faults.moved is not None and faults.moved.down_px == 8
    assert faults.blind is None and faults.dead == ()


def test_half_a_pixel_is_harmless() -> None:
    dataset, found = _written()
    shifted = _changed(found, lambda item: replace(item, boxes_xyxy=item.boxes_xyxy + np.float32(0.5)))
    assert _faults(dataset, found, shifted).found() == ()


def test_scores_that_are_halved() -> None:
    """Both thresholds lie above the alarms: 0.555 before, half of it after, and none of 0.30 to 0.40 reaches 0.555."""
    dataset, found = _written()
    faults = _faults(dataset, found, _changed(found, lambda item: replace(item, scores=item.scores / 2)))
    assert faults.found() == faults.scores and len(faults.scores) == 2
    bare = faults.scores[1]
    assert (bare.name, bare.pairs, bare.heads, bare.found_after, bare.found_kept) == ("no_helmet", 40, 40, 40, 0)
    assert (bare.ratio, bare.ratio_ci99) == (pytest.approx(0.5), pytest.approx((0.5, 0.5)))
    assert bare.threshold_before == pytest.approx(0.555, abs=1e-4)
    assert in_words(bare) == (
        "scores of no_helmet are 0.50 times those of the baseline (median of 40 heads): its threshold moved from 0.56 "
        "to 0.28; keeping the old one would lose 40 of 40 heads."
    )


def test_scores_that_rise_cost_false_alarms() -> None:
    dataset, found = _written()
    low = _changed(found, lambda item: replace(item, scores=item.scores / 2))
    bare = _faults(dataset, low, found).scores[1]
    assert bare.ratio == pytest.approx(2.0) and (bare.alarms_after, bare.alarms_kept) == (0, 10)
    assert in_words(bare).endswith("keeping the old one would raise 10 more false alarms.")


def test_blind_below_a_height() -> None:
    """Bare heads are 12 to 51 pixels high: 12 of them below 24, and 28 others with 40 helmets of 40 pixels above."""
    dataset, found = _written()
    faults = _faults(dataset, found, _changed(found, lambda item: item[_heights(item) >= 24]))
    assert faults.blind == BlindHeights(23.5, True, 12, 0, 68, 68)
    assert in_words(faults.found()[0]) == (
        "blind below 24 px of height: there it finds 0 of the 12 heads that the baseline finds, even at a quarter of "
        "the lower threshold; above it it loses none of 68."
    )


def test_blind_above_a_height() -> None:
    dataset, found = _written()
    faults = _faults(dataset, found, _changed(found, lambda item: item[_heights(item) < 41]))
    assert faults.blind == BlindHeights(40.5, False, 11, 0, 69, 69)
    assert in_words(faults.found()[0]).startswith("blind from 40 px of height on: there it finds 0 of the 11 heads")


def test_small_heads_that_are_lost_now_and_then_are_no_blindness() -> None:
    dataset, found = _written()

    def weak(item: Detections) -> Detections:
        return item[(_heights(item) >= 24) | (_heights(item) % 3 != 0)]

    assert _faults(dataset, found, _changed(found, weak)).blind is None


def test_small_heads_below_the_threshold_are_no_blindness() -> None:
    """They are still there at half of their scores: a threshold would bring them back."""
    dataset, found = _written()

    def faint(item: Detections) -> Detections:
        scores = np.where(_heights(item) < 24, item.scores / 2, item.scores).astype(np.float32)
        return replace(item, scores=scores)

    assert _faults(dataset, found, _changed(found, faint)).blind is None


def test_the_height_is_that_of_the_baseline_s_box() -> None:
    """Labels two pixels lower than the boxes that the detector gives."""
    dataset, found = _written()
    low = [replace(item, boxes_xyxy=item.boxes_xyxy - np.float32([0, 0, 0, 2])) for item in dataset]
    loose = dataset_of(low, CLASSES, "test")
    faults = _faults(loose, found, _changed(found, lambda item: item[_heights(item) >= 24]))
    assert faults.blind is not None and faults.blind.limit_px == 23.5


def test_red_taken_for_blue() -> None:
    """As pictures are, all scores are off by 0.2; swapped, all are the baseline's."""
    dataset, found = _written()
    off = _changed(found, lambda item: replace(item, scores=item.scores - np.float32(0.2)))
    before, after = side_of(found, dataset, (0.55, 0.55)), side_of(off, dataset, (0.35, 0.35))
    colours, unsaid = find_swapped_colours(before, after, found, dataset)
    assert unsaid == [] and colours is not None
    assert (colours.pictures, colours.boxes, colours.alike, colours.alike_swapped) == (40, 80, 0, 80)
    assert "80 of 80 boxes have a like one then, 0 as the pictures are" in in_words(colours)
    assert find_swapped_colours(before, before, off, dataset) == (None, [])


def test_a_candidate_is_asked_again_with_swapped_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    from helmlite.data.dataset import Sample

    dataset, found = _written()
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 200
    monkeypatch.setattr(Sample, "read_image", lambda sample: red)
    asked: list[tuple[int, ...]] = []

    def predict(image: Image) -> Detections:
        asked.append(tuple(image[0, 0].tolist()))
        return found.detections[len(asked) - 1]

    thresholds = (0.55, 0.55)
    off = _changed(found, lambda item: replace(item, scores=item.scores - np.float32(0.04)))
    assert not find_faults(found, off, dataset, (thresholds, thresholds)).is_colour_probed
    faults = find_faults(found, off, dataset, (thresholds, thresholds), predict=predict)
    assert asked == [(0, 0, 200)] * 40
    assert faults.is_colour_probed and faults.colours is None, "all boxes are alike already"


def test_pictures_that_are_probed_are_spread_and_show_something() -> None:
    dataset, found = _written()
    empty = replace(found, detections=(found.detections[0][:0], *found.detections[1:]))
    chosen = probed_indices(side_of(empty, dataset, (0.55, 0.55)), most=4)
    assert chosen == (1, 14, 26, 39)


def test_swapping_twice_gives_the_picture_back() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert swap_red_and_blue(image)[0, 0].tolist() == [2, 1, 0]
    assert np.array_equal(swap_red_and_blue(swap_red_and_blue(image)), image)


@pytest.mark.parametrize("pictures", [1, 3])
def test_too_few_pictures_say_nothing(pictures: int) -> None:
    dataset, found = _written(pictures)
    nothing = _changed(found, lambda item: item[:0])
    faults = _faults(dataset, found, nothing)
    assert faults.found() == ()
    assert {item.family for item in faults.unsaid} == {"dead", "blind", "moved", "scores"}
    assert in_words(faults.unsaid[0]) == (
        f"not looked for: a class that is no longer reported (helmet); {pictures} to go by, in too few pictures or "
        "fewer than the 8 it takes."
    )


def test_one_scene_is_one_picture() -> None:
    """Forty pictures of one video are one draw: what they say of scores may be the video's."""
    dataset, found = _written()
    one = dataset_of([replace(sample, group="video") for sample in dataset], CLASSES, "test")
    faults = _faults(one, found, _changed(found, lambda item: replace(item, scores=item.scores / 2)))
    assert faults.scores == () and Unsaid("scores", "no_helmet", 40, 20) in faults.unsaid


def test_other_pictures_are_refused() -> None:
    dataset, found = _written()
    other = Predictions(found.detections[:-1], found.indices[:-1])
    with pytest.raises(ValueError, match="they saw 40 and 39, 39 of them in common"):
        find_faults(found, other, dataset, ((0.5, 0.5), (0.5, 0.5)))
    with pytest.raises(ValueError, match="2 classes need as many thresholds; got 1"):
        find_faults(found, found, dataset, ((0.5,), (0.5, 0.5)))


def test_faults_come_back_from_json() -> None:
    dataset, found = _written()
    worse = _changed(found, lambda item: replace(item, scores=item.scores / 2, boxes_xyxy=item.boxes_xyxy + 4))
    faults = _faults(dataset, found, worse)
    assert faults.moved is not None and faults.scores
    text = json.dumps(to_plain(faults))
    assert from_plain(Faults, json.loads(text)) == faults
    assert not any(word in text for word in ("median", "letterbox", "keeping")), "numbers are stored, not sentences"


def test_a_partner_is_the_loud_box_and_is_taken_once() -> None:
    """A faint box that fits better is not what was meant; a second box of the first detector finds it free."""
    first = make_found([(0, 0, 10, 10), (0, 0, 10, 9)], [0.9, 0.8], [1, 1])
    second = make_found([(2, 2, 12, 12), (0, 0, 10, 10), (0, 0, 10, 10)], [0.8, 0.01, 0.7], [1, 1, 0])
    assert partners(first, second).tolist() == [0, 1]
    assert partners(first, second[:0]).tolist() == [-1, -1]


def test_intervals_by_hand() -> None:
    """Two pictures, the first with values 1 and 3, the second with 10."""
    draws = Draws(np.array([[1, 1], [2, 0], [0, 2], [1, 1]]), 2)
    values, pictures = np.array([1.0, 3.0, 10.0]), np.array([0, 0, 1])
    assert draws.mean_interval(values, pictures) == pytest.approx(np.quantile([14 / 3, 2, 10, 14 / 3], (0.005, 0.995)))
    assert draws.median_interval(values, pictures) == pytest.approx(np.quantile([3, 1, 10, 3], (0.005, 0.995)))
    assert not draws.enough(pictures)


def _heights(found: Detections) -> np.ndarray:  # type: ignore[type-arg]
    return np.round(found.boxes_xyxy[:, 3] - found.boxes_xyxy[:, 1])
