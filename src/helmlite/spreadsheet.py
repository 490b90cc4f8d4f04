"""Text that a spreadsheet shows as it is."""

from __future__ import annotations

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def spreadsheet_text(text: str) -> str:
    """Text for a cell of a table, which no spreadsheet takes for a formula: a name may come from a stranger.

    >>> spreadsheet_text("=HYPERLINK(A1)"), spreadsheet_text("a.jpg")
    ("'=HYPERLINK(A1)", 'a.jpg')

    Source: OWASP, "CSV Injection", for the signs that formulas begin with, the wide ones too.
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
