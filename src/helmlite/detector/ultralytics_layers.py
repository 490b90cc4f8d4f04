"""What a checkpoint says of its layers, held against what is safe and against what gets built from it.

An Ultralytics checkpoint describes its network twice: as a list of layers (its `yaml`), which Ultralytics builds from
and parts of which it *evaluates as Python*, and as the modules themselves (here inert records).  The list is checked
before anything is built; the modules are compared with the built ones afterwards, since a checkpoint may have been
changed after it was built (ReLU for SiLU, another epsilon) without its list saying so.
"""

from __future__ import annotations

import ast
import copy
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from helmlite.detector.untrusted import Record, UntrustedCheckpointError

# Layers of detectors that run on pictures alone and fetch nothing when they are built.
_LAYERS = frozenset(
    """
    A2C2f ADown AConv BottleneckCSP Bottleneck C1 C2 C2f C2fCIB C2fPSA C2PSA C3 C3Ghost C3k2 C3x CBFuse CBLinear Concat
    Conv ConvTranspose Conv2 DWConv DWConvTranspose2d Detect ELAN1 Focus GhostBottleneck GhostConv LightConv PSA RepC3
    RepConv RepNCSPELAN4 SCDown SPP SPPELAN SPPF Silence v10Detect
    nn.AvgPool2d nn.BatchNorm2d nn.ConvTranspose2d nn.Identity nn.MaxPool2d nn.Upsample nn.ZeroPad2d
    """.split()
)
_ACTIVATIONS = frozenset("GELU Hardswish LeakyReLU Mish ReLU ReLU6 Sigmoid SiLU".split())
_SETTING = {"LeakyReLU": "negative_slope", "GELU": "approximate"}  # of those that have one
_WORD = re.compile(r"[A-Za-z]\w{0,30}|-?\d+(?:\.\d+)?|\(-?\d+(?:, ?-?\d+)*\)")  # nc, nearest, None, "0.5", "(2, 2)"
_LONGEST = 60  # of an activation
_MOST_LAYERS, _MOST_REPEATS, _MOST = 500, 100, 65536

_LIST_KEYS = ("backbone", "head")
_NUMBER_KEYS = ("nc", "reg_max", "depth_multiple", "width_multiple", "kpt_shape", "end2end")
# Attributes that say nothing about what a layer computes from an image in inference.
_NO_MATTER = frozenset(  # the shapes of tensors are compared apart
    """
    training inplace np i type name shape momentum num_batches_tracked c c1 in_channels out_channels num_features
    """.split()
)
_HEAD = frozenset("f nl nc reg_max".split())  # of a head: the rest is how Ultralytics decodes, which is ours here


def check_layer_list(yaml: Any, where: str) -> None:
    """Raises ValueError unless `yaml` is a plain list of known layers that is safe to hand to Ultralytics.

    Ultralytics evaluates `activation` as Python and looks a layer's name up among everything that it has imported.
    Raises UntrustedCheckpointError, naming it, for a layer or an activation that is not on the list.

    where: the file, for the message
    """
    if not isinstance(yaml, Mapping):
        raise ValueError(f"{where}: the checkpoint has no layer list (its 'yaml' is no mapping).")
    for key in _LIST_KEYS:
        if not isinstance(yaml.get(key), (list, tuple)) or not yaml[key]:
            raise ValueError(f"{where}: the checkpoint's layer list has no '{key}'.")
    _check_activation(yaml.get("activation"), where)
    for key in _NUMBER_KEYS:
        _check_argument(yaml.get(key), where, key)
    for key in ("ch", "channels"):
        if yaml.get(key) not in (None, 3):
            raise ValueError(f"{where}: the network is for pictures of {yaml[key]} channels; helmlite's have 3.")
    _check_scales(yaml, where)
    lines = [*yaml["backbone"], *yaml["head"]]
    if len(lines) > _MOST_LAYERS:
        raise ValueError(
            f"{where}: the checkpoint's layer list has {len(lines)} layers; at most {_MOST_LAYERS} can be."
        )
    for number, line in enumerate(lines):
        _check_line(line, number, where)


def adopt_modules(record: Record, network: nn.Module, where: str) -> dict[str, Any]:
    """Where the checkpoint's modules differ from those that its list gave: what has to be set to be them.

    record:  of the model
    network: as built; its modules have the record's names, those that forks have more of or fewer are left out

    Returns {"activations": {path: [class, arguments]}, "eps": {path: value}}.  Raises ValueError, naming the module,
    for any other difference.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    activations: dict[str, list[Any]] = {}
    eps: dict[str, float] = {}
    for path, found in _records(record):
        built = modules.get(path)
        if not path or built is None:
            continue
        kind = found.record_class.rpartition(".")[2]
        is_head = path.count(".") == 1 and hasattr(built, "reg_max")
        if kind != type(built).__name__ and not is_head:
            if kind not in _ACTIVATIONS or type(built).__name__ not in _ACTIVATIONS:
                raise ValueError(
                    f"{where}: '{path}' is a {kind} in the checkpoint and a {type(built).__name__} by its layer list; "
                    "it was changed after it was built. Open it from its helmlite checkpoint folder instead."
                )
            activations[path] = [kind, _setting_of(found, kind)]
            continue
        for name, value in vars(found).items():
            if (is_head and name not in _HEAD) or not _matters(name, value, built):
                continue
            if _plain(getattr(built, name)) == _plain(value):
                continue
            if name == "eps":
                eps[path] = float(value)
            elif name == _SETTING.get(kind):
                activations[path] = [kind, _setting_of(found, kind)]
            else:
                raise ValueError(
                    f"{where}: {name} of '{path}' is {value} in the checkpoint and {getattr(built, name)} by its layer "
                    "list; it was changed after it was built, or comes from a fork that helmlite does not know."
                )
    return {"activations": activations, "eps": eps}


def set_adopted(network: nn.Module, activations: Mapping[str, Any], eps: Mapping[str, float]) -> None:
    """Sets what `adopt_modules` found, in place.  Raises ValueError for anything that is no known activation."""
    for path, (kind, arguments) in activations.items():
        if kind not in _ACTIVATIONS:
            raise ValueError(f"'{path}' wants the activation '{kind}', which is none that helmlite knows.")
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, getattr(nn, kind)(**arguments))
    for path, value in eps.items():
        norm = network.get_submodule(path)
        norm.eps = value  # type: ignore[assignment]


def own_activations(network: nn.Module) -> None:
    """Gives each layer an activation of its own, in place: there one instance serves them all."""
    kinds = tuple(getattr(nn, name) for name in sorted(_ACTIVATIONS))
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, kinds):
                setattr(module, name, copy.deepcopy(child))


def _setting_of(record: Record, kind: str) -> dict[str, Any]:
    """What an activation of this kind was built with, from its record."""
    name = _SETTING.get(kind)
    value = None if name is None else vars(record).get(name)
    if name is None or value is None:
        return {}
    return {name: float(value) if isinstance(value, (int, float)) else str(value)}


def _activation_name(text: Any) -> str:
    """`ReLU` of `torch.nn.ReLU(inplace=True)`; "" for anything but such a call with literal arguments."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        return ""
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return ""
    values = [*call.args, *(item.value for item in call.keywords if item.arg is not None)]
    is_literal = len(values) == len(call.args) + len(call.keywords) and all(isinstance(v, ast.Constant) for v in values)
    return call.func.attr if is_literal and ast.unparse(call.func.value) in ("nn", "torch.nn") else ""


def _check_activation(activation: Any, where: str) -> None:
    if activation is None:
        return
    if _activation_name(activation) not in _ACTIVATIONS:
        raise UntrustedCheckpointError(
            f"{where}: the checkpoint's layer list asks for the activation '{str(activation)[:80]}', which is none "
            "that helmlite knows; nothing was built, and none of its code was run."
        )


def _check_line(line: Any, number: int, where: str) -> None:
    if not isinstance(line, (list, tuple)) or len(line) != 4:
        raise ValueError(
            f"{where}: layer {number} of the checkpoint's layer list is not [from, repeats, layer, arguments]."
        )
    source, repeats, layer, arguments = line
    if not isinstance(layer, str) or layer not in _LAYERS:
        raise UntrustedCheckpointError(
            f"{where}: the checkpoint's layer list asks for '{str(layer)[:80]}', which is not a layer of a known "
            "detector; nothing was built, and none of its code was run."
        )
    sources = source if isinstance(source, (list, tuple)) else [source]
    if not all((_is_whole(item) and -_MOST_LAYERS <= item < number) or item == -1 for item in sources):
        raise ValueError(f"{where}: layer {number} of the checkpoint's layer list reads from {source}.")
    if not _is_whole(repeats) or not 1 <= repeats <= _MOST_REPEATS:
        raise ValueError(f"{where}: layer {number} of the checkpoint's layer list is repeated {repeats} times.")
    if not isinstance(arguments, (list, tuple)):
        raise ValueError(f"{where}: layer {number} of the checkpoint's layer list has no list of arguments.")
    _check_argument(arguments, where, f"layer {number}")


def _check_scales(yaml: Mapping[str, Any], where: str) -> None:
    scales = yaml.get("scales")
    if scales is None:
        return
    if not isinstance(scales, Mapping) or not scales:
        raise ValueError(f"{where}: the checkpoint's layer list has 'scales' that are no mapping.")
    for name, values in scales.items():
        if not isinstance(values, (list, tuple)) or len(values) != 3:
            raise ValueError(
                f"{where}: scale '{name}' of the checkpoint's layer list is not [depth, width, most channels]."
            )
        _check_argument(values, where, f"scale '{name}'")
    scale = yaml.get("scale")
    if scale and (not isinstance(scale, str) or scale not in scales):
        raise ValueError(f"{where}: the checkpoint's layer list has no scale '{str(scale)[:80]}'.")


def _check_argument(value: Any, where: str, of: str) -> None:
    """Raises ValueError unless it is a number of a sane size, a plain word, None, or a list of these."""
    if isinstance(value, (list, tuple)):
        for item in value:
            _check_argument(item, where, of)
    elif isinstance(value, str):
        if not _WORD.fullmatch(value):
            raise UntrustedCheckpointError(
                f"{where}: {of} of the checkpoint's layer list has the argument '{value[:80]}'."
            )
    elif value is not None and not (
        isinstance(value, (bool, int, float)) and math.isfinite(value) and abs(value) <= _MOST
    ):
        raise ValueError(f"{where}: {of} of the checkpoint's layer list has the argument {str(value)[:80]}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _records(record: Record, path: str = "") -> Iterator[tuple[str, Record]]:
    yield path, record
    for name, child in (vars(record).get("_modules") or {}).items():
        if isinstance(child, Record):
            yield from _records(child, f"{path}.{name}" if path else name)


def _matters(name: str, value: Any, built: nn.Module) -> bool:
    is_plain = isinstance(value, (bool, int, float, str, tuple, list))
    return is_plain and not name.startswith("_") and name not in _NO_MATTER and hasattr(built, name)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (tuple, list)) else value
