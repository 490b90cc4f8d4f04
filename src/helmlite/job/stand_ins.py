"""What each step of a recipe will make of a detector, before anything is trained.

Nothing is guessed from operator counts.  Each step is made on a stand-in without training: pruning by L2 norm in one
round to the same share of multiply-accumulates, quantization with a handful of pictures.  The stand-ins detect
nothing, but they have the shapes, files and kernels of the real ones, so their bytes are counted and their time is
measured.  Where L2 and Taylor cut different layers, time can differ by some per cent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from helmlite.compress.recipe import StepResult
from helmlite.compress.technique import Context, Technique, WithStandIn
from helmlite.detector.detector import Detector, Log

FEW_PICTURES = 8  # for statistics that only have to exist


def stand_ins(detector: Detector, steps: Sequence[Technique], context: Context, log: Log) -> list[StepResult]:
    """Every step made cheaply, in order: right shapes, useless weights.

    context: its data are cut to a handful of pictures, and what the steps say is not shown
    """
    few = context.data.subset(list(range(min(FEW_PICTURES, len(context.data)))))
    quiet = replace(context, data=few, val=few, log=lambda line: None)
    results: list[StepResult] = []
    current = detector
    for number, step in enumerate(steps, start=1):
        log(f"plan: {number}. {step.name}")
        cheap = step.stand_in() if isinstance(step, WithStandIn) else step
        place = context.workspace / f"{number}-{step.name}"
        current = current if cheap is None else cheap.apply(current, replace(quiet, workspace=place))
        results.append(StepResult(step.name, current, Path(f"{number}-{step.name}-plan"), 0.0, False))
    return results
