"""Latency, measured so that two networks can be compared: interleaved, warmed up, medians with intervals.

On a shared or hot machine the speed of everything drifts by tens of per cent within a minute.  Interleaving
(A B, B A, A B, ...) puts both under the same drift, and the ratio is taken round by round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helmlite.detections import Image
from helmlite.runtime.bundle import BundlePredictor
from helmlite.runtime.energy import measure_energy
from helmlite.runtime.machine import installed_versions, read_machine, usable_cores
from helmlite.runtime.memory import measure_memory
from helmlite.runtime.session import open_session
from helmlite.runtime.throughput import measure_throughput

_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Timing:
    """How long one call took, round by round, in milliseconds."""

    samples_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples_ms:
            raise ValueError("A timing needs at least one sample.")

    @property
    def median_ms(self) -> float:
        return float(np.median(self.samples_ms))

    @property
    def p95_ms(self) -> float:
        return float(np.percentile(self.samples_ms, 95))

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.samples_ms, 99))

    def median(self) -> Estimate:
        """The median with its interval, ms."""
        low, high = _interval(np.median(_resampled(self.samples_ms), axis=1))
        return Estimate(self.median_ms, low, high)

    def p95(self) -> Estimate:
        """The 95th percentile with its interval, ms."""
        return self._percentile(95)

    def p99(self) -> Estimate:
        """The 99th percentile with its interval, ms.  Of fewer than a few hundred rounds it is little but the worst."""
        return self._percentile(99)

    def to_json(self) -> dict[str, Any]:
        return {
            "rounds": len(self.samples_ms),
            "median_ms": self.median().to_json(),
            "p95_ms": self.p95().to_json(),
            "p99_ms": self.p99().to_json(),
        }

    def _percentile(self, share: int) -> Estimate:
        low, high = _interval(np.percentile(_resampled(self.samples_ms), share, axis=1))
        return Estimate(float(np.percentile(self.samples_ms, share)), low, high)


@dataclass(frozen=True)
class PredictorTiming:
    """One opened detector, timed: the network alone, and from the picture to the boxes that are reported."""

    network: Timing
    end_to_end: Timing


def time_interleaved(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = 50,
    warmup: int = 5,
    minimum_seconds: float = 0.0,
) -> dict[str, Timing]:
    """How long each call takes, all of them once in every round, the first of a round changing from round to round.

    rounds:          at least this many; warmup: unmeasured rounds before them
    minimum_seconds: rounds go on until this much time was measured

    >>> timing = time_interleaved({"a": lambda: sum(range(1000)), "b": lambda: sum(range(2000))}, rounds=20)
    >>> ratio(timing["b"], timing["a"]).value > 1
    True
    """
    if not calls:
        raise ValueError("There is nothing to time.")
    if rounds < 1 or warmup < 0:
        raise ValueError(f"Timing needs at least one round and no negative warm-up; got {rounds} and {warmup}.")
    names = list(calls)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(warmup):
        for name in names:
            calls[name]()
    start = time.perf_counter()
    done = 0
    while done < rounds or time.perf_counter() - start < minimum_seconds:
        first = done % len(names)
        for name in names[first:] + names[:first]:
            before = time.perf_counter_ns()
            calls[name]()
            samples[name].append((time.perf_counter_ns() - before) / 1e6)
        done += 1
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def ratio(slower: Timing, faster: Timing) -> Estimate:
    """How many times as long `slower` takes: the ratio of medians, its interval over rounds resampled in pairs.

    Both must come from one call of `time_interleaved`, whose rounds they share.
    """
    if len(slower.samples_ms) != len(faster.samples_ms):
        raise ValueError(
            f"A ratio needs timings of the same rounds; got {len(slower.samples_ms)} and {len(faster.samples_ms)}."
        )
    chosen = _resampled_indices(len(slower.samples_ms))
    above = np.median(np.asarray(slower.samples_ms)[chosen], axis=1)
    below = np.median(np.asarray(faster.samples_ms)[chosen], axis=1)
    low, high = _interval(above / below)
    return Estimate(slower.median_ms / faster.median_ms, low, high)


def time_predictors(
    predictors: Mapping[str, BundlePredictor],
    images: Sequence[Image],
    rounds: int = 50,
    warmup: int = 5,
    minimum_seconds: float = 0.0,
) -> dict[str, PredictorTiming]:
    """Each detector's network alone and end to end (letterbox, network, decoding, suppression), all interleaved.

    Every round takes the next of `images`.  End to end reports what real use would: above the manifest's thresholds.
    """
    if not images:
        raise ValueError("Timing a detector needs at least one picture.")
    calls: dict[str, Callable[[], object]] = {}
    for name, predictor in predictors.items():
        planes = [predictor.picture_to_planes(image)[0] for image in images]
        calls[f"{name}\nnetwork"] = _cycling(predictor.planes_to_outputs, planes)
        calls[f"{name}\nend to end"] = _cycling(predictor.in_real_use(), images)
    timing = time_interleaved(calls, rounds, warmup, minimum_seconds)
    return {name: PredictorTiming(timing[f"{name}\nnetwork"], timing[f"{name}\nend to end"]) for name in predictors}


def bench_report(
    predictors: Mapping[str, BundlePredictor], timings: Mapping[str, PredictorTiming], pictures: str
) -> dict[str, Any]:
    """Everything that belongs beside a latency, as plain data; the first predictor is compared with each other one."""
    names = list(predictors)
    models = {name: _describe(predictors[name], timings[name]) for name in names}
    first = timings[names[0]]
    compared = {
        name: {
            "network": ratio(timings[name].network, first.network).to_json(),
            "end_to_end": ratio(timings[name].end_to_end, first.end_to_end).to_json(),
            "size": predictors[name].size_bytes / predictors[names[0]].size_bytes,
        }
        for name in names[1:]
    }
    machine = read_machine()
    return {
        "device": machine.describe(),
        "flags": list(machine.flags),
        "pictures": pictures,
        "helmlite": installed_versions(["helmlite"]).get("helmlite"),
        "models": models,
        "times_as_fast": compared,
    }


def measure_costs(predictor: BundlePredictor, image: Image, seconds: float = 1.0) -> dict[str, Any]:
    """What else a detector's network takes, as plain data: memory, pictures a second by threads, energy.

    seconds: how long each number of threads and the energy are measured
    `memory` and `energy` are None where the system does not tell.
    """
    session, manifest = predictor.session, predictor.bundle.manifest
    path = predictor.bundle.folder / manifest.runtime_files[session.runtime][0]
    planes = predictor.picture_to_planes(image)[0]
    memory = measure_memory(path, session.runtime, session.threads, session.precision, session.input_size)
    by_threads = measure_throughput(
        lambda count: open_session(path, session.runtime, count, session.precision, session.input_size),
        planes,
        thread_counts(usable_cores()),
        seconds,
    )
    energy = measure_energy(lambda: session.run(planes), seconds)
    return {
        "memory": None if memory is None else memory.to_json(),
        "throughput": [item.to_json() for item in by_threads],
        "energy": None if energy is None else energy.to_json(),
    }


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4, ... and all cores.

    >>> thread_counts(6), thread_counts(1)
    ([1, 2, 4, 6], [1])
    """
    return sorted({2**power for power in range(cores.bit_length()) if 2**power <= cores} | {cores})


def drawn_picture(width: int = 1280, height: int = 720, seed: int = 0) -> Image:
    """A picture to time with where none is given: soft coloured patches with a little noise.  (H, W, 3) uint8."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    patches = generator.integers(0, 256, (height // 40 + 1, width // 40 + 1, 3))
    noise = generator.integers(-12, 13, (height, width, 3))
    return np.clip(patches[rows // 40, columns // 40] + noise, 0, 255).astype(np.uint8)


def _describe(predictor: BundlePredictor, timing: PredictorTiming) -> dict[str, Any]:
    session = predictor.session
    return {
        "runtime": session.runtime,
        "runtime_version": session.version,
        "precision": session.precision,
        "threads": session.threads,
        "input_size": session.input_size,
        "size_bytes": predictor.size_bytes,
        "network": timing.network.to_json(),
        "end_to_end": timing.end_to_end.to_json(),
    }


def _cycling(call: Callable[[Any], object], values: Sequence[Any]) -> Callable[[], object]:
    """A call without arguments that takes the next value each time."""
    position = -1

    def step() -> object:
        nonlocal position
        position = (position + 1) % len(values)
        return call(values[position])

    return step


def _resampled_indices(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, count, (_RESAMPLES, count))


def _resampled(samples: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray(samples, dtype=np.float64)[_resampled_indices(len(samples))]


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
