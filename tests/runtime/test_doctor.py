from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from helmlite.runtime import doctor
from helmlite.runtime.bench import Timing
from helmlite.runtime.doctor import Steadiness, choose_precision, diagnose, measure_steadiness, try_precisions
from helmlite.runtime.machine import Machine, read_machine

STEADY = Steadiness(4.0, 1.0, 1.0, None, None)


def machine_with(*flags: str) -> Machine:
    return replace(read_machine(), flags=flags)


def timings(**milliseconds: float) -> dict[str, Timing]:
    return {name: Timing((value,) * 5) for name, value in milliseconds.items()}


def test_the_fastest_measured_precision_is_chosen_in_words() -> None:
    choice = choose_precision(machine_with(), timings(f32=3.0, bf16=2.0, int8=1.0))
    assert (choice.precision, choice.runtime) == ("int8", "openvino")
    assert "3.0 times as fast as f32 (95 % interval 3.0 to 3.0)" in choice.why
    assert "bf16 2.00 ms" in choice.why


@pytest.mark.parametrize(
    ("milliseconds", "precision"),
    [
        ({"f32": 3.0, "bf16": 1.0, "int8": 0.99}, "bf16"),  # equally fast: the more exact one
        ({"f32": 1.0, "int8": 0.98}, "f32"),
        ({"f32": 1.0, "bf16": 1.2, "int8": 1.1}, "f32"),
        ({"f32": 2.0, "int8": 1.0}, "int8"),
    ],
)
def test_ties_go_to_the_more_exact(milliseconds: dict[str, float], precision: str) -> None:
    choice = choose_precision(machine_with("avx512_vnni"), timings(**milliseconds))
    assert choice.precision == precision


def test_without_openvino_the_instruction_sets_decide() -> None:
    with_dot = choose_precision(machine_with("dotprod", "neon"), {})
    assert (with_dot.precision, with_dot.runtime) == ("int8", "onnxruntime")
    assert "dotprod" in with_dot.why
    without = choose_precision(machine_with("avx2"), {})
    assert (without.precision, without.runtime) == ("f32", "onnxruntime")
    for choice in (with_dot, without):
        assert 'pip install "helmlite[openvino]"' in choice.why


def test_throttling_and_disturbance_are_told_apart() -> None:
    assert "No throttling in 4 s" in STEADY.in_words()
    hot = replace(STEADY, wall_ratio=1.4, cpu_ratio=1.3, celsius=(60.0, 85.0))
    assert hot.is_throttled
    assert not hot.is_disturbed
    assert "30 % slower in 4 s of full load, at 85 °C" in hot.in_words()
    busy = replace(STEADY, wall_ratio=1.5)
    assert busy.is_disturbed
    assert "50 % longer" in busy.in_words()


def test_last_third_against_first() -> None:
    log = [(1.0, 1.0)] * 3 + [(5.0, 5.0)] * 3 + [(2.0, 1.5)] * 3
    assert doctor._last_to_first(log) == (2.0, 1.5)
    assert doctor._last_to_first([(1.0, 0.0), (1.0, 0.0)]) == (1.0, 1.0)  # a clock too coarse to see it


def test_the_load_lasts_as_long_as_asked() -> None:
    found = measure_steadiness(0.2, threads=1)
    assert found.seconds == 0.2
    assert found.wall_ratio > 0
    assert found.cpu_ratio > 0


def test_each_precision_is_tried_and_int8_is_really_int8() -> None:
    openvino = pytest.importorskip("openvino")
    trials, failed = try_precisions(rounds=2)
    assert set(trials) | set(failed) == {"f32", "bf16", "int8"}
    assert {"f32", "int8"} <= set(trials)
    compiled = openvino.Core().compile_model(doctor._small_network(True), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kernels = [
        str(node.get_rt_info()["runtimePrecision"].astype(str))
        for node in compiled.get_runtime_model().get_ordered_ops()
        if str(node.get_rt_info()["layerType"].astype(str)) == "Convolution"
    ]
    assert len(kernels) == 6
    assert kernels.count("u8") + kernels.count("i8") >= 5


def test_a_machine_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert try_precisions(2) == ({}, {})
    found = diagnose(seconds=0.1, rounds=2)
    assert found.trials == found.devices == {}
    assert found.choice.runtime == "onnxruntime"


def test_a_diagnosis_is_plain_json() -> None:
    found = diagnose(seconds=0.1, rounds=3)
    values = json.loads(json.dumps(found.to_json()))
    assert values["choice"]["precision"] in ("f32", "bf16", "int8")
    assert values["machine"]["cores"] >= 1
    assert values["steadiness"]["is_throttled"] in (True, False)
