"""A report and a comparison with every part filled, for tests of what is written, drawn and shown of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import ClassAccuracy, Predictions
from helmlite.evaluate.comparison import Comparison, Contender, compare
from helmlite.evaluate.cost import Factor
from helmlite.evaluate.errors import Head, HeadChanges
from helmlite.evaluate.fidelity import Fidelity, Parity
from helmlite.evaluate.gate import GateCheck, GateVerdict
from helmlite.evaluate.measured import DataUsed, Measured
from helmlite.evaluate.report import Curve, RunReport
from helmlite.evaluate.statistics.resolution import Resolution
from helmlite.runtime.manifest import StayedFloat

HEADS = HeadChanges(54, 76, 47, 46, (Head(0, 0), Head(1, 0)), (Head(2, 0),), 0.32, 0.28, 5, 5)
CHECK = GateCheck("mAP50-95", "passed", "mAP50-95: 0.30 points lost.", 0.6, 0.597, 0.3, (-0.4, 0.9), 1.0)
GATE = GateVerdict("passed", (CHECK,), HEADS, "val", 76, 76, 1000, 0, ("passed: mAP50-95",))
BASELINE = Measured("FP32", 0.62, 0.95, 0.87, 338.0, 351.0, 80_000_000, 74_000_000, 34_000_000_000, 20_000_000)
RESULT = Measured("INT8", 0.60, 0.94, 0.85, 30.0, 33.0, 5_000_000, None, 5_900_000_000, 4_600_000, note="<b>&")

PARITY = Parity(4, 0.013, 0.0021, 2e-5, 0.0004, 0.000031, 12, 1.0)
FIDELITY = Fidelity("3. distill", 212, 0.981, 0.962, 0.021, -0.004)


def a_report() -> RunReport:
    return RunReport(
        model="helmet-yolo12m",
        target="x86-openvino",
        baseline=replace(BASELINE, per_class=(ClassAccuracy("未戴头盔", "no_helmet", 0.6, 0.9, 33, 54),)),
        result=replace(
            RESULT,
            fidelity=FIDELITY,
            parity=PARITY,
            per_class=(ClassAccuracy("未戴头盔", "no_helmet", 0.5, None, 33, 54),),
        ),
        gate=GATE,
        data=(DataUsed("reported", "bikes_helmets", "test", 76, 140, "ab" * 32, 54),),
        steps=(replace(RESULT, name="prune", recall_no_helmet=None, map_ci95=(0.55, 0.65)),),
        references=(Measured("BF16, no training", 0.62, latency_ms_median=170.0),),
        speedup=11.2,
        speedup_factors=(Factor("input size", 338, 142), Factor("precision", 142, 30.2, "INT8 against FP32")),
        map_loss_ci95=(0.4, 3.1),
        heads=HEADS,
        resolution=Resolution("test", 76, 76, 2.9, 640, 54, 1.85),
        stayed_float=(StayedFloat("dfl", "its softmax spans 16 bins"),),
        notes=("The public detector was trained on pictures of this origin.",),
        curves=(Curve("Distillation", "epoch", "loss", {"train": ((0.0, 3.0), (1.0, 2.0))}),),
        commands=("helmlite compress helmet-yolo12m --data <mine>",),
        versions={"torch": "2.14.1"},
        measured_on={"threads": "1"},
        seed=3,
        minutes=117.0,
    )


def compared(tmp_path: Path) -> tuple[Comparison, list[Predictions], Dataset]:
    """Three heads: the first detector finds two of them, the second the third."""
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    samples = []
    for number in range(3):
        path = tmp_path / f"道路{number}.png"
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        samples.append(Sample(path, np.array([(20, 20, 60 + number, 60)], np.float32), np.array([1])))
    data = dataset_of(samples, with_roles(["helmet", "no_helmet"]))
    faint, sure = (
        Detections(np.array([(21, 20, 60, 60)], np.float32), np.array([score], np.float32), np.array([1]))
        for score in (0.8, 0.9)
    )
    nothing = faint.above(1.0)
    sides = [Predictions(found, (0, 1, 2)) for found in ((faint, sure, nothing), (nothing, nothing, sure))]
    contenders = [Contender(Measured(name), found, found) for name, found in zip(("FP32", "INT8"), sides)]
    return compare(contenders, data, data), sides, data
