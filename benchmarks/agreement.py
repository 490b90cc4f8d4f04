"""One detector in three runtimes: the same accuracy, the same boxes.

    python benchmarks/agreement.py helmet-yolo12m --data DATA.yaml --split test --input-size 640

Prints mAP of PyTorch, ONNX Runtime FP32 and OpenVINO FP32 from the one evaluator, and how the boxes above 0.25 match.
Exits 1 where mAP50-95 differs by more than 0.1 points or fewer than 99 % of the boxes match at IoU 0.95.
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
from helmlite.data.load import load_dataset, match_classes
from helmlite.evaluate.accuracy import evaluate
from helmlite.export.pack import write_bundle
from helmlite.export.parity import measure_parity
from helmlite.runtime.bundle import BundlePredictor
from helmlite.runtime.machine import installed_versions

_LARGEST_DIFFERENCE = 0.1  # points of mAP50-95
_SMALLEST_MATCH = 0.99


def main() -> int:
    arguments = _arguments()
    detector = load_detector(arguments.model)
    dataset = load_dataset(arguments.data, arguments.split)
    pictures = match_classes(dataset, detector.classes)
    size = arguments.input_size
    found = {"PyTorch": evaluate(detector.predictor(size), pictures)}
    matched = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder) / "bundle", merge_parallel_convs(fold_batchnorm(detector)), size)
        for runtime in ("onnxruntime", "openvino"):
            found[runtime] = evaluate(BundlePredictor(bundle, runtime, precision="f32"), pictures)
            images = [sample.read_image() for sample in pictures]
            matched[runtime] = measure_parity(detector, bundle.model_path(runtime), images, runtime).matched
    versions = installed_versions(("torch", "onnxruntime", "openvino"))
    where = f"{arguments.split} of {arguments.data.parent.name}, {len(pictures)} pictures, {size} px, FP32"
    print(f"{arguments.model}, {where}")
    print(f"commit {commit()}, data {dataset.sha256()[:12]}, {versions}")
    for name, accuracy in found.items():
        share = f", {matched[name]:.2%} of boxes above 0.25 match at IoU 0.95" if name in matched else ""
        print(f"{name:12} mAP50-95 {100 * (accuracy.map or 0):.2f}  mAP50 {100 * (accuracy.map50 or 0):.2f}{share}")
    values = [100 * (accuracy.map or 0) for accuracy in found.values()]
    agree = max(values) - min(values) <= _LARGEST_DIFFERENCE and min(matched.values()) >= _SMALLEST_MATCH
    print("they agree" if agree else "they do not agree")
    return 0 if agree else 1


def _arguments() -> argparse.Namespace:
    parser = data_options(__doc__)
    parser.add_argument("model")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
