"""The `.pt` of a pruned detector opens in stock Ultralytics, in a process that never imports helmlite."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helmlite.export.ultralytics_pt import save_ultralytics_pt
from helpers import halved

pytest.importorskip("ultralytics")
from helmlite.detector.ultralytics import new_ultralytics

_CLASSES = with_roles(["helmet", "no_helmet"])
_STOCK = """
import json, sys
from ultralytics import YOLO
model = YOLO(sys.argv[1])
found = model.predict(sys.argv[2], imgsz=64, conf=0.001, rect=False, verbose=False, **json.loads(sys.argv[3]))[0].boxes
print(json.dumps({"helmlite": "helmlite" in sys.modules, "names": model.names,
                  "scores": found.conf.tolist(), "boxes": found.xyxy.tolist()}))
"""


def _pruned(name: str) -> Detector:
    detector = new_ultralytics(name, _CLASSES, input_size=64)
    generator = torch.Generator().manual_seed(1)
    for module in detector.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return halved(detector, 64)[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["yolov8n", "yolo12n", *(pytest.param(n, marks=pytest.mark.matrix) for n in ("yolo26n", "yolov10n"))]
)
def test_stock_ultralytics_predicts_what_we_do(name: str, tmp_path: Path) -> None:
    detector = _pruned(name)
    save_ultralytics_pt(detector, tmp_path / "small.pt")
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), image[:, :, ::-1])

    # Ultralytics 8.4 answers from the one-to-many branch of v10 and 26 unless it is asked for the other.
    arguments = json.dumps({} if detector.architecture.layout.needs_nms else {"end2end": True})
    files = [str(tmp_path / "small.pt"), str(tmp_path / "picture.png")]
    command = [sys.executable, "-W", "ignore", "-c", _STOCK, *files, arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    stock = json.loads(done.stdout.strip().splitlines()[-1])

    ours = detector.predictor(64)(image)
    assert stock["helmlite"] is False
    assert stock["names"] == {"0": "helmet", "1": "no_helmet"}
    # Stock `predict` reports one class a cell, ours every class above the threshold: the best box is the same in both.
    assert stock["scores"][0] == pytest.approx(float(ours.scores[0]), rel=1e-3)
    assert np.allclose(stock["boxes"][0], ours.boxes_xyxy[0], atol=0.05)


def test_stock_ultralytics_takes_the_input_size_that_was_measured(tmp_path: Path) -> None:
    from ultralytics import YOLO

    save_ultralytics_pt(new_ultralytics("yolov8n", _CLASSES, input_size=64), tmp_path / "small.pt", input_size=96)
    assert YOLO(tmp_path / "small.pt").overrides["imgsz"] == 96


def test_a_folded_detector_is_refused(tmp_path: Path) -> None:
    detector = new_ultralytics("yolov8n", _CLASSES, input_size=64)
    with pytest.raises(ValueError, match="been through fold_batchnorm"):
        save_ultralytics_pt(fold_batchnorm(detector), tmp_path / "small.pt")
    assert list(tmp_path.iterdir()) == []


def test_another_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="this one is 'tiny'"):
        save_ultralytics_pt(new_tiny(_CLASSES), tmp_path / "small.pt")
