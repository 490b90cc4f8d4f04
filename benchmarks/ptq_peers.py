"""INT8 after training against its peers: the same model, the same calibration pictures, one run.

    python benchmarks/ptq_peers.py helmet-yolo12m --data DATA.yaml --split test --input-size 416 --pictures 300

helmlite's plan (OpenVINO and ONNX files of one plan), NNCF's `quantize` with its defaults (on the OpenVINO model and on
the ONNX file) and ONNX Runtime's `quantize_static` (QDQ, unsigned values, weights for each channel, minimum and
maximum) get the same pictures in the same order.  Prints for each and each runtime: mAP with its interval, seconds of
quantization (reading the pictures apart), peak memory of the process, median times in turn, file bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import commit, data_options
from numpy.typing import NDArray

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.load import load_detector
from helmlite.compress.quantize import Quantize
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset, match_classes
from helmlite.detector.detector import Detector
from helmlite.evaluate.accuracy import Predictions, measure_accuracy, predict_all
from helmlite.evaluate.statistics.resampling import map_ci95, map_loss_ci95
from helmlite.export.openvino import save_ir
from helmlite.export.pack import write_bundle
from helmlite.job.prepare import steps_for_this_machine
from helmlite.runtime.bench import time_predictors
from helmlite.runtime.bundle import Bundle, BundlePredictor
from helmlite.runtime.machine import installed_versions, read_machine
from helmlite.runtime.preprocess import network_input
from helmlite.runtime.session import open_session

Planes = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Made:
    """One quantized file.  seconds: of quantization alone"""

    name: str
    predictor: BundlePredictor
    seconds: float
    size_bytes: int


def main() -> int:
    arguments = _arguments()
    size = arguments.input_size
    detector = load_detector(arguments.model)
    train = match_classes(load_dataset(arguments.data, "train"), detector.classes)
    test = match_classes(load_dataset(arguments.data, arguments.split), detector.classes)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        order = np.random.default_rng(arguments.seed).permutation(len(train))[: arguments.pictures].tolist()
        planes = [network_input(train[index].read_image(), size)[0] for index in order]
        plain = merge_parallel_convs(fold_batchnorm(detector))
        whole = write_bundle(folder / "float", plain, size, runtime="openvino")
        rows = [
            Made(f"FP32, {name}", BundlePredictor(whole, name), 0.0, whole.manifest.size_bytes(name)) for name in _BOTH
        ]
        rows += _ours(detector, train.subset(order), size, arguments.seed, folder)
        rows += _nncf_openvino(whole, planes, folder)
        rows += _nncf_onnx(whole, planes, folder)
        rows += _onnxruntime(whole, planes, folder)
        found = {item.name: predict_all(item.predictor, test) for item in rows}
        images = [test[index].read_image() for index in range(8)]
        timings = time_predictors({item.name: item.predictor for item in rows}, images, arguments.rounds, 3)
        medians = {name: item.network.median_ms for name, item in timings.items()}
    _print(arguments, rows, found, medians, test)
    return 0


_BOTH = ("openvino", "onnxruntime")


def _ours(detector: Detector, pictures: Dataset, size: int, seed: int, folder: Path) -> list[Made]:
    """One plan for both runtimes; ONNX Runtime wants rounding before SiLU as well, so that is a second plan."""
    rows = []
    for runtime, before_activation in (("openvino", False), ("onnxruntime", True)):
        wanted = Quantize(pictures=len(pictures), before_activation=before_activation)
        (step,) = steps_for_this_machine([wanted])
        context = Context(pictures, detector, size, seed, folder / "work", log=print)
        started = time.monotonic()
        quantized = step.apply(detector, context)
        seconds = time.monotonic() - started
        bundle = write_bundle(
            folder / f"ours-{runtime}", quantized, size, runtimes=(runtime,), runtime=runtime, precision="int8"
        )
        rows.append(Made(f"helmlite, {runtime}", BundlePredictor(bundle), seconds, bundle.manifest.size_bytes(runtime)))
    return rows


def _nncf_openvino(whole: Bundle, planes: Planes, folder: Path) -> list[Made]:
    import nncf
    import openvino

    model: Any = openvino.Core().read_model(str(whole.model_path("openvino")))
    quantized, seconds = _timed(lambda: nncf.quantize(model, nncf.Dataset(planes), subset_size=len(planes)))
    save_ir(quantized, folder / "nncf.xml")
    return [_foreign("NNCF, openvino", whole, folder / "nncf.xml", "openvino", seconds, folder / "nncf.bin")]


def _nncf_onnx(whole: Bundle, planes: Planes, folder: Path) -> list[Made]:
    import nncf
    import onnx

    model = onnx.load(str(whole.model_path("onnxruntime")))
    data = nncf.Dataset([{"images": item} for item in planes])
    quantized, seconds = _timed(lambda: nncf.quantize(model, data, subset_size=len(planes)))
    onnx.save(quantized, str(folder / "nncf.onnx"))
    return [_foreign("NNCF, onnxruntime", whole, folder / "nncf.onnx", "onnxruntime", seconds)]


def _onnxruntime(whole: Bundle, planes: Planes, folder: Path) -> list[Made]:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    path = folder / "static.onnx"
    made, seconds = _timed(
        lambda: quantize_static(
            str(whole.model_path("onnxruntime")),
            str(path),
            _Reader(planes),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=steps_for_this_machine([Quantize()])[0] != Quantize(),
        )
    )
    assert made is None
    return [_foreign("quantize_static, onnxruntime", whole, path, "onnxruntime", seconds)]


class _Reader:
    """Calibration pictures as ONNX Runtime asks for them."""

    def __init__(self, planes: Planes) -> None:
        self._left = iter(planes)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        planes = next(self._left, None)
        return None if planes is None else {"images": planes}


def _timed(make: Callable[[], Any]) -> tuple[Any, float]:
    started = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # progress bars
        made = make()
    return made, time.monotonic() - started


def _foreign(name: str, whole: Bundle, path: Path, runtime: str, seconds: float, *more: Path) -> Made:
    """A peer's file behind the float bundle's own decoding, thresholds and selection."""
    session = open_session(path, runtime, None, "int8")
    size = sum(item.stat().st_size for item in (path, *more))
    return Made(name, BundlePredictor(whole, runtime, session=session), seconds, size)


def _print(
    arguments: argparse.Namespace,
    rows: Sequence[Made],
    found: dict[str, Predictions],
    medians: dict[str, float],
    test: Dataset,
) -> None:
    print(f"{arguments.split} of {arguments.data.parent.name}, {len(test)} pictures, data {test.sha256()[:12]}")
    versions = installed_versions(("openvino", "onnxruntime", "nncf", "torch"))
    print(f"commit {commit()}, seed {arguments.seed}, {versions}, input {arguments.input_size}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    machine = read_machine()
    print(f"{machine.describe()} ({', '.join(machine.flags)}); {arguments.rounds} rounds in turn, batch 1")
    print(f"{arguments.pictures} calibration pictures; peak memory of the whole process {peak:.1f} GiB\n")
    print(
        "| | mAP50-95 (95 %) | lost against FP32 there | lost against helmlite there | seconds | ms | faster than FP32 "
        "there | file |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for item in rows:
        runtime = item.name.rpartition(", ")[2]
        accuracy, interval = measure_accuracy(found[item.name], test), map_ci95(found[item.name], test)
        shown = f"{100 * (accuracy.map or 0):.1f}" + (
            f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})" if interval else ""
        )
        lost = [_lost(f"{kind}, {runtime}", item.name, found, test) for kind in ("FP32", "helmlite")]
        times = medians[f"FP32, {runtime}"] / medians[item.name]
        print(
            f"| {item.name} | {shown} | {' | '.join(lost)} | {item.seconds:.0f} | {medians[item.name]:.1f} | "
            f"{times:.2f}× | {item.size_bytes / 1e6:.2f} MB |"
        )


def _lost(before: str, after: str, found: dict[str, Predictions], test: Dataset) -> str:
    """Ends of the paired 95 % interval of what one has lost against the other, in points; negative for a gain."""
    interval = None if before == after else map_loss_ci95(found[before], found[after], test)
    return f"{interval[0]:+.1f} to {interval[1]:+.1f}" if interval else "–"


def _arguments() -> argparse.Namespace:
    parser = data_options(__doc__)
    parser.add_argument("model")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
