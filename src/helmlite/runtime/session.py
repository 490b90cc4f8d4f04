"""One network opened in one runtime: planes in, arrays out, on the CPU, with the precision that was asked for.

OpenVINO runs BF16 by default where the CPU has it, so F32 is asked for wherever F32 is meant.  ONNX Runtime's CPU
provider knows no such setting: what it computes in is what the graph says.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helmlite.runtime.machine import usable_cores
from helmlite.runtime.preprocess import check_input_size

Planes = NDArray[np.float32]  # (1, 3, S, S) RGB in [0, 1]
Shape = tuple["int | None", ...]  # None where the size is free

SESSION_PRECISIONS = ("f32", "bf16", "int8", "int8_bf16", "default")
BF16_PRECISIONS = ("bf16", "int8_bf16")  # those that need a runtime and a processor with BF16
_PACKAGE_OF = {"onnxruntime": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Session:
    """A network ready to run.

    runtime:       onnxruntime or openvino; version: of its package
    precision:     what it really computes in: f32, bf16, int8 (what stayed float in f32) or int8_bf16 (that in bf16)
    threads:       number of threads it may use
    input_size:    side of the square input in pixels
    output_names:  in the order in which `run` gives them; output_shapes: theirs, None where a size is free
    """

    runtime: str
    version: str
    precision: str
    threads: int
    input_size: int
    output_names: tuple[str, ...]
    output_shapes: tuple[Shape, ...]
    infer: Callable[[Planes], Sequence[NDArray[Any]]] = field(repr=False)

    def run(self, planes: Planes) -> list[NDArray[Any]]:
        """(1, 3, S, S) float32 RGB in [0, 1] -> the outputs, in the order of `output_names`."""
        return list(self.infer(planes))

    def run_named(self, planes: Planes) -> dict[str, NDArray[Any]]:
        """The outputs by name."""
        return dict(zip(self.output_names, self.infer(planes), strict=True))


def is_installed(runtime: str) -> bool:
    """Whether the runtime's package can be imported here."""
    return importlib.util.find_spec(_PACKAGE_OF[runtime]) is not None


def open_session(
    path: Path,
    runtime: str = "onnxruntime",
    threads: int | None = None,
    precision: str = "f32",
    input_size: int | None = None,
) -> Session:
    """The network in this file, opened in this runtime.

    path:       .onnx for either runtime, .xml (with its .bin beside it) for OpenVINO
    threads:    by default every core that this process may use
    precision:  f32; bf16 (OpenVINO only); for a quantized graph int8, what stayed float in f32, or int8_bf16, that in
                bf16 (OpenVINO only); or default: what the runtime would do by itself
    input_size: needed only where the graph leaves the size of its input free

    Raises ValueError for an unreadable file, an input that is not (1, 3, S, S) float32, or a precision that the
    runtime or this CPU does not have; ImportError where the runtime is not installed.
    """
    if runtime not in _PACKAGE_OF:
        raise ValueError(f"Unknown runtime '{runtime}'. Known: {', '.join(_PACKAGE_OF)}.")
    if precision not in SESSION_PRECISIONS:
        raise ValueError(f"Unknown precision '{precision}'. Known: {', '.join(SESSION_PRECISIONS)}.")
    if threads is not None and threads < 1:
        raise ValueError(f"A session needs at least one thread; got {threads}.")
    if not path.is_file():
        raise FileNotFoundError(f"No model at {path}.")
    count = threads or usable_cores()
    if runtime == "openvino":
        return _open_openvino(path, count, precision, input_size)
    return _open_onnxruntime(path, count, precision, input_size)


def _open_onnxruntime(path: Path, threads: int, precision: str, input_size: int | None) -> Session:
    import onnxruntime

    if path.suffix.lower() != ".onnx":
        raise ValueError(f"ONNX Runtime opens .onnx files; got {path.name}.")
    if precision in BF16_PRECISIONS:
        raise ValueError("ONNX Runtime has no BF16 on the CPU. Use --runtime openvino, or precision f32 or int8.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Without it threads go on spinning after each run, and whatever comes next lacks their cores: docs/decisions/0010.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class below Exception
        raise ValueError(f"ONNX Runtime cannot open {path}: {_first_line(error)}") from error
    inputs = [(item.name, _known_sizes(item.shape), item.type) for item in session.get_inputs()]
    size = _square_size(path, inputs, "tensor(float)", input_size)
    outputs = session.get_outputs()
    names = [item.name for item in outputs]
    feed = inputs[0][0]
    return Session(
        runtime="onnxruntime",
        version=onnxruntime.__version__,
        precision="f32" if precision == "default" else precision,
        threads=threads,
        input_size=size,
        output_names=tuple(names),
        output_shapes=tuple(_known_sizes(item.shape) for item in outputs),
        infer=lambda planes: session.run(names, {feed: planes}),
    )


def _open_openvino(path: Path, threads: int, precision: str, input_size: int | None) -> Session:
    try:
        import openvino
    except ImportError as error:
        raise ImportError('OpenVINO is not installed. Install it with: pip install "helmlite[openvino]"') from error
    core = openvino.Core()
    if precision in BF16_PRECISIONS and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ValueError("This CPU has no BF16 kernels in OpenVINO. Use precision f32 or int8.")
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise ValueError(f"OpenVINO cannot open {path}: {_first_line(error)}") from error
    inputs = [
        (_openvino_name(item, index), _openvino_shape(item), item.get_element_type().get_type_name())
        for index, item in enumerate(model.inputs)
    ]
    size = _square_size(path, inputs, "f32", input_size)
    if model.is_dynamic():
        try:
            model.reshape([1, 3, size, size])
        except RuntimeError as error:
            raise ValueError(f"OpenVINO cannot run {path.name} at {size} pixels: {_first_line(error)}") from error
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision != "default":
        settings["INFERENCE_PRECISION_HINT"] = "bf16" if precision in BF16_PRECISIONS else "f32"
    try:
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise ValueError(f"OpenVINO cannot compile {path}: {_first_line(error)}") from error
    request = compiled.create_infer_request()
    outputs = list(compiled.outputs)

    def infer(planes: Planes) -> list[NDArray[Any]]:
        results = request.infer([planes], share_inputs=True)
        return [results[output] for output in outputs]

    chosen = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return Session(
        runtime="openvino",
        version=openvino.__version__.split("-")[0],
        precision=chosen if precision == "default" else precision,
        threads=threads,
        input_size=size,
        output_names=tuple(_openvino_name(item, index) for index, item in enumerate(outputs)),
        output_shapes=tuple(_openvino_shape(item) for item in outputs),
        infer=infer,
    )


def _square_size(path: Path, inputs: Sequence[tuple[str, Shape, str]], float_type: str, input_size: int | None) -> int:
    """The side of the one input that a detector has.  Raises ValueError where it has another kind of input."""
    described = ", ".join(f"{name} {_shape_text(shape)} {kind}" for name, shape, kind in inputs)
    wanted = f"{path.name} has the input {described}; a detector takes one (1, 3, S, S) float32"
    if len(inputs) != 1:
        raise ValueError(f"{wanted}.")
    _, shape, kind = inputs[0]
    if kind != float_type or len(shape) != 4 or shape[0] not in (1, None) or shape[1] not in (3, None):
        raise ValueError(f"{wanted}.")
    sizes = {side for side in shape[2:] if side is not None}
    if len(sizes) > 1:
        raise ValueError(f"{wanted}: its height and width differ.")
    if not sizes and input_size is None:
        raise ValueError(f"{path.name} leaves the size of its input free: say it with --input-size.")
    size = sizes.pop() if sizes else check_input_size(input_size or 0)
    if input_size is not None and input_size != size:
        raise ValueError(f"{path.name} takes {size} x {size} pixels, not {input_size}.")
    return size


def _known_sizes(shape: Sequence[Any]) -> Shape:
    return tuple(side if isinstance(side, int) else None for side in shape)


def _shape_text(shape: Shape) -> str:
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"


def _openvino_shape(port: Any) -> Shape:
    return tuple(side.get_length() if side.is_static else None for side in port.get_partial_shape())


def _openvino_name(port: Any, index: int) -> str:
    """The port's tensor name; of several the shortest, which is the one that an exporter gave."""
    names = sorted(port.get_names(), key=lambda name: (len(name), name))
    return names[0] if names else f"output_{index}"


def _first_line(error: BaseException) -> str:
    """The part of a runtime's many-line complaint that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[0]
