"""Detectors that answer from a script look through pictures and videos: what stays of them, worked by hand."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import numpy as np
import pytest

from helmlite.data.duplicates import fingerprint
from helmlite.data.roles import with_roles
from helmlite.detections import Detections, Image, no_detections
from helmlite.mine.mine import NO_CARRIERS, NO_SECOND, NO_VIDEO, MineSettings, mine, pre_labels
from helmlite.mine.seen import Watcher, as_seen
from helmlite.runtime.sources import Frame, OnProblem, Source
from numbered_pictures import patchy
from written_data import Box, make_found

CLASSES = with_roles(["helmet", "no_helmet"])
HERE: Box = (0, 0, 10, 10)
AWAY: Box = (40, 30, 50, 40)


def film(numbers: Sequence[int], fps: float = 10.0, kind: str = "video") -> Source:
    """A video of these pictures, in memory."""

    def frames(on_problem: OnProblem) -> Generator[Frame, None, None]:
        for index, number in enumerate(numbers):
            yield Frame(patchy(number), "film.mp4", index, index / fps)

    return Source("film.mp4", kind, len(numbers), fps, (), frames)


def test_two_detectors_over_a_folder(watcher_of: Callable[..., Watcher], folder_of: Callable[..., Source]) -> None:
    sure, unsure = make_found([HERE], [0.9], [1]), make_found([HERE], [0.6], [1])
    first = watcher_of("a", {1: sure, 2: sure, 3: unsure})
    second = watcher_of("b", {1: sure, 3: sure, 4: sure})
    mined = mine(folder_of(1, 2, 3, 4, 5), [first, second], MineSettings(count=3))
    found = [(item.source, reason) for item, reason in mined.chosen.pictures]
    # 2: only a reports it, 0.9.  4: only b does, 0.9.  3: 0.6 for a, 1 - 4 * 0.1 = 0.6.  1 and 5: nothing
    assert found == [("002.png", "disagreement"), ("003.png", "low confidence"), ("004.png", "disagreement")]
    assert (mined.frames, mined.of_interest, mined.problems) == (5, 3, ())
    assert mined.remarks == (NO_VIDEO, NO_CARRIERS)
    labels = {item.source: item.labels for item, _ in mined.chosen.pictures}
    assert [(item.class_name, item.by) for item in labels["002.png"]] == [("no_helmet", ("a",))]
    assert [(item.class_name, item.by) for item in labels["004.png"]] == [("no_helmet", ("b",))]
    assert [(item.score, item.by) for item in labels["003.png"]] == [(pytest.approx(0.9), ("a", "b"))]


def test_one_detector_says_what_it_cannot_look_for(
    watcher_of: Callable[..., Watcher], folder_of: Callable[..., Source]
) -> None:
    mined = mine(folder_of(1), [watcher_of("a", {})], MineSettings())
    assert mined.remarks == (NO_SECOND, NO_VIDEO, NO_CARRIERS)
    assert (mined.chosen.pictures, mined.of_interest) == ((), 0)


def test_look_alikes_are_looked_for_where_riders_are_known(
    watcher_of: Callable[..., Watcher], folder_of: Callable[..., Source]
) -> None:
    classes = with_roles(["helmet", "rider"])
    answers = {
        1: make_found([HERE, (0, 0, 12, 40)], [0.7, 0.9], [0, 1]),
        2: make_found([HERE, AWAY], [0.7, 0.9], [0, 1]),
    }
    mined = mine(folder_of(1, 2), [watcher_of("a", answers, classes=classes)], MineSettings())
    assert NO_CARRIERS not in mined.remarks
    by_name = {item.source: item.worths() for item, _ in mined.chosen.pictures}
    assert "look-alike" not in by_name["001.png"]
    assert by_name["002.png"]["look-alike"] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1, 1, 2, 1, 1], [2]),
        ([2, 1, 1, 1, 2], []),  # comes and goes
        ([1, 2, 2, 1], []),  # two frames long
        ([1, 2, 1], [1]),
        ([1, 2], []),
        ([1], []),
    ],
)
def test_flicker_in_a_video(watcher_of: Callable[..., Watcher], numbers: list[int], expected: list[int]) -> None:
    """Picture 1 shows a sure head, picture 2 none."""
    mined = mine(film(numbers), [watcher_of("a", {1: make_found([HERE], [0.9], [1])})], MineSettings())
    assert [item.index for item, _ in mined.chosen.pictures] == expected
    assert mined.frames == len(numbers)
    for item, reason in mined.chosen.pictures:
        assert reason == "flicker"
        assert [(one.class_name, one.box_xyxy, one.score, one.by) for one in item.labels] == [
            ("no_helmet", HERE, None, ("frames around",))
        ]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_every_frame_of_a_video_is_looked_at_once(watcher_of: Callable[..., Watcher], length: int) -> None:
    """Also the first and the last, which have no neighbour on one side."""
    answers = {number: make_found([HERE], [0.5], [1]) for number in range(1, length + 1)}
    mined = mine(film(range(1, length + 1), fps=1.0), [watcher_of("a", answers)], MineSettings())
    assert sorted(item.index for item, _ in mined.chosen.pictures) == list(range(length))
    assert mined.of_interest == length


def test_of_a_second_of_a_video_the_best_frame_stays(watcher_of: Callable[..., Watcher]) -> None:
    scores = [0.6, 0.5, 0.55, 0.6, 0.52, 0.7]  # worth 0.6, 1, 0.8, then 0.6, 0.92, 0.2
    answers = {number + 1: make_found([HERE], [score], [1]) for number, score in enumerate(scores)}
    source = film(range(1, 7), fps=3.0)
    mined = mine(source, [watcher_of("a", answers)], MineSettings(gap_s=1.0))
    assert [item.index for item, _ in mined.chosen.pictures] == [1, 4]
    assert len(mine(source, [watcher_of("a", answers)], MineSettings(gap_s=0.1)).chosen.pictures) == 6


def test_pictures_are_not_kept_in_memory(watcher_of: Callable[..., Watcher]) -> None:
    import weakref

    alive: list[weakref.ref[Image]] = []

    def frames(on_problem: OnProblem) -> Generator[Frame, None, None]:
        for index in range(20):
            image = patchy(index + 1)
            alive.append(weakref.ref(image))
            yield Frame(image, "film.mp4", index, index / 10)
            del image
            assert sum(item() is not None for item in alive) <= 2

    answers = {number: make_found([HERE], [0.5], [1]) for number in range(1, 21)}
    source = Source("film.mp4", "video", 20, 10.0, (), frames)
    assert mine(source, [watcher_of("a", answers)], MineSettings(gap_s=0.01)).of_interest == 20


def test_the_best_of_each_reason_survive_a_full_pool(
    watcher_of: Callable[..., Watcher], folder_of: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helmlite.mine.mine._LEAST_SPARE", 2)
    monkeypatch.setattr("helmlite.mine.mine._SPARE", 1)
    answers = {number: make_found([HERE], [0.5 + number / 50], [1]) for number in range(1, 7)}  # 1 is worth most
    mined = mine(folder_of(*range(1, 7)), [watcher_of("a", answers)], MineSettings(count=1))
    assert [item.source for item, _ in mined.chosen.pictures] == ["001.png"]
    assert mined.of_interest == 6


def test_an_interrupt_keeps_what_was_found(
    watcher_of: Callable[..., Watcher], folder_of: Callable[..., Source]
) -> None:
    def stop(frames: int) -> None:
        if frames == 2:
            raise KeyboardInterrupt

    answers = {number: make_found([HERE], [0.5], [1]) for number in (1, 2, 3)}
    mined = mine(folder_of(1, 2, 3), [watcher_of("a", answers)], MineSettings(), on_frame=stop)
    assert mined.interrupted
    assert [item.source for item, _ in mined.chosen.pictures] == ["001.png", "002.png"]


def test_unreadable_pictures_are_named_and_known_ones_left_out(
    watcher_of: Callable[..., Watcher], folder_of: Callable[..., Source]
) -> None:
    source = folder_of(1, 2, 3)
    source.paths[1].write_bytes(b"")
    answers = {number: make_found([HERE], [0.5], [1]) for number in (1, 2, 3)}
    mined = mine(source, [watcher_of("a", answers)], MineSettings(), known=[fingerprint(patchy(3))])
    assert [item.source for item, _ in mined.chosen.pictures] == ["001.png"]
    assert (mined.frames, mined.chosen.known_twins) == (2, 1)
    assert len(mined.problems) == 1 and "002.png: not a readable picture" in mined.problems[0]


def test_wrong_input(watcher_of: Callable[..., Watcher], folder_of: Callable[..., Source]) -> None:
    source, watcher = folder_of(1), watcher_of("a", {})
    with pytest.raises(ValueError, match="one or two detectors; got 0"):
        mine(source, [], MineSettings())
    with pytest.raises(ValueError, match="one or two detectors; got 3"):
        mine(source, [watcher] * 3, MineSettings())
    with pytest.raises(ValueError, match="record the camera first"):
        mine(film([1], kind="camera"), [watcher], MineSettings())
    source.paths[0].write_bytes(b"")
    with pytest.raises(ValueError, match=r"No frame of .* could be read"):
        mine(source, [watcher], MineSettings())
    for settings in ({"count": 0}, {"limit": 0}, {"gap_s": 0.0}, {"gap_s": float("nan")}):
        with pytest.raises(ValueError, match="got"):
            MineSettings(**settings)


def test_a_detector_does_not_deny_what_it_has_no_class_for(
    watcher_of: Callable[..., Watcher], folder_of: Callable[..., Source]
) -> None:
    first = watcher_of("a", {1: make_found([HERE], [0.9], [1]), 2: make_found([HERE], [0.9], [0])})
    second = watcher_of("b", {}, classes=with_roles(["hat"]))
    mined = mine(folder_of(1, 2), [first, second], MineSettings())
    assert [(item.source, reason) for item, reason in mined.chosen.pictures] == [("002.png", "disagreement")]
    assert "b does not know no_helmet: disagreement about it was not looked for" in mined.remarks
    with pytest.raises(ValueError, match="b has no class of a: dog against helmet, no_helmet; give --role"):
        mine(folder_of(3), [first, watcher_of("b", {}, classes=with_roles(["dog"]))], MineSettings())


def test_the_set_offers_the_classes_that_were_asked_for(
    watcher_of: Callable[..., Watcher], folder_of: Callable[..., Source]
) -> None:
    own = with_roles(["rider", "bare head", "with helmet"])
    classes = with_roles(["helmet", "no_helmet", "dog"])
    answers = {1: make_found([HERE, AWAY], [0.5, 0.9], [1, 2]), 2: make_found([HERE], [0.6], [0])}
    first = watcher_of("a", answers, classes=classes)
    second = watcher_of("b", {1: make_found([HERE], [0.9], [0])}, classes=with_roles(["nohelmet"]))
    mined = mine(folder_of(1, 2), [first, second], MineSettings(), offered=own)
    assert mined.classes == own
    labels = {item.source: [(one.class_name, one.by) for one in item.labels] for item, _ in mined.chosen.pictures}
    assert labels == {"001.png": [("bare head", ("a", "b"))], "002.png": [("with helmet", ("a",))]}
    assert "the set has no class for dog of a: what it reports of them is left out" in mined.remarks
    assert "b does not know with helmet: disagreement about it was not looked for" in mined.remarks
    assert not [item for item in mined.remarks if item.startswith("a does not know")]
    with pytest.raises(ValueError, match="a has no class of the set: helmet, no_helmet, dog against car; give --role"):
        mine(folder_of(3), [first], MineSettings(), offered=with_roles(["car"]))


def test_a_flicker_in_the_classes_that_were_asked_for(watcher_of: Callable[..., Watcher]) -> None:
    answers = {number: make_found([HERE], [0.9], [1]) for number in (1, 3)}
    mined = mine(film([1, 2, 3]), [watcher_of("a", answers)], MineSettings(), offered=with_roles(["bare head"]))
    ((candidate, reason),) = mined.chosen.pictures
    assert (reason, candidate.index, [item.class_name for item in candidate.labels]) == ("flicker", 1, ["bare head"])


def test_a_sliver_at_the_edge_is_not_suggested(watcher_of: Callable[..., Watcher]) -> None:
    slivers: list[Box] = [(63.5, 0, 90, 30), (10, -20, 30, 0.9), (70, 0, 90, 10), (0, 0, 1, 1)]
    seen = as_seen(make_found(slivers, [0.9] * 4, [0] * 4), watcher_of("a", {}), CLASSES)
    assert [item.box_xyxy for item in pre_labels([seen], ["a"], CLASSES, (64, 48))] == [(0, 0, 1, 1)]
    answers = {number: make_found([(-9, 10, 0.5, 20)], [0.9], [1]) for number in (1, 3)}
    mined = mine(film([1, 2, 3]), [watcher_of("a", answers)], MineSettings())
    assert [item.labels for item, _ in mined.chosen.pictures] == [()]


def suggestions(first: Detections, second: Detections) -> list[tuple[str, float | None, tuple[str, ...]]]:
    watcher = Watcher("x", lambda image: no_detections(), CLASSES, (0.5, 0.5))
    seen = [as_seen(item, watcher, CLASSES) for item in (first, second)]
    found = pre_labels(seen, ["a", "b"], CLASSES, (64, 48))
    return [(item.class_name, None if item.score is None else round(item.score, 3), item.by) for item in found]


def test_each_thing_is_suggested_once_by_the_surer_one() -> None:
    first = make_found([HERE, AWAY], [0.7, 0.6], [1, 0])
    second = make_found([(1, 0, 11, 10)], [0.9], [1])
    assert suggestions(first, second) == [("no_helmet", 0.9, ("a", "b")), ("helmet", 0.6, ("a",))]


def test_a_detector_that_gives_another_class_does_not_stand_behind_the_suggestion() -> None:
    first, second = make_found([HERE], [0.7], [0]), make_found([HERE], [0.9], [1])
    assert suggestions(first, second) == [("no_helmet", 0.9, ("b",))]
    assert suggestions(second, first) == [("no_helmet", 0.9, ("a",))]


def test_two_boxes_of_one_detector_stay_two_and_faint_ones_are_not_suggested() -> None:
    first = make_found([HERE, (1, 0, 11, 10), AWAY], [0.9, 0.8, 0.4], [0, 1, 0])
    assert suggestions(first, no_detections()) == [("helmet", 0.9, ("a",)), ("no_helmet", 0.8, ("a",))]
    assert suggestions(no_detections(), no_detections()) == []


def test_suggestions_end_at_the_edge_of_the_picture() -> None:
    watcher = Watcher("x", lambda image: no_detections(), CLASSES, (0.5, 0.5))
    seen = as_seen(make_found([(-5, -5, 80, 20)], [0.9], [0]), watcher, CLASSES)
    assert pre_labels([seen], ["a"], CLASSES, (64, 48))[0].box_xyxy == (0, 0, 64, 20)
    assert np.array_equal(seen.found.boxes_xyxy, np.array([[-5, -5, 80, 20]], np.float32))
