"""What this machine can do for a detector, found by trying: is its speed steady, which precision is fastest here?"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import numpy as np

from helmlite.runtime.bench import Timing, ratio, time_interleaved
from helmlite.runtime.machine import (
    Machine,
    clock_khz,
    clock_limit_khz,
    openvino_devices,
    read_machine,
    temperatures,
)

_SLOWER_BY = 1.15  # above this, the last part of a steady load counts as slower than the first
_FASTER_BY = 1.05  # below this, two precisions count as equally fast
_HOT_CELSIUS = 80.0
_INT8_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8", "dotprod", "i8mm"}


@dataclass(frozen=True)
class Steadiness:
    """The same work on every core for some seconds: its last third against its first.

    wall_ratio: time that passed; cpu_ratio: time that the processor worked.  Both above 1: the processor itself became
                slower (heat or power limit).  Only the wall: other programs took their share.
    clock_mhz:  mean clock at the start and at the end, celsius: hottest zone at both, where the system shows them
    """

    seconds: float
    wall_ratio: float
    cpu_ratio: float
    clock_mhz: tuple[float, float] | None
    celsius: tuple[float, float] | None

    @property
    def is_throttled(self) -> bool:
        return self.cpu_ratio > _SLOWER_BY

    @property
    def is_disturbed(self) -> bool:
        return not self.is_throttled and self.wall_ratio > _SLOWER_BY

    def in_words(self) -> str:
        """One sentence for the user."""
        for_long = f"in {self.seconds:.0f} s of full load"
        hot = f", at {self.celsius[1]:.0f} °C" if self.celsius and self.celsius[1] >= _HOT_CELSIUS else ""
        if self.is_throttled:
            slower = f"the processor became {(self.cpu_ratio - 1) * 100:.0f} % slower {for_long}{hot}"
            return f"Throttling seen: {slower}. Cool it, or measure when it is warm."
        if self.is_disturbed:
            return (
                f"Other programs are running: the same work took {(self.wall_ratio - 1) * 100:.0f} % longer at the end."
            )
        return f"No throttling {for_long}{hot}."


@dataclass(frozen=True)
class Choice:
    """The precision that helmlite would try first here, and why, in words."""

    precision: str
    runtime: str
    why: str


@dataclass(frozen=True)
class Diagnosis:
    """Everything that `helmlite doctor` found.

    trials: precision -> timing of a small convolution network in OpenVINO, one thread; {} where OpenVINO is missing
    failed: precision -> why it could not be tried
    """

    machine: Machine
    devices: dict[str, dict[str, Any]]
    clock_limit_mhz: tuple[float, float] | None
    steadiness: Steadiness
    trials: dict[str, Timing]
    failed: dict[str, str]
    choice: Choice

    def to_json(self) -> dict[str, Any]:
        steadiness = {
            **asdict(self.steadiness),
            "is_throttled": self.steadiness.is_throttled,
            "is_disturbed": self.steadiness.is_disturbed,
        }
        return {
            "machine": asdict(self.machine),
            "devices": self.devices,
            "clock_limit_mhz": self.clock_limit_mhz,
            "steadiness": steadiness,
            "trials": {precision: timing.to_json() for precision, timing in self.trials.items()},
            "failed": self.failed,
            "choice": asdict(self.choice),
        }


def diagnose(seconds: float = 4.0, rounds: int = 100) -> Diagnosis:
    """Looks at this machine, loads it for `seconds`, and times `rounds` rounds of a small network in each precision."""
    machine = read_machine()
    trials, failed = try_precisions(rounds)
    limit = clock_limit_khz()
    return Diagnosis(
        machine=machine,
        devices=openvino_devices(),
        clock_limit_mhz=(limit[0] / 1000, limit[1] / 1000) if limit else None,
        steadiness=measure_steadiness(seconds, machine.usable),
        trials=trials,
        failed=failed,
        choice=choose_precision(machine, trials),
    )


def measure_steadiness(seconds: float, threads: int) -> Steadiness:
    """Loads `threads` cores with the same matrix products for so long, and compares the end with the beginning."""
    clock_before, heat_before = _mean_clock_mhz(), _hottest()
    with ThreadPoolExecutor(threads) as pool:
        logs = list(pool.map(lambda _: _repeat_work(seconds), range(threads)))
    clock_after, heat_after = _mean_clock_mhz(), _hottest()
    wall, cpu = zip(*(_last_to_first(log) for log in logs))
    return Steadiness(
        seconds=seconds,
        wall_ratio=float(np.median(wall)),
        cpu_ratio=float(np.median(cpu)),
        clock_mhz=(clock_before, clock_after) if clock_before and clock_after else None,
        celsius=(heat_before, heat_after) if heat_before and heat_after else None,
    )


def try_precisions(rounds: int) -> tuple[dict[str, Timing], dict[str, str]]:
    """A small network in f32, bf16 and int8, timed interleaved on one thread, and why any of them could not run."""
    try:
        import openvino
    except ImportError:
        return {}, {}
    core = openvino.Core()
    calls: dict[str, Callable[[], object]] = {}
    failed: dict[str, str] = {}
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision in ("f32", "bf16", "int8"):
        if precision == "bf16" and "BF16" not in capabilities:
            failed[precision] = "this processor has no BF16 kernels"
            continue
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": 1,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        try:
            compiled = core.compile_model(_small_network(precision == "int8"), "CPU", settings)
        except RuntimeError as error:
            failed[precision] = str(error).splitlines()[0]
            continue
        calls[precision] = _inference(compiled)
    return (time_interleaved(calls, rounds, warmup=5) if calls else {}), failed


def choose_precision(machine: Machine, trials: dict[str, Timing]) -> Choice:
    """The precision to try first: the fastest that was measured, or what the instruction sets promise.

    Of two that are equally fast, the more exact one.
    """
    if "f32" in trials:
        return _choose_by_time(trials)
    kernels = sorted(_INT8_FLAGS & set(machine.flags))
    hint = 'Install OpenVINO to have it measured: pip install "helmlite[openvino]".'
    if kernels:
        return Choice(
            "int8", "onnxruntime", f"The processor multiplies 8-bit numbers directly ({', '.join(kernels)}). {hint}"
        )
    return Choice(
        "f32",
        "onnxruntime",
        f"No instruction for 8-bit products was found, without which INT8 is often no faster. {hint}",
    )


def _choose_by_time(trials: dict[str, Timing]) -> Choice:
    best = "f32"
    for precision in ("bf16", "int8"):  # from the most exact to the least
        if precision in trials and trials[best].median_ms / trials[precision].median_ms > _FASTER_BY:
            best = precision
    times = ", ".join(f"{precision} {timing.median_ms:.2f} ms" for precision, timing in trials.items())
    if best == "f32":
        why = f"Nothing was faster than f32 on a small convolution network ({times}, one thread, OpenVINO)."
    else:
        gain = ratio(trials["f32"], trials[best])
        why = (
            f"{gain.value:.1f} times as fast as f32 (95 % interval {gain.low:.1f} to {gain.high:.1f}) on a small "
            f"convolution network ({times}, one thread, OpenVINO)."
        )
    return Choice(best, "openvino", f"{why} Whether a detector keeps its accuracy in it, the gate decides.")


def _repeat_work(seconds: float) -> list[tuple[float, float]]:
    """(wall, processor) seconds of each repetition of the same matrix products, for so long."""
    generator = np.random.default_rng(0)
    # 64 x 64 is small enough that a BLAS library does not share it out over threads of its own
    left = generator.standard_normal((64, 64, 64), dtype=np.float32)
    right = generator.standard_normal((64, 64, 64), dtype=np.float32)
    result = np.empty_like(left)
    log: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(log) < 6:
        wall, cpu = time.perf_counter(), time.thread_time()
        for _ in range(8):
            np.matmul(left, right, out=result)
        log.append((time.perf_counter() - wall, time.thread_time() - cpu))
    return log


def _last_to_first(log: list[tuple[float, float]]) -> tuple[float, float]:
    """Median of the last third over median of the first, for the wall and for the processor."""
    third = max(len(log) // 3, 1)
    first = np.median(np.array(log[:third]), axis=0)
    last = np.median(np.array(log[-third:]), axis=0)
    wall, cpu = np.divide(last, first, out=np.ones(2), where=first > 0)
    return float(wall), float(cpu)


def _small_network(quantized: bool) -> Any:
    """Six convolutions with ReLU6, 1 x 3 x 160 x 160 in, as OpenVINO builds it; with fake quantization for INT8."""
    import openvino

    ops = _openvino_ops()
    generator = np.random.default_rng(0)
    images = ops.parameter([1, 3, 160, 160], np.float32, name="images")
    tensor, channels = images, 3
    for out_channels, stride in ((16, 2), (32, 2), (64, 1), (64, 2), (128, 1), (128, 2)):
        weight = generator.normal(0, (2 / (9 * channels)) ** 0.5, (out_channels, channels, 3, 3)).astype(np.float32)
        kernel = ops.constant(weight)
        if quantized:
            limit = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
            kernel = ops.fake_quantize(kernel, -limit, limit, -limit, limit, 255)
            low, high = (np.float32(0), np.float32(1)) if tensor is images else (np.float32(0), np.float32(6))
            tensor = ops.fake_quantize(tensor, low, high, low, high, 256)
        tensor = ops.convolution(tensor, kernel, [stride, stride], [1, 1], [1, 1], [1, 1])
        tensor = ops.clamp(tensor, 0.0, 6.0)
        channels = out_channels
    return openvino.Model([ops.result(tensor)], [images], "small")


def _openvino_ops() -> ModuleType:
    """OpenVINO's operator builders, which moved to the top of the package in 2025."""
    try:
        from openvino import opset13
    except ImportError:
        from openvino.runtime import opset13
    return opset13


def _inference(compiled: Any) -> Callable[[], object]:
    request = compiled.create_infer_request()
    planes = np.random.default_rng(1).random((1, 3, 160, 160), dtype=np.float32)
    return lambda: request.infer([planes], share_inputs=True)


def _mean_clock_mhz() -> float | None:
    clocks = clock_khz()
    return sum(clocks) / len(clocks) / 1000 if clocks else None


def _hottest() -> float | None:
    return max(temperatures().values(), default=None)
