"""The plan before the work: what each step will make of the detector, how long it will take, what can be proved.

The rows are of stand-ins (stand_ins.py), measured here, interleaved.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helmlite.compress.technique import Context, Technique, Training
from helmlite.detector.detector import Log
from helmlite.evaluate.accuracy import predict_all
from helmlite.evaluate.statistics.resolution import Resolution, resolvable_loss
from helmlite.export.layer_times import layer_clock
from helmlite.job.candidates import Candidate, build_candidates
from helmlite.job.prepare import CompressSettings, Prepared, prepare, steps_for_this_machine
from helmlite.job.stand_ins import stand_ins
from helmlite.runtime.bench import drawn_picture, ratio, time_interleaved
from helmlite.runtime.preprocess import network_input

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
        made = stand_ins(work.detector, steps_for_this_machine(work.recipe.steps), _context(work), log)
        steps = [item for item in made if item.name != "distill"]  # training changes no file or time
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
    """All training together: `60 minutes`, `20 epochs and 30 minutes`, `none`."""
    trainings = [step for step in steps if isinstance(step, Training)]
    epochs = sum(step.epochs or 0 for step in trainings if step.minutes is None)
    minutes = sum(step.minutes or 0.0 for step in trainings)
    parts = [f"{epochs} epochs"] if epochs else []
    parts += [f"{minutes:.0f} minutes"] if minutes else []
    return " and ".join(parts) or "none"


def _context(prepared: Prepared) -> Context:
    return Context(
        data=prepared.train,
        original=prepared.detector,
        input_size=prepared.input_size,
        seed=prepared.settings.seed,
        workspace=prepared.settings.out / "work",
        channel_multiple=prepared.target.channel_multiple,
        layer_clock=layer_clock(prepared.target.runtime),
    )


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
