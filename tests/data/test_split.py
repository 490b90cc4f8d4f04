from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.load import load_dataset
from helmlite.data.roles import with_roles
from helmlite.data.split import assign_units, split_dataset

WritePicture = Callable[..., object]


@pytest.fixture
def drawn(tmp_path: Path, write_picture: WritePicture) -> Callable[..., Dataset]:
    """`drawn(seeds, groups, bare)` is a data set of one picture for each seed: equal seeds look the same."""

    def make(seeds: list[int], groups: list[str | None] | None = None, bare: list[int] | None = None) -> Dataset:
        samples = []
        for number, seed in enumerate(seeds):
            path = tmp_path / f"p{number:03}.png"
            write_picture(path, 80 + number % 3, 60, seed)
            labels = np.array([0] + [1] * (bare[number] if bare else 0), np.int64)
            boxes = np.tile(np.array([[1, 1, 9, 9]], np.float32), (len(labels), 1))
            samples.append(Sample(path, boxes, labels, groups[number] if groups else None))
        return dataset_of(samples, with_roles(["helmet", "no_helmet"]))

    return make


def stems(dataset: Dataset) -> set[str]:
    return {path.stem for path in dataset.image_paths}


def test_every_picture_goes_to_one_split_and_the_seed_decides(drawn: Callable[..., Dataset]) -> None:
    dataset = drawn(list(range(40)))
    plan = split_dataset([dataset], 0.2, 0.1, seed=1)
    assert {split: len(data) for split, data in plan.splits.items()} == {"train": 28, "val": 8, "test": 4}
    assert stems(plan.splits["train"]) | stems(plan.splits["val"]) | stems(plan.splits["test"]) == stems(dataset)
    assert [data.split for data in plan.splits.values()] == ["train", "val", "test"]
    again, other = split_dataset([dataset], 0.2, 0.1, seed=1), split_dataset([dataset], 0.2, 0.1, seed=2)
    assert all(plan.splits[name].image_paths == again.splits[name].image_paths for name in plan.splits)
    assert stems(plan.splits["val"]) != stems(other.splits["val"])
    assert plan.units == 40 and plan.scenes_cut == ()


def test_what_looks_the_same_and_what_is_named_as_one_scene_stays_together(drawn: Callable[..., Dataset]) -> None:
    seeds = [0, 0, 0, *range(1, 28)]
    groups = [None] * 3 + ["street"] * 4 + [None] * 23
    groups[2] = "street"  # the copy is part of the scene, so that all seven hang together
    for seed in range(5):
        plan = split_dataset([drawn(seeds, groups)], 0.25, 0.25, seed=seed)
        places = [{int(stem[1:]) for stem in stems(data)} for data in plan.splits.values()]
        assert sum({0, 1, 2, 3, 4, 5, 6} <= place for place in places) == 1
        assert plan.units == 24


def test_bare_heads_are_spread_in_proportion(drawn: Callable[..., Dataset]) -> None:
    dataset = drawn(list(range(60)), bare=[3] * 20 + [0] * 40)
    plan = split_dataset([dataset], 0.2, 0.2, seed=0)
    heads = {split: sum(int((s.labels == 1).sum()) for s in data) for split, data in plan.splits.items()}
    assert heads == {"train": 36, "val": 12, "test": 12}
    assert {split: len(data) for split, data in plan.splits.items()} == {"train": 36, "val": 12, "test": 12}


def test_a_share_of_nothing_makes_no_split(drawn: Callable[..., Dataset]) -> None:
    assert list(split_dataset([drawn(list(range(10)))], 0.2, 0).splits) == ["train", "val"]


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (-0.1, 0.2), (0, 0), (1.5, 0), (float("nan"), 0.1)])
def test_shares_that_leave_nothing_are_refused(drawn: Callable[..., Dataset], val: float, test: float) -> None:
    with pytest.raises(ValueError, match="together below 1"):
        split_dataset([drawn([0, 1, 2])], val, test)


def test_a_split_that_would_stay_empty_is_refused(drawn: Callable[..., Dataset]) -> None:
    with pytest.raises(
        ValueError, match=r"No picture is left for '(val|test)': 5 pictures make 2 groups.*largest of 4"
    ):
        split_dataset([drawn([0, 0, 0, 0, 1])])


def test_a_picture_listed_in_two_splits_comes_once(yolo_set: Path) -> None:
    train, val = load_dataset(yolo_set, "train"), load_dataset(yolo_set, "val")
    plan = split_dataset([train, val, train], 0.25, 0)
    assert sum(len(data) for data in plan.splits.values()) == 8


def test_units_are_assigned_by_hand_worked_amounts() -> None:
    # 10 pictures in units of 6, 2, 1, 1 over shares 0.6, 0.2, 0.2: only one way fits
    amounts = np.array([[1], [6], [1], [2]])
    chosen = assign_units(amounts, np.array([0.6, 0.2, 0.2]), seed=0)
    assert chosen[1] == 0
    assert chosen[0] == chosen[2] != chosen[3]
    assert {int(chosen[0]), int(chosen[3])} == {1, 2}


def test_one_camera_that_took_all_is_cut_and_said(tmp_path: Path, write_picture: WritePicture) -> None:
    import cv2

    rng = np.random.default_rng(0)
    background = np.array(write_picture(tmp_path / "background.png", 320, 240, 1))
    samples = []
    for number in range(40):
        image = background.copy()
        left, top = int(rng.integers(0, 270)), int(rng.integers(0, 190))
        image[top : top + 30, left : left + 30] = 255 - image[top : top + 30, left : left + 30].mean() // 128 * 255
        path = tmp_path / f"frame{number:03}.png"
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        samples.append(Sample(path, np.zeros((0, 4), np.float32), np.zeros(0, np.int64)))
    plan = split_dataset([dataset_of(samples, with_roles(["helmet"]))], 0.2, 0.2)
    assert plan.scenes_cut and plan.scenes_cut[0] >= 35
    assert all(6 <= len(plan.splits[name]) <= 10 for name in ("val", "test"))
