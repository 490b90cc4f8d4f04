"""The clock: every convolution of a real export is found in what a runtime reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from helmlite.compress.activation import ReplaceActivation
from helmlite.compress.layer_times import LayerTimes
from helmlite.data.dataset import dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.macs import conv_costs, shape_trace
from helmlite.detector.tiny import new_tiny
from helmlite.export.layer_times import layer_clock, measure_layer_times
from helpers import alive, halved

_CLASSES = with_roles(["helmet", "no_helmet"])
_SIZE = 128
_RUNTIMES = ("openvino", "onnxruntime")


def _complete(times: LayerTimes, detector: Detector) -> None:
    costs = conv_costs(detector.network, shape_trace(detector.network, _SIZE))
    assert set(times.convolutions) == {cost.path for cost in costs}
    assert all(value >= 0 for value in times.convolutions.values())
    assert sum(value > 0 for value in times.convolutions.values()) > 0.9 * len(times.convolutions)
    assert times.rest > 0


@pytest.mark.parametrize("runtime", _RUNTIMES)
def test_every_convolution_has_a_time(runtime: str) -> None:
    pytest.importorskip(runtime)
    whole = alive(new_tiny(_CLASSES, _SIZE))
    half = halved(whole, _SIZE)[2]
    clock, ratios = layer_clock(runtime, threads=1, rounds=30), []
    for _ in range(3):  # medians of both in turn; other tests run beside, and may spoil one measurement or two
        found = clock([whole, half], _SIZE)
        for times, detector in zip(found, (whole, half), strict=True):
            _complete(times, detector)
        ratios.append(sum(found[1].convolutions.values()) / sum(found[0].convolutions.values()))
        if 0.3 < ratios[-1] < 0.95:  # half of the multiply-accumulates; thin layers gain less than that
            return
    raise AssertionError(f"half of the multiply-accumulates took {ratios} of the time")


@pytest.mark.slow
@pytest.mark.parametrize("runtime", _RUNTIMES)
@pytest.mark.parametrize("name", ["yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n"])
def test_every_family(name: str, runtime: str) -> None:
    """With the activation that runtimes fuse into convolutions, where names are joined."""
    pytest.importorskip("ultralytics")
    pytest.importorskip(runtime)
    from helmlite.compress.technique import Context
    from helmlite.detector.ultralytics import new_ultralytics

    detector = new_ultralytics(name, _CLASSES)
    context = Context(dataset_of([], _CLASSES), detector, _SIZE, 0, Path("unused"), log=lambda line: None)
    detector = ReplaceActivation(to="relu").apply(detector, context)
    _complete(measure_layer_times([detector], _SIZE, runtime, rounds=2)[0], detector)


def test_an_unknown_runtime_is_named() -> None:
    with pytest.raises(ValueError, match=r"No profile from the runtime 'abacus'. Known: openvino, onnxruntime"):
        measure_layer_times([alive(new_tiny(_CLASSES, _SIZE))], _SIZE, "abacus")
