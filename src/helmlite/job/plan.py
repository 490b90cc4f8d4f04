"""The plan before the work: what each step will make of the detector, how long it will take, what can be proved.

Nothing is guessed from operator counts.  Each step is made on a stand-in without training: pruning by L2 norm in one
round to the same share of multiply-accumulates, quantization with a handful of pictures.  The stand-ins detect
nothing, but they have the shapes, files and kernels of the real ones, so their bytes are counted and their time is
measured here, interleaved.  Where L2 and Taylor cut different layers, time can differ by some per cent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helmlite.compress.distill import Distill
from helmlite.compress.prune import Prune
from helmlite.compress.quantize import Quantize
from helmlite.compress.recipe import StepResult
from helmlite.compress.technique import Context, Technique
from helmlite.detector.detector import Detector, Log
from helmlite.evaluate.accuracy import predict_all
from helmlite.evaluate.resolution import Resolution, resolvable_loss
from helmlite.export.layer_times import layer_clock
from helmlite.job.candidates import Candidate, build_candidates
from helmlite.job.prepare import CompressSettings, Prepared, prepare
from helmlite.runtime.bench import drawn_picture, ratio, time_interleaved
from helmlite.runtime.preprocess import network_input

_FEW = 8  # pictures for statistics that only have to exist
_ROUNDS, _WARMUP = 8, 2


@dataclass(frozen=True)
class PlannedStep:
    """One row: what the target will load and how fast it will be.  speedup: against the baseline, interleaved."""

    name: str
    macs: int
    params: int
    size_bytes: int
    latency_ms: float
    speedup: float


@dataclass(frozen=True)
class Plan:
    """The answer of a dry run.  training: how long, in words;  resolution: what the test pictures can prove."""

    steps: tuple[PlannedStep, ...]
    training: str
    train_pictures: int
    resolution: Resolution


def plan(settings: CompressSettings, log: Log) -> Plan:
    """Measures stand-ins of every step.  Writes nothing outside a temporary folder, trains nothing."""
    prepared = prepare(settings)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        work = replace(prepared, settings=replace(settings, out=Path(folder)))
        steps = [item for item in stand_ins(work, log) if item.name != "distill"]  # training changes no file or time
        candidates = [item for item in build_candidates(work, steps, log) if item.in_chain]
        at_size = next(item for item in candidates if item.input_size == prepared.input_size)
        found = predict_all(at_size.predictor, prepared.test)  # at the run's size: as telling, and faster
        rows = _rows(candidates)
    return Plan(
        rows,
        _training(prepared.recipe.steps),
        len(prepared.train),
        resolvable_loss(found, prepared.test, settings.seed),
    )


def _training(steps: Sequence[Technique]) -> str:
    trainings = [step for step in steps if isinstance(step, Distill)]
    parts = [f"{step.minutes:.0f} minutes" if step.minutes else f"{step.epochs} epochs" for step in trainings]
    return " and ".join(parts) or "none"


def stand_ins(prepared: Prepared, log: Log) -> list[StepResult]:
    """Every step of the recipe made cheaply: right shapes, useless weights."""
    context = Context(
        data=prepared.train.subset(list(range(min(_FEW, len(prepared.train))))),
        original=prepared.detector,
        input_size=prepared.input_size,
        seed=prepared.settings.seed,
        workspace=prepared.settings.out / "work",
        log=lambda line: None,
        channel_multiple=prepared.target.channel_multiple,
        layer_clock=layer_clock(prepared.target.runtime),
    )
    results: list[StepResult] = []
    current = prepared.detector
    for number, step in enumerate(prepared.recipe.steps, start=1):
        log(f"plan: {number}. {step.name}")
        current = _cheap(step, current, context)
        results.append(StepResult(step.name, current, Path(f"{number}-{step.name}-plan"), 0.0, False))
    return results


def _cheap(step: Technique, detector: Detector, context: Context) -> Detector:
    if isinstance(step, Distill):
        return detector
    if isinstance(step, Prune):
        return replace(step, importance="l2", rounds=1, images=_FEW).apply(detector, context)
    if isinstance(step, Quantize):
        return replace(step, pictures=_FEW, correct_biases=False).apply(detector, context)
    return step.apply(detector, context)


def _rows(candidates: Sequence[Candidate]) -> tuple[PlannedStep, ...]:
    calls = {item.name: partial(item.predictor.planes_to_outputs, _planes(item)) for item in candidates}
    timings = time_interleaved(calls, _ROUNDS, _WARMUP)
    first = timings[candidates[0].name]
    return tuple(
        PlannedStep(
            item.name,
            item.macs,
            item.params,
            item.size_bytes,
            timings[item.name].median_ms,
            ratio(first, timings[item.name]).value,
        )
        for item in candidates
    )


def _planes(item: Candidate) -> NDArray[np.float32]:
    return network_input(drawn_picture(), item.input_size)[0]
