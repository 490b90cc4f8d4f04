"""A teacher known by its stored boxes: whose picture is whose, what they ask of each cell, and that it teaches."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from helmlite.compress.distill import Distill
from helmlite.compress.teaching.stored_teacher import (
    StoredTeacherObjective,
    StoredWeights,
    store_teacher,
    stored_file,
    stored_targets,
    with_found,
)
from helmlite.compress.teaching.unlabelled import unlabelled_pictures
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import Class, with_roles
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.ema import every_tensor
from helmlite.detector.fit_state import EpochPlan
from helmlite.detector.tiny import new_tiny

CLASSES = with_roles(["helmet", "no_helmet"])
PLAN = EpochPlan(1, 1, False, 1, 0.0, 0.0, {})


def pictures(folder: Path, count: int = 4) -> Dataset:
    folder.mkdir(exist_ok=True)
    samples = []
    for index in range(count):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8))
        samples.append(Sample(path, np.array([[8, 8, 40, 40]], np.float32), np.array([index % 2], np.int64)))
    return dataset_of(samples, CLASSES)


def written(path: Path, dataset: Dataset, **changes: Any) -> Path:
    """A file in which the picture at each index has one box of width index + 1, score 0.5 and label 1."""
    found = [
        {
            "index": index,
            "name": item.name,
            "boxes_xyxy": [[0, 0, index + 1, 10], [0, 0, 5, 5]],
            "scores": [0.5, 0.05],
            "labels": [1, 0],
        }
        for index, item in enumerate(dataset.image_paths)
    ]
    values = {"format": 1, "pictures": found, "skipped": [], **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def weights(detector: Detector) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in every_tensor(detector.network)}


def test_each_picture_gets_its_own_boxes_above_the_score(tmp_path):
    data = pictures(tmp_path)
    taught = with_found(data, written(tmp_path / "train.json", data), 0.1)
    for index, sample in enumerate(taught):
        assert sample.found is not None
        assert sample.found.boxes_xyxy.tolist() == [[0, 0, index + 1, 10]]
        assert sample.found.labels.tolist() == [1]
        assert sample.labels.tolist() == [index % 2]  # labels stay as they are
    assert data[0].found is None
    some = with_found(data.subset([3, 1]), tmp_path / "train.json", 0.1)  # other places, the same names
    assert [sample.found.boxes_xyxy[0, 2] for sample in some if sample.found is not None] == [4, 2]


def test_classes_meet_by_name_then_role_and_others_are_dropped(tmp_path):
    data = pictures(tmp_path, 1)
    path = written(tmp_path / "train.json", data, classes=["rider", "未戴头盔", "helmet"])
    with pytest.raises(ValueError, match="no class for 'helmet'"):
        with_found(data, written(tmp_path / "other.json", data, classes=["rider", "car"]), 0.1)
    found = with_found(data, path, 0.01)[0].found
    assert found is not None
    assert found.labels.tolist() == [1]  # theirs 1 is no_helmet by its role; theirs 0 is a rider, which goes
    chinese = replace(data, classes=(Class("戴头盔", "helmet"), Class("裸头", "no_helmet")))
    by_given_role = with_found(chinese, written(tmp_path / "b.json", data, classes=["戴头盔", "裸头"]), 0.1)[0].found
    assert by_given_role is not None
    assert by_given_role.labels.tolist() == [1]
    with pytest.raises(ValueError, match="label 1, but the detector knows 1 classes"):
        with_found(replace(data, classes=CLASSES[:1]), written(tmp_path / "c.json", data), 0.1)


def test_files_that_do_not_serve_are_named_in_one_line(tmp_path):
    data = pictures(tmp_path)
    few = written(tmp_path / "few.json", data.subset([0, 1]))
    with pytest.raises(ValueError, match=r"no predictions for 2 of the 4 pictures, among them '2.png'"):
        with_found(data, few, 0.1)
    unread = [{"path": f"elsewhere/{number}.png", "reason": "cut off"} for number in (2, 3)]
    found = with_found(data, written(tmp_path / "unread.json", data.subset([0, 1]), skipped=unread), 0.1)[3].found
    assert found is not None
    assert len(found) == 0
    bad = {"index": 0, "name": "0.png", "boxes_xyxy": [[0, 0, 1, 1]], "scores": [7.0], "labels": [0]}
    with pytest.raises(ValueError, match="scores lie between 0 and 1"):
        with_found(data.subset([0]), written(tmp_path / "bad.json", data, pictures=[bad]), 0.1)
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(ValueError, match="does not hold predictions"):
        with_found(data, tmp_path / "none.json", 0.1)
    with pytest.raises(ValueError, match=r"train.json: no such file. Write it with `helmlite eval"):
        stored_file(f"stored:{tmp_path / 'nowhere'}", "train")
    with pytest.raises(ValueError, match=r"unlabelled.json: no such file. Write it with store_teacher"):
        stored_file(f"stored:{tmp_path}", "unlabelled")


def test_what_a_stored_box_asks_of_the_cells_by_hand():
    """One scale of 2 x 2 cells of 8 pixels; the student sees a box of 8 pixels around each cell's centre."""
    boxes = torch.full((1, 4, 2, 2), 0.5)
    scores = torch.zeros(1, 2, 2, 2)  # probability 0.5 everywhere
    batch = Batch(torch.zeros(1, 3, 16, 16), torch.zeros(0, 6))
    # x 0..16, y 0..8, class 1, score 0.8: both upper cells lie inside, each with IoU 1/2
    found = torch.tensor([[0, 1, 0.5, 0.25, 1.0, 0.5, 0.8]])
    distances, sure = stored_targets((boxes, scores), 1, (8,), found, batch, 10)
    assert sure[0].tolist() == [[0, 0, 0, 0], [pytest.approx(0.8)] * 2 + [0, 0]]
    assert distances[0, :, 0].tolist() == pytest.approx([0.5, 0.5, 1.5, 0.5])  # left, top, right, bottom in strides
    assert distances[0, :, 1].tolist() == pytest.approx([1.5, 0.5, 0.5, 0.5])
    assert distances[0, :, 2:].abs().sum().item() == 0
    # the right cell's own score falls to 1/4: its claim is sqrt(1/2) of the left one's
    scores[0, 1, 0, 1] = -math.log(3)
    _, sure = stored_targets((boxes, scores), 1, (8,), found, batch, 10)
    assert sure[0, 1, :2].tolist() == pytest.approx([0.8, 0.8 * math.sqrt(0.5)], rel=1e-4)
    _, sure = stored_targets((boxes, scores), 1, (8,), found, batch, 1)  # heads that give each object once
    assert sure[0, 1].tolist() == pytest.approx([0.8, 0, 0, 0])
    _, nothing = stored_targets((boxes, scores), 1, (8,), found[:0], batch, 10)
    assert nothing.abs().sum().item() == 0


def test_a_box_that_the_student_does_not_touch_is_asked_for_all_the_same():
    boxes = torch.full((1, 4, 2, 2), -0.5)  # turned inside out: no overlap with anything
    batch = Batch(torch.zeros(1, 3, 16, 16), torch.zeros(0, 6))
    found = torch.tensor([[0, 0, 0.25, 0.25, 0.5, 0.5, 0.6]])
    _, sure = stored_targets((boxes, torch.zeros(1, 1, 2, 2)), 1, (8,), found, batch, 10)
    assert sure[0, 0, 0].item() == pytest.approx(0.6)


def test_the_loss_is_nothing_where_the_student_says_what_is_stored():
    class Fixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.boxes = torch.nn.Parameter(torch.full((1, 4, 2, 2), 0.5))
            self.scores = torch.nn.Parameter(torch.full((1, 2, 2, 2), -20.0))

    network = Fixed()
    student = new_tiny(CLASSES, 64, width=0.25, seed=0)
    objective = StoredTeacherObjective(StoredWeights(0, 1, 1, 1.0), student, student.network, PLAN, {})
    objective._layout = replace(objective._layout, strides=(8,))
    with torch.no_grad():
        network.scores[0, 1, 0, 0] = math.log(0.7 / 0.3)
    found = torch.tensor([[0, 1, 0.25, 0.25, 0.5, 0.5, 0.7]])  # exactly the first cell
    batch = Batch(torch.zeros(1, 3, 16, 16), torch.zeros(0, 6), None, found)
    classes, boxes = objective._branch_losses((network.boxes, network.scores), 10, batch, found)
    assert classes.item() == pytest.approx(0, abs=1e-3)
    assert boxes.item() == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        network.scores[0, 1, 0, 0] = -math.log(0.7 / 0.3)
        network.boxes[:, 2] = 0.0  # half as wide
    classes, boxes = objective._branch_losses((network.boxes, network.scores), 10, batch, found)
    # KL(0.7 || 0.3) weighted 0.7, the total confidence 0.7 counts as 1; 1 - GIoU = 1/2 weighted 0.7
    assert classes.item() == pytest.approx(0.7 * 0.4 * math.log(7 / 3), rel=1e-2)
    assert boxes.item() == pytest.approx(0.7 * 0.5, rel=1e-4)
    (classes + boxes).backward()
    assert network.scores.grad is not None
    assert network.scores.grad[0, 1, 0, 0].item() < 0  # the score must rise
    assert network.boxes.grad is not None
    assert network.boxes.grad[0, 2, 0, 0].item() < 0  # and the box become wider


@pytest.fixture
def context(tmp_path: Path) -> Context:
    data = pictures(tmp_path)
    return Context(data, new_tiny(CLASSES, 64, width=0.25, seed=5), 64, 0, tmp_path / "work", log=lambda line: None)


def test_storing_and_teaching_from_what_was_stored(context, tmp_path):
    """What a detector finds is written, read again, and moves the student otherwise than labels alone do."""
    with torch.no_grad():
        for head in context.original.network.heads:
            head.logits.bias.fill_(1.0)
    path = store_teacher(context.original, context.data, 64, tmp_path / "teacher", min_score=0.3)
    assert path == tmp_path / "teacher" / "train.json"
    found = with_found(context.data, path, 0.3)[0].found
    assert found is not None
    assert len(found) > 0
    student = new_tiny(CLASSES, 64, width=0.25, seed=1)
    settings = Distill(epochs=1, batch_size=4, bf16=False, teacher=f"stored:{tmp_path / 'teacher'}")
    taught = settings.apply(student, context)
    again = settings.apply(student, replace(context, workspace=tmp_path / "again"))
    alone = replace(settings, teacher="none").apply(student, replace(context, workspace=tmp_path / "alone"))
    assert all(torch.equal(weights(taught)[name], tensor) for name, tensor in weights(again).items())
    assert any(not torch.equal(weights(taught)[name], tensor) for name, tensor in weights(alone).items())
    assert taught.edits == student.edits
    before = settings.outside_sha256()
    written(path, context.data)
    assert settings.outside_sha256() != before
    with pytest.raises(ValueError, match="another objective"):
        settings.apply(student, context)


def test_a_stored_teacher_teaches_on_pictures_without_labels(context, tmp_path):
    pictures(tmp_path / "more", 2)
    others = unlabelled_pictures(tmp_path / "more", CLASSES)
    for dataset in (context.data, others):
        store_teacher(context.original, dataset, 64, tmp_path / "teacher")
    assert sorted(item.name for item in (tmp_path / "teacher").iterdir()) == ["train.json", "unlabelled.json"]
    settings = Distill(epochs=1, teacher=f"stored:{tmp_path / 'teacher'}", unlabelled=str(tmp_path / "more"))
    settings.check_outside(context.original)
    found = settings._data(context)
    assert [sample.is_labelled for sample in found] == [True] * 4 + [False] * 2
    assert all(sample.found is not None for sample in found)


def test_settings_of_a_stored_teacher(context, tmp_path):
    with pytest.raises(ValueError, match="stored_score"):
        Distill(epochs=1, stored_score=0.0)
    with pytest.raises(ValueError, match="knows no features"):
        Distill(epochs=1, teacher="stored:x", task=0, classes=0, boxes=0)
    with pytest.raises(ValueError, match=r"need their own predictions.*unlabelled.json"):
        Distill(epochs=1, teacher="stored:x.json", unlabelled="pictures")
    with pytest.raises(ValueError, match="no such file"):
        Distill(epochs=1, teacher=f"stored:{tmp_path}").check_outside(context.original)
