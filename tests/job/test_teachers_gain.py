"""Pictures without labels in a run's preparation, and what the teacher brought, in figures and in words."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.compress.checkpoint import save_checkpoint
from helmlite.compress.distill import Distill
from helmlite.compress.recipe import StepResult
from helmlite.data.dataset import Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import Detections
from helmlite.detector.tiny import new_tiny
from helmlite.evaluate.accuracy import Predictions, save_predictions
from helmlite.evaluate.statistics.resamples import FEWEST_PICTURES
from helmlite.job.prepare import CompressSettings, prepare
from helmlite.job.teachers_gain import TeachersGain, teachers_gains

CLASSES = with_roles(["helmet", "no_helmet"])
RECIPE = """
[[step]]
technique = "distill"
epochs = 1
teacher = "{teacher}"
"""


@pytest.fixture
def settings(tmp_path: Path) -> CompressSettings:
    for number, split in enumerate(("train", "val", "test")):
        (tmp_path / split / "images").mkdir(parents=True)
        (tmp_path / split / "labels").mkdir()
        picture = np.full((64, 64, 3), 90 + number, np.uint8)
        cv2.imwrite(str(tmp_path / split / "images" / "0.png"), picture)
        (tmp_path / split / "labels" / "0.txt").write_text("1 0.5 0.5 0.4 0.4\n")
    lines = [f"{split}: {split}/images" for split in ("train", "val", "test")]
    (tmp_path / "data.yaml").write_text("\n".join([*lines, "names: [helmet, no_helmet]"]))
    save_checkpoint(new_tiny(CLASSES, input_size=64), tmp_path / "model", {})
    (tmp_path / "recipe.toml").write_text(RECIPE.format(teacher="original"))
    (tmp_path / "more").mkdir()
    cv2.imwrite(str(tmp_path / "more" / "a.png"), np.full((64, 64, 3), 50, np.uint8))
    recipe = str(tmp_path / "recipe.toml")
    return CompressSettings(
        str(tmp_path / "model"), tmp_path / "data.yaml", tmp_path / "out", recipe, unlabelled=tmp_path / "more"
    )


def test_steps_with_a_teacher_use_the_folder(settings):
    (step,) = prepare(settings).recipe.steps
    assert isinstance(step, Distill)
    assert step.unlabelled == str(settings.unlabelled)
    (plain,) = prepare(replace(settings, unlabelled=None)).recipe.steps
    assert plain == replace(step, unlabelled=None)


def test_what_cannot_be_used_is_said_before_any_work(settings, tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        prepare(replace(settings, unlabelled=tmp_path / "nowhere"))
    shutil.copy(tmp_path / "test" / "images" / "0.png", tmp_path / "more" / "copy.png")
    with pytest.raises(ValueError, match=r"1 of its 2 pictures are also in the val or test split.*copy.png"):
        prepare(settings)
    (tmp_path / "recipe.toml").write_text(RECIPE.format(teacher="none"))
    with pytest.raises(ValueError, match="no distill step with a teacher"):
        prepare(settings)
    (tmp_path / "recipe.toml").write_text(RECIPE.format(teacher="stored:nowhere"))
    with pytest.raises(ValueError, match=r"train.json: no such file"):
        prepare(replace(settings, unlabelled=None))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(teacher="nowhere.pt"))
    with pytest.raises(ValueError, match=r"nowhere.pt: no such file"):
        prepare(replace(settings, unlabelled=None))


def test_the_gain_is_measured_in_pairs(tmp_path):
    """The taught one finds every box, its twin one in two: predictions as they would be kept from an earlier run."""
    count = 80
    box, one = np.array([[8, 8, 40, 40]], np.float32), np.ones(1, np.float32)
    samples = []
    for index in range(count):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
        samples.append(Sample(path, box, np.array([1])))
    test = dataset_of(samples, CLASSES, "test")
    detector = new_tiny(CLASSES, 64, width=0.25, seed=0)
    steps, folder = tmp_path / "steps", tmp_path / "predictions"
    taught = StepResult("distill", detector, steps / "1-distill-abc", 1.0, False)
    assert teachers_gains([taught], test, 64, folder, 0, print) == ()  # no control was asked for
    work = steps / "1-distill-abc.work"
    save_checkpoint(detector, work / "control", {})
    (work / "plan.json").write_text('{"epochs": 7}')
    hit, miss = Detections(box, one, np.array([1])), Detections(box + 30, one, np.array([1]))
    place = folder / "control-1-distill-abc"
    place.mkdir(parents=True)
    every = tuple(range(count))
    save_predictions(Predictions((hit,) * count, every), test, place / "taught-test.json")
    save_predictions(Predictions((hit, miss) * (count // 2), every), test, place / "control-test.json")
    (gain,) = teachers_gains([taught], test, 64, folder, 0, print)
    assert gain.with_teacher == pytest.approx(1.0)
    assert gain.epochs == 7
    assert gain.without is not None
    assert 0 < gain.without < 0.7
    assert gain.ci95 is not None
    assert 0 < gain.ci95[0] < 100 * (1 - gain.without) < gain.ci95[1]
    left = FEWEST_PICTURES - 1
    few = test.subset(list(range(left)))
    for name, found in (("taught", (hit,) * left), ("control", ((hit, miss) * left)[:left])):
        save_predictions(Predictions(found, every[:left]), few, place / f"{name}-test.json")
    (gain,) = teachers_gains([taught], few, 64, folder, 0, print)
    assert gain.ci95 is None
    assert "(too few pictures for an interval)" in gain.in_words()


def test_the_gain_in_words():
    gain = TeachersGain("2 (distill)", 30, 0.412, 0.398, (0.2, 2.6))
    assert gain.in_words() == (
        "What the teacher brought in step 2 (distill): +1.4 points of mAP50-95 (95 % interval +0.2 to +2.6), 41.2 "
        "against 39.8 for the same detector trained the same 30 epochs without one."
    )
    assert "+0.0 points of mAP50-95 (95 % interval +0.0 to +0.4)" in (
        TeachersGain("1 (distill)", 1, 0.24, 0.2402, (-0.01, 0.4)).in_words()
    )
    assert "unknown" in TeachersGain("2 (distill)", 30, None, None, None).in_words()
