"""The JSON of reports, comparisons and cross-domain matrices as a JSON Schema, made from the dataclasses themselves.

`docs/report-schema.json` holds what `helmlite report --schema` prints; a test keeps the two equal.  Keys may be added
in later versions of a format, and are then not required; those that are here keep their meaning.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from helmlite.evaluate.comparison import Comparison
from helmlite.evaluate.comparison_files import FORMAT_VERSION as COMPARISON_FORMAT
from helmlite.evaluate.cross_domain import CrossDomain
from helmlite.evaluate.cross_domain_files import FORMAT_VERSION as CROSS_DOMAIN_FORMAT
from helmlite.evaluate.report import FORMAT_VERSION as REPORT_FORMAT
from helmlite.evaluate.report import RunReport

_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean"}
Schema = dict[str, Any]


def report_schema() -> Schema:
    """JSON Schema (2020-12) of `report.json`, `comparison.json` and `cross-domain.json`: one of the three."""
    found: dict[str, Schema] = {}
    for kind in (RunReport, Comparison, CrossDomain):
        _schema(kind, found)
    found["RunReport"] = _as_written(found["RunReport"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What helmlite compress, helmlite compare and helmlite cross-domain write",
        "description": "Accuracies and recalls are in [0, 1], losses and their intervals in points, times in ms, sizes "
        "in bytes. null is unknown, never zero.",
        "anyOf": [
            {"$ref": "#/$defs/RunReport"},
            _as_file("Comparison", COMPARISON_FORMAT, "comparison"),
            _as_file("CrossDomain", CROSS_DOMAIN_FORMAT, "cross-domain"),
        ],
        "$defs": dict(sorted(found.items())),
    }


def _as_file(name: str, version: int, kind: str) -> Schema:
    """What a file of its own says beside; the comparison within a run's report, its evidence, does not."""
    stated = {"format": {"const": version}, "kind": {"const": kind}}
    return {"$ref": f"#/$defs/{name}", "properties": stated, "required": list(stated)}


def _as_written(schema: Schema) -> Schema:
    """`report_json` leaves out one field and adds what is derived."""
    interval, number = schema["properties"].pop("map_loss_ci95"), {"type": ["number", "null"]}
    details = schema["properties"]["speedup_factors"]
    derived: dict[str, Schema] = {
        "format": {"const": REPORT_FORMAT},
        "verdict": {"type": "string"},
        "speedup": number,
        "speedup_interleaved": number,
        "speedup_factors": {"type": "object", "additionalProperties": {"type": "number"}},
        "speedup_factor_details": details,
        "speedup_factor_product": number,
        "size_ratio": number,
        "map_drop": number,
        "map_gain": number,
        "map_drop_ci95": interval,
    }
    required = [key for key in schema["required"] if key != "map_loss_ci95"]
    return {
        **schema,
        "properties": {**schema["properties"], **derived},
        "required": [*required, *(key for key in derived if key not in required)],
    }


def _schema(kind: Any, found: dict[str, Schema]) -> Schema:
    """The schema of one type; dataclasses go into `found` under their names and are referred to."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return {}
    if origin in (Union, types.UnionType):
        inner = _schema(next(item for item in arguments if item is not type(None)), found)
        if isinstance(inner.get("type"), str):
            return {**inner, "type": [inner["type"], "null"]}
        return {"anyOf": [inner, {"type": "null"}]}
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": _schema(arguments[0], found)}
        items = [_schema(item, found) for item in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1], found)}
    if dataclasses.is_dataclass(kind):
        return _reference(kind, found)
    return {"type": _SIMPLE[kind]}


def _reference(kind: Any, found: dict[str, Schema]) -> Schema:
    name = kind.__name__
    if name not in found:
        found[name] = {}  # so that a type that holds itself would end here
        hints = get_type_hints(kind)
        fields = dataclasses.fields(kind)
        found[name] = {
            "type": "object",
            "description": (kind.__doc__ or "").strip().split("\n")[0],
            "properties": {item.name: _schema(hints[item.name], found) for item in fields},
            "required": [item.name for item in fields if _is_required(item)],
        }
    return {"$ref": f"#/$defs/{name}"}


def _is_required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
