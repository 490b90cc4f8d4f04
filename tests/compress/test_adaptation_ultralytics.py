"""Adaptation of Ultralytics networks: every branch of a dual head gets the new statistics, and is taught."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from helmlite.compress.adaptation.norm_statistics import AdaptNorms
from helmlite.compress.adaptation.pseudo_labels import SureEnough
from helmlite.compress.adaptation.target_pictures import TargetPictures, without_labels
from helmlite.compress.adaptation.target_training import TrainOnTarget
from helmlite.compress.technique import Context
from helmlite.detector.detector import Detector
from helmlite.detector.fit_state import detector_sha256
from helpers import Lines, patchy_data
from written_data import CLASSES

pytest.importorskip("ultralytics")
pytestmark = pytest.mark.slow


def _norms(detector: Detector) -> dict[str, nn.BatchNorm2d]:
    return {name: item for name, item in detector.network.named_modules() if isinstance(item, nn.BatchNorm2d)}


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_every_branch_is_brought_along(name: str, tmp_path: Path) -> None:
    from helmlite.detector.ultralytics import new_ultralytics

    detector = new_ultralytics(name, CLASSES, 0, input_size=64)
    data = patchy_data(tmp_path, 6)
    log = Lines()
    context = Context(data, detector, 64, 0, tmp_path / "work", log=log, device="cpu")
    adapted = AdaptNorms(prior_pictures=2).apply(detector, context)
    before, after = _norms(detector), _norms(adapted)
    assert before.keys() == after.keys() and len(before) > 50
    kept = [path for path in before if torch.equal(before[path].running_var, after[path].running_var)]  # type: ignore[arg-type]
    assert kept == [], "a layer that no picture came through"
    training = TrainOnTarget(epochs=1, rounds=1, batch_size=4, rule=SureEnough(least_score=1e-6, kept_score=1e-7))
    pictures = TargetPictures(data.subset([0]), without_labels(data.subset([1, 2])))
    trained = training.apply(adapted, pictures, context)
    assert detector_sha256(trained) != detector_sha256(adapted)
    assert any("kd_classes" in line for line in log)
