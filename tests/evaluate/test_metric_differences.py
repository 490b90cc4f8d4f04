"""benchmarks/metric_differences.py: COCO's formula with all switches off, and each switch worked by hand."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from helmlite.data.dataset import dataset_of
from helmlite.evaluate.accuracy import measure_accuracy
from written_data import CLASSES, make_found, make_predictions, make_random, make_sample

_FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def metric() -> Iterator[ModuleType]:
    sys.path.insert(0, str(_FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("metric_differences", _FOLDER / "metric_differences.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["metric_differences"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(_FOLDER))


@pytest.mark.parametrize("seed", range(6))
def test_with_all_switches_off_it_is_coco(metric: ModuleType, seed: int) -> None:
    dataset, found = make_random(seed, pictures=20, false=120)  # digits=2: many equal scores
    accuracy = measure_accuracy(found, dataset)
    assert metric.average_precisions(found, dataset, metric.COCO).mean() == pytest.approx(accuracy.map, abs=1e-9)


def test_with_all_switches_on_it_is_ultralytics(metric: ModuleType) -> None:
    pytest.importorskip("ultralytics")
    dataset, found = make_random(3, pictures=40, false=30, digits=7)
    ours = metric.average_precisions(found, dataset, metric.ULTRALYTICS)
    assert ours == pytest.approx(metric.ultralytics_precisions(found, dataset), abs=1e-6)
    assert abs(ours.mean() - metric.average_precisions(found, dataset, metric.COCO).mean()) > 1e-4


def test_one_of_two_heads_found(metric: ModuleType) -> None:
    """COCO: 51 points, recall 0 to 0.50, have precision 1.  By trapezia the first and the last count half: 0.505.
    On lines precision is 0 from recall 0.50 on, that point included: one less of each."""
    dataset = dataset_of([make_sample([(0, 0, 9, 9), (20, 0, 29, 9)], [0, 0])], CLASSES)
    found = make_predictions(make_found([(0, 0, 9, 9)], [0.9], [0]))

    def ap50(**switches: bool) -> float:
        return float(metric.average_precisions(found, dataset, metric.Formula(**switches))[0, 0])

    assert ap50() == pytest.approx(51 / 101)
    assert ap50(trapezium=True) == pytest.approx(0.505)
    assert ap50(linear=True) == pytest.approx(50 / 101)
    assert ap50(linear=True, trapezium=True) == pytest.approx(0.495)


def test_a_detection_with_one_try_takes_no_second_choice(metric: ModuleType) -> None:
    """Both detections overlap the left box most; the second could have the right one, at IoU 0.6."""
    boxes = [(0.0, 0.0, 10.0, 10.0), (4.0, 0.0, 14.0, 10.0)]
    dataset = dataset_of([make_sample(boxes, [0, 0])], CLASSES)
    found = make_predictions(make_found([(0, 0, 10, 10), (1.5, 0, 11.5, 10)], [0.9, 0.8], [0, 0]))
    free = metric.average_precisions(found, dataset, metric.COCO)
    once = metric.average_precisions(found, dataset, metric.Formula(one_try=True))
    assert free[0, 0] == pytest.approx(1.0)
    assert once[0, 0] == pytest.approx(51 / 101)


def test_more_than_a_hundred_detections_of_a_class(metric: ModuleType) -> None:
    """The only true one is the 101st of its class: COCO does not see it."""
    dataset = dataset_of([make_sample([(0, 0, 9, 9)], [0])], CLASSES)
    wrong = [(50.0 + number, 50.0, 60.0 + number, 60.0) for number in range(100)]
    scores = [*np.linspace(0.9, 0.5, 100).tolist(), 0.4]
    found = make_predictions(make_found([*wrong, (0.0, 0.0, 9.0, 9.0)], scores, [0] * 101))
    assert metric.average_precisions(found, dataset, metric.COCO)[0, 0] == 0
    joint = metric.average_precisions(found, dataset, metric.Formula(joint_limit=True))
    assert joint[0, 0] == pytest.approx(1 / 101)
