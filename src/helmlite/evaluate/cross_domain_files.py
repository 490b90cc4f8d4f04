"""A cross-domain matrix in a folder: `cross-domain.json` for programs, `.html` and `.zh-CN.html` for people, `.md` for
a pull request.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helmlite.evaluate.cross_domain import CrossDomain
from helmlite.evaluate.pages.cross_domain_page import cross_domain_page
from helmlite.evaluate.pages.markdown import cross_domain_markdown
from helmlite.evaluate.pages.translate import in_chinese
from helmlite.evaluate.plain import read_plain, to_plain
from helmlite.files import write_whole

JSON_NAME, PAGE_NAME, MARKDOWN_NAME = "cross-domain.json", "cross-domain.html", "cross-domain.md"
CHINESE_PAGE_NAME = "cross-domain.zh-CN.html"
FORMAT_VERSION = 1


def write_cross_domain(matrix: CrossDomain, folder: Path) -> Path:
    """Writes the files into `folder`, which is made, and gives the English page's path.  Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(cross_domain_json(matrix), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / JSON_NAME, text + "\n")
    write_whole(folder / MARKDOWN_NAME, cross_domain_markdown(matrix))
    for name, page in cross_domain_pages(matrix).items():
        write_whole(folder / name, page)
    return folder / PAGE_NAME


def cross_domain_pages(matrix: CrossDomain) -> dict[str, str]:
    """The page by file name, in Chinese and in English; each links to the other."""
    return {
        CHINESE_PAGE_NAME: in_chinese(cross_domain_page(matrix, twin=PAGE_NAME)),
        PAGE_NAME: cross_domain_page(matrix, twin=CHINESE_PAGE_NAME),
    }


def cross_domain_json(matrix: CrossDomain) -> dict[str, Any]:
    """The matrix as plain JSON values."""
    return {"format": FORMAT_VERSION, "kind": "cross-domain", **to_plain(matrix)}


def read_cross_domain(path: Path) -> CrossDomain:
    """The matrix in a folder, or in a `cross-domain.json`.  Raises OSError, ValueError."""
    return read_plain(CrossDomain, path, JSON_NAME, "cross-domain", FORMAT_VERSION)
