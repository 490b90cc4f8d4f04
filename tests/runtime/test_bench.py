from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from helmlite.runtime.bench import Timing, bench_report, drawn_picture, ratio, time_interleaved, time_predictors
from helmlite.runtime.bundle import Bundle, BundlePredictor


def test_calls_are_interleaved_and_the_first_of_a_round_changes() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    timing = time_interleaved(calls, rounds=3, warmup=1)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert [len(timing[name].samples_ms) for name in "ab"] == [3, 3]


def test_median_and_p95_by_hand() -> None:
    timing = Timing(tuple(float(value) for value in range(1, 102)))  # 1 .. 101
    assert timing.median_ms == 51
    assert (timing.p95_ms, timing.p99_ms) == (96, 100)
    assert timing.p99().value == 100 and timing.p99().low < 100 <= timing.p99().high
    median = timing.median()
    assert median.low < 51 < median.high
    assert Timing((7.0,)).median().to_json() == {"value": 7.0, "low": 7.0, "high": 7.0}


def test_ratio_is_taken_round_by_round() -> None:
    # A machine that becomes ten times slower in the middle: the ratio stays exactly 2.
    drift = np.concatenate([np.ones(20), np.full(21, 10.0)])
    slow, fast = Timing(tuple(2 * drift)), Timing(tuple(drift))
    assert ratio(slow, fast).to_json() == {"value": 2.0, "low": 2.0, "high": 2.0}
    assert ratio(fast, slow).value == 0.5


def test_the_interval_holds_the_truth_and_narrows_with_rounds() -> None:
    generator = np.random.default_rng(3)
    widths = []
    for count in (20, 500):
        slow = Timing(tuple(4 * generator.lognormal(0, 0.2, count)))
        fast = Timing(tuple(generator.lognormal(0, 0.2, count)))
        found = ratio(slow, fast)
        assert found.low < 4 < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 3


def test_minimum_seconds_adds_rounds() -> None:
    timing = time_interleaved({"a": lambda: time.sleep(0.002)}, rounds=1, warmup=0, minimum_seconds=0.05)["a"]
    assert 5 <= len(timing.samples_ms) <= 25
    assert timing.median_ms >= 2


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="nothing to time"):
        time_interleaved({})
    with pytest.raises(ValueError, match="at least one round and no negative warm-up; got 0 and 5"):
        time_interleaved({"a": int}, rounds=0)
    with pytest.raises(ValueError, match="same rounds; got 1 and 2"):
        ratio(Timing((1.0,)), Timing((1.0, 2.0)))
    with pytest.raises(ValueError, match="at least one sample"):
        Timing(())


def test_predictors_are_timed_apart_and_reported(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    predictors = {runtime: BundlePredictor(bundle, runtime, threads=1) for runtime in ("onnxruntime", "openvino")}
    timings = time_predictors(predictors, [drawn_picture(320, 180)], rounds=5, warmup=1)
    for timing in timings.values():
        assert len(timing.network.samples_ms) == len(timing.end_to_end.samples_ms) == 5
    # the toy network does nothing, letterbox and suppression do
    assert timings["onnxruntime"].end_to_end.median_ms > timings["onnxruntime"].network.median_ms
    report = bench_report(predictors, timings, "one drawn picture")
    model = report["models"]["openvino"]
    assert (model["runtime"], model["precision"], model["threads"], model["input_size"]) == ("openvino", "f32", 1, 64)
    assert model["network"]["median_ms"]["value"] == timings["openvino"].network.median_ms
    expected = bundle.manifest.size_bytes("openvino") / bundle.manifest.size_bytes("onnxruntime")
    assert report["times_as_fast"]["openvino"]["size"] == expected
    assert "onnxruntime" not in report["times_as_fast"]
    assert report["device"]


def test_timing_cycles_through_the_pictures(make_bundle: Callable[..., Bundle]) -> None:
    predictor = BundlePredictor(make_bundle(), threads=1)
    with pytest.raises(ValueError, match="at least one picture"):
        time_predictors({"a": predictor}, [])
    pictures = [drawn_picture(64, 64, seed) for seed in range(2)]
    assert not np.array_equal(pictures[0], pictures[1])
    assert len(time_predictors({"a": predictor}, pictures, rounds=3, warmup=0)["a"].network.samples_ms) == 3


def test_the_drawn_picture_is_the_same_every_time() -> None:
    picture = drawn_picture()
    assert picture.shape == (720, 1280, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, drawn_picture())
