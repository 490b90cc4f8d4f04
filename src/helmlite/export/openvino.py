"""OpenVINO IR of float and quantized detectors, and a look at what the compiled network really runs in integers.

The IR comes from our ONNX file without repeated rounding (`repeat_carried=False`): OpenVINO moves integers through
concatenation, pooling and splitting by itself, and every rounding that it need not have costs it time.
"""

from __future__ import annotations

import errno
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helmlite.compress.edits.cluster_weights import settle_codebooks
from helmlite.compress.rounding.insert_quantizers import has_quantizers, quantizers_of
from helmlite.detector.detector import Detector
from helmlite.export.onnx import export_onnx
from helmlite.export.stored_weights import divide_at_compile
from helmlite.export.tied_norms import share_folded_weights
from helmlite.runtime.profile import rt_text

_INTEGER_PRECISIONS = ("i8", "u8", "i4", "u4")
_SMALL = 64  # elements
_ARITHMETIC = ("Convolution", "MatMul", "FullyConnected", "Eltwise", "Pooling", "Concatenation", "Interpolate")


def export_openvino(
    detector: Detector, xml_path: Path, input_size: int, output: str = "decoded", half_weights: bool = False
) -> None:
    """Writes `xml_path` and the `.bin` beside it.  Inputs and outputs are those of `export_onnx`.

    half_weights: stores float weights as FP16 (half the size, rounded); INT8 weights stay INT8 either way
    Raises ImportError without OpenVINO, ValueError where weights of the plan are not integers in the file.
    """
    openvino = _openvino()
    with tempfile.TemporaryDirectory() as folder:
        onnx_path = Path(folder) / "model.onnx"
        export_onnx(detector, onnx_path, input_size, output, repeat_carried=False)
        model = openvino.convert_model(str(onnx_path))  # unlike read_model it simplifies the graph: a third of the XML
        if detector.has_edit("round_weights"):
            divide_at_compile(model)
        if detector.has_edit("tie_weights"):
            network = detector.copy().network.eval().cpu()
            settle_codebooks(network)
            share_folded_weights(model, network)
        _share_constants(model)
        save_ir(model, xml_path, half_weights)
    _without_indentation(xml_path)
    expected = _quantized_weights(detector)
    stored = sum(1 for item in _constants(openvino, xml_path) if item in ("i8", "i4"))
    if stored < expected:
        raise ValueError(f"{xml_path} stores {stored} weights as integers; the quantization plan has {expected}.")


def save_ir(model: Any, xml_path: Path, half_weights: bool = False) -> None:
    """Writes an `openvino.Model`.  Raises OSError where there is no room for it."""
    try:
        _openvino().save_model(model, str(xml_path), compress_to_fp16=half_weights)
    except RuntimeError as error:  # what OpenVINO raises on a full disk
        raise OSError(
            errno.ENOSPC, f"OpenVINO could not write it whole ({error}); the disk may be full", str(xml_path)
        ) from error


@dataclass(frozen=True)
class Execution:
    """How a compiled network runs.

    operators: (name, kind, precision) of every operator that computes, as the runtime runs it
    """

    operators: tuple[tuple[str, str, str], ...]

    def count(self, kind: str, integer: bool) -> int:
        """Operators of a kind that run on integers, or those that do not."""
        return sum(1 for _, k, p in self.operators if k == kind and (p in _INTEGER_PRECISIONS) == integer)

    def in_float(self, kinds: Sequence[str] = _ARITHMETIC) -> list[dict[str, str]]:
        """Operators of these kinds that run in float, as {name, why}."""
        return [
            {"name": name, "why": f"OpenVINO runs this {kind} in {precision}"}
            for name, kind, precision in self.operators
            if kind in kinds and precision not in _INTEGER_PRECISIONS
        ]


def execution_of(xml_path: Path) -> Execution:
    """Compiles a file for this machine's CPU and says in which precision each operator runs."""
    openvino = _openvino()
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(xml_path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    operators = []
    for operator in compiled.get_runtime_model().get_ordered_ops():
        info: Mapping[str, Any] = operator.get_rt_info()
        kind = rt_text(info["layerType"])
        if kind not in ("Const", "Input", "Output", "Reorder", "Reshape"):
            operators.append((operator.get_friendly_name(), kind, rt_text(info["runtimePrecision"])))
    return Execution(tuple(operators))


def _share_constants(model: Any) -> None:
    """Lets equal small constants be one: the limits of a value's rounding are there twice, as input and as output."""
    first: dict[tuple[str, tuple[int, ...], bytes], Any] = {}
    for operator in model.get_ordered_ops():
        if operator.get_type_name() != "Constant" or math.prod(operator.shape) > _SMALL:
            continue
        key = operator.get_element_type().get_type_name(), tuple(operator.shape), operator.data.tobytes()
        other = first.setdefault(key, operator)
        if other is not operator:
            for reader in list(operator.output(0).get_target_inputs()):
                reader.replace_source_output(other.output(0))


def _without_indentation(xml_path: Path) -> None:
    """Takes the white space between tags out of the XML: a sixth of its size, which the target loads as well."""
    text = xml_path.read_text(encoding="utf-8")
    xml_path.write_text(re.sub(r">\s+<", "><", text), encoding="utf-8")


def _quantized_weights(detector: Detector) -> int:
    return len(quantizers_of(detector.network).plan.weights()) if has_quantizers(detector.network) else 0


def _constants(openvino: Any, xml_path: Path) -> list[str]:
    """Element types of the constants of a file that are weights: those of two dimensions and more."""
    model = openvino.Core().read_model(str(xml_path))
    return [
        operator.get_element_type().get_type_name()
        for operator in model.get_ordered_ops()
        if operator.get_type_name() == "Constant" and len(operator.shape) >= 2
    ]


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise ImportError('OpenVINO is not installed. Install it with: pip install "helmlite[openvino]"') from error
    return openvino
