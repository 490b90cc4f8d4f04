"""Does it pay to prune by measured latency instead of by multiply-accumulates?

    python benchmarks/latency_or_macs.py helmet-yolo12m --data DATA.yaml --split val --input-size 416 --macs-ratio 0.4

Prunes once to a share of the multiply-accumulates, measures which share of the time that left, prunes again to that
share of the time, and prints for both, before any training: mAP on the split, times of the FP32 network and of its INT8
network in turn, parameters, file bytes.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from common import commit, data_options

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.load import load_detector
from helmlite.compress.prune import Prune
from helmlite.compress.quantize import Quantize
from helmlite.compress.technique import Context
from helmlite.data.load import load_dataset, match_classes
from helmlite.detector.detector import Detector
from helmlite.detector.macs import count_macs, count_parameters
from helmlite.evaluate.accuracy import measure_accuracy, predict_all
from helmlite.export.layer_times import layer_clock
from helmlite.export.pack import write_bundle
from helmlite.runtime.bench import ratio, time_predictors
from helmlite.runtime.bundle import BundlePredictor
from helmlite.runtime.machine import installed_versions, read_machine


def main() -> int:
    parser = data_options(__doc__)
    parser.add_argument("model")
    parser.add_argument("--macs-ratio", type=float, default=0.4)
    parser.add_argument("--runtime", default="openvino")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    size, runtime = arguments.input_size, arguments.runtime
    detector = load_detector(arguments.model)
    train = match_classes(load_dataset(arguments.data, "train"), detector.classes)
    pictures = match_classes(load_dataset(arguments.data, arguments.split), detector.classes)

    clock = layer_clock(runtime)
    with tempfile.TemporaryDirectory() as folder:
        context = Context(
            train,
            detector,
            size,
            arguments.seed,
            Path(folder) / "work",
            log=lambda line: print(line, flush=True),
            layer_clock=clock,
        )
        by_macs = Prune(macs_ratio=arguments.macs_ratio, rounds=3, images=64).apply(detector, context)
        before, after = clock((detector, by_macs), size)
        share = after.total / before.total
        print(f"{arguments.macs_ratio:.0%} of the multiply-accumulates take {share:.1%} of the time", flush=True)
        by_time = Prune(latency_ratio=share, rounds=3, images=64).apply(detector, context)
        rows = {"whole": detector, "by MACs": by_macs, "by latency": by_time}
        predictors = {}
        for name, item in rows.items():
            predictors[name] = _open(item, Path(folder) / name, size, runtime, "f32")
            quantized = Quantize(pictures=64).apply(item, replace(context, workspace=Path(folder) / f"{name} work"))
            predictors[f"{name}, INT8"] = _open(quantized, Path(folder) / f"{name} INT8", size, runtime, "int8")
        accuracies = {name: measure_accuracy(predict_all(predictors[name], pictures), pictures) for name in rows}
        timed = [pictures[index].read_image() for index in range(8)]
        timings = time_predictors(predictors, timed, arguments.rounds, 5)
    print(
        f"\n{arguments.split} of {arguments.data.parent.name}, {len(pictures)} pictures, data {pictures.sha256()[:12]}"
    )
    print(f"commit {commit()}, seed {arguments.seed}, {installed_versions((runtime, 'torch'))}, input {size}")
    print(f"{read_machine().describe()}; {arguments.rounds} rounds in turn, batch 1\n")
    print("| | mAP50-95 | mAP50 | MACs | parameters | FP32 ms | faster | INT8 ms | faster | INT8 file |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, item in rows.items():
        found, single, integer = accuracies[name], timings[name].network, timings[f"{name}, INT8"].network
        whole = timings["whole"].network, timings["whole, INT8"].network
        print(
            f"| {name} | {100 * (found.map or 0):.1f} | {100 * (found.map50 or 0):.1f} | "
            f"{count_macs(item.network, size) / 1e9:.2f} G | {count_parameters(item.network) / 1e6:.2f} M | "
            f"{single.median_ms:.1f} | {ratio(whole[0], single).value:.2f}× | {integer.median_ms:.1f} | "
            f"{ratio(whole[1], integer).value:.2f}× | {predictors[f'{name}, INT8'].size_bytes / 1e6:.2f} MB |"
        )
    return 0


def _open(detector: Detector, folder: Path, size: int, runtime: str, precision: str) -> BundlePredictor:
    ready = detector if precision == "int8" else merge_parallel_convs(fold_batchnorm(detector))
    bundle = write_bundle(folder, ready, size, runtimes=(runtime,), runtime=runtime, precision=precision)
    return BundlePredictor(bundle, runtime)


if __name__ == "__main__":
    sys.exit(main())
