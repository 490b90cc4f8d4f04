"""Anything that detects, opened: a bundle, an `.onnx` of anybody, a detector of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helmlite.data.roles import Class
    from helmlite.detections import Predictor
    from helmlite.detector.detector import Detector

PYTORCH = "pytorch"
RUNTIMES = (PYTORCH, "onnxruntime", "openvino")


@dataclass(frozen=True)
class OpenedModel:
    """Anything that detects, opened, with what must be said about the way it runs.

    thresholds: a score for each class, chosen on tuning pictures, where the model carries them
    made_with:  split -> hash of the pictures that it was made with, where its provenance says so
    """

    name: str
    predict: Predictor
    classes: tuple[Class, ...]
    runtime: str
    precision: str
    input_size: int
    threads: int
    versions: Mapping[str, str]
    thresholds: tuple[float, ...] | None = None
    remarks: tuple[str, ...] = ()
    made_with: Mapping[str, str] = field(default_factory=dict)


def open_model(
    model: str,
    runtime: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    input_size: int | None = None,
    classes: Sequence[str] = (),
    layout: str | None = None,
) -> OpenedModel:
    """A bundle, an .onnx file, or a detector of PyTorch, ready to detect.

    Raises ValueError or OSError for what cannot be opened, ImportError where an extra is missing.
    """
    from helmlite.data.roles import with_roles
    from helmlite.runtime.bundle import is_bundle

    if runtime is not None and runtime not in RUNTIMES:
        raise ValueError(f"Unknown runtime '{runtime}'. Known: {', '.join(RUNTIMES)}.")
    if input_size is not None and input_size < 32:
        raise ValueError(f"--input-size is the side of the input in pixels, at least 32; got {input_size}.")
    path = Path(model)
    is_onnx = path.suffix.lower() == ".onnx"
    if not is_onnx and not is_bundle(path):
        for option, value in (("--classes", classes), ("--layout", layout), ("--precision", precision)):
            if value:
                raise ValueError(f"{option} is for an .onnx file; {model} is none.")
        return _open_detector(model, runtime, threads, input_size)
    if runtime == PYTORCH:
        raise ValueError(f"{model} runs in onnxruntime or openvino; --runtime pytorch is for a .pt or a checkpoint.")
    if not is_onnx and (classes or layout):
        raise ValueError(f"--{'classes' if classes else 'layout'} is for an .onnx file; a bundle says this itself.")
    return _open_artifact(path, runtime, threads, precision, input_size, with_roles(classes), layout)


def _open_artifact(
    path: Path,
    runtime: str | None,
    threads: int | None,
    precision: str | None,
    input_size: int | None,
    classes: Sequence[Class],
    layout: str | None,
) -> OpenedModel:
    from helmlite.evaluate.findings.leaks import pictures_made_with
    from helmlite.runtime.bundle import is_bundle, open_predictor, read_manifest

    if is_bundle(path) and input_size is not None and input_size == read_manifest(path).input_size:
        input_size = None  # what the bundle says itself
    predictor = open_predictor(
        path, runtime, threads, precision=precision, classes=classes, layout=layout, input_size=input_size
    )
    session = predictor.session
    return OpenedModel(
        name=predictor.name,
        predict=predictor,
        classes=predictor.classes,
        runtime=session.runtime,
        precision=session.precision,
        input_size=predictor.input_size,
        threads=session.threads,
        versions={session.runtime: session.version},
        thresholds=predictor.bundle.manifest.thresholds.by_class if is_bundle(path) else None,
        remarks=predictor.remarks,
        made_with=pictures_made_with(predictor.bundle.manifest.provenance),
    )


def _open_detector(model: str, runtime: str | None, threads: int | None, input_size: int | None) -> OpenedModel:
    from helmlite.detector.zoo import MODELS

    if model not in MODELS and not Path(model).exists():
        raise FileNotFoundError(f"{model}: no such file, folder or public model (known: {', '.join(MODELS)}).")
    try:
        import torch

        from helmlite.compress.load import load_detector
    except ImportError as error:
        raise ImportError(
            f'{model} is a detector of PyTorch, which is not installed here: pip install "helmlite[compress]" '
            f"({error}). A bundle or an .onnx file needs no PyTorch."
        ) from error
    from helmlite.runtime.preprocess import check_input_size

    if threads is not None and threads < 1:
        raise ValueError(f"--threads is at least 1; got {threads}.")
    detector = load_detector(model)
    size = check_input_size(detector.architecture.input_size if input_size is None else input_size)
    if runtime not in (None, PYTORCH):
        return _open_exported(model, detector, runtime, threads, size)
    if threads is not None:
        torch.set_num_threads(threads)
    return OpenedModel(
        name=model,
        predict=detector.predictor(size),
        classes=detector.classes,
        runtime=PYTORCH,
        precision="f32",
        input_size=size,
        threads=torch.get_num_threads(),
        versions={"torch": torch.__version__, "layers": detector.architecture.library},
        remarks=tuple(f"{key}: {value}" for key, value in detector.architecture.notes.items()),
        made_with=_made_with(model),
    )


def _open_exported(model: str, detector: Detector, runtime: str, threads: int | None, size: int) -> OpenedModel:
    """A detector of PyTorch written as FP32 ONNX for this evaluation only, and opened in another runtime."""
    import tempfile

    from helmlite.export.onnx import export_onnx
    from helmlite.runtime.bare_onnx import describe_bare
    from helmlite.runtime.bundle import Bundle, BundlePredictor
    from helmlite.runtime.session import open_session

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "model.onnx"
        export_onnx(detector, file, size, repeat_carried=runtime == "onnxruntime")
        session = open_session(file, runtime, threads)
        bare = describe_bare(file, session, detector.classes, "helmlite")
    needs_nms = detector.architecture.layout.needs_nms  # which a bare file cannot say
    manifest = replace(bare.manifest, layout=replace(bare.manifest.layout, needs_nms=needs_nms))
    predictor = BundlePredictor(Bundle(Path(model), manifest), session=session, adapt=bare.adapt)
    return OpenedModel(
        name=model,
        predict=predictor,
        classes=detector.classes,
        runtime=session.runtime,
        precision=session.precision,
        input_size=size,
        threads=session.threads,
        versions={session.runtime: session.version, "layers": detector.architecture.library},
        remarks=("exported to ONNX for this evaluation",),
        made_with=_made_with(model),
    )


def versions_of(opened: Mapping[str, OpenedModel]) -> dict[str, str]:
    """Of helmlite and of everything that the models run on."""
    import helmlite

    found = {"helmlite": helmlite.__version__}
    for model in opened.values():
        found.update(model.versions)
    return found


def _made_with(model: str) -> dict[str, str]:
    """Of a checkpoint folder, the hashes of the pictures that it was made with."""
    from helmlite.compress.checkpoint import is_checkpoint, read_provenance
    from helmlite.evaluate.findings.leaks import pictures_made_with

    return pictures_made_with(read_provenance(Path(model))) if is_checkpoint(Path(model)) else {}
