"""Bringing a detector to a new place: every number by hand, and a source by day with a target at night."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.adaptation.norm_statistics import (
    AdaptNorms,
    Letterboxed,
    blend_statistics,
    letterboxed,
    source_share,
)
from helmlite.compress.adaptation.pseudo_labels import (
    SureEnough,
    as_taught,
    count_sure,
    sure_thresholds,
    with_labels_as_found,
    with_pseudo_labels,
)
from helmlite.compress.adaptation.target_pictures import TargetPictures, choose_few, shown_labelled, without_labels
from helmlite.compress.adaptation.target_training import TrainOnTarget
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.scenes import draw_scene
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.detector.fit_state import detector_sha256
from helmlite.detector.tiny import new_tiny
from helpers import Lines, alive
from written_data import CLASSES, make_found, make_predictions, make_sample

SIZE = 64
BOX = (4.0, 4.0, 40.0, 44.0)


class _Plain:
    """A family whose maps are what the network gives."""

    def training_maps(self, network: nn.Module, images: Tensor) -> Any:
        network(images)
        return SimpleNamespace()


def _batch(*values: float, inside: tuple[float, ...] | None = None) -> Letterboxed:
    """One picture of one row and one channel."""
    row = torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)
    return Letterboxed(row, torch.ones_like(row) if inside is None else torch.tensor(inside).view(1, 1, 1, -1))


def _norm(mean: float, variance: float) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(1, eps=0.0)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.fill_(mean)
    norm.running_var.fill_(variance)
    return norm


def _scenes(folder: Path, weather: str, count: int, seed: int) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for index in range(count):
        scene = draw_scene((seed, index), (160, 120), weather)
        path = folder / f"{weather}-{seed}-{index}.png"
        cv2.imwrite(str(path), cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
        samples.append(Sample(path, scene.boxes_xyxy, scene.labels))
    return dataset_of(samples, CLASSES)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return _scenes(tmp_path_factory.mktemp("day"), "day", 8, 1)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return _scenes(tmp_path_factory.mktemp("night"), "night", 9, 2)


@pytest.fixture(scope="module")
def by_day(day: Dataset) -> Detector:
    """A detector whose statistics are those of the day."""
    detector = alive(new_tiny(CLASSES, SIZE, width=0.5, seed=3))
    reestimate_batchnorm(family_of(detector), detector.network, list(plain_batches(day, SIZE, 8, 8, 0)))
    return detector


def _context(data: Dataset, detector: Detector, workspace: Path, log: Lines | None = None) -> Context:
    return Context(data, detector, SIZE, 0, workspace, log=Lines() if log is None else log, device="cpu")


def test_the_blend_is_computed_by_hand() -> None:
    """1, 3 and 5, 7 together: mean 4, variance 21 - 16 = 5; a quarter of (2, 4), three quarters of these."""
    norm = _norm(2.0, 4.0)
    blend_statistics(_Plain(), nn.Sequential(norm), [_batch(1, 3), _batch(5, 7)], 0.25)  # type: ignore[arg-type]
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.running_mean.item() == pytest.approx(0.25 * 2 + 0.75 * 4)
    assert norm.running_var.item() == pytest.approx(0.25 * 4 + 0.75 * 5)


def test_the_grey_around_a_picture_is_not_measured() -> None:
    """1 and 3 lie in the picture, 100 on its border: mean 2, variance 1."""
    norm = _norm(0.0, 1.0)
    blend_statistics(_Plain(), nn.Sequential(norm), [_batch(1, 3, 100, inside=(1.0, 1.0, 0.0))], 0.0)  # type: ignore[arg-type]
    assert norm.running_mean is not None and norm.running_var is not None
    assert (norm.running_mean.item(), norm.running_var.item()) == (2.0, 1.0)


def test_pictures_are_letterboxed_in_batches_of_almost_one_size(night: Dataset) -> None:
    """160 x 120 in 64: 64 x 48, eight rows of grey above and below."""
    shown = list(letterboxed(night.subset([index % 9 for index in range(17)]), SIZE))
    assert [len(item.images) for item in shown] == [9, 8]
    assert shown[0].inside.shape == (9, 1, SIZE, SIZE) and shown[0].images.shape == (9, 3, SIZE, SIZE)
    rows = shown[0].inside[0, 0].mean(dim=1)
    assert rows.tolist() == [0.0] * 8 + [1.0] * 48 + [0.0] * 8
    assert torch.allclose(shown[0].images[:, :, :8], torch.tensor(114 / 255))


def test_a_later_layer_is_measured_behind_the_blend_of_the_earlier() -> None:
    """1, 3 have mean 2, variance 1; half of it and half of (0, 1): mean 1, variance 1, so that 0, 2 come out."""
    first, second = _norm(0.0, 1.0), _norm(3.0, 9.0)
    blend_statistics(_Plain(), nn.Sequential(first, second), [_batch(1, 3)], 0.5)  # type: ignore[arg-type]
    assert second.running_mean is not None and second.running_var is not None
    assert second.running_mean.item() == pytest.approx(0.5 * 3 + 0.5 * 1)
    assert second.running_var.item() == pytest.approx(0.5 * 9 + 0.5 * 1)


def test_all_of_the_source_changes_nothing_and_none_of_it_forgets_it() -> None:
    kept, forgotten = _norm(2.0, 4.0), _norm(2.0, 4.0)
    blend_statistics(_Plain(), nn.Sequential(kept), [_batch(1, 3)], 1.0)  # type: ignore[arg-type]
    blend_statistics(_Plain(), nn.Sequential(forgotten), [_batch(1, 3)], source_share(0, 1))  # type: ignore[arg-type]
    assert kept.running_mean is not None and forgotten.running_mean is not None
    assert (kept.running_mean.item(), forgotten.running_mean.item()) == (2.0, 2.0)
    assert kept.running_var is not None and forgotten.running_var is not None
    assert (kept.running_var.item(), forgotten.running_var.item()) == (4.0, 1.0)


def test_the_night_moves_the_first_layers_statistics_as_computed_by_hand(
    by_day: Detector, night: Dataset, tmp_path: Path
) -> None:
    """9 pictures of the night against a prior of 3: a quarter of the day is left."""
    before = detector_sha256(by_day)
    adapted = AdaptNorms(prior_pictures=3).apply(by_day, _context(night, by_day, tmp_path))
    assert detector_sha256(by_day) == before, "the input stays as it is"
    name, norm = next(item for item in by_day.network.named_modules() if isinstance(item[1], nn.BatchNorm2d))
    seen: list[Tensor] = []
    hook = norm.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].double()))
    with torch.no_grad():
        for batch in plain_batches(night, SIZE, 9, 4, 0):
            by_day.network(batch.images)
    hook.remove()
    maps = torch.cat(seen)  # (9, C, 32, 32), of which rows 4 to 27 are of the picture
    assert maps.shape[2:] == (32, 32)
    values = maps[:, :, 4:28].transpose(0, 1).flatten(1)  # (C, pictures * positions)
    moved = dict(adapted.network.named_modules())[name]
    assert isinstance(moved, nn.BatchNorm2d) and moved.running_mean is not None and moved.running_var is not None
    assert norm.running_mean is not None and norm.running_var is not None
    assert torch.allclose(moved.running_mean.double(), 0.25 * norm.running_mean + 0.75 * values.mean(1), atol=1e-5)
    wanted = 0.25 * norm.running_var + 0.75 * values.var(1, correction=0)
    assert torch.allclose(moved.running_var.double(), wanted, rtol=1e-4)
    assert not torch.allclose(moved.running_mean, norm.running_mean, atol=1e-3), "a night is darker than a day"
    weights = zip(by_day.network.parameters(), adapted.network.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in weights)
    assert adapted.edits == by_day.edits


def test_what_has_no_statistics_is_refused(by_day: Detector, night: Dataset, tmp_path: Path) -> None:
    folded = fold_batchnorm(by_day)
    with pytest.raises(ValueError, match=r"no BatchNorm statistics \(they were folded into the convolutions\)"):
        AdaptNorms().apply(folded, _context(night, folded, tmp_path))
    with pytest.raises(ValueError, match="there is no picture to take statistics from"):
        AdaptNorms().apply(by_day, _context(night.subset([]), by_day, tmp_path))
    for wrong in ({"prior_pictures": -1.0}, {"prior_pictures": float("nan")}, {"pictures": 0}):
        with pytest.raises(ValueError, match="prior_pictures is at least 0"):
            AdaptNorms(**wrong)  # type: ignore[arg-type]


def test_each_class_has_the_threshold_that_its_share_reaches() -> None:
    found = make_predictions(
        make_found([BOX] * 4, [0.9, 0.8, 0.4, 0.1], [0, 0, 0, 0]), make_found([BOX] * 2, [0.6, 0.3], [0, 1])
    )
    assert sure_thresholds(found, 3, SureEnough(share=0.5)) == (pytest.approx(0.8), pytest.approx(0.3), None)
    assert sure_thresholds(found, 3, SureEnough(share=0.6))[0] == pytest.approx(0.6), "0.1 does not count"
    assert sure_thresholds(found, 3, SureEnough(share=1.0))[0] == pytest.approx(0.4)
    assert sure_thresholds(make_predictions(), 2, SureEnough()) == (None, None)
    assert count_sure(found, (0.8, 0.3, None)) == (2, 1, 0)


def test_what_is_not_sure_keeps_its_score_and_what_is_low_is_nothing() -> None:
    taught = as_taught(make_found([BOX] * 4, [0.9, 0.8, 0.4, 0.04], [0, 1, 0, 0]), (0.8, None), 0.05)
    assert taught.scores.tolist() == pytest.approx([1.0, 0.8, 0.4])
    assert taught.labels.tolist() == [0, 1, 0]
    for wrong in ({"share": 0.0}, {"share": 1.1}, {"kept_score": 0.3}, {"least_score": 1.0}):
        with pytest.raises(ValueError, match="Pseudo-labels need share"):
            SureEnough(**wrong)


def test_pseudo_labels_come_with_the_pictures_that_were_seen() -> None:
    pictures = without_labels(dataset_of([make_sample([BOX], [1], name) for name in "abc"], CLASSES))
    seen = replace(make_predictions(*[make_found([BOX], [0.9], [0])] * 2), indices=(0, 2))
    taught = with_pseudo_labels(pictures, seen, (0.9, None), SureEnough())
    assert [path.stem for path in taught.image_paths] == ["a", "c"]
    assert taught[1].found is not None and taught[1].found.scores.tolist() == [1.0]
    assert not taught[1].is_labelled and len(taught[1].labels) == 0
    labelled = with_labels_as_found(dataset_of([make_sample([BOX], [1])], CLASSES))[0]
    assert labelled.found is not None and labelled.found.labels.tolist() == labelled.labels.tolist() == [1]
    assert labelled.found.scores.tolist() == [1.0] and labelled.is_labelled


def test_few_are_drawn_without_labels_one_of_each_scene_first() -> None:
    groups = ["gate", "gate", "gate", "bridge", "bridge", None]
    pictures = dataset_of([make_sample([], [], f"{n}", group) for n, group in enumerate(groups)], CLASSES)
    chosen = choose_few(pictures, 6, seed=4)
    assert sorted(chosen) == list(range(6))
    assert {groups[index] for index in chosen[:3]} == {"gate", "bridge", None}
    assert {groups[index] for index in chosen[3:5]} == {"gate", "bridge"}
    assert choose_few(pictures, 2, seed=4) == chosen[:2], "ten are among fifty"
    assert any(choose_few(pictures, 6, seed) != chosen for seed in range(4))
    assert choose_few(pictures, 0, 0) == []
    for wrong in (7, -1):
        with pytest.raises(ValueError, match=f"--labelled {wrong}: the train split has 6 readable pictures"):
            choose_few(pictures, wrong, 0)


def test_an_epoch_shows_few_labelled_pictures_often_and_as_many_of_the_source() -> None:
    def some(count: int, name: str) -> Dataset:
        return dataset_of([make_sample([], [], f"{name}{number}") for number in range(count)], CLASSES)

    shown = shown_labelled(TargetPictures(some(3, "few"), some(100, "more"), some(500, "old")), 0)
    assert shown is not None and len(shown) == 200
    names = [path.stem for path in shown.image_paths]
    assert [names.count(f"few{number}") for number in range(3)] == [34, 33, 33]
    assert len({name for name in names if name.startswith("old")}) == 100, "none of them twice"
    alone = shown_labelled(TargetPictures(some(300, "few")), 0)
    assert alone is not None and len(alone) == 300, "no labelled picture is left out"
    of_source = shown_labelled(TargetPictures(None, some(9, "more"), some(20, "old")), 0)
    assert of_source is not None and len(of_source) == 20
    assert shown_labelled(TargetPictures(None, some(9, "more")), 0) is None
    with pytest.raises(ValueError, match="can be joined"):
        _ = TargetPictures().all_of_target


@pytest.mark.slow
def test_self_training_goes_on_where_it_was_stopped(by_day: Detector, night: Dataset, tmp_path: Path) -> None:
    pictures = TargetPictures(night.subset([0, 1]), without_labels(night.subset([2, 3, 4, 5])))
    training = TrainOnTarget(epochs=2, rounds=2, batch_size=8, rule=SureEnough(least_score=0.1))
    log = Lines()
    whole = training.apply(by_day, pictures, _context(night, by_day, tmp_path / "whole", log))
    assert sum(line.startswith("round 1 of 2: in 4 pictures the teacher is sure of") for line in log) == 1
    assert sum("kd_classes" in line for line in log) == 2, "an epoch in each round, taught by pseudo-labels"
    first = replace(training, epochs=1, rounds=1)
    begun = first.apply(by_day, pictures, _context(night, by_day, tmp_path / "part"))
    assert detector_sha256(begun) != detector_sha256(whole) != detector_sha256(by_day)
    again = training.apply(by_day, pictures, _context(night, by_day, tmp_path / "whole"))
    assert detector_sha256(again) == detector_sha256(whole), "nothing is trained twice"
    (tmp_path / "whole" / "round-1" / "pseudo-labels.json").unlink()
    assert detector_sha256(training.apply(by_day, pictures, _context(night, by_day, tmp_path / "whole"))) == (
        detector_sha256(whole)
    ), "the same teacher finds the same"


@pytest.mark.slow
def test_without_any_label_only_the_teacher_teaches(by_day: Detector, night: Dataset, tmp_path: Path) -> None:
    training = TrainOnTarget(epochs=1, rounds=1, batch_size=8, rule=SureEnough(least_score=0.1))
    unlabelled = without_labels(night)
    taught = training.apply(by_day, TargetPictures(None, unlabelled), _context(night, by_day, tmp_path / "a"))
    # The labels of the same pictures, had they been looked at, would have changed the result.
    other = without_labels(night.with_classes(night.classes, {0: 1, 1: 0}))
    same = training.apply(by_day, TargetPictures(None, other), _context(night, by_day, tmp_path / "b"))
    assert detector_sha256(taught) == detector_sha256(same) != detector_sha256(by_day)


@pytest.mark.slow
def test_labelled_pictures_alone_are_plain_fine_tuning(by_day: Detector, night: Dataset, tmp_path: Path) -> None:
    log = Lines()
    training = TrainOnTarget(epochs=1, rounds=1)
    tuned = training.apply(by_day, TargetPictures(night.subset([0])), _context(night, by_day, tmp_path, log))
    assert detector_sha256(tuned) != detector_sha256(by_day)
    assert any("1 epochs of 4 steps planned" in line for line in log), "one picture shown 64 times, 16 together"
    assert not any("kd_classes" in line for line in log)


def test_a_teacher_that_is_sure_of_nothing_is_refused(night: Dataset, tmp_path: Path) -> None:
    blind = new_tiny(CLASSES, SIZE, width=0.5)  # begins with scores near 0.01
    training = TrainOnTarget(epochs=1, rounds=1)
    with pytest.raises(ValueError, match="finds nothing in 9 unlabelled pictures with a score of"):
        training.apply(blind, TargetPictures(None, without_labels(night)), _context(night, blind, tmp_path))
    with pytest.raises(ValueError, match="There is no picture to train on"):
        training.apply(blind, TargetPictures(), _context(night, blind, tmp_path))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "needs minutes or epochs"),
        ({"epochs": 1, "rounds": 2}, "an epoch for each; got 2 rounds and 1 epochs"),
        ({"epochs": 1, "rounds": 0}, "at least 1 round"),
        ({"minutes": float("nan")}, "got None epochs, nan minutes"),
        ({"minutes": 1.0, "unlabelled_share": 1.0}, "unlabelled_share lies between 0 and 1"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainOnTarget(**wrong)
