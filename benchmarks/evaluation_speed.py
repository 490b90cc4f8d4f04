"""How long evaluation takes beyond inference, and how large its page becomes.

Drawn street scenes stand in for pictures, and what two detectors find in them is drawn at random: most heads with a
box some pixels off, a few missed, a few look-alikes above the thresholds and twenty faint detections a picture.

    python benchmarks/evaluation_speed.py FOLDER

FOLDER keeps the scenes, so that a second run need not draw them again.  Times are illustration: name the machine.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import commit

from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset
from helmlite.data.scenes import write_scenes
from helmlite.detections import Detections, Image
from helmlite.evaluate.accuracy import Predictions, measure_accuracy
from helmlite.evaluate.comparison import Comparison, Contender, compare
from helmlite.evaluate.comparison_files import PAGE_NAME, write_comparison
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.pages.gallery import cut_gallery
from helmlite.evaluate.pictures import pictures_csv
from helmlite.evaluate.robustness import predict_worsened
from helmlite.evaluate.statistics.resampling import map_loss_ci95
from helmlite.runtime.machine import read_machine

_PICTURES = 2000
_FOUND, _ALARMS, _FAINT = 0.9, 0.1, 20


def main() -> None:
    """Prints a line for each promise: what was done, how long it took, what was promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.folder / "data.yaml").is_file():
        write_scenes(options.folder, 0, 0, _PICTURES, options.seed)
    pictures = load_dataset(options.folder / "data.yaml", "test")
    print(f"{_PICTURES} drawn scenes, seed {options.seed}, commit {commit()}, data {pictures.sha256()[:12]}")
    print(read_machine().describe())
    thousand = pictures.subset(list(range(1000)))
    sides = [simulated(thousand, options.seed, number) for number in (0, 1)]
    boxes = sum(len(found) for found in sides[0].detections)
    _timed(f"metrics of 1,000 pictures, {boxes} detections", 1, lambda: measure_accuracy(sides[0], thousand))
    _timed("1,000 paired resamples of them", 20, lambda: map_loss_ci95(*sides, thousand, 1000, options.seed))
    few = pictures.subset(list(range(250)))
    _timed("report of two models on 250 pictures", 30, lambda: _report(few, options.folder / "250", options.seed))
    seconds = time.perf_counter()
    page = _report(pictures, options.folder / "2000", options.seed)
    seconds = time.perf_counter() - seconds
    megabytes = page.stat().st_size / 1e6
    print(f"page of 2,000 pictures: {megabytes:.1f} MB (promised: below 30), made in {seconds:.0f} s")
    for count in (20, 40):
        print(f"27 conditions of {count} pictures: at most {_peak_of_conditions(pictures, count):.1f} MB at a time")


def simulated(dataset: Dataset, seed: int, detector: int) -> Predictions:
    """What a detector finds: which heads are hard belongs to the picture, the rest to the detector."""
    found = []
    for index, sample in enumerate(dataset):
        shared, own = (np.random.default_rng((seed, index, number)) for number in (0, 1 + detector))
        heads = len(sample.labels)
        odds = shared.normal(1.5, 1.2, heads) + own.normal(0, 0.6, heads)
        seen = shared.random(heads) < _FOUND
        shift = own.normal(0, 0.05, (heads, 4)) * np.tile(sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2], 2)
        others = own.random(1 + _FAINT) < np.array([_ALARMS] + [1.0] * _FAINT)
        corners = own.uniform(0, 300, (1 + _FAINT, 2))
        alarms = np.concatenate([corners, corners + own.uniform(10, 60, (1 + _FAINT, 2))], axis=1)[others]
        scores = np.concatenate([own.uniform(0.4, 0.9, 1), own.uniform(0.001, 0.1, _FAINT)])[others]
        labels = np.concatenate([sample.labels[seen], own.integers(0, len(dataset.classes), len(alarms))])
        boxes = np.concatenate([(sample.boxes_xyxy + shift)[seen], alarms])
        all_scores = np.concatenate([1 / (1 + np.exp(-odds[seen])), scores])
        order = np.argsort(-all_scores)
        boxes, all_scores, labels = boxes[order], all_scores[order], labels[order]
        found.append(Detections(boxes.astype(np.float32), all_scores.astype(np.float32), labels.astype(np.int64)))
    return Predictions(tuple(found), tuple(range(len(dataset))))


def _report(pictures: Dataset, folder: Path, seed: int) -> Path:
    """Everything that `helmlite compare A B --out` does once both have looked."""
    sides = [simulated(pictures, seed, number) for number in (0, 1)]
    tuning = replace(pictures, split="val")
    compared: Comparison = compare(
        [Contender(Measured(name), found, found) for name, found in zip("AB", sides)], pictures, tuning, seed=seed
    )
    thresholds = [item.thresholds for item in compared.models]
    table = pictures_csv({name: pair for name, *pair in zip("AB", sides, thresholds)}, pictures)
    return write_comparison(compared, folder, table, cut_gallery(compared, sides, pictures)).parent / PAGE_NAME


def _peak_of_conditions(pictures: Dataset, count: int) -> float:
    """Megabytes at most while bad conditions are looked at; it does not grow with the pictures."""
    chosen = pictures.subset(list(range(count)))
    untouched = simulated(chosen, 0, 0)

    def predict(_: Image) -> Detections:
        return untouched.detections[0]

    tracemalloc.start()
    predict_worsened(predict, chosen, untouched)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def _timed(what: str, promised: float, do: Callable[[], object]) -> None:
    start = time.perf_counter()
    do()
    seconds = time.perf_counter() - start
    print(f"{what}: {seconds:.2f} s (promised: at most {promised:g})", flush=True)


if __name__ == "__main__":
    main()
