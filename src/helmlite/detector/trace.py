"""What a network does, operator by operator, with a stable name for each operator.

A network is run once under a `TorchFunctionMode` that sees every PyTorch function as the forward code calls it:
`conv2d`, `batch_norm`, `silu`, `cat`, `chunk`, `matmul`, ... and in which module that happens.  An operator's name is

    <module path>/<function>            model.4.cv1.conv/conv2d
    <module path>/<function>#<n>        model.22/cat#1       for the second `cat` that the same module calls

so names depend on the forward code alone, never on a compiler's node numbering.  The same names address the edges
at which `InsertQuantizers` puts fake quantization (see compress/quantize.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Spellings of one operation that differ only in syntax.
_SAME = {
    "__add__": "add", "__radd__": "add", "__iadd__": "add", "add_": "add",
    "__sub__": "sub", "__rsub__": "sub", "__mul__": "mul", "__rmul__": "mul", "mul_": "mul", "multiply": "mul",
    "__truediv__": "div", "__matmul__": "matmul", "bmm": "matmul", "concat": "cat", "concatenate": "cat",
    "__getitem__": "getitem", "silu_": "silu", "relu_": "relu", "hardswish_": "hardswish", "relu6_": "relu6",
    "unsafe_chunk": "chunk", "tensor_split": "split", "swapaxes": "transpose",
}  # fmt: skip
_QUERIES = {"__get__", "__set__", "__len__", "dim", "size", "numel", "stride", "is_floating_point", "requires_grad_"}


@dataclass(frozen=True)
class Op:
    """One call of a PyTorch function.

    name:    stable name, as above
    module:  path of the innermost module whose forward made the call ("" for the network itself)
    kind:    canonical name of the function
    inputs:  value numbers of its tensor arguments, in order; outputs: of its results
    values are numbered from 0 (the images); parameters and constants that no traced operator made get -1
    """

    name: str
    module: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Graph:
    """The operators of one forward pass in order, and the value numbers of the network's results."""

    ops: tuple[Op, ...]
    results: tuple[int, ...]

    def producers(self) -> dict[int, Op]:
        """The operator that made each value."""
        return {value: op for op in self.ops for value in op.outputs}

    def consumers(self) -> dict[int, list[Op]]:
        """The operators that read each value."""
        readers: dict[int, list[Op]] = {}
        for op in self.ops:
            for value in dict.fromkeys(op.inputs):
                readers.setdefault(value, []).append(op)
        return readers


OnOp = Callable[[str, str, str, tuple[Any, ...], dict[str, Any], Callable[..., Any]], Any]


class OpInterceptor(TorchFunctionMode):
    """Hands every function call of a network's forward to `on_op(name, module, kind, args, kwargs, function)`.

    `on_op` returns the call's result: it may just call the function, watch, or change what comes out.
    Calls are named as the module docstring says.  Use through `intercept`.
    """

    def __init__(self, on_op: OnOp, stack: list[str]) -> None:
        super().__init__()
        self._on_op = on_op
        self._stack = stack
        self._seen: Counter[str] = Counter()

    def __torch_function__(  # type: ignore[no-untyped-def]
        self, func, types, args=(), kwargs=None
    ) -> Any:
        kwargs = kwargs or {}
        spelled = getattr(func, "__name__", str(func))
        if spelled in _QUERIES:
            return func(*args, **kwargs)
        kind = _SAME.get(spelled, spelled)
        module = self._stack[-1] if self._stack else ""
        key = f"{module}/{kind}"
        count = self._seen[key]
        self._seen[key] += 1
        return self._on_op(key if count == 0 else f"{key}#{count}", module, kind, args, kwargs, func)


@contextmanager
def intercept(network: nn.Module, on_op: OnOp) -> Iterator[None]:
    """While open, forward passes of `network` go through `on_op`.  One forward pass for each opening."""
    stack: list[str] = []
    handles = []
    for path, module in network.named_modules():
        if module is network:  # its path is "" anyway, and so this may be opened from a hook of its own
            continue
        handles.append(module.register_forward_pre_hook(_push(stack, path)))
        handles.append(module.register_forward_hook(_pop(stack), always_call=True))
    try:
        with OpInterceptor(on_op, stack):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _push(stack: list[str], path: str) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: Any) -> None:
        stack.append(path)

    return hook


def _pop(stack: list[str]) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: Any, output: Any) -> None:
        stack.pop()

    return hook


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in a nest of tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in tensors_in(item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors_in(item)]
    return []


def trace(network: nn.Module, input_size: int) -> Graph:
    """The operators that `network` runs for one square picture of `input_size` pixels, in evaluation mode.

    The network is left as it was.
    """
    numbers: dict[int, int] = {}
    alive: list[Tensor] = []  # keeps every value alive, so that no id is used twice
    ops: list[Op] = []

    def number(tensor: Tensor, made: bool) -> int:
        if made:
            numbers[id(tensor)] = len(alive)
            alive.append(tensor)
        return numbers.get(id(tensor), -1)

    def on_op(name: str, module: str, kind: str, args: Any, kwargs: Any, function: Callable[..., Any]) -> Any:
        given = tensors_in((args, kwargs))
        inputs = tuple(number(tensor, made=False) for tensor in given)
        result = function(*args, **kwargs)
        made = tensors_in(result)
        outputs = tuple(number(tensor, made=True) for tensor in made)
        shapes = tuple(tuple(t.shape) for t in given), tuple(tuple(t.shape) for t in made)
        ops.append(Op(name, module, kind, inputs, outputs, *shapes))
        return result

    was_training = network.training
    network.eval()
    weight = next(network.parameters())
    images = torch.zeros(1, 3, input_size, input_size, device=weight.device, dtype=weight.dtype)
    number(images, made=True)
    try:
        with torch.no_grad(), intercept(network, on_op):
            results = tuple(numbers[id(tensor)] for tensor in tensors_in(network(images)))
    finally:
        network.train(was_training)
    return Graph(tuple(ops), results)
