"""Depth: whole blocks become an identity, so every runtime has less to run.

A residual network answers much as before when one of its blocks is left out (Veit 2016, arXiv 1605.06431), and some
of them matter hardly at all.  Which ones is measured, not guessed:

    price of a block = (loss without it - loss now) / multiply-accumulates that it saves

on a fixed set of labelled pictures, BatchNorm as it is.  The block with the lowest price goes, and what the others
cost is measured again, since two blocks may stand in for each other.  BatchNorm's statistics are measured again at the
end.  Candidates are found by what modules do with tensors (drop_candidates.py), never by their names.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from helmlite.compress.drop_candidates import block_candidates
from helmlite.compress.edits.module_swap import put_module
from helmlite.compress.order import check_follows
from helmlite.compress.paths import check_path_list
from helmlite.compress.technique import Context
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.device import training_device
from helmlite.detector.families import family_of
from helmlite.detector.fit_state import detector_sha256, json_sha256
from helmlite.detector.macs import count_macs, macs_by_module
from helmlite.evaluate.accuracy import evaluate
from helmlite.files import write_whole

MEASURES = ("loss", "map", "none")
_BATCH = 8
_NOTHING_LABELLED = (
    "drop_block: none of the pictures that it would measure on has a label; name the blocks with `paths`, or give "
    'measure = "none".'
)
_UNKNOWN = (-math.inf, 0)  # a price: comes first


@dataclass(frozen=True)
class DropBlock:
    """Leaves out the blocks that matter least for what they cost.

    count:      blocks that go; or
    macs_ratio: multiply-accumulates after / before, in (0, 1); or
    paths:      just these blocks, of those that `block_candidates` gives
    measure:    "loss" of the detection task, "map" (mAP50-95), or "none": looks at no picture and takes the block of
                middling cost, which is good for a plan of sizes only
    images:     labelled pictures to measure on, of the tuning split where there is one, and for BatchNorm's statistics
    shortlist:  after each block that went only this many, those with the lowest prices before, are measured again;
                0 means all
    """

    name: ClassVar[str] = "drop_block"
    count: int | None = None
    macs_ratio: float | None = None
    paths: tuple[str, ...] = ()
    measure: str = "loss"
    images: int = 64
    shortlist: int = 12

    def __post_init__(self) -> None:
        check_path_list(self.name, "paths", self.paths)
        given = (self.count is not None) + (self.macs_ratio is not None) + bool(self.paths)
        if given != 1:
            raise ValueError("drop_block: give count, macs_ratio or paths, one of them.")
        if self.count is not None and self.count < 1:
            raise ValueError(f"drop_block: count must be at least 1; got {self.count}.")
        if self.macs_ratio is not None and not 0 < self.macs_ratio < 1:
            raise ValueError(f"drop_block: macs_ratio must lie between 0 and 1 (both excluded); got {self.macs_ratio}.")
        if self.measure not in MEASURES:
            raise ValueError(f"drop_block: unknown measure '{self.measure}'; known are {', '.join(MEASURES)}.")
        if self.images < 1 or self.shortlist < 0:
            raise ValueError("drop_block: images must be at least 1, shortlist at least 0.")

    def stand_in(self) -> DropBlock:
        """As many blocks, or as many multiply-accumulates, without looking at pictures."""
        return replace(self, measure="none")

    @property
    def uses_val(self) -> bool:
        """Blocks that are not named are searched for there."""
        return not self.paths and self.measure != "none"

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector without those blocks.

        Raises ValueError where a path is no candidate or the target cannot be reached, TechniqueOrderError after
        quantization, masks and tied layers.
        """
        check_follows(self.name, detector)
        paths = self._checked_paths(detector) if self.paths else self._searched(detector, context)
        edit = DropBlocks(paths)
        changed = detector.copy()
        edit.redo(changed.network)
        network = changed.network.to(training_device(context.device))
        batches = plain_batches(context.data, context.input_size, self.images, _BATCH, context.seed)
        reestimate_batchnorm(family_of(detector), network, batches)
        network.to("cpu")
        left = count_macs(network, context.input_size) / count_macs(detector.network, context.input_size)
        context.log(f"drop_block: without {', '.join(paths)}; {left:.1%} of the multiply-accumulates left")
        return detector.edited(edit, network)

    def _checked_paths(self, detector: Detector) -> tuple[str, ...]:
        known = {item.path for item in block_candidates(detector.network)}
        for path in self.paths:
            if path not in known:
                raise ValueError(
                    f"drop_block: '{path}' is not one of the {len(known)} blocks that can be left out; "
                    "helmlite.compress.drop_candidates.block_candidates lists them."
                )
            outer = next((other for other in self.paths if path.startswith(f"{other}.")), None)
            if outer is not None:
                raise ValueError(f"drop_block: '{path}' lies inside '{outer}', which is left out as a whole.")
        return self.paths

    def _searched(self, detector: Detector, context: Context) -> tuple[str, ...]:
        ask = self._question(detector, context)
        remembered = None if ask is None else _Remembered(ask, self._notes_path(detector, context))
        search = _Search(detector.network, remembered, self.shortlist, context)
        while not self._is_reached(search):
            if not search.drop_one():
                raise ValueError(
                    f"drop_block: {search.macs / search.macs_before:.0%} of the multiply-accumulates remain when "
                    f"{len(search.dropped)} blocks are left out, and no other can be. Ask for less."
                )
        return search.outermost()

    def _is_reached(self, search: _Search) -> bool:
        if self.count is not None:
            return len(search.outermost()) >= self.count
        assert self.macs_ratio is not None
        return search.macs <= self.macs_ratio * search.macs_before

    def _question(self, detector: Detector, context: Context) -> Ask | None:
        """What tells how bad a network is: lower is better."""
        data = context.data if context.val is None else context.val
        if self.measure == "none":
            return None
        if self.measure == "map":
            chosen = np.random.default_rng(context.seed).permutation(len(data))[: self.images]
            subset = data.subset(chosen)
            if not any(len(sample.labels) for sample in subset):
                raise ValueError(_NOTHING_LABELLED)

            def lost_accuracy(network: nn.Module) -> float:
                predict = replace(detector, network=network).predictor(context.input_size)
                return 1 - (evaluate(predict, subset).map or 0.0)

            return lost_accuracy
        family, device = family_of(detector), training_device(context.device)
        batches = list(plain_batches(data, context.input_size, self.images, _BATCH, context.seed))
        if not any(len(item.targets) for item in batches):
            raise ValueError(_NOTHING_LABELLED)

        def loss(network: nn.Module) -> float:
            task = family.task_loss(detector.architecture, network, epochs=1)
            with torch.no_grad():
                losses = [float(task(family.training_maps(network, b.images), b)[0]) for b in _on(device, batches)]
            return float(np.average(losses, weights=[len(item.images) for item in batches]))

        return loss

    def _notes_path(self, detector: Detector, context: Context) -> Path:
        data = context.data if context.val is None else context.val
        about = {
            "detector": detector_sha256(detector),
            "data": data.sha256(),
            "input_size": context.input_size,
            "seed": context.seed,
            "measure": [self.measure, self.images],
        }
        return context.workspace / f"drop-block-{json_sha256(about)[:12]}.json"


@dataclass(frozen=True)
class DropBlocks:
    """The modules at these paths become an identity."""

    kind: ClassVar[str] = "drop_block"
    paths: tuple[str, ...]

    def redo(self, network: nn.Module) -> None:
        """Leaves them out in place."""
        for path in self.paths:
            put_module(network, path, nn.Identity())

    def to_json(self) -> dict[str, Any]:
        return {"paths": list(self.paths)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> DropBlocks:
        return DropBlocks(tuple(values["paths"]))


Ask = Callable[[nn.Module], float]  # how bad a network is; lower is better


class _Remembered:
    """An `Ask` whose answers are written down at once: a search that was stopped goes on where it was."""

    def __init__(self, ask: Ask, path: Path) -> None:
        self._ask, self._path = ask, path
        self._known: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def __call__(self, network: nn.Module, without: Sequence[str]) -> float:
        """How bad `network` is, from which the blocks `without` were left out."""
        key = " ".join(sorted(without))
        if key not in self._known:
            self._known[key] = self._ask(network)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(self._known, indent=1))
        return self._known[key]


class _Search:
    """Leaves out block after block, each time the one with the lowest price.  dropped: oldest first."""

    def __init__(self, network: nn.Module, ask: _Remembered | None, shortlist: int, context: Context) -> None:
        self._network = copy.deepcopy(network).eval().to(training_device(context.device))
        self._ask, self._shortlist, self._context = ask, shortlist, context
        self._prices: dict[str, tuple[float, int]] = {}  # as last measured
        self.macs_before = self.macs = count_macs(network, context.input_size)
        self.dropped: list[str] = []

    def drop_one(self) -> bool:
        """Leaves out one block more; False where there is none."""
        costs = macs_by_module(self._network, self._context.input_size)
        savings = {}
        for path in (candidate.path for candidate in block_candidates(self._network)):
            savings[path] = sum(macs for place, macs in costs if f"{place}.".startswith(f"{path}."))
        if not savings:
            return False
        path = _middling(savings) if self._ask is None else self._cheapest(savings, self._ask)
        put_module(self._network, path, nn.Identity())
        self.macs -= savings[path]
        self.dropped.append(path)
        return True

    def outermost(self) -> tuple[str, ...]:
        """What went, without the blocks inside of others that went later."""
        return tuple(path for path in self.dropped if not any(path.startswith(f"{other}.") for other in self.dropped))

    def _cheapest(self, savings: Mapping[str, int], ask: _Remembered) -> str:
        now = ask(self._network, self.dropped)
        measured = sorted(savings, key=lambda path: self._prices.get(path, _UNKNOWN))
        if self._shortlist and self._prices:
            measured = measured[: self._shortlist]
        rises = {}
        for path in measured:
            with _without(self._network, path):
                rise = ask(self._network, (*self.dropped, path)) - now
            rises[path] = rise if math.isfinite(rise) else math.inf
            self._prices[path] = (
                max(rises[path], 0.0) / savings[path],
                -savings[path],
            )  # what costs nothing: the largest
        best = min(measured, key=lambda path: self._prices[path])
        share = savings[best] / self.macs_before
        self._context.log(
            f"drop_block: {best} goes of {len(savings)} blocks ({len(measured)} measured): {rises[best]:+.4g} from "
            f"{now:.4g}, {share:.1%} of the multiply-accumulates"
        )
        return best


def _middling(savings: Mapping[str, int]) -> str:
    by_saving = sorted(savings, key=lambda path: savings[path])
    return by_saving[len(by_saving) // 2]


@contextmanager
def _without(network: nn.Module, path: str) -> Iterator[None]:
    """The network with an identity at `path` while this is open."""
    block = network.get_submodule(path)
    put_module(network, path, nn.Identity())
    try:
        yield
    finally:
        put_module(network, path, block)


def _on(device: torch.device, batches: Sequence[Batch]) -> Iterator[Batch]:
    return (batch.to(device) for batch in batches)
