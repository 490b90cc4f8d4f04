"""A comparison in a folder: `comparison.json` for programs, `comparison.html` and `comparison.zh-CN.html` for people,
`comparison.md` for a pull request, `pictures.csv` with what each model did on each picture, and `gallery.json`, the
crops of the pages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helmlite.evaluate.comparison import Comparison
from helmlite.evaluate.pages.comparison_page import comparison_page
from helmlite.evaluate.pages.gallery import GalleryPart, write_gallery
from helmlite.evaluate.pages.markdown import comparison_markdown
from helmlite.evaluate.pages.translate import in_chinese
from helmlite.evaluate.pictures import CSV_NAME
from helmlite.evaluate.plain import read_plain, to_plain
from helmlite.files import write_whole

JSON_NAME, PAGE_NAME, MARKDOWN_NAME = "comparison.json", "comparison.html", "comparison.md"
CHINESE_PAGE_NAME = "comparison.zh-CN.html"
FORMAT_VERSION = 1


def write_comparison(
    comparison: Comparison, folder: Path, pictures: str | None = None, gallery: tuple[GalleryPart, ...] = ()
) -> Path:
    """Writes the files into `folder`, which is made, and gives the English page's path.  Raises OSError.

    pictures: the text of `pictures.csv` (`pictures.pictures_csv`); None leaves that file as it is
    gallery:  crops of what is listed (`gallery.cut_gallery`).  They show real people: leave it empty where the page is
              to be passed on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(comparison_json(comparison), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / JSON_NAME, text + "\n")
    write_whole(folder / MARKDOWN_NAME, comparison_markdown(comparison))
    if pictures is not None:
        write_whole(folder / CSV_NAME, pictures)
    write_gallery(gallery, folder)
    for name, page in comparison_pages(comparison, gallery).items():
        write_whole(folder / name, page)
    return folder / PAGE_NAME


def comparison_pages(comparison: Comparison, gallery: tuple[GalleryPart, ...] = ()) -> dict[str, str]:
    """The page by file name, in Chinese and in English; each links to the other."""
    return {
        CHINESE_PAGE_NAME: in_chinese(comparison_page(comparison, gallery, twin=PAGE_NAME)),
        PAGE_NAME: comparison_page(comparison, gallery, twin=CHINESE_PAGE_NAME),
    }


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain JSON values."""
    return {"format": FORMAT_VERSION, "kind": "comparison", **to_plain(comparison)}


def read_comparison(path: Path) -> Comparison:
    """The comparison in a folder, or in a `comparison.json`.  Raises OSError, ValueError."""
    found = read_plain(Comparison, path, JSON_NAME, "comparison", FORMAT_VERSION)
    if len(found.models) < 2 or len(found.differences) != len(found.models) - 1:
        raise ValueError(f"{path}: damaged (it compares no models); give the command again that wrote it.")
    return found
