"""The page of promises names tests that are there, and leaves out no technique."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helmlite.compress.techniques import TECHNIQUES

_REPOSITORY = Path(__file__).resolve().parents[1]
_PAGE = (_REPOSITORY / "docs" / "promises.md").read_text(encoding="utf-8")
_NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", _PAGE)


@pytest.mark.parametrize(("file", "name"), sorted(set(_NAMED)))
def test_what_is_promised_is_tested(file: str, name: str) -> None:
    text = (_REPOSITORY / file).read_text(encoding="utf-8")
    assert not name or re.search(rf"^def {name}\(", text, re.MULTILINE)


def test_every_promise_and_every_technique_has_a_test() -> None:
    heads = ("| what users", "| technique |", "| promise |")
    rows = [line for line in _PAGE.splitlines() if line.startswith("| ") and not line.startswith(heads)]
    assert len(rows) > 40 and all("`tests/" in line for line in rows)
    techniques = _PAGE.split("## Techniques", 1)[1].lower()
    spoken = {"prune": "importance", "quantize": "rounding", "distill": "distillation", "low_rank": "low rank"}
    assert [name for name in TECHNIQUES if spoken.get(name, name) not in techniques] == []
