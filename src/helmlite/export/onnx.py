"""ONNX files of float and quantized detectors.

PyTorch's TorchScript-based exporter (`dynamo=False`) is used: it records the operators as the forward code calls them,
fake quantization included; it takes a second where the newer one takes fifteen, which also cannot follow the hooks
without a detour; and it is the same from PyTorch 2.4 to 2.14.  Its deprecation warnings are kept from the user, and
a run compares every file with PyTorch (`job.measure.check_exports`, and what else a bundle holds in `job.compress`).
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from helmlite.compress.edits.cluster_weights import settle_codebooks
from helmlite.compress.rounding.insert_quantizers import has_quantizers, quantizers_of
from helmlite.detector.detector import Detector
from helmlite.export.decoded import DecodedDetector
from helmlite.export.qdq import OnnxRounding, bits_metadata
from helmlite.export.stored_weights import unpack_at_load
from helmlite.export.tied_norms import fold_into_integers, keep_norms_apart
from helmlite.files import write_whole

OPSET = 17  # read by ONNX Runtime from 1.12 on
OUTPUTS = ("decoded", "maps")
_COARSEST = 32  # stride of every family's backbone, whichever scales the head has left
_WORTH_SHARING = 64  # bytes


def export_onnx(
    detector: Detector, path: Path, input_size: int, output: str = "decoded", repeat_carried: bool = True
) -> None:
    """Writes the detector as an ONNX file with input `images` (1, 3, S, S) float32 RGB in [0, 1].

    output: "decoded" gives `boxes` (1, N, 4) xyxy network pixels and `scores` (1, N, C);
            "maps" gives, for each scale, `box_<stride>` and `class_<stride>` as the head makes them
    repeat_carried: see `OnnxRounding`; True for ONNX Runtime, False for OpenVINO
    Raises ValueError for an unknown output or an input size that the strides do not divide.
    """
    import onnx

    layout = detector.architecture.layout
    _check(output, input_size, layout.strides)
    network = detector.copy().network.eval().cpu()
    settle_codebooks(network)
    is_quantized = has_quantizers(network)
    if detector.has_edit("tie_weights"):
        (fold_into_integers if is_quantized else keep_norms_apart)(network)
    if is_quantized:
        quantizers_of(network).rounding = OnnxRounding(repeat_carried)
    if output == "decoded":
        wrapped: nn.Module = DecodedDetector(network, layout, input_size).eval()
        names = ["boxes", "scores"]
    else:
        wrapped = network
        names = [f"{kind}_{stride}" for stride in layout.strides for kind in ("box", "class")]
    _write(wrapped, torch.zeros(1, 3, input_size, input_size), path, names)
    model = onnx.load(str(path))
    _constants_to_initializers(model.graph)
    _drop_unused_initializers(model.graph)
    if detector.has_edit("tie_weights") and repeat_carried:  # OpenVINO unpacks integers with several readers to float
        _share_initializers(model.graph)
    onnx.checker.check_model(model)
    if is_quantized:
        _check_counts(model.graph, detector, repeat_carried)
        onnx.helper.set_model_props(model, bits_metadata(quantizers_of(detector.network).plan))
    if detector.has_edit("round_weights") and repeat_carried:
        unpack_at_load(model.graph)
        onnx.checker.check_model(model)
    write_whole(path, model.SerializeToString())


def node_counts(path: Path) -> dict[str, int]:
    """How many nodes of each operator an ONNX file has."""
    import onnx

    return dict(Counter(node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node))


def _check(output: str, input_size: int, strides: Sequence[int]) -> None:
    if output not in OUTPUTS:
        raise ValueError(f"Unknown output '{output}'; known are {', '.join(OUTPUTS)}.")
    step = max(_COARSEST, *strides)
    if input_size < step or input_size % step:
        raise ValueError(f"The input size must be a multiple of {step} pixels; got {input_size}.")


def _write(network: nn.Module, images: Tensor, path: Path, output_names: list[str]) -> None:
    options: dict[str, Any] = {"opset_version": OPSET, "input_names": ["images"], "output_names": output_names}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:  # since PyTorch 2.5
        options["dynamo"] = False
    try:
        with _without_exporter_noise(), torch.no_grad():
            torch.onnx.export(network, (images,), str(path), **options)
    except OSError as error:  # PyTorch names no file
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _without_exporter_noise() -> Iterator[None]:
    """Keeps the exporter's notes on its own future, and the tracer's on constants, from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _constants_to_initializers(graph: Any) -> None:
    """Stores each Constant node's tensor as an initializer, where runtimes and readers expect weights."""
    kept = []
    for node in graph.node:
        tensor = next((item.t for item in node.attribute if item.name == "value"), None)
        if node.op_type == "Constant" and tensor is not None:
            stored = graph.initializer.add()
            stored.CopyFrom(tensor)
            stored.name = node.output[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _drop_unused_initializers(graph: Any) -> None:
    """Leaves out the float weights whose integers are stored instead."""
    used = {name for node in graph.node for name in node.input}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _share_initializers(graph: Any) -> None:
    """Stores equal tensors once: the integers of a weight that several convolutions share."""
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    names = {
        item.name: first.setdefault((item.data_type, tuple(item.dims), item.raw_data), item.name)
        for item in graph.initializer
        if len(item.raw_data) >= _WORTH_SHARING
    }
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    _drop_unused_initializers(graph)


def _check_counts(graph: Any, detector: Detector, repeat_carried: bool) -> None:
    """Every point of the plan is in the file, once.  A difference would be a defect of this exporter."""
    plan = quantizers_of(detector.network).plan
    counts = Counter(node.op_type for node in graph.node)
    values = len(plan.edges()) + (len(plan.carried) if repeat_carried else 0)
    expected = {"QuantizeLinear": values, "DequantizeLinear": values + len(plan.weights())}
    for kind, count in expected.items():
        if counts[kind] != count:
            raise ValueError(f"The ONNX file has {counts[kind]} {kind} nodes; the quantization plan asks for {count}.")
