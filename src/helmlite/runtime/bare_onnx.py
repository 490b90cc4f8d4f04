"""A bare .onnx file read as if it were a bundle: its layout is declared, checked against its shapes, never guessed.

    helmlite      outputs named as a bundle's: boxes + scores, boxes + scores + labels, or box_8, class_8, box_16, ...
    ultralytics   one output (1, 4 + C, N): centre x, centre y, width, height in network pixels, then C scores
    end2end       one output (1, K, 6): left, top, right, bottom in network pixels, score, class; after selection
    yolox         one output (1, cells, 5 + C) of YOLOX with boxes as its head gives them; see yolox.py
    yolox-decoded the same with boxes that the graph has decoded

Only the first names itself, and is recognized by its names; the others must be declared.  Pictures are given to the
YOLOX ones as they were trained: BGR, 0 to 255, in the upper left corner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import xywh_to_xyxy
from helmlite.data.roles import Class
from helmlite.runtime.decode import HeadLayout
from helmlite.runtime.manifest import Manifest, Preprocessing, Thresholds, describe_file
from helmlite.runtime.session import Session, Shape
from helmlite.runtime.yolox import YOLOX_PREPROCESSING, decode_yolox, yolox_strides

LAYOUTS = ("helmlite", "ultralytics", "end2end", "yolox", "yolox-decoded")
Outputs = Mapping[str, NDArray[Any]]
Adapt = Callable[[Outputs], Outputs]
_UNCHOSEN_THRESHOLD = 0.25


@dataclass(frozen=True)
class BareModel:
    """A manifest made up for a file that has none, and what turns its outputs into those that the manifest names."""

    manifest: Manifest
    adapt: Adapt


@dataclass(frozen=True)
class _Graph:
    """What a reader may ask.  shapes: of the outputs, by name;  count: classes that were declared"""

    path: Path
    shapes: Mapping[str, Shape]
    count: int
    input_size: int


def keep_outputs(outputs: Outputs) -> Outputs:
    """The outputs as they are: what a bundle's graph gives needs no adapting."""
    return outputs


def describe_bare(path: Path, session: Session, classes: Sequence[Class], layout: str | None) -> BareModel:
    """The file read with this layout.  Raises ValueError, with the outputs' shapes, where it does not fit."""
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"Unknown layout '{layout}'. Known: {', '.join(LAYOUTS)}.")
    shapes = dict(zip(session.output_names, session.output_shapes, strict=True))
    if not classes:
        raise ValueError(
            f"{path.name} does not say its classes: declare them in order with --classes, a,b. {_seen(shapes)}"
        )
    if layout is None and not _named_as_ours(shapes):
        raise ValueError(
            f"{path.name} does not say how its outputs are read: declare it with --layout {'|'.join(LAYOUTS)}. "
            f"{_seen(shapes)}"
        )
    graph = _Graph(path, shapes, len(classes), session.input_size)
    kind, head, adapt = _READERS[layout or "helmlite"](graph)
    manifest = Manifest(
        name=path.stem,
        classes=tuple(classes),
        input_size=session.input_size,
        output_kind=kind,
        layout=head,
        thresholds=Thresholds((_UNCHOSEN_THRESHOLD,) * len(classes), "none were chosen for a bare .onnx file"),
        files={path.name: describe_file(path)},
        runtime_files={"onnxruntime": (path.name,), "openvino": (path.name,)},
        runtime=session.runtime,
        precision=session.precision,
        preprocessing=YOLOX_PREPROCESSING if (layout or "").startswith("yolox") else Preprocessing(),
    )
    return BareModel(manifest, adapt)


def _named_as_ours(shapes: Mapping[str, Shape]) -> bool:
    names = set(shapes)
    return names in ({"boxes", "scores"}, {"boxes", "scores", "labels"}) or bool(_strides(shapes))


def _strides(shapes: Mapping[str, Shape]) -> tuple[int, ...]:
    """8, 16, 32 of box_8, class_8, box_16, ...; () where the outputs are not named so."""
    strides = [int(name[4:]) for name in shapes if name.startswith("box_") and name[4:].isdigit()]
    expected = {f"{part}_{stride}" for stride in strides for part in ("box", "class")}
    return tuple(strides) if strides and expected == set(shapes) else ()


def _read_helmlite(graph: _Graph) -> tuple[str, HeadLayout, Adapt]:
    path, shapes, count = graph.path, graph.shapes, graph.count
    strides = _strides(shapes)
    if strides:
        channels = shapes[f"box_{strides[0]}"][1]
        _require(path, shapes, f"class maps of {count} channels", [shapes[f"class_{s}"][1] for s in strides], count)
        _require(path, shapes, "box maps of 4 * reg_max channels", [(channels or 0) % 4, (channels or 0) < 4], 0)
        return "maps", HeadLayout(strides, (channels or 0) // 4, count), keep_outputs
    if set(shapes) == {"boxes", "scores", "labels"}:
        return "end2end", HeadLayout((), 1, count, needs_nms=False), keep_outputs
    if set(shapes) == {"boxes", "scores"}:
        _require(path, shapes, f"scores for {count} classes", [shapes["scores"][-1]], count)
        return "decoded", HeadLayout((), 1, count), keep_outputs
    raise ValueError(
        f"{path.name} does not fit --layout helmlite, which names its outputs boxes, scores (and labels), or box_8, "
        f"class_8 and so on. {_seen(shapes)}"
    )


def _read_ultralytics(graph: _Graph) -> tuple[str, HeadLayout, Adapt]:
    path, shapes, count = graph.path, graph.shapes, graph.count
    shape = next(iter(shapes.values()))
    if len(shapes) != 1 or len(shape) != 3 or shape[1] != 4 + count:
        raise ValueError(
            f"{path.name} does not fit --layout ultralytics with {count} classes, which is one output "
            f"(1, {4 + count}, N). {_seen(shapes)}"
        )
    name = next(iter(shapes))

    def adapt(outputs: Outputs) -> Outputs:
        rows = np.ascontiguousarray(outputs[name][0].T)  # (N, 4 + C)
        return {"boxes": xywh_to_xyxy(rows[:, :4])[None], "scores": rows[None, :, 4:]}

    return "decoded", HeadLayout((), 1, count), adapt


def _read_end2end(graph: _Graph) -> tuple[str, HeadLayout, Adapt]:
    path, shapes = graph.path, graph.shapes
    shape = next(iter(shapes.values()))
    if len(shapes) != 1 or len(shape) != 3 or shape[2] != 6:
        raise ValueError(f"{path.name} does not fit --layout end2end, which is one output (1, K, 6). {_seen(shapes)}")
    name = next(iter(shapes))

    def adapt(outputs: Outputs) -> Outputs:
        rows = outputs[name]
        return {"boxes": rows[..., :4], "scores": rows[..., 4], "labels": rows[..., 5]}

    return "end2end", HeadLayout((), 1, graph.count, needs_nms=False), adapt


def _read_yolox(graph: _Graph, is_decoded: bool = False) -> tuple[str, HeadLayout, Adapt]:
    shape = next(iter(graph.shapes.values()))
    has_rows = len(graph.shapes) == 1 and len(shape) == 3 and shape[2] == 5 + graph.count
    strides = yolox_strides(shape[1], graph.input_size) if has_rows else None
    if strides is None:
        cells = sum((graph.input_size // stride) ** 2 for stride in (8, 16, 32))
        raise ValueError(
            f"{graph.path.name} does not fit --layout yolox with {graph.count} classes, which is one output "
            f"(1, {cells}, {5 + graph.count}) at {graph.input_size} pixels. {_seen(graph.shapes)}"
        )
    name, scales = next(iter(graph.shapes)), strides

    def adapt(outputs: Outputs) -> Outputs:
        boxes, scores = decode_yolox(outputs[name][0], graph.input_size, scales, is_decoded)
        return {"boxes": boxes[None], "scores": scores[None]}

    return "decoded", HeadLayout((), 1, graph.count), adapt


def _require(path: Path, shapes: Mapping[str, Shape], what: str, found: Sequence[int | None], wanted: int) -> None:
    if any(item != wanted for item in found if item is not None):
        raise ValueError(f"{path.name} has no {what}. {_seen(shapes)}")


def _seen(shapes: Mapping[str, Shape]) -> str:
    parts = [
        f"{name} ({', '.join('?' if side is None else str(side) for side in shape)})" for name, shape in shapes.items()
    ]
    return f"Its outputs are {', '.join(parts)}."


_READERS: Mapping[str, Callable[[_Graph], tuple[str, HeadLayout, Adapt]]] = {
    "helmlite": _read_helmlite,
    "ultralytics": _read_ultralytics,
    "end2end": _read_end2end,
    "yolox": _read_yolox,
    "yolox-decoded": partial(_read_yolox, is_decoded=True),
}
