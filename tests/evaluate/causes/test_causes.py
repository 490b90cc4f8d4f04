"""Causes of misses and of disagreements, on drawn pictures in which it is known what makes heads hard to find."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import Detections, no_detections
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.causes.causes import ErrorCauses, explain_errors
from helmlite.evaluate.causes.disagreements import explain_changes
from helmlite.evaluate.pages.crops import CROP_SIZE, ListedBox, cut_listed
from helmlite.evaluate.plain import from_plain, to_plain

HALF = (0.5, 0.5)
SMALL, LARGE = (40, 40, 48, 48), (40, 40, 70, 70)


def _draw(folder: Path, boxes: list[tuple[int, ...]], labels: list[int]) -> Dataset:
    """One picture for each box: noise on grey, of the same light everywhere."""
    random = np.random.default_rng(0)
    samples = []
    for number, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        image = np.full((100, 100, 3), 120, np.uint8)
        left, top, right, bottom = box
        image[top:bottom, left:right] = random.integers(60, 180, (bottom - top, right - left, 3))
        path = folder / f"{number}.png"
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        samples.append(Sample(path, np.array([box], np.float32), np.array([label])))
    return dataset_of(samples, with_roles(["helmet", "no_helmet"]), "test")


def _one(box: tuple[int, ...], score: float, label: int) -> Detections:
    return Detections(np.array([box], np.float32), np.array([score], np.float32), np.array([label]))


def _predictions(found: list[Detections]) -> Predictions:
    return Predictions(tuple(found), tuple(range(len(found))))


@pytest.fixture
def street(tmp_path: Path) -> Dataset:
    """12 small heads, then 48 large ones, all bare."""
    return _draw(tmp_path, [SMALL] * 12 + [LARGE] * 48, [1] * 60)


def _seen(small: float, large: float = 0.9) -> Predictions:
    """What a detector reports that gives the first 9 small heads the score `small`, and all others `large`."""
    return _predictions([_one(SMALL, small if n < 9 else large, 1) for n in range(12)] + [_one(LARGE, large, 1)] * 48)


def test_small_heads_are_missed_because_they_are_small(street: Dataset) -> None:
    causes = explain_errors(_seen(0.2), street, HALF)
    assert (len(causes.missed), causes.heads, causes.pictures, causes.pixels_unknown) == (9, 60, 60, 0)
    assert causes.risks[0].in_words() == "small: 9 of 12 missed, 0 of 48 of the others"
    for item in causes.missed:
        assert item.causes == ("small",)
        assert item.traits[0] == "small"
        assert item.says.startswith(
            "seen, but below the threshold (score 0.20); shown to matter here: small (8 px high)"
        )
    assert causes.count_kinds()["missed: below the threshold"] == 9
    assert sum(causes.count_kinds().values()) == 9


def test_what_is_not_shown_is_no_cause(street: Dataset) -> None:
    found = [_one(SMALL, 0.9, 1)] * 10 + [no_detections()] * 2 + [_one(LARGE, 0.9, 1)] * 42 + [no_detections()] * 6
    causes = explain_errors(_predictions(found), street, HALF)
    small = next(item for item in causes.missed if "small" in item.traits)
    assert small.causes == ()
    assert small.says.startswith("not seen; not shown to: ")
    assert "small (8 px high)" in small.says


def test_the_worst_come_first(tmp_path: Path) -> None:
    data = _draw(tmp_path, [SMALL, LARGE, LARGE], [1, 0, 1])
    found = _predictions([no_detections(), no_detections(), _one(LARGE, 0.75, 0)])
    causes = explain_errors(found, data, HALF)
    assert [(item.kind, item.facts.height_pixels) for item in causes.missed] == [
        ("other class", 30.0),
        ("not seen", 30.0),
        ("not seen", 8.0),
    ]
    assert causes.missed[0].says.startswith("reported as helmet (score 0.75)")
    assert (causes.missed[0].reported_as, causes.missed[1].reported_as) == ("helmet", None)
    alarm = causes.alarms[0]
    assert (alarm.kind, alarm.on_it, alarm.picture) == ("other class", "no_helmet", "2.png")
    assert alarm.says.startswith("helmet (score 0.75): on a head that is labelled no_helmet")
    assert from_plain(ErrorCauses, to_plain(causes)) == causes


def test_alarms_have_traits_of_their_own(tmp_path: Path) -> None:
    data = _draw(tmp_path, [LARGE, LARGE, SMALL], [1, 1, 1])
    found = [_one(LARGE, 0.7, 1), _one((0, 0, 7, 7), 0.8, 1), _one(SMALL, 0.6, 1)]
    alarm = explain_errors(_predictions(found), data, HALF, share=0.4).alarms[0]
    assert alarm.kind == "look-alike"
    assert {"small", "cut off by the border"} <= set(alarm.traits)
    assert "surer than half of the true detections; small (7 px high)" in alarm.says


def test_a_picture_that_went_away_is_counted(street: Dataset) -> None:
    street.image_paths[0].unlink()
    causes = explain_errors(_seen(0.2), street, HALF)
    assert causes.pixels_unknown == 1
    gone = next(item for item in causes.missed if item.picture == "0.png")
    assert (gone.facts.luma, gone.causes) == (None, ("small",))


def test_nothing_labelled_and_nothing_found(tmp_path: Path) -> None:
    data = dataset_of([Sample(tmp_path / "a.png", np.zeros((0, 4), np.float32), np.zeros(0, np.int64))], ())
    causes = explain_errors(_predictions([no_detections()]), data, ())
    assert (causes.missed, causes.alarms, causes.heads) == ((), (), 0)
    assert all(not item.is_shown and item.share_with is None for item in causes.risks)


def test_two_detectors_the_widest_difference_first(street: Dataset) -> None:
    before, after = _seen(0.8), list(_seen(0.3).detections)
    after[4] = no_detections()
    after[5] = _one(SMALL, 0.6, 0)
    changes = explain_changes(before, _predictions(after), street, HALF, HALF)
    assert [item.missed.head.picture for item in changes.newly_missed] == [4, 5, 0, 1, 2, 3, 6, 7, 8]
    first, second, third = changes.newly_missed[:3]
    assert (first.candidate_score, first.missed.kind) == (None, "not seen")
    assert first.score_difference == pytest.approx(0.8)
    assert second.missed.reported_as == "helmet"
    assert third.score_difference == pytest.approx(0.5)
    assert third.missed.causes == ("small",)
    assert changes.missed_risks[0].in_words("newly missed").startswith("small: 9 of 12 newly missed, 0 of 48")
    assert changes.newly_found == ()
    back = explain_changes(_predictions(after), before, street, HALF, HALF)
    assert [item.missed.head for item in back.newly_found] == [item.missed.head for item in changes.newly_missed]
    assert back.newly_found[0].score_difference == pytest.approx(-0.8)
    small = next(item for item in back.found_risks if item.trait == "small")
    assert (small.with_it, small.heads_with, small.heads_without) == (9, 9, 0)  # of those that the baseline misses


def test_two_detectors_saw_the_same_pictures(street: Dataset) -> None:
    with pytest.raises(ValueError, match="pictures"):
        explain_changes(_seen(0.8), _predictions([no_detections()]), street, HALF, HALF)


def test_any_listed_box_can_be_cut_for_any_number_of_detectors(tmp_path: Path) -> None:
    data = _draw(tmp_path, [LARGE, SMALL, LARGE], [1, 1, 1])
    sides = [_predictions([_one(LARGE, score, 1), no_detections(), no_detections()]) for score in (0.9, 0.4, 0.6)]
    listed = [ListedBox(1, (0, 0, 20, 10), "gone"), ListedBox(0, LARGE, "a head"), ListedBox(2, LARGE, "another")]
    data.image_paths[1].unlink()
    crops = cut_listed(listed, sides, [HALF] * 3, data, no_helmet_labels=(1,))
    assert [(crop.number, crop.picture, crop.says) for crop in crops] == [
        (1, "0.png", "a head"),
        (2, "2.png", "another"),
    ]
    assert crops[0].box_pixels == 30
    red = []
    for text in crops[0].jpegs:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR).astype(int)
        assert image.shape == (CROP_SIZE, CROP_SIZE, 3)
        red.append(int(((image[..., 2] > 200) & (image[..., 1] < 120) & (image[..., 0] < 120)).sum()))
    assert min(red[0], red[2]) > red[1] + 300  # the second detector's score is below its threshold
    assert len(cut_listed(listed, sides, [HALF] * 3, data, (1,), limit=1)) == 1
    assert cut_listed([], sides, [HALF] * 3, data, (1,)) == ()


def test_crops_need_thresholds_for_each_detector_and_class_and_a_picture_that_was_seen(tmp_path: Path) -> None:
    data = _draw(tmp_path, [LARGE], [1])
    side = _predictions([no_detections()])
    with pytest.raises(ValueError, match="2 lists of thresholds do not fit 1 detectors"):
        cut_listed([], [side], [HALF, HALF], data, (1,))
    with pytest.raises(ValueError, match=r"1 thresholds do not fit 2 classes \(helmet, no_helmet\)"):
        cut_listed([], [side], [(0.5,)], data, (1,))
    with pytest.raises(ValueError, match="Picture 3 was not evaluated"):
        cut_listed([ListedBox(3, LARGE, "")], [side], [HALF], data, (1,))
