"""Several compressed detectors beside one uncompressed: accuracy on the same pictures, times in turn in one run.

    python benchmarks/side_by_side.py helmet-yolo12m --baseline-size 640 --data DATA.yaml --split test BUNDLE...

The baseline runs in FP32 on the first bundle's runtime.  Prints a Markdown table with mAP, its bootstrap interval, file
bytes, median times of the network alone at batch 1, and the ratio of medians to the baseline.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from common import commit, data_options

from helmlite.compress.fold_batchnorm import fold_batchnorm
from helmlite.compress.load import load_detector
from helmlite.compress.merge_parallel import merge_parallel_convs
from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset, match_classes
from helmlite.evaluate.accuracy import measure_accuracy, predict_all
from helmlite.evaluate.resampling import map_ci95
from helmlite.export.pack import write_bundle
from helmlite.runtime.bench import ratio, time_predictors
from helmlite.runtime.bundle import BundlePredictor, read_bundle
from helmlite.runtime.machine import installed_versions, read_machine

_TIMED_PICTURES, _WARMUP = 8, 5


def main() -> int:
    arguments = _arguments()
    detector = load_detector(arguments.model)
    dataset = load_dataset(arguments.data, arguments.split)
    pictures = match_classes(dataset, detector.classes)
    bundles = [read_bundle(path) for path in arguments.bundles]
    runtime = bundles[0].manifest.runtime
    size = arguments.baseline_size
    with tempfile.TemporaryDirectory() as folder:
        plain = merge_parallel_convs(fold_batchnorm(detector))
        baseline = write_bundle(Path(folder) / "bundle", plain, size, runtime=runtime)
        name = f"{arguments.model} FP32 at {size}"
        predictors = {name: BundlePredictor(baseline, runtime, precision="f32")}
        for path, bundle in zip(arguments.bundles, bundles):
            predictors[path.name] = BundlePredictor(bundle, runtime)
        rows = _accuracy(predictors, pictures, arguments.seed)
        images = [pictures[index].read_image() for index in range(min(len(pictures), _TIMED_PICTURES))]
        timings = time_predictors(predictors, images, arguments.rounds, _WARMUP)
        sizes = {key: item.size_bytes for key, item in predictors.items()}
    session = predictors[name].session
    print(f"{arguments.split} of {arguments.data.parent.name}, {len(pictures)} pictures, data {dataset.sha256()[:12]}")
    print(f"commit {commit()}, seed {arguments.seed}, {installed_versions(('openvino', 'onnxruntime'))}")
    print(
        f"{read_machine().describe()}; {session.runtime}, {session.threads} threads, {arguments.rounds} rounds in turn"
    )
    print("\n| | input | mAP50-95 (95 %) | mAP50 | file | ms | faster |\n|---|---|---|---|---|---|---|")
    for key, (accuracy, shown) in rows.items():
        timing = timings[key].network
        times = ratio(timings[name].network, timing).value
        print(
            f"| {key} | {predictors[key].input_size} | {shown} | {accuracy} | {sizes[key] / 1e6:.2f} MB | "
            f"{timing.median_ms:.1f} | {times:.1f}× |"
        )
    return 0


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
    parser = data_options(__doc__, "--baseline-size")
    parser.add_argument("model")
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
