"""The time of each convolution on the target's runtime, on this machine: the clock of `Context.layer_clock`."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.layer_times import LayerClock, LayerTimes
from helmlite.detector.detector import Detector
from helmlite.detector.macs import conv_costs, shape_trace
from helmlite.export.onnx import export_onnx
from helmlite.files import write_whole
from helmlite.runtime.bench import drawn_picture
from helmlite.runtime.preprocess import network_input
from helmlite.runtime.profile import operator_times_ms

_ACTIVATIONS = frozenset({"Relu", "Clip", "Sigmoid", "Mul", "HardSwish", "HardSigmoid", "LeakyRelu"})
_MARK = re.compile(r"helmlite_conv_(\d+)_")


def layer_clock(runtime: str, threads: int | None = None, rounds: int = 20) -> LayerClock:
    """Measures on this machine, in f32, with BatchNorm folded as it is exported: `Context(layer_clock=...)`."""
    return partial(measure_layer_times, runtime=runtime, threads=threads, rounds=rounds)


def measure_layer_times(
    detectors: Sequence[Detector], input_size: int, runtime: str, threads: int | None = None, rounds: int = 20
) -> tuple[LayerTimes, ...]:
    """The times of float detectors, measured in turn.

    Raises ValueError where a convolution cannot be found in the exported file or in what the runtime reports.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        places = [Path(folder) / f"{index}.onnx" for index in range(len(detectors))]
        marked = [_export_marked(item, place, input_size) for item, place in zip(detectors, places, strict=True)]
        planes = network_input(drawn_picture(), input_size)[0]
        found = operator_times_ms(places, planes, runtime, threads, rounds)
    return tuple(_by_convolution(paths, times) for paths, times in zip(marked, found, strict=True))


def _export_marked(detector: Detector, path: Path, input_size: int) -> list[str]:
    """Writes the file and gives the module paths of its convolutions, in order; each has its number in its name.

    File and trace come from one forward pass each and list convolutions in the order of their calls.
    """
    import onnx

    folded = fold_batchnorm(detector)
    export_onnx(folded, path, input_size)
    model = onnx.load(str(path))
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    shapes = {item.name: tuple(item.dims) for item in model.graph.initializer}
    costs = conv_costs(folded.network, shape_trace(folded.network, input_size))
    expected = [_kernel_shape(folded, item.path) for item in costs]
    if [shapes.get(node.input[1]) for node in nodes] != expected:
        raise ValueError("The exported file's convolutions are not those of the network, in its order.")
    marks = _marks(model.graph, [node.output[0] for node in nodes])
    for node in model.graph.node:  # runtimes name an operator by its node, or by the tensor that it gives
        node.name = marks.get(node.output[0], node.name)
        for tensors in (node.input, node.output):
            tensors[:] = [marks.get(name, name) for name in tensors]
    write_whole(path, model.SerializeToString())
    return [item.path for item in costs]


def _marks(graph: Any, convolutions: Sequence[str]) -> dict[str, str]:
    """Tensor -> its new name: that of each convolution, and of the activation behind it, which is fused or shrinks."""
    owner = {name: index for index, name in enumerate(convolutions)}
    constants = {item.name for item in graph.initializer}
    marks = {name: f"helmlite_conv_{index}_" for name, index in owner.items()}
    for node in graph.node:
        owners = {owner.get(name) for name in node.input if name and name not in constants}
        if node.op_type in _ACTIVATIONS and len(owners) == 1 and None not in owners:
            (index,) = owners
            owner[node.output[0]] = index  # type: ignore[assignment]
            marks[node.output[0]] = f"helmlite_conv_{index}_act_{len(marks)}"
    outputs = {item.name for item in graph.output}
    return {name: mark for name, mark in marks.items() if name not in outputs}


def _kernel_shape(detector: Detector, path: str) -> tuple[int, ...]:
    weight: Any = detector.network.get_submodule(path).weight
    return tuple(weight.shape)


def _by_convolution(paths: Sequence[str], times: Mapping[str, float]) -> LayerTimes:
    """Operators that hold a convolution belong to it; to several in equal parts; the others to the rest."""
    found: dict[str, float] = defaultdict(float)
    rest = 0.0
    seen: set[int] = set()
    for name, milliseconds in times.items():
        numbers = {int(number) for number in _MARK.findall(name)}
        seen |= numbers
        for number in numbers:
            found[paths[number]] += milliseconds / len(numbers)
        rest += 0.0 if numbers else milliseconds
    if len(seen) != len(paths):
        missing = next(path for index, path in enumerate(paths) if index not in seen)
        raise ValueError(f"The runtime reports no time for the convolution '{missing}'.")
    return LayerTimes(dict(found), rest)
