"""The published schema is that of what is written, and holds for what was written before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helmlite.evaluate.comparison import Contender, compare
from helmlite.evaluate.comparison_files import comparison_json
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.schema import report_schema
from written_data import make_random

jsonschema = pytest.importorskip("jsonschema")
DOCS = Path(__file__).parents[2] / "docs"
REPORTS = sorted((DOCS / "results").glob("*/report.json"))


def _faults(values: Any) -> list[str]:
    return [fault.message for fault in jsonschema.Draft202012Validator(report_schema()).iter_errors(values)]


def test_the_published_file_is_up_to_date() -> None:
    published = json.loads((DOCS / "report-schema.json").read_text("utf-8"))
    assert published == report_schema(), "write it again: helmlite report --schema > docs/report-schema.json"
    jsonschema.Draft202012Validator.check_schema(published)


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.parent.name)
def test_reports_of_earlier_versions_fit(path: Path) -> None:
    values = json.loads(path.read_text("utf-8"))
    assert _faults(values) == []
    assert _faults({**values, "map_drop": "none"}), "a text where a number belongs is found"
    assert _faults({key: value for key, value in values.items() if key != "verdict"})


def test_a_comparison_fits() -> None:
    dataset, found = make_random(3, pictures=25)
    values = comparison_json(compare([Contender(Measured(name), found, found) for name in "ab"], dataset, dataset))
    assert _faults(values) == []
    assert _faults({**values, "kind": "else"})
