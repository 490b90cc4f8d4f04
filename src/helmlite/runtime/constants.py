"""Where the large constants lie in a model file, as plain byte ranges: what packing.py looks into.

    model.onnx    Protocol Buffers wire format: ModelProto.graph (7) > GraphProto.initializer (5) > TensorProto.raw_data
                  (9), with the numbers' type in TensorProto.data_type (2)       https://onnx.ai/onnx/repo-docs/IR.html
    model.bin     ranges and types are in the .xml beside it: <data element_type="f32" offset="64" size="2304"/>

Read by hand because the machine that a detector runs on has no `onnx` package; a file that is not understood simply has
no constants, and is packed as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ONNX_WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}  # TensorProto.DataType
_OPENVINO_WIDTHS = {"f64": 8, "i64": 8, "u64": 8, "f32": 4, "i32": 4, "u32": 4, "f16": 2, "bf16": 2, "i8": 1, "u8": 1}
_GRAPH, _INITIALIZER, _DATA_TYPE, _RAW_DATA = 7, 5, 2, 9
_DATA = re.compile(rb"<data\b[^>]*>")


@dataclass(frozen=True)
class Constant:
    """Bytes [start, start + size) of a file: numbers of `width` bytes each, one after the other."""

    start: int
    size: int
    width: int


def onnx_constants(content: bytes) -> list[Constant]:
    """The initializers of an ONNX file that are stored inside it as raw data, in order; [] for any other file."""
    try:
        return list(_initializers(content))
    except (IndexError, ValueError):  # a length that leads out of the file
        return []


def openvino_constants(xml: bytes, size: int) -> list[Constant]:
    """The constants of a `.bin` of `size` bytes that its `.xml` describes, in order and without overlap."""
    found = {}
    for tag in _DATA.findall(xml):
        values = dict(re.findall(rb'(\w+)="([^"]*)"', tag))
        width = _OPENVINO_WIDTHS.get(values.get(b"element_type", b"").decode())
        if width and values.get(b"offset", b"").isdigit() and values.get(b"size", b"").isdigit():
            found[int(values[b"offset"])] = Constant(int(values[b"offset"]), int(values[b"size"]), width)
    kept: list[Constant] = []
    end = 0
    for start in sorted(found):
        if start >= end and start + found[start].size <= size:
            kept.append(found[start])
            end = start + found[start].size
    return kept


def _initializers(content: bytes) -> Iterator[Constant]:
    for graph, (start, end) in _ranges(content, 0, len(content)):
        if graph != _GRAPH:
            continue
        for number, (first, last) in _ranges(content, start, end):
            if number == _INITIALIZER:
                yield from _raw_data(content, first, last)


def _raw_data(content: bytes, start: int, end: int) -> Iterator[Constant]:
    width, place = 0, (0, 0)
    for number, (first, last) in _ranges(content, start, end):
        if number == _DATA_TYPE:
            width = _ONNX_WIDTHS.get(_varint(content, first)[0], 0)
        elif number == _RAW_DATA:
            place = (first, last)
    size = place[1] - place[0]
    if width and size and size % width == 0:
        yield Constant(place[0], size, width)


def _ranges(content: bytes, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Number and byte range of each field of a message.  Raises ValueError where it is none."""
    while start < end:
        key, start = _varint(content, start)
        wire = key & 7
        if wire == 0:
            last = _varint(content, start)[1]
        elif wire == 2:
            length, start = _varint(content, start)
            last = start + length
        elif wire in (1, 5):
            last = start + (8 if wire == 1 else 4)
        else:
            raise ValueError(f"wire type {wire}")
        if last > end:
            raise ValueError("a field that ends after its message")
        yield key >> 3, (start, last)
        start = last


def _varint(content: bytes, start: int) -> tuple[int, int]:
    """The number that begins here, and where the next thing begins.  Raises IndexError at the end of the file."""
    value = shift = 0
    while True:
        byte = content[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
