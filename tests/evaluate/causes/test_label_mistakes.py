"""Planted label mistakes are found, and labels that are right are left alone."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.boxes import box_iou
from helmlite.data.dataset import Sample, dataset_of
from helmlite.data.load import load_dataset
from helmlite.data.roles import with_roles
from helmlite.data.scenes import write_scenes
from helmlite.detections import Detections, no_detections
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.causes.label_mistakes import LabelMistakes, find_label_mistakes, write_label_mistakes
from helmlite.evaluate.plain import from_plain, to_plain

CLASSES = with_roles(["helmet", "no_helmet", "rider", "car"])
PLACES = [(10, 10, 40, 40), (60, 10, 90, 40), (10, 60, 40, 90), (60, 60, 90, 90)]
FIRST = PLACES[0]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "a.png"
    path.parent.mkdir()
    noise = np.random.default_rng(0).integers(60, 200, (100, 100, 3)).astype(np.uint8)
    path.write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    return path


def _found(*reported: tuple[tuple[float, ...], float, int]) -> Detections:
    boxes, scores, labels = zip(*reported, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels, np.int64))


def _sample(path: Path, boxes: list[tuple[float, ...]], labels: list[int]) -> Sample:
    return Sample(path, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))


def _run(path: Path, boxes, labels, *sides: Detections, least_sure: float = 0.3) -> LabelMistakes:  # type: ignore[no-untyped-def]
    data = dataset_of([_sample(path, boxes, labels)], CLASSES)
    return find_label_mistakes([Predictions((side,), (0,)) for side in sides], data, least_sure)


def test_a_head_that_is_not_labelled(picture: Path) -> None:
    mistakes = _run(picture, [], [], _found((FIRST, 0.8, 1), (FIRST, 0.4, 0)))
    (item,) = mistakes.candidates
    assert (item.kind, item.suggested, item.labelled, item.box) == ("missing", "no_helmet", None, None)
    assert (item.sure, item.scores, item.box_xyxy) == (pytest.approx(0.8), (pytest.approx(0.8),), FIRST)
    assert (
        mistakes.in_words() == "0 of 0 labelled heads look wrong and 1 seem to be missing, in 1 pictures (1 detector)"
    )


@pytest.mark.parametrize(
    ("box", "label", "is_silent"),
    [
        ((10, 10, 40, 40), 1, False),
        ((10, 10, 40, 22), 1, False),  # IoU 0.4
        ((5, 5, 90, 90), 1, False),  # the head that is reported is part of this one
        ((20, 20, 28, 28), 0, False),  # and this one part of it
        ((30, 10, 60, 40), 1, True),  # IoU 0.2: a neighbour
        ((5, 5, 90, 90), 2, True),  # a rider around it says nothing of his head
        ((12, 10, 42, 40), 3, False),  # whatever it is, a label speaks of it
    ],
)
def test_when_a_label_is_silent(picture: Path, box, label: int, is_silent: bool) -> None:  # type: ignore[no-untyped-def]
    mistakes = _run(picture, [box], [label], _found((FIRST, 0.8, 1)))
    assert [item.kind for item in mistakes.candidates if item.kind == "missing"] == ["missing"] * is_silent


def test_a_head_of_the_other_class(picture: Path) -> None:
    mistakes = _run(picture, [FIRST, PLACES[1]], [0, 1], _found((FIRST, 0.9, 1), (FIRST, 0.2, 0), (PLACES[1], 0.9, 1)))
    (item,) = mistakes.candidates
    assert (item.kind, item.labelled, item.suggested, item.box) == ("wrong class", "helmet", "no_helmet", 0)
    assert item.sure == pytest.approx(0.7)
    assert item.says == "labelled helmet, but no_helmet is reported"


def test_a_ghost_is_what_nobody_finds_where_heads_alike_are_found(picture: Path) -> None:
    """Four equal heads at 0.9 and one at 0.05: (1 - 0.05) * 4 / 5.  Of two that nobody finds nothing is said."""
    boxes = [*PLACES, (36, 36, 64, 66)]
    scores = (0.9, 0.9, 0.9, 0.9, 0.05)
    found = _found(*((box, score, 1) for box, score in zip(boxes, scores, strict=True)))
    mistakes = _run(picture, boxes, [1] * 5, found)
    (item,) = mistakes.candidates
    assert (item.kind, item.box, item.suggested, item.labelled) == ("ghost", 4, None, "no_helmet")
    assert item.sure == pytest.approx(0.95 * 0.8)
    assert item.scores == (pytest.approx(0.05),)
    assert mistakes.not_judged == 0
    two = _run(picture, boxes, [1] * 5, _found(*((box, 0.9, 1) for box in boxes[:3])))
    assert (two.candidates, two.not_judged) == ((), 2)
    assert two.in_words().endswith("(1 detector); 2 that nobody finds cannot be judged")


def test_small_heads_are_no_ghosts_and_faint_ones_neither(picture: Path) -> None:
    boxes = [*PLACES[:3], (60, 60, 68, 68)]
    found = _found(*((box, 0.9, 1) for box in boxes[:3]))
    assert _run(picture, boxes, [1] * 4, found).candidates == ()
    faint = _found(*((box, score, 1) for box, score in zip(PLACES, (0.9, 0.9, 0.9, 0.2), strict=True)))
    assert _run(picture, PLACES, [1] * 4, faint).candidates == ()


def test_two_detectors_are_surer_together(picture: Path) -> None:
    loud, silent = _found((FIRST, 0.8, 1)), no_detections()
    assert _run(picture, [], [], loud, loud).candidates[0].sure == pytest.approx(0.8)
    alone = _run(picture, [], [], silent, loud).candidates[0]
    assert alone.sure == pytest.approx(0.4)
    assert alone.scores == (None, pytest.approx(0.8))
    assert _run(picture, [], [], silent, loud, least_sure=0.5).candidates == ()
    split = _run(picture, [FIRST], [0], _found((FIRST, 0.8, 0)), _found((FIRST, 0.8, 1)))
    assert split.candidates == ()  # they contradict one another, and not the label


def test_pictures_that_nobody_labelled_are_left_out(picture: Path) -> None:
    data = dataset_of([replace(_sample(picture, [], []), is_labelled=False)], CLASSES)
    mistakes = find_label_mistakes([Predictions((_found((FIRST, 0.9, 1)),), (0,))], data)
    assert (mistakes.candidates, mistakes.pictures) == ((), 0)


def test_wrong_arguments(picture: Path) -> None:
    data = dataset_of([_sample(picture, [], [])], CLASSES)
    with pytest.raises(ValueError, match="No detector was given"):
        find_label_mistakes([], data)
    with pytest.raises(ValueError, match="at least so sure: a number above 0 and up to 1; got 0"):
        find_label_mistakes([Predictions((no_detections(),), (0,))], data, least_sure=0)
    with pytest.raises(ValueError, match="pictures"):
        find_label_mistakes([Predictions((no_detections(),), (0,)), Predictions((), ())], data)


def test_the_list_as_csv_and_as_json(picture: Path, tmp_path: Path) -> None:
    data = replace(dataset_of([_sample(picture, [FIRST], [0])], CLASSES, "val"), source=tmp_path / "data.yaml")
    sides = [_found((FIRST, 0.9, 1), (PLACES[1], 0.5, 0)), _found((FIRST, 0.7, 1))]
    mistakes = find_label_mistakes([Predictions((side,), (0,)) for side in sides], data, least_sure=0.25)
    write_label_mistakes(mistakes, tmp_path / "list.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "list.csv").read_text(encoding="utf-8"))))
    assert [(row["picture"], row["kind"], row["sure"]) for row in rows] == [
        ("images/a.png", "wrong class", "0.8000"),
        ("images/a.png", "missing", "0.2500"),
    ]
    assert [(row["box"], row["score_1"], row["score_2"]) for row in rows] == [
        ("0", "0.9000", "0.7000"),
        ("", "0.5000", ""),
    ]
    assert [rows[1][side] for side in ("left", "top", "right", "bottom")] == ["60.0", "10.0", "90.0", "40.0"]
    write_label_mistakes(mistakes, tmp_path / "list.json")
    assert from_plain(LabelMistakes, json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))) == mistakes
    with pytest.raises(ValueError, match=r"written as \.csv or \.json, by the file's ending"):
        write_label_mistakes(mistakes, tmp_path / "list.txt")


def test_a_name_in_the_list_is_no_formula(picture: Path, tmp_path: Path) -> None:
    classes = with_roles(["=1+1", "no_helmet"], {"=1+1": "helmet"})
    data = dataset_of([_sample(picture, [FIRST], [1])], classes)
    mistakes = find_label_mistakes([Predictions((_found((FIRST, 0.9, 0)),), (0,))], data)
    odd = replace(mistakes.candidates[0], picture="-a.png", box_xyxy=(-1.0, 0.0, 5.0, 5.0))
    write_label_mistakes(replace(mistakes, candidates=(odd,)), tmp_path / "list.csv")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "list.csv").read_text(encoding="utf-8")))
    assert (row["picture"], row["suggested"], row["left"]) == ("'-a.png", "'=1+1", "-1.0")
    assert row["says"][:1] not in "=+-@"


def test_an_empty_list_is_a_file_too(picture: Path, tmp_path: Path) -> None:
    mistakes = _run(picture, [], [], no_detections())
    write_label_mistakes(mistakes, tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text(encoding="utf-8").count("\n") == 1
    assert to_plain(mistakes)["candidates"] == []


def _reported(sample: Sample, random: np.random.Generator) -> Detections:
    """What a fair detector says of true labels: tight boxes with 0.6 to 0.95, and one false alarm of at most 0.5."""
    count = len(sample.labels)
    boxes = sample.boxes_xyxy + random.normal(0, 0.3, (count, 4))
    alarm = np.array([[0, 0, 12, 12]]) + random.uniform(0, 300, 1)
    return Detections(
        np.concatenate([boxes, alarm]).astype(np.float32),
        np.append(random.uniform(0.6, 0.95, count), random.uniform(0.0, 0.5)).astype(np.float32),
        np.append(sample.labels, random.integers(2)).astype(np.int64),
    )


def test_planted_mistakes_are_found_first(tmp_path: Path) -> None:
    """Of drawn scenes 8 labels are removed, 8 get the other class, and 8 ghosts of usual size are added."""
    data = load_dataset(write_scenes(tmp_path / "scenes", 0, 40, 0, seed=3), "val")
    random = np.random.default_rng(0)
    truth = list(data)
    found = Predictions(tuple(_reported(sample, random) for sample in truth), tuple(range(len(truth))))
    shown = [number for number, sample in enumerate(truth) if len(sample.labels)]
    chosen = random.choice(shown, 24, replace=False).tolist()
    samples, planted = list(truth), set()
    for number in chosen[:8]:
        samples[number] = replace(
            truth[number], boxes_xyxy=truth[number].boxes_xyxy[1:], labels=truth[number].labels[1:]
        )
        planted.add(("missing", number))
    for number in chosen[8:16]:
        labels = truth[number].labels.copy()
        labels[0] = 1 - labels[0]
        samples[number] = replace(truth[number], labels=labels)
        planted.add(("wrong class", number))
    size = np.median(np.concatenate([item.boxes_xyxy[:, 2:] - item.boxes_xyxy[:, :2] for item in truth]), axis=0)
    for number in chosen[16:]:
        sample = truth[number]
        corner = next(
            corner
            for corner in random.uniform((5, 5), np.array([475, 355]) - size, (500, 2))
            if not box_iou(np.append(corner, corner + size)[None], sample.boxes_xyxy).any()
        )
        boxes = np.concatenate([sample.boxes_xyxy, np.append(corner, corner + size)[None]]).astype(np.float32)
        samples[number] = replace(sample, boxes_xyxy=boxes, labels=np.append(sample.labels, 1))
        planted.add(("ghost", number))
    listed = find_label_mistakes([found], dataset_of(samples, data.classes, "val")).candidates
    hits = [(item.kind, item.picture_index) in planted for item in listed]
    assert len({(item.kind, item.picture_index) for item in listed} & planted) >= 22
    assert sum(hits[:16]) >= 15
    assert sum(hits) < len(hits)  # false alarms are listed too, and last
    assert find_label_mistakes([found], data, least_sure=0.5).candidates == ()
