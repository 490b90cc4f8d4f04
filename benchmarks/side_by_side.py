"""Detectors side by side: accuracy on the same pictures, times in turn in one run.

    python benchmarks/side_by_side.py helmet-yolo12m@640 helmet-yolo12m@416 BUNDLE... --data DATA.yaml --split test

MODEL@SIZE is run in FP32 (f32 hint) at that input size, a bundle as its manifest says, all in the same runtime; the
first named is what the others are compared with.  Prints a Markdown table with mAP, its bootstrap interval, file bytes,
median times of the network alone at batch 1, and the ratio of medians to the first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from common import commit, data_options

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.load import load_detector
from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset, match_classes
from helmlite.evaluate.accuracy import measure_accuracy, predict_all
from helmlite.evaluate.statistics.resampling import map_ci95
from helmlite.export.pack import write_bundle
from helmlite.runtime.bench import ratio, time_predictors
from helmlite.runtime.bundle import BundlePredictor, read_bundle
from helmlite.runtime.machine import installed_versions, read_machine
from helmlite.runtime.manifest import MANIFEST_NAME

_TIMED_PICTURES, _WARMUP = 8, 5


def main() -> int:
    arguments = _arguments()
    dataset = load_dataset(arguments.data, arguments.split)
    with tempfile.TemporaryDirectory() as folder:
        predictors = {
            name: _open(name, Path(folder) / str(index), arguments.runtime)
            for index, name in enumerate(arguments.detectors)
        }
        first = predictors[arguments.detectors[0]]
        pictures = match_classes(dataset, first.bundle.manifest.classes)
        rows = _accuracy(predictors, pictures, arguments.seed)
        images = [pictures[index].read_image() for index in range(min(len(pictures), _TIMED_PICTURES))]
        timings = time_predictors(predictors, images, arguments.rounds, _WARMUP)
        sizes = {key: item.size_bytes for key, item in predictors.items()}
    print(f"{arguments.split} of {arguments.data.parent.name}, {len(pictures)} pictures, data {dataset.sha256()[:12]}")
    print(f"commit {commit()}, seed {arguments.seed}, {installed_versions(('openvino', 'onnxruntime'))}")
    threads = first.session.threads
    print(f"{read_machine().describe()}; {arguments.runtime}, {threads} threads, {arguments.rounds} rounds in turn")
    print("\n| | input | precision | mAP50-95 (95 %) | mAP50 | file | ms | faster |\n|---|---|---|---|---|---|---|---|")
    for key, (map50, shown) in rows.items():
        timing = timings[key].network
        times = ratio(timings[arguments.detectors[0]].network, timing).value
        predictor = predictors[key]
        print(
            f"| {_short(key)} | {predictor.input_size} | {predictor.session.precision} | {shown} | {map50} | "
            f"{sizes[key] / 1e6:.2f} MB | {timing.median_ms:.1f} | {times:.1f}× |"
        )
    return 0


def _short(given: str) -> str:
    return "/".join(Path(given).parts[-2:])


def _open(given: str, folder: Path, runtime: str) -> BundlePredictor:
    """A bundle as it is; MODEL@SIZE in FP32, written into `folder`."""
    if (Path(given) / MANIFEST_NAME).is_file():
        return BundlePredictor(read_bundle(Path(given)), runtime)
    model, _, size = given.rpartition("@")
    plain = merge_parallel_convs(fold_batchnorm(load_detector(model)))
    return BundlePredictor(write_bundle(folder, plain, int(size), runtime=runtime), runtime, precision="f32")


def _accuracy(predictors: dict[str, BundlePredictor], pictures: Dataset, seed: int) -> dict[str, tuple[str, str]]:
    """For each name mAP50 and mAP50-95 with its interval, as text."""
    rows = {}
    for name, predictor in predictors.items():
        found = predict_all(predictor, pictures)
        accuracy, interval = measure_accuracy(found, pictures), map_ci95(found, pictures, seed=seed)
        shown = f"{100 * (accuracy.map or 0):.1f}"
        if interval is not None:
            shown += f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"
        rows[name] = (f"{100 * (accuracy.map50 or 0):.1f}", shown)
    return rows


def _arguments() -> argparse.Namespace:
    parser = data_options(__doc__, size_option=None)
    parser.add_argument("detectors", nargs="+", metavar="MODEL@SIZE or BUNDLE")
    parser.add_argument("--runtime", default="openvino")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
