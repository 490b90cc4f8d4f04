"""Text in a cell of a table."""

from __future__ import annotations

import pytest

from helmlite.spreadsheet import spreadsheet_text


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_text_is_a_formula(sign: str) -> None:
    assert spreadsheet_text(f"{sign}1+1") == f"'{sign}1+1"


@pytest.mark.parametrize("text", ["", "a=1", "头盔", " -a", "'=a"])
def test_other_text_stays(text: str) -> None:
    assert spreadsheet_text(text) == text
