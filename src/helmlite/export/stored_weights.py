"""Weights stored as integers in files whose arithmetic is float (`weight_only`).

The traced graph has a DequantizeLinear over INT8 integers for each weight, as a quantized one has (qdq.py).  Left like
that, ONNX Runtime would turn integers into floats at every inference and could not bring the weights into the order
that its kernels like (measured on one 3x3 convolution: 2.4 ms instead of 1.5).  Written as a cast and a product, both
are done once, when the file is loaded:

    INT8   integers -> Cast -> Mul(scales) -> weight
    INT4   two to a byte -> Cast -> Gather from the 256 pairs that a byte can be -> Reshape -> Mul(scales) -> weight

The table stands in for ONNX's own INT4 type, which came with opset 21: this file is read wherever opset 17 is.

OpenVINO has a 4-bit type.  It takes `integers * scales` for the weights of a language model, though: a 1x1 convolution
beside a reshape becomes a matrix product, which reads the wrong value where its input comes from a split (2026.4: a
YOLO11's attention does not compile, a smaller graph answers wrongly), and what it does not take is computed at every
inference.  `integers / (1 / scales)` is nothing that it knows; it folds that when it compiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HIGHEST = 7  # of 4 bits, symmetric
_TABLE = "pairs_of_a_byte"


def unpack_at_load(graph: Any) -> None:
    """Replaces each DequantizeLinear over stored integers by what runtimes compute when they load, in place.

    graph: an `onnx.GraphProto`.  Integers from -7 to 7 are stored in 4 bits, whatever they were called.
    """
    from onnx import numpy_helper

    stored = {item.name: item for item in graph.initializer}
    nodes: list[Any] = []
    made: dict[str, NDArray[Any]] = {}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in stored:
            nodes.append(node)
            continue
        integers, scales = (numpy_helper.to_array(stored[name]) for name in node.input[:2])
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        shape = [1] * integers.ndim
        if scales.ndim:
            shape[axis] = -1
        nodes += _unpacking(node.output[0], integers, scales.reshape(shape), made)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *(numpy_helper.from_array(array, name) for name, array in made.items())])


def _unpacking(
    name: str, integers: NDArray[np.int8], scales: NDArray[np.float32], made: dict[str, NDArray[Any]]
) -> Iterator[Any]:
    """The nodes whose last result is `name`, the dequantized weight; adds their initializers to `made`."""
    from onnx import TensorProto, helper

    made[f"{name}.scales"] = scales
    if not fits_4_bits(integers):
        made[f"{name}.int8"] = integers
        yield helper.make_node("Cast", [f"{name}.int8"], [f"{name}.float"], to=TensorProto.FLOAT)
    else:
        made[f"{name}.int4"] = packed(integers)
        made[_TABLE] = pairs_of_a_byte()
        shape = f"shape.{'x'.join(map(str, integers.shape))}"
        made[shape] = np.array(integers.shape, np.int64)
        yield helper.make_node("Cast", [f"{name}.int4"], [f"{name}.bytes"], to=TensorProto.INT32)
        yield helper.make_node("Gather", [_TABLE, f"{name}.bytes"], [f"{name}.pairs"], axis=0)
        yield helper.make_node("Reshape", [f"{name}.pairs", shape], [f"{name}.float"])
    yield helper.make_node("Mul", [f"{name}.float", f"{name}.scales"], [name])


def fits_4_bits(integers: NDArray[np.int8]) -> bool:
    """Whether all lie between -7 and 7 and can be put two to a byte."""
    return integers.size % 2 == 0 and bool((np.abs(integers) <= _HIGHEST).all())


def packed(integers: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two to a byte, the first in the lower half, in two's complement.

    >>> packed(np.array([1, -1, 7, -7], np.int8)).tolist()  # 0xf1, 0x97
    [241, 151]
    """
    nibbles = integers.reshape(-1, 2).astype(np.uint8) & 15
    return (nibbles[:, 0] | nibbles[:, 1] << 4).astype(np.uint8)


def pairs_of_a_byte() -> NDArray[np.float32]:
    """(256, 2): what `packed` has put into each byte."""
    halves = np.arange(256)[:, None] >> np.array([0, 4]) & 15
    return np.where(halves > _HIGHEST, halves - 16, halves).astype(np.float32)


def divide_at_compile(model: Any) -> None:
    """Lets an `openvino.Model` divide each stored weight's integers by 1 / scale instead of multiplying, in place.

    Integers that fit 4 bits are stored in OpenVINO's 4-bit type.
    """
    from openvino import Tensor, Type
    from openvino import opset13 as ops

    for constant in model.get_ordered_ops():
        if constant.get_type_name() != "Constant" or constant.get_element_type() != Type.i8 or len(constant.shape) < 2:
            continue
        product = _reader(_reader(constant, "Convert"), "Multiply")
        scales = next(
            item for item in product.inputs() if item.get_source_output().get_node().get_type_name() != "Convert"
        )
        steps = scales.get_source_output().get_node().data
        integers = constant.data
        if fits_4_bits(integers):
            tensor = Tensor(packed(integers), list(integers.shape), Type.i4)
            constant = ops.constant(tensor, shared_memory=False)  # the array behind it goes with this function
        quotient = ops.divide(ops.convert(constant, "f32"), ops.constant(1 / steps, shared_memory=False))
        quotient.set_friendly_name(product.get_friendly_name())
        for reader in list(product.output(0).get_target_inputs()):
            reader.replace_source_output(quotient.output(0))


def _reader(node: Any, kind: str) -> Any:
    (reader,) = (item.get_node() for item in node.output(0).get_target_inputs())
    assert reader.get_type_name() == kind, f"a stored weight goes into {reader.get_type_name()} instead of {kind}"
    return reader
