"""What every page here is made of: the document with its style inside, sections, pills, and unknown shown as unknown.

A page is one file that opens offline and asks for nothing: its policy forbids scripts and every request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files

from helmlite.evaluate.figures import UNKNOWN
from helmlite.evaluate.measured import DataUsed

_OWN_ROW = re.compile(r"\d+\. |(FP32|BF16|NNCF INT8) at \d")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


FOOTER = "Written by helmlite."


def document(title: str, sections: Sequence[str], twin: str = "") -> str:
    """The whole page as text.

    title: any text, is escaped;  sections: HTML
    twin:  name of the same page in Chinese, in the same folder, to which this one links; empty for none
    """
    style = files("helmlite.evaluate.pages").joinpath("page.css").read_text(encoding="utf-8")
    link = f'<a class="twin" href="{escape(twin)}">中文</a>' if twin else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{link}{''.join(sections)}<footer>{FOOTER}</footer></main></body></html>\n"
    )


def section(title: str, inner: str, lead: str = "") -> str:
    """A card with a heading.  title, lead: any text;  inner: HTML"""
    opening = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f"<section><h2>{escape(title)}</h2>{opening}{inner}</section>"


def how_made(data: Sequence[DataUsed], commands: Sequence[str], details: Mapping[str, Mapping[str, str]]) -> str:
    """The last card of a page: pictures with their hashes, commands, folded lists by title; empty ones are left out."""
    used = "".join(
        f'<tr><td>{escape(item.purpose)}<small translate="no">{escape(item.source)}, {escape(item.split)}</small></td>'
        f'<td>{item.pictures}</td><td>{item.boxes}</td><td class="hash text" translate="no">'
        f"{escape(item.sha256)}</td></tr>"
        for item in data
    )
    parts = [
        '<div class="scroll"><table><tr><th>pictures</th><th>number</th><th>boxes</th>'
        f'<th class="text">sha256 of pictures and labels</th></tr>{used}</table></div>'
    ]
    if commands:
        parts.append(f"<h3>Commands</h3><pre>{escape(chr(10).join(commands))}</pre>")
    for title, pairs in details.items():
        rows = "".join(
            f'<tr><td>{escape(key)}</td><td class="text hash">{escape(value)}</td></tr>' for key, value in pairs.items()
        )
        if rows:
            parts.append(f"<details><summary>{escape(title)}</summary><table>{rows}</table></details>")
    return section("How this was made", "".join(parts))


def bullet_list(lines: Iterable[str]) -> str:
    """Any texts as a list."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def pill(verdict: str, before: str = "") -> str:
    """A verdict in its colour."""
    return f'<span class="pill {escape(verdict.replace(" ", "-"))}">{escape(before + verdict)}</span>'


def shown(text: str) -> str:
    """Any text; what is unknown in the way that unknown things look."""
    return f'<span class="unknown">{UNKNOWN}</span>' if text.lower() == UNKNOWN else escape(text)


def named(text: str) -> str:
    """A name from outside, which is the same in every language."""
    return f'<span translate="no">{escape(text)}</span>'


def model_name(text: str) -> str:
    """A model's name: those of a run's own rows (`FP32 at 640`, `1. prune`) are words, all others are from outside."""
    return escape(text) if _OWN_ROW.match(text) else named(text)


def capital(text: str) -> str:
    """The text with its first letter in upper case, the rest as it is."""
    return text[:1].upper() + text[1:]
