"""How fast the rows of benchmarks/techniques.py are, all of them in one run.

Two compiled copies of one network differ in speed, by where their memory happens to lie, and a machine's speed drifts.
So each row has several turns, at times that chance decides: it is opened anew together with the baseline, the two run
in turn, and the ratio of their medians is kept.  Only these two are in memory, as in real use, where one network has
the caches for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import commit
from technique_results import read_rows
from technique_rows import INPUT_SIZE, ROWS, Row

from helmlite.compress.checkpoint import EDITS
from helmlite.compress.drop_scale import DropScaleAt, without_scale
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.quantize import Quantize
from helmlite.compress.recipe import parse_recipe
from helmlite.compress.technique import Context, Technique, WithStandIn
from helmlite.data.dataset import Dataset
from helmlite.detections import Image
from helmlite.detector.detector import Detector
from helmlite.export.pack import write_bundle
from helmlite.job.prepare import steps_for_this_machine
from helmlite.runtime.bench import time_predictors
from helmlite.runtime.bundle import Bundle, BundlePredictor, is_bundle, read_bundle
from helmlite.runtime.machine import installed_versions, read_machine

RUNTIMES = ("openvino", "onnxruntime")
_BASELINE = "baseline"
_MADE_ANEW = ("quantize", "cluster", "weight_only")  # last steps, which are not among a written row's edits
_WARM_UP = 3


def measure_speed(
    results: Path, baseline: Detector, pictures: Mapping[str, Dataset], work: Path, rounds: int, turns: int
) -> dict[str, Any]:
    """What timing.json holds: for each runtime and row the median latency in ms and the ratio to the baseline, by turn.

    Raises ValueError where the baseline is not among the rows.
    """
    images = [pictures["val"][index].read_image() for index in range(8)]
    found, _ = read_rows(results)
    bundles = {}
    for row in (row for row in ROWS if row.name in found):
        rebuilt = _rebuilt(row, found[row.name].first, baseline, pictures, work)
        bundles[row.name] = bundle_of(work / "timed" / row.name, rebuilt)
    if _BASELINE not in bundles:
        raise ValueError(f"{results}: the row '{_BASELINE}' is missing; every speed is a ratio to it.")
    machine = read_machine()
    timing: dict[str, Any] = {"machine": machine.describe(), "flags": machine.flags, "rounds": rounds, "turns": turns}
    timing |= {"commit": commit(), "versions": installed_versions((*RUNTIMES, "torch"))}
    for runtime in RUNTIMES:
        timing[runtime] = _in_turns(bundles, runtime, images, rounds, turns)
    return timing


def bundle_of(place: Path, detector: Detector) -> Bundle:
    """The detector exported to `place`, or what is there already."""
    if is_bundle(place):
        return read_bundle(place)
    is_quantized = detector.has_edit("insert_quantizers")
    ready = detector if is_quantized else merge_parallel_convs(fold_batchnorm(detector))
    precision = "int8" if is_quantized else "f32"
    return write_bundle(place, ready, INPUT_SIZE, runtimes=RUNTIMES, runtime="openvino", precision=precision)


def _in_turns(
    bundles: Mapping[str, Bundle], runtime: str, images: Sequence[Image], rounds: int, turns: int
) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {name: {"median_ms": [], "times_as_fast": []} for name in bundles}
    order = np.random.default_rng(0)
    for _ in range(turns):
        for name in order.permutation(list(bundles)):
            pair = {
                key: BundlePredictor(bundles[key_of], runtime)
                for key, key_of in (("row", name), ("baseline", _BASELINE))
            }
            timing = time_predictors(pair, images, rounds, _WARM_UP)
            row, baseline = timing["row"].network, timing["baseline"].network
            found[name]["median_ms"].append(row.median_ms)
            found[name]["times_as_fast"].append(baseline.median_ms / row.median_ms)
    return found


def _rebuilt(
    row: Row, stated: Mapping[str, Any], baseline: Detector, pictures: Mapping[str, Dataset], work: Path
) -> Detector:
    """A network of the row's structure: its edits on the baseline, then its last step made cheaply.

    What that step would keep in float by accuracy is in integers here; no row so far keeps a layer in float.  Weights
    of fewer bits are stored in 8, take as long, and would need all pictures to be calibrated on.
    """
    detector = baseline.copy()  # with the baseline's weights: random ones leave layers whose values are all zero
    for item in stated["edits"]:
        edit = EDITS[item["kind"]]({key: value for key, value in item.items() if key != "kind"})
        if isinstance(edit, DropScaleAt):
            detector = without_scale(detector, detector.architecture.layout.strides[edit.position])
        else:
            edit.redo(detector.network)
            detector = detector.edited(edit, detector.network)
    detector.network.eval()
    steps = parse_recipe(row.recipe, row.name).steps if row.recipe else ()
    steps = steps_for_this_machine([_in_eight_bits(step) for step in steps])
    context = Context(pictures["train"], baseline, INPUT_SIZE, 0, work / "rebuilding", log=print, val=pictures["val"])
    for step in steps:
        if step.name in _MADE_ANEW:
            cheap = step.stand_in() if isinstance(step, WithStandIn) else step
            detector = detector if cheap is None else cheap.apply(detector, context)
    return detector


def _in_eight_bits(step: Technique) -> Technique:
    return replace(step, weight_bits=None) if isinstance(step, Quantize) else step
