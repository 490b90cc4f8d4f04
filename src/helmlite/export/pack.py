"""Writing a bundle: a detector's files for the edge, sealed by a manifest, there complete or not at all."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from helmlite import __version__
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, stayed_float
from helmlite.compress.rounding.round_weights import RoundWeights
from helmlite.detector.detector import Detector
from helmlite.export.onnx import export_onnx
from helmlite.export.openvino import export_openvino
from helmlite.files import put_in_place
from helmlite.runtime.bundle import (
    Bundle,
    BundleFile,
    Manifest,
    StayedFloat,
    Thresholds,
    describe_file,
    read_bundle,
    write_manifest,
)
from helmlite.runtime.decode import Selection
from helmlite.runtime.manifest import MANIFEST_NAME, RUNTIMES

DEFAULT_SCORE = 0.25

_FILES: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("model.onnx",),
    "openvino": ("openvino/model.xml", "openvino/model.bin"),
}
_WRITERS: Mapping[str, Callable[[Detector, Path, int, str], None]] = {
    "onnxruntime": export_onnx,
    "openvino": export_openvino,
}


def write_bundle(
    folder: Path,
    detector: Detector,
    input_size: int,
    *,
    name: str = "",
    runtimes: Sequence[str] = RUNTIMES,
    runtime: str = "",
    precision: str = "",
    output: str = "decoded",
    target: str = "",
    thresholds: Thresholds | None = None,
    selection: Selection | None = None,
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Bundle:
    """Exports the detector for each runtime and writes the bundle; an older bundle in `folder` is replaced.

    runtime:    the preferred one (openvino where it is among `runtimes`)
    precision:  what it is to be run in, one of the manifest's; by default int8 for a quantized detector, else f32
    thresholds: 0.25 for every class where none were chosen, and the manifest says so
    The folder appears when everything is in it: an error (a full disk, an interruption) leaves what was there before.
    Raises ValueError where `folder` holds something that is no bundle, OSError where it cannot be written.
    """
    _check(folder, runtimes)
    plan = plan_of(detector)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary) / "bundle"
        files = _export(made, detector, input_size, runtimes, output)
        manifest = Manifest(
            name=name or folder.name,
            classes=detector.classes,
            input_size=input_size,
            output_kind=output,
            layout=detector.architecture.layout,
            thresholds=thresholds or _default_thresholds(detector),
            files=files,
            runtime_files={item: _FILES[item] for item in runtimes},
            runtime=runtime or ("openvino" if "openvino" in runtimes else runtimes[0]),
            precision=precision or ("int8" if plan else "f32"),
            target=target,
            selection=selection or Selection(),
            metrics=metrics or {},
            stayed_float=tuple(StayedFloat(**item) for item in stayed_float(plan)) if plan else (),
            quantization=_summary(detector, plan),
            provenance={**_made_with(detector), **(provenance or {})},
        )
        write_manifest(made, manifest)
        put_in_place(made, folder, Path(temporary) / "before")
    return read_bundle(folder)


def plan_of(detector: Detector) -> QuantizationPlan | None:
    """The quantization plan that a detector has been through, or None."""
    return next((edit.plan for edit in detector.edits if isinstance(edit, InsertQuantizers)), None)


def stored_bits(detector: Detector) -> int | None:
    """Bits in which `weight_only` stores the weights of a detector that computes in float, or None."""
    points = [point for edit in detector.edits if isinstance(edit, RoundWeights) for point in edit.plan.points.values()]
    return max((point.bits for point in points), default=None)


def _check(folder: Path, runtimes: Sequence[str]) -> None:
    if not runtimes or any(item not in _FILES for item in runtimes):
        raise ValueError(f"A bundle needs at least one runtime of {', '.join(_FILES)}; got {list(runtimes)}.")
    if folder.exists() and not (folder / MANIFEST_NAME).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty and holds no bundle; choose another folder.")


def _export(
    made: Path, detector: Detector, input_size: int, runtimes: Sequence[str], output: str
) -> dict[str, BundleFile]:
    files = {}
    for runtime in runtimes:
        paths = _FILES[runtime]
        (made / paths[0]).parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[runtime](detector, made / paths[0], input_size, output)
        files.update({path: describe_file(made / path) for path in paths})
    return files


def _default_thresholds(detector: Detector) -> Thresholds:
    scores = (DEFAULT_SCORE,) * len(detector.classes)
    return Thresholds(scores, f"{DEFAULT_SCORE} for every class; not chosen on pictures")


def _summary(detector: Detector, plan: QuantizationPlan | None) -> dict[str, Any]:
    """What is rounded, in short; {} for a float detector.  bits: of the values between layers"""
    if plan is None:
        bits = stored_bits(detector)
        return {} if bits is None else {"kind": "weights only", "weight_bits": bits}
    return {
        "kind": "weights and values",
        "bits": max((point.bits for point in plan.edges().values()), default=8),
        "weight_bits": max((point.bits for point in plan.weights().values()), default=8),
        "weights": len(plan.weights()),
        "values": len(plan.edges()),
        "calibration": dict(plan.calibration),
    }


def _made_with(detector: Detector) -> dict[str, Any]:
    return {
        "helmlite": __version__,
        "library": detector.architecture.library,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "edits": [edit.kind for edit in detector.edits],
        "notes": dict(detector.architecture.notes),
    }
