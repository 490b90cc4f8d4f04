"""What each step of a recipe will do to one detector: `helmlite recipe show`.  Needs no pictures and trains nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.recipe import Recipe
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.load import load_dataset
from helmlite.data.scenes import write_scenes
from helmlite.detector.detector import Detector, Log
from helmlite.detector.macs import count_macs, count_parameters
from helmlite.export.layer_times import layer_clock
from helmlite.export.pack import write_bundle
from helmlite.job.prepare import steps_for_this_machine
from helmlite.job.stand_ins import FEW_PICTURES, stand_ins
from helmlite.job.target import Target


@dataclass(frozen=True)
class ShownStep:
    """A detector after one step.

    layers:     how many convolutions it has;  changed: how many modules this step changes, adds or removes
    size_bytes: of the files that the target loads
    """

    name: str
    layers: int
    changed: int
    macs: int
    params: int
    size_bytes: int


def show_recipe(recipe: Recipe, detector: Detector, target: Target, input_size: int, log: Log) -> list[ShownStep]:
    """The detector as it is, then after each step, all of them stand-ins without training (stand_ins.py)."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        context = Context(
            data=_drawn(detector, folder / "pictures"),
            original=detector,
            input_size=input_size,
            seed=0,
            workspace=folder / "work",
            channel_multiple=target.channel_multiple,
            layer_clock=layer_clock(target.runtime),
        )
        rows = [_row("as it is", detector, detector, target, input_size, folder)]
        before = detector
        for step in stand_ins(detector, steps_for_this_machine(recipe.steps), context, log):
            rows.append(_row(step.name, before, step.detector, target, input_size, folder))
            before = step.detector
    return rows


def _drawn(detector: Detector, folder: Path) -> Dataset:
    """Street scenes; every head counts as the detector's first class, since only shapes matter here."""
    scenes = load_dataset(write_scenes(folder, train=FEW_PICTURES, val=1, test=1, seed=0), "train")
    samples = [Sample(item.image_path, item.boxes_xyxy, np.zeros_like(item.labels)) for item in scenes]
    return dataset_of(samples, detector.classes)


def _row(name: str, before: Detector, after: Detector, target: Target, input_size: int, folder: Path) -> ShownStep:
    is_quantized = after.has_edit("insert_quantizers")
    ready = after if is_quantized else merge_parallel_convs(fold_batchnorm(after))
    bundle = write_bundle(folder / "bundle", ready, input_size, runtimes=(target.runtime,), runtime=target.runtime)
    return ShownStep(
        name=name,
        layers=sum(isinstance(module, nn.Conv2d) for module in after.network.modules()),
        changed=changed_modules(before.network, after.network),
        macs=count_macs(after.network, input_size),
        params=count_parameters(after.network),
        size_bytes=bundle.manifest.size_bytes(target.runtime),
    )


def changed_modules(before: nn.Module, after: nn.Module) -> int:
    """How many leaf modules are of another kind or shape, or are there in one of the networks only."""
    old, new = _leaves(before), _leaves(after)
    return sum(old.get(path) != new.get(path) for path in {**old, **new})


def _leaves(network: nn.Module) -> Mapping[str, tuple[object, ...]]:
    return {
        path: (type(module), *(tuple(item.shape) for item in module.state_dict().values()))
        for path, module in network.named_modules()
        if not any(module.children())
    }
