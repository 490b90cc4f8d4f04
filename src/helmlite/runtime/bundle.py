"""A bundle: a folder with a compressed detector's files and the manifest that seals them; opened, it detects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helmlite.data.roles import Class
from helmlite.detections import Detections, Image
from helmlite.runtime.bare_onnx import Adapt, Outputs, describe_bare, keep_outputs
from helmlite.runtime.decode import Selection, decode_maps, place, select
from helmlite.runtime.machine import int8_weight_bits, read_machine
from helmlite.runtime.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    BundleError,
    BundleFile,
    Manifest,
    Preprocessing,
    StayedFloat,
    Thresholds,
    describe_file,
    read_manifest,
    write_manifest,
)
from helmlite.runtime.preprocess import Placement, network_input
from helmlite.runtime.session import BF16_PRECISIONS, Planes, Session, is_installed, open_session
from helmlite.runtime.yolox import YOLOX_PREPROCESSING, yolox_input

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "Bundle",
    "BundleError",
    "BundleFile",
    "BundlePredictor",
    "Manifest",
    "Preprocessing",
    "StayedFloat",
    "Thresholds",
    "describe_file",
    "is_bundle",
    "open_predictor",
    "read_bundle",
    "read_manifest",
    "write_manifest",
]


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk: its folder and what its manifest says."""

    folder: Path
    manifest: Manifest

    def model_path(self, runtime: str | None = None) -> Path:
        """The file that this runtime (by default the preferred one) opens.  Raises ValueError where it has none."""
        wanted = runtime or self.manifest.runtime
        paths = self.manifest.runtime_files.get(wanted)
        if not paths:
            offered = ", ".join(self.manifest.runtime_files)
            raise ValueError(f"{self.folder} holds nothing for {wanted}; it holds files for {offered}.")
        return self.folder / paths[0]


def is_bundle(path: Path) -> bool:
    """Whether this is a folder with a manifest in it."""
    return (path / MANIFEST_NAME).is_file()


def read_bundle(folder: Path, verify: bool = True) -> Bundle:
    """The bundle in this folder, with every file's hash checked unless `verify` is False.

    Raises BundleError (one line) where the folder is no bundle, a file is missing, cut short or altered, or the
    format is newer than this helmlite.
    """
    manifest = read_manifest(folder)
    if manifest.preprocessing != Preprocessing():
        raise BundleError(f"{folder} wants a preprocessing that this helmlite does not know: {manifest.preprocessing}.")
    for relative, expected in manifest.files.items():
        _check_file(folder / relative, expected, verify)
    return Bundle(folder, manifest)


class BundlePredictor:
    """A bundle opened in a runtime: picture -> Detections, with the preprocessing and decoding of every detector here.

    session:    the open network: its runtime, version, precision, threads and input size
    selection:  what is reported
    thresholds: a score for each class below which nothing is reported, or None; see `in_real_use`
    remarks:    what is not as the bundle asked for, one sentence each
    """

    def __init__(
        self,
        bundle: Bundle,
        runtime: str | None = None,
        threads: int | None = None,
        selection: Selection | None = None,
        precision: str | None = None,
        *,
        session: Session | None = None,
        adapt: Adapt = keep_outputs,
        thresholds: tuple[float, ...] | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        """Opens the network, unless an open one is given as `session`.

        runtime:   by default the bundle's preferred one; where that is not installed another that it has files for,
                   and `remarks` says so
        threads:   by default every core that this process may use
        selection: by default the bundle's own, which is evaluation's (scores from 0.001 on)
        precision: by default the bundle's own; where this machine has no BF16, f32 instead, and `remarks` says so
        adapt:     turns a foreign graph's outputs into ours

        Raises ValueError, OSError or ImportError where the network cannot be opened so.
        """
        self.bundle = bundle
        self.selection = selection or bundle.manifest.selection
        self.thresholds = thresholds
        self.remarks = tuple(remarks)
        self._adapt = adapt
        if session is None:
            session, found = _open_bundle(bundle, runtime, threads, precision)
            self.remarks = (*remarks, *_gate_remark(bundle.manifest), *found)
        self.session = session
        if adapt is keep_outputs:  # a foreign graph was checked when it was described
            _check_outputs(bundle.manifest, session)

    @property
    def name(self) -> str:
        return self.bundle.manifest.name

    @property
    def classes(self) -> tuple[Class, ...]:
        return self.bundle.manifest.classes

    @property
    def input_size(self) -> int:
        return self.session.input_size

    def identity(self) -> dict[str, Any]:
        """What its answers depend on, as plain data: the files themselves, and what runs them how."""
        manifest, session = self.bundle.manifest, self.session
        return {
            "files": {path: manifest.files[path].sha256 for path in manifest.runtime_files[session.runtime]},
            "runtime": [session.runtime, session.version, session.precision],
            "input_size": session.input_size,
            "selection": repr(self.selection),
        }

    @property
    def size_bytes(self) -> int:
        """Bytes of the files that were loaded."""
        return self.bundle.manifest.size_bytes(self.session.runtime)

    def __call__(self, image: Image) -> Detections:
        planes, placement = self.picture_to_planes(image)
        return self.outputs_to_detections(self.planes_to_outputs(planes), placement)

    def picture_to_planes(self, image: Image) -> tuple[Planes, Placement]:
        """What the network gets, (1, 3, S, S), and where the picture lies in it.  image: (H, W, 3) uint8 RGB"""
        is_yolox = self.bundle.manifest.preprocessing == YOLOX_PREPROCESSING
        return (yolox_input if is_yolox else network_input)(image, self.input_size)

    def planes_to_outputs(self, planes: Planes) -> Outputs:
        """The network alone: (1, 3, S, S) -> its outputs by name."""
        return self.session.run_named(planes)

    def outputs_to_detections(self, outputs: Outputs, placement: Placement) -> Detections:
        """Everything after the network: decoded, selected, thresholded, in pixels of the picture."""
        found = place(_select_outputs(self._adapt(outputs), self.bundle.manifest, self.selection), placement)
        if self.thresholds is None:
            return found
        return found[found.scores >= np.array(self.thresholds, dtype=np.float32)[found.labels]]

    def in_real_use(self, min_score: float | None = None) -> BundlePredictor:
        """The same predictor, reporting only what lies above the manifest's threshold of its class, or above
        `min_score` for every class where one is given."""
        thresholds = self.bundle.manifest.thresholds.by_class
        if min_score is not None:
            thresholds = (min_score,) * len(thresholds)
        lowest = min(thresholds, default=0.0)
        selection = replace(self.selection, min_score=max(self.selection.min_score, lowest))
        return BundlePredictor(
            self.bundle,
            selection=selection,
            session=self.session,
            adapt=self._adapt,
            thresholds=thresholds,
            remarks=self.remarks,
        )


def open_predictor(
    path: Path,
    runtime: str | None = None,
    threads: int | None = None,
    selection: Selection | None = None,
    precision: str | None = None,
    classes: Sequence[Class] = (),
    layout: str | None = None,
    input_size: int | None = None,
) -> BundlePredictor:
    """A predictor for a bundle's folder or a bare .onnx file.

    classes, layout, input_size: for a bare file, which says none of them; see runtime/bare_onnx.py.  A bundle says
    its own and refuses them.

    Raises ValueError or OSError, in one line, for anything that cannot be opened.
    """
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        session = open_session(path, runtime or "onnxruntime", threads, precision or "f32", input_size)
        bare = describe_bare(path, session, classes, layout)
        bundle = Bundle(path.parent, bare.manifest)
        return BundlePredictor(
            bundle, selection=selection or bare.manifest.selection, session=session, adapt=bare.adapt
        )
    if path.is_file():
        raise ValueError(f"{path} is neither a bundle's folder nor an .onnx file.")
    if classes or layout or input_size:
        raise ValueError(
            f"{path}: a bundle declares its classes, layout and input size itself; leave these options out."
        )
    bundle = read_bundle(path)
    return BundlePredictor(bundle, runtime, threads, selection or bundle.manifest.selection, precision)


def _check_file(path: Path, expected: BundleFile, verify: bool) -> None:
    again = "Copy the bundle again."
    if not path.is_file():
        raise BundleError(f"{path} is missing from the bundle. {again}")
    size = path.stat().st_size
    if size < expected.size_bytes:
        raise BundleError(f"{path} is cut short: {size} of {expected.size_bytes} bytes. {again}")
    if size > expected.size_bytes or (verify and describe_file(path) != expected):
        raise BundleError(f"{path} was altered: its content is not the one that the manifest seals. {again}")


def _open_bundle(
    bundle: Bundle, runtime: str | None, threads: int | None, precision: str | None
) -> tuple[Session, list[str]]:
    """The bundle's network in the runtime asked for, and what had to differ from the bundle's own wishes."""
    manifest = bundle.manifest
    remarks: list[str] = []
    chosen = runtime or manifest.runtime
    if runtime is None and not is_installed(chosen):
        others = [item for item in manifest.runtime_files if is_installed(item)]
        if not others:
            raise ImportError(f'{bundle.folder} needs {chosen}. Install it with: pip install "helmlite[{chosen}]"')
        remarks.append(f'{chosen}, which is fastest, is missing: pip install "helmlite[{chosen}]". Ran in {others[0]}.')
        chosen = others[0]
    path = bundle.model_path(chosen)
    wanted = precision or manifest.precision
    if precision is None and wanted in BF16_PRECISIONS and not has_bf16(chosen):
        wanted = "f32" if wanted == "bf16" else "int8"
        remarks.append(f"The bundle asks for bf16, which {chosen} does not have on this machine. Ran in {wanted}.")
    remarks += _overflow_remark(manifest, chosen, wanted)
    return open_session(path, chosen, threads, wanted, manifest.input_size), remarks


def _gate_remark(manifest: Manifest) -> list[str]:
    verdict = manifest.metrics.get("gate", "passed")
    if verdict == "passed":
        return []
    meaning = (
        "lost more than was allowed" if verdict == "failed" else "could not be proved to lose no more than allowed"
    )
    return [f"Gate: {verdict}. This model {meaning}; the report of its run says what."]


def _overflow_remark(manifest: Manifest, runtime: str, precision: str) -> list[str]:
    if precision not in ("int8", "int8_bf16") or runtime != "openvino":
        return []
    if manifest.quantization.get("weight_bits", 8) <= int8_weight_bits(read_machine()):
        return []
    return [
        "This processor has no VNNI: INT8 sums can overflow with this model's 8-bit weights, and its answers differ "
        "from what was measured. Compress it on a machine of this kind, which takes 7 bits, or run it in ONNX Runtime."
    ]


def has_bf16(runtime: str) -> bool:
    """Whether this runtime computes in BF16 on this machine."""
    if runtime != "openvino":
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _check_outputs(manifest: Manifest, session: Session) -> None:
    """That the graph gives what the manifest promises, by name."""
    missing = [name for name in output_names(manifest) if name not in session.output_names]
    if missing:
        raise BundleError(
            f"The graph of {manifest.name} gives {', '.join(session.output_names)}; its manifest promises "
            f"{', '.join(output_names(manifest))} ({manifest.output_kind})."
        )


def output_names(manifest: Manifest) -> tuple[str, ...]:
    """The outputs that a bundle's graph has, in the order in which `decode` reads them."""
    if manifest.output_kind == "maps":
        return tuple(f"{part}_{stride}" for stride in manifest.layout.strides for part in ("box", "class"))
    return ("boxes", "scores") if manifest.output_kind == "decoded" else ("boxes", "scores", "labels")


def _select_outputs(outputs: Outputs, manifest: Manifest, selection: Selection) -> Detections:
    """What the network found, in network pixels, whatever kind of output it has."""
    arrays = [outputs[name] for name in output_names(manifest)]
    if manifest.output_kind == "maps":
        return select(*decode_maps(arrays, manifest.layout), manifest.layout, selection)
    if manifest.output_kind == "decoded":
        return select(_as_float(arrays[0][0]), _as_float(arrays[1][0]), manifest.layout, selection)
    return _after_selection(arrays[0], arrays[1], arrays[2], len(manifest.classes), selection)


def _after_selection(
    boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], class_count: int, selection: Selection
) -> Detections:
    """An end-to-end graph's own choice, best first, without the rows that it left empty (score 0 or label -1)."""
    order = np.argsort(-scores[0], kind="stable")
    order = order[(scores[0][order] >= selection.min_score) & (labels[0][order] >= 0)][: selection.max_detections]
    chosen = labels[0][order].round().astype(np.int64)
    if chosen.size and chosen.max() >= class_count:
        raise ValueError(f"The network reports class {chosen.max()}, but only {class_count} classes are declared.")
    return Detections(_as_float(boxes[0][order]), _as_float(scores[0][order]), chosen)


def _as_float(array: NDArray[Any]) -> NDArray[np.float32]:
    return array.astype(np.float32, copy=False)
