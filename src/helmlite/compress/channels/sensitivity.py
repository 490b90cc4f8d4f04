"""How much a detector suffers when one bundle of channels alone is cut: a curve for each bundle, measured.

For each bundle and each of a few shares that it keeps, its least important units are cut out, BatchNorm statistics
are measured again, and the detector is looked at on a fixed set of labelled pictures (Li 2017, arXiv 1608.08710,
section 3.2, whose figure 2b this is, with BatchNorm measured again as pruning does after every cut).

The lowest level of a bundle comes first: where even that hardly hurts, nothing between can.  Every measured point is
written down at once, so that a run that was killed goes on with the next one.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from helmlite.compress.channels.channel_groups import ChannelGroups
from helmlite.compress.channels.channel_sums import Scores
from helmlite.compress.channels.cut_channels import cut
from helmlite.compress.channels.ranking import Levels, kept_units
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.device import training_device
from helmlite.detector.families import family_of
from helmlite.detector.fit import dataset_sha256
from helmlite.detector.fit_state import detector_sha256, json_sha256
from helmlite.evaluate.accuracy import evaluate
from helmlite.files import write_whole

MEASURES = ("loss", "map")

_BATCH = 8
_FLAT = 0.01  # of the uncut detector's measure: a bundle that loses no more at its lowest level needs no other point
_FIRST_POINTS = 3  # measured before the log says how long all will take
_NAMED = 10  # curves that a figure names
# How closely curves are measured, the closest first: (shares beside the lowest level, pictures).
_CLOSENESS = (((0.75, 0.5, 0.25), 64), ((0.6, 0.3), 32), ((0.5,), 16))
_AFFORDABLE = 4e13  # multiply-accumulates in all: a quarter of an hour on two x86 cores


@dataclass(frozen=True)
class Measuring:
    """How curves are measured.

    measure:    "loss" (the family's detection loss) or "map" (lost mAP50-95)
    shares:     of its steps that a bundle keeps at the measured points, in (0, 1); its lowest level comes on top
    images:     pictures, drawn by the seed: of the tuning split where there is one, else of the train split
    norm_images: pictures of the train split for BatchNorm statistics; 0 leaves the statistics as they are
    input_size: side of the square input in pixels
    """

    measure: str
    shares: tuple[float, ...]
    images: int
    norm_images: int
    input_size: int


@dataclass(frozen=True)
class Curve:
    """What cutting one bundle alone costs.

    name:   of the bundle's first group; steps: all of it
    points: (steps kept, rise of the measure over the uncut detector's), as measured, most steps first
    """

    name: str
    steps: int
    points: tuple[tuple[int, float], ...]

    def at(self, levels: Sequence[int], noise: float = 0.0) -> NDArray[np.float64]:
        """The rise at each level: a straight line between points, never falling as more goes, 0 for the whole.

        noise: is added for the share that goes, so that what is too small to be measured is not taken as free
        >>> Curve("a", 8, ((6, 0.5), (4, 0.25), (2, 2.5))).at([2, 3, 4, 5, 7, 8])  # the point at 4 is lifted to 0.5
        array([2.5 , 1.5 , 0.5 , 0.5 , 0.25, 0.  ])
        """
        kept = [self.steps, *(steps for steps, _ in self.points)]
        envelope = np.maximum.accumulate([0.0, *(rise for _, rise in self.points)])
        wanted = np.asarray(levels, dtype=np.float64)
        found: NDArray[np.float64] = np.interp(wanted, kept[::-1], envelope[::-1]) + noise * (1 - wanted / self.steps)
        return found


def affordable(macs: int) -> tuple[tuple[float, ...], int]:
    """The closest look that a quarter of an hour or so on two cores allows: shares and pictures.

    macs: of one picture, times the number of bundles.  The choice depends on nothing else, so that a run on another
    machine measures the same.

    >>> affordable(6 * 10**9), affordable(10**12)  # a small detector at 320 pixels; a large one at 416
    (((0.75, 0.5, 0.25), 64), ((0.5,), 16))
    """
    for shares, images in _CLOSENESS:
        if macs * (len(shares) + 1) * 2 * images <= _AFFORDABLE:  # as many pictures again for BatchNorm
            break
    return shares, images


def noise_of(curves: Sequence[Curve]) -> float:
    """How small a rise these curves can still tell from none: the root mean square of all that are below zero.

    Cutting channels seldom makes a detector better, so what was measured as a gain shows how much chance can do.
    """
    gains = [rise for curve in curves for _, rise in curve.points if rise < 0]
    return float(np.sqrt(np.mean(np.square(gains)))) if gains else 0.0


def measured_curves(
    detector: Detector,
    groups: ChannelGroups,
    scores: Scores,
    levels: Levels,
    how: Measuring,
    context: Context,
    made_from: Mapping[str, Any],
) -> tuple[Curve, ...]:
    """A curve for every bundle of `groups`; a bundle of one level has no point.

    scores: which units of a bundle go first; made_from: what they are made of, as plain data, for the file that
    keeps the points in the context's workspace
    Raises ValueError where no picture is labelled.
    """
    pictures = _drawn(context.val if context.val is not None else context.data, how.images, context.seed)
    norm_pictures = _drawn(context.data, how.norm_images, context.seed)
    asked = {
        "detector": detector_sha256(detector),
        "pictures": [dataset_sha256(pictures), dataset_sha256(norm_pictures)],
        "how": asdict(how),
        "scores": dict(made_from),
        "seed": context.seed,
    }
    points = _Points(context.workspace / f"sensitivity-{json_sha256(asked)[:12]}.json")
    look = _Look(how, pictures, norm_pictures, context)
    whole = points.get("whole", lambda: look(detector.copy()))
    wanted = [_measured_levels(allowed, how.shares) for allowed in levels]
    progress = _Progress(points, [f"{index}/{kept}" for index, chosen in enumerate(wanted) for kept in chosen], context)
    curves = []
    for index, (bundle, chosen) in enumerate(zip(groups.bundles, wanted, strict=True)):
        found: list[tuple[int, float]] = []
        for kept in chosen:  # the lowest first
            measure = partial(_look_at, look, detector, groups, scores, index, kept)
            found.append((kept, points.get(f"{index}/{kept}", measure) - whole))
            progress.tell()
            if found[0][1] <= _FLAT * abs(whole):
                break  # a curve that does not fall lies between 0 and this everywhere
        curves.append(Curve(bundle.groups[0].name, bundle.steps, tuple(sorted(found, reverse=True))))
    return tuple(curves)


def draw_curves(curves: Sequence[Curve], title: str, kept: Sequence[int] = ()) -> Any:
    """A matplotlib figure: every bundle's curve, and below it the shares that were `kept` in the end, if given.

    Raises ImportError, naming the extra, where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Plots need matplotlib: pip install "helmlite[compress]".') from error
    figure = Figure(figsize=(max(9.0, 0.16 * len(curves)), 9 if kept else 5), layout="constrained")
    axes = figure.subplots(2 if kept else 1, 1, squeeze=False)[:, 0]
    steepest = sorted(range(len(curves)), key=lambda index: -_highest(curves[index]))[:_NAMED]
    for index, curve in enumerate(curves):
        shares = [1.0, *(steps / curve.steps for steps, _ in curve.points)]
        rises = [0.0, *(rise for _, rise in curve.points)]
        colour = f"C{steepest.index(index)}" if index in steepest else "0.75"
        label = curve.name if index in steepest else None
        axes[0].plot(shares, rises, ".-", color=colour, label=label, linewidth=1, zorder=2 if label else 1)
    axes[0].invert_xaxis()
    axes[0].set_xlabel("share of its channels that the bundle alone keeps")
    axes[0].set_ylabel("rise over the uncut detector")
    axes[0].set_title(title)
    axes[0].legend(fontsize=7, title="steepest first")
    axes[0].grid(alpha=0.3)
    if kept:
        axes[1].bar(range(len(curves)), [steps / curve.steps for steps, curve in zip(kept, curves)], color="#2a6f97")
        axes[1].set_xticks(range(len(curves)), [curve.name for curve in curves], rotation=90, fontsize=5)
        axes[1].set_ylabel("share kept")
        axes[1].grid(axis="y", alpha=0.3)
    return figure


def write_curves(curves: Sequence[Curve], kept: Sequence[int], how: Measuring, folder: Path) -> None:
    """Writes sensitivity.json and sensitivity.png.  kept: the steps that each bundle kept in the end."""
    bundles = [
        {
            "name": curve.name,
            "steps": curve.steps,
            "kept": steps,
            "points": [{"kept": at, "rise": rise} for at, rise in curve.points],
        }
        for curve, steps in zip(curves, kept, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "sensitivity.json", json.dumps({"measured": asdict(how), "bundles": bundles}, indent=1))
    drawn = io.BytesIO()
    measure = "detection loss" if how.measure == "loss" else "lost mAP50-95"
    title = f"Sensitivity: {measure}, {how.images} pictures of {how.input_size} pixels"
    draw_curves(curves, title, kept).savefig(drawn, format="png", dpi=120)
    write_whole(folder / "sensitivity.png", drawn.getvalue())


class _Look:
    """A detector, which is used up by it -> the measure: lower is better."""

    def __init__(self, how: Measuring, pictures: Dataset, norm_pictures: Dataset, context: Context) -> None:
        self._how, self._pictures = how, pictures
        self._device = training_device(context.device)
        self._norm_batches = self._batches(norm_pictures) if how.norm_images else []
        self._batches_seen = self._batches(pictures) if how.measure == "loss" else []
        if not any(len(sample.labels) for sample in pictures):
            raise ValueError(f"prune: ranking 'sensitivity' needs labels; none of {len(pictures)} pictures has one.")

    def __call__(self, detector: Detector) -> float:
        network = detector.network.to(self._device).to(memory_format=torch.channels_last).eval()
        if self._norm_batches:
            reestimate_batchnorm(family_of(detector), network, self._norm_batches)
        found = self._loss(detector) if self._how.measure == "loss" else self._lost_map(detector)
        return found

    def _loss(self, detector: Detector) -> float:
        family, network = family_of(detector), detector.network
        loss_of = family.task_loss(detector.architecture, network, epochs=1)
        total = 0.0
        with torch.no_grad():
            for batch in (item.to(self._device) for item in self._batches_seen):
                loss, _ = loss_of(family.training_maps(network, batch.images), batch)
                total += float(loss) * len(batch.images)
        return total / len(self._pictures)

    def _lost_map(self, detector: Detector) -> float:
        found = evaluate(detector.predictor(self._how.input_size), self._pictures).map
        return -(found or 0.0)

    def _batches(self, dataset: Dataset) -> list[Batch]:
        return list(plain_batches(dataset, self._how.input_size, len(dataset), _BATCH, seed=0))


class _Points:
    """Measured values in a file, which holds every one as soon as it is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str, measure: Callable[[], float]) -> float:
        """The value of this key, measured where it is not known yet."""
        if key not in self._values:
            self._values[key] = measure()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(self._values, indent=1))
        return self._values[key]


class _Progress:
    """Says once how long all will take at most, when a few points are measured."""

    def __init__(self, points: _Points, keys: Sequence[str], context: Context) -> None:
        self._points, self._known, self._log = points, len(points), context.log
        self._open = sum(key not in points for key in keys)
        self._started, self._told = time.monotonic(), False

    def tell(self) -> None:
        done = len(self._points) - self._known
        if not self._told and done >= min(_FIRST_POINTS, self._open) > 0:
            minutes = (time.monotonic() - self._started) / done * self._open / 60
            self._log(f"prune: measuring sensitivity at {self._open} points at most, {minutes:.0f} min or less")
            self._told = True


def _look_at(
    look: Callable[[Detector], float], detector: Detector, groups: ChannelGroups, scores: Scores, index: int, kept: int
) -> float:
    """The measure where one bundle alone is cut."""
    alone = replace(groups, bundles=(groups.bundles[index],))
    return look(cut(detector, groups, kept_units(alone, scores, (kept,))))


def _measured_levels(allowed: Sequence[int], shares: Sequence[float]) -> list[int]:
    """The levels nearest to the shares, and the lowest, without the whole: fewest steps first."""
    nearest = {min(allowed, key=lambda level: abs(level - share * allowed[-1])) for share in shares}
    return sorted((nearest | {allowed[0]}) - {allowed[-1]})


def _drawn(dataset: Dataset, count: int, seed: int) -> Dataset:
    return dataset.subset(np.random.default_rng(seed).permutation(len(dataset))[:count])


def _highest(curve: Curve) -> float:
    return max((rise for _, rise in curve.points), default=0.0)
