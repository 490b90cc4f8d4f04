"""Dataclasses to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from helmlite.evaluate.plain import from_plain, to_plain


@dataclass(frozen=True)
class Inner:
    name: str
    value: float | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner
    many: tuple[Inner, ...] = ()
    pair: tuple[float, float] | None = None
    table: Mapping[str, float | None] = field(default_factory=dict)
    number: int = 0


def test_there_and_back() -> None:
    value = Outer(Inner("a", 1.0), (Inner("b"), Inner("c", 2.5)), (0.5, 1.0), {"x": None, "y": 2.0}, 3)
    assert from_plain(Outer, json.loads(json.dumps(to_plain(value)))) == value


def test_what_json_cannot_say() -> None:
    assert to_plain({"a": float("nan"), "b": float("inf"), "c": np.float32(0.5), "d": (np.int64(2),)}) == {
        "a": None,
        "b": None,
        "c": 0.5,
        "d": [2],
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "report: 'inner' is missing"),
        ({"inner": {"name": 3}}, "report.inner.name: expected str, got 3"),
        ({"inner": {"name": "a"}, "many": 3}, "report.many: expected a list, got int"),
        ({"inner": {"name": "a"}, "many": [{}]}, r"report.many\[0\]: 'name' is missing"),
        ({"inner": {"name": "a"}, "pair": [1.0]}, "report.pair: expected 2 values, got 1"),
        ({"inner": {"name": "a"}, "table": [1]}, "report.table: expected a JSON object, got list"),
        ({"inner": 5}, "report.inner: expected a JSON object, got int"),
        ({"inner": {"name": "a", "value": "x"}}, "report.inner.value: expected float, got 'x'"),
    ],
)
def test_the_field_is_named(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_plain(Outer, value, "report")


def test_whole_numbers_serve_as_floats_and_unknown_keys_are_left_out() -> None:
    assert from_plain(Outer, {"inner": {"name": "a", "value": 2, "later": 1}}) == Outer(Inner("a", 2.0))
