"""The pictures that a verdict hangs on, worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helmlite.data.dataset import dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import no_detections
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.influence import most_influential

BOX = (0.0, 0.0, 40.0, 40.0)


@pytest.fixture
def heads(sample, found, dataset):  # type: ignore[no-untyped-def]
    """Forty bare heads in as many pictures, all found, and what finds them."""

    def build(group_of=lambda number: None):  # type: ignore[no-untyped-def]
        samples = [sample([BOX], [1], str(number), group_of(number)) for number in range(40)]
        detections = tuple(found([BOX], [0.5 + number / 100], [1]) for number in range(40))
        return dataset(*samples), Predictions(detections, tuple(range(40)))

    return build


def _blind_to(predictions: Predictions, *pictures: int) -> Predictions:
    left = [no_detections() if n in pictures else item for n, item in enumerate(predictions.detections)]
    return replace(predictions, detections=tuple(left))


def test_the_picture_with_the_lost_head_comes_first(heads) -> None:  # type: ignore[no-untyped-def]
    """One of 40 heads is 2.5 points; without its picture nothing is lost, without another one of 39 is: 2.564."""
    data, baseline = heads()
    found = most_influential(baseline, _blind_to(baseline, 7), data, "recall of no_helmet", most=3)
    assert [len(item.pictures) for item in found] == [1, 1, 1]
    assert (found[0].pictures, found[0].names) == ((7,), ("7.jpg",))
    assert found[0].loss_points["recall of no_helmet"] == pytest.approx(2.5)
    assert found[1].loss_points["recall of no_helmet"] == pytest.approx(2.5 - 100 / 39)
    assert found[0].loss_points["mAP50-95"] > 2


def test_a_head_that_is_won_speaks_for_the_candidate(heads) -> None:  # type: ignore[no-untyped-def]
    data, candidate = heads()
    (first,) = most_influential(_blind_to(candidate, 3), candidate, data, "recall of no_helmet", most=1)
    assert first.pictures == (3,)
    assert first.loss_points["recall of no_helmet"] == pytest.approx(-2.5)


def test_pictures_of_a_scene_move_the_loss_together(heads) -> None:  # type: ignore[no-untyped-def]
    data, baseline = heads(lambda number: "gate" if number < 4 else None)
    (first,) = most_influential(baseline, _blind_to(baseline, 1, 2), data, "recall of no_helmet", most=1)
    assert first.pictures == (0, 1, 2, 3)
    assert first.loss_points["recall of no_helmet"] == pytest.approx(5.0)


def test_without_a_change_no_picture_moves_anything(heads) -> None:  # type: ignore[no-untyped-def]
    data, baseline = heads()
    assert most_influential(baseline, baseline, data) == ()


def test_a_skipped_picture_keeps_its_index(heads) -> None:  # type: ignore[no-untyped-def]
    data, baseline = heads()
    kept = Predictions(baseline.detections[5:], baseline.indices[5:])
    (first,) = most_influential(kept, _blind_to(kept, 2), data, "recall of no_helmet", most=1)
    assert first.names == ("7.jpg",)


def test_a_check_that_is_not_known(heads) -> None:  # type: ignore[no-untyped-def]
    data, baseline = heads()
    with pytest.raises(ValueError, match="known on mAP50-95 and recall of no_helmet here; got 'speed'"):
        most_influential(baseline, baseline, data, "speed")
    nobody = dataset_of(list(data), with_roles(["helmet", "dog"]), "val")
    with pytest.raises(ValueError, match="known on mAP50-95 here; got 'recall of no_helmet'"):
        most_influential(baseline, baseline, nobody, "recall of no_helmet")
    fewer = Predictions(baseline.detections[1:], baseline.indices[1:])
    with pytest.raises(ValueError, match="same pictures"):
        most_influential(baseline, fewer, data)


def test_without_the_only_labelled_picture_the_loss_is_unknown(sample, found, dataset) -> None:  # type: ignore[no-untyped-def]
    data = dataset(sample([BOX], [0], "only"), sample([], [], "empty"))
    sees = Predictions((found([BOX], [0.9], [0]), no_detections()), (0, 1))
    blind = _blind_to(sees, 0)
    assert most_influential(sees, blind, data) == ()  # nothing is known without it, and the empty one moves nothing
