"""Frozen dataclasses to plain JSON values and back, so that every report can be read again as what it was."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from helmlite.files import read_json

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as dicts, lists and numbers; a number that is not finite becomes None.

    >>> to_plain((1, float("nan")))
    [1, None]
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_plain(kind: type[T], value: Any, where: str = "value") -> T:
    """The dataclass `kind` from what `to_plain` gave.  Keys that it does not know are left out.

    Raises ValueError where a field that has no default is missing or a value has another shape; `where` names it.
    """
    return cast(T, _build(kind, value, where))


def read_plain(kind: type[T], path: Path, file_name: str, tag: str, version: int) -> T:
    """The dataclass `kind` from a JSON file of its own, or from `file_name` in a folder: the fields of `to_plain`, with
    `tag` under "kind" and `version` under "format".

    Raises OSError, and ValueError with the path where the file holds anything else.
    """
    file = path / file_name if path.is_dir() else path
    values = read_json(file, dict, f"so it is no '{tag}' of helmlite; give the command again that wrote it")
    if values.get("kind") != tag or values.get("format") != version:
        raise ValueError(f"{file}: expected a file of helmlite of kind '{tag}', format {version}.")
    return from_plain(kind, values, str(file))


def _build(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _build(next(item for item in arguments if item is not type(None)), value, where)
    if origin is tuple:
        return _build_tuple(arguments, value, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}: expected a JSON object, got {type(value).__name__}.")
        return {key: _build(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and not isinstance(value, kind):
        raise ValueError(f"{where}: expected {kind.__name__}, got {value!r}.")
    return value


def _build_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where}: expected a list, got {type(value).__name__}.")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_build(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if len(arguments) != len(value):
        raise ValueError(f"{where}: expected {len(arguments)} values, got {len(value)}.")
    return tuple(
        _build(kind, item, f"{where}[{index}]") for index, (kind, item) in enumerate(zip(arguments, value, strict=True))
    )


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a JSON object, got {type(value).__name__}.")
    hints = get_type_hints(kind)
    given: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        if item.name in value:
            given[item.name] = _build(hints[item.name], value[item.name], f"{where}.{item.name}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}: '{item.name}' is missing.")
    return kind(**given)
