"""The manifest of a bundle: everything a runtime, a gate or a reader must know about the files beside it.

A bundle is a folder:

    manifest.json
    model.onnx
    openvino/model.xml  openvino/model.bin

The manifest is a frozen value that survives JSON: `Manifest.from_json(manifest.to_json()) == manifest`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from helmlite.data.roles import Class
from helmlite.files import write_whole
from helmlite.runtime.decode import HeadLayout, Selection
from helmlite.runtime.preprocess import PAD_VALUE

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
OUTPUT_KINDS = ("maps", "decoded", "end2end")
RUNTIMES = ("onnxruntime", "openvino")
PRECISIONS = ("f32", "bf16", "int8", "int8_bf16")


class BundleError(ValueError):
    """A bundle cannot be used: something is missing, cut short, altered, or newer than this helmlite."""


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input.  This helmlite knows one way, and checks that it is this one.

    pad_value: grey of the border; divisor: pixel values are divided by it
    """

    kind: str = "letterbox"
    pad_value: int = PAD_VALUE
    colour: str = "RGB"
    divisor: float = 255.0


@dataclass(frozen=True)
class Thresholds:
    """From which score on a box is reported in real use, class by class (evaluation goes far below).

    by_class: one score in [0, 1] for each class, in the order of the classes
    rule:     how they were chosen, on which pictures, in words
    """

    by_class: tuple[float, ...]
    rule: str

    def __post_init__(self) -> None:
        if not all(0 <= score <= 1 for score in self.by_class):
            raise ValueError(f"Thresholds are scores between 0 and 1; got {list(self.by_class)}.")


@dataclass(frozen=True)
class StayedFloat:
    """One part of the graph that was not quantized, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class BundleFile:
    """Content hash and size of one file of a bundle."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says.

    input_size:    side of the network's square input, pixels
    output_kind:   `maps`     for each scale box_<stride> (1, 4 * reg_max, h, w), class_<stride> (1, C, h, w)
                   `decoded`  boxes (1, N, 4) xyxy network pixels, scores (1, N, C)
                   `end2end`  boxes (1, K, 4), scores (1, K), labels (1, K), after selection
    layout:        how the head is read; `needs_nms` holds for `decoded` as well
    selection:     what evaluation reports; its IoU and limits hold in real use too, its `min_score` does not
    files:         relative path (with /) -> hash and size, of every file but the manifest
    runtime_files: runtime -> the files that it loads, the one to be opened first
    runtime:       the preferred runtime: the one that was fastest on the target
    precision:     f32, bf16, int8 (what stayed float runs in f32) or int8_bf16 (that runs in bf16)
    target:        name of the target that the bundle was made for
    metrics:       what was measured on the artifact itself
    quantization:  a summary of the plan: kind "weights and values", or "weights only" (stored so, computed in float);
                   {} for a float bundle
    provenance:    hashes of inputs, recipe, seed, versions, and what a reader should know
    """

    name: str
    classes: tuple[Class, ...]
    input_size: int
    output_kind: str
    layout: HeadLayout
    thresholds: Thresholds
    files: Mapping[str, BundleFile]
    runtime_files: Mapping[str, tuple[str, ...]]
    runtime: str
    precision: str = "f32"
    target: str = ""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    selection: Selection = field(default_factory=Selection)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    stayed_float: tuple[StayedFloat, ...] = ()
    quantization: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        _check_one_of("output kind", self.output_kind, OUTPUT_KINDS)
        _check_one_of("precision", self.precision, PRECISIONS)
        for runtime, paths in self.runtime_files.items():
            _check_one_of("runtime", runtime, RUNTIMES)
            if not paths:
                raise ValueError(f"The manifest names no file for {runtime}.")
            missing = [path for path in paths if path not in self.files]
            if missing:
                raise ValueError(f"The manifest gives no hash for {missing[0]}, which {runtime} loads.")
        if self.runtime not in self.runtime_files:
            raise ValueError(f"The preferred runtime '{self.runtime}' has no files in the manifest.")
        if not len(self.classes) == self.layout.class_count == len(self.thresholds.by_class):
            raise ValueError(
                f"Classes ({len(self.classes)}), head layout ({self.layout.class_count}) and thresholds "
                f"({len(self.thresholds.by_class)}) must be equal in number."
            )
        for path in self.files:
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
                raise ValueError(f"A bundle's files lie inside its folder; the manifest names '{path}'.")

    def size_bytes(self, runtime: str | None = None) -> int:
        """Bytes of the files that this runtime (by default the preferred one) loads."""
        return sum(self.files[path].size_bytes for path in self.runtime_files[runtime or self.runtime])

    def to_json(self) -> dict[str, Any]:
        """Plain lists, numbers, strings and mappings."""
        values = asdict(self)
        values["layout"] = self.layout.to_json()
        values["thresholds"]["by_class"] = list(self.thresholds.by_class)
        values["classes"] = list(values["classes"])
        values["stayed_float"] = list(values["stayed_float"])
        values["runtime_files"] = {runtime: list(paths) for runtime, paths in self.runtime_files.items()}
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Manifest:
        """The manifest again.  Raises ValueError for a newer format, a missing entry or a wrong one."""
        version = values.get("format_version")
        if not isinstance(version, int):
            raise ValueError("This is not a helmlite manifest: it has no format_version.")
        if version > FORMAT_VERSION:
            raise ValueError(
                f"Written by a newer helmlite (bundle format {version}, this one reads {FORMAT_VERSION}). "
                "Upgrade with: pip install -U helmlite"
            )
        try:
            return _from_json(values)
        except KeyError as error:
            raise ValueError(f"The manifest has no entry {error}.") from error
        except (TypeError, AttributeError) as error:
            raise ValueError(f"The manifest holds a value of a wrong kind: {error}.") from error


_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("name", "output_kind", "runtime", "precision", "target"), str),
    **dict.fromkeys(("files", "runtime_files", "preprocessing", "selection", "metrics"), dict),
    **dict.fromkeys(("quantization", "provenance", "layout", "thresholds"), dict),
    **dict.fromkeys(("classes", "stayed_float"), list),
    "input_size": int,
}


def _check_kinds(values: Mapping[str, Any]) -> None:
    """Raises TypeError for a value that is used long after the manifest was read, and is of a wrong kind."""
    for key, kind in _KINDS.items():
        _check_kind(key, values[key], kind)
    for item in values["classes"]:
        _check_kind("a class's name", item["name"], str)
        _check_kind("a class's role", item["role"], str, type(None))
    for path, item in values["files"].items():
        _check_kind(f"sha256 of {path}", item["sha256"], str)
        _check_kind(f"size_bytes of {path}", item["size_bytes"], int)
    for key, value in values["selection"].items():
        _check_kind(key, value, int, float)
    for value in values["thresholds"]["by_class"]:
        _check_kind("a threshold", value, int, float)


def _check_kind(what: str, value: object, *kinds: type) -> None:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"{what} is {value!r}")


def _from_json(values: Mapping[str, Any]) -> Manifest:
    _check_kinds(values)
    return Manifest(
        name=values["name"],
        classes=tuple(Class(item["name"], item["role"]) for item in values["classes"]),
        input_size=int(values["input_size"]),
        output_kind=values["output_kind"],
        layout=HeadLayout.from_json(values["layout"]),
        thresholds=Thresholds(tuple(values["thresholds"]["by_class"]), values["thresholds"]["rule"]),
        files={path: BundleFile(item["sha256"], item["size_bytes"]) for path, item in values["files"].items()},
        runtime_files={runtime: tuple(paths) for runtime, paths in values["runtime_files"].items()},
        runtime=values["runtime"],
        precision=values["precision"],
        target=values["target"],
        preprocessing=Preprocessing(**values["preprocessing"]),
        selection=Selection(**values["selection"]),
        metrics=values["metrics"],
        stayed_float=tuple(StayedFloat(item["name"], item["why"]) for item in values["stayed_float"]),
        quantization=values["quantization"],
        provenance=values["provenance"],
        format_version=values["format_version"],
    )


def describe_file(path: Path) -> BundleFile:
    """Hash and size of a file, for `Manifest.files`.  Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            size += len(block)
    return BundleFile(digest.hexdigest(), size)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle in this folder.  Raises BundleError with the folder's name in it."""
    path = folder / MANIFEST_NAME
    if not folder.exists():
        raise BundleError(f"No bundle at {folder}: there is no such folder.")
    if not path.is_file():
        raise BundleError(f"{folder} is not a helmlite bundle: it has no {MANIFEST_NAME}.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is cut short or not JSON ({error}). Copy the bundle again.") from error
    if not isinstance(values, dict):
        raise BundleError(f"{path} is not a helmlite manifest: it holds no mapping.")
    try:
        return Manifest.from_json(values)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Writes manifest.json into the folder, whole or not at all, and gives its path."""
    path = folder / MANIFEST_NAME
    text = json.dumps(manifest.to_json(), ensure_ascii=False, indent=2, allow_nan=False)
    write_whole(path, text + "\n")
    return path


def _check_one_of(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(f"Unknown {what} '{given}'. Known: {', '.join(known)}.")
