"""A report in a run's folder: `report.json` for programs, `report.html` and `report.zh-CN.html` (each one file that
opens offline) for people, `report.md` for a pull request, `pictures.csv`; and `gallery.json`, the crops, so that the
pages can be made again.
"""

from __future__ import annotations

import json
from pathlib import Path

from helmlite.evaluate.causes.label_mistakes import MISTAKES_NAME
from helmlite.evaluate.pages.gallery import GALLERY_NAME, GalleryPart, write_gallery
from helmlite.evaluate.pages.markdown import report_markdown
from helmlite.evaluate.pages.run_page import report_page
from helmlite.evaluate.pages.translate import in_chinese
from helmlite.evaluate.pictures import CSV_NAME
from helmlite.evaluate.report import RunReport, report_from_json, report_json
from helmlite.files import read_json, write_whole

JSON_NAME, PAGE_NAME, MARKDOWN_NAME = "report.json", "report.html", "report.md"
CHINESE_PAGE_NAME = "report.zh-CN.html"
REPORT_NAMES = (JSON_NAME, PAGE_NAME, CHINESE_PAGE_NAME, MARKDOWN_NAME, GALLERY_NAME, CSV_NAME, MISTAKES_NAME)


def write_report(
    report: RunReport, folder: Path, gallery: tuple[GalleryPart, ...] = (), pictures: str | None = None
) -> Path:
    """Writes the files into `folder` and gives the English page's path.  Raises OSError.

    gallery:  crops of what the comparison lists (`gallery.cut_gallery`).  They show real people: leave it empty where
              the page is to be passed on.
    pictures: the text of `pictures.csv` (`pictures.pictures_csv`); None writes no such file
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report_json(report), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / JSON_NAME, text + "\n")
    write_whole(folder / MARKDOWN_NAME, report_markdown(report))
    write_gallery(gallery, folder)
    if pictures is not None:
        write_whole(folder / CSV_NAME, pictures)
    for name, page in report_pages(report, gallery).items():
        write_whole(folder / name, page)
    return folder / PAGE_NAME


def report_pages(report: RunReport, gallery: tuple[GalleryPart, ...] = ()) -> dict[str, str]:
    """The page by file name, in Chinese and in English; each links to the other."""
    return {
        CHINESE_PAGE_NAME: in_chinese(report_page(report, gallery, twin=PAGE_NAME)),
        PAGE_NAME: report_page(report, gallery, twin=CHINESE_PAGE_NAME),
    }


def read_report(path: Path) -> RunReport:
    """The report in a run's folder, or in a `report.json`.  Raises OSError, ValueError."""
    file = path / JSON_NAME if path.is_dir() else path
    values = read_json(file, dict, "so it is not a report of helmlite; give the command again that wrote it")
    try:
        return report_from_json(values)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
