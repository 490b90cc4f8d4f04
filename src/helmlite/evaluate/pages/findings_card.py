"""What is wrong with models and pictures, as the first thing that any page says."""

from __future__ import annotations

from html import escape

from helmlite.evaluate.comparison import Comparison
from helmlite.evaluate.findings.words import Finding, in_words
from helmlite.evaluate.pages.html import section


def findings_of(comparison: Comparison) -> list[tuple[str, str]]:
    """(model, what is wrong with it) for each fault, after ("", what is wrong with the pictures) for each leak."""
    first = comparison.models[0].measured.name
    of_pictures: list[Finding] = [*comparison.own_pictures, *comparison.leaks]
    return [("", in_words(item)) for item in of_pictures] + [
        (item.name, in_words(fault, first)) for item in comparison.differences for fault in item.faults.found()
    ]


def not_looked_for(comparison: Comparison) -> list[str]:
    """A sentence for each family of faults of which there is too little to say anything."""
    return [f"{item.name}: {in_words(one)}" for item in comparison.differences for one in item.faults.unsaid]


def findings_card(comparison: Comparison) -> str:
    """A card of a page; nothing where nothing was found."""
    found = "".join(
        f"<li>{f'<b>{escape(name)}</b> ' if name else ''}{escape(sentence)}</li>"
        for name, sentence in findings_of(comparison)
    )
    return section("Findings", f'<ul class="checks">{found}</ul>') if found else ""
