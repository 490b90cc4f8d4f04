"""A report in a run's folder: `report.json` for programs, `report.html` (one file that opens offline) for people."""

from __future__ import annotations

import json
from pathlib import Path

from helmlite.evaluate.gallery import Crop
from helmlite.evaluate.page import report_page
from helmlite.evaluate.report import RunReport, report_from_json, report_json
from helmlite.files import read_json, write_whole

JSON_NAME, PAGE_NAME = "report.json", "report.html"


def write_report(report: RunReport, folder: Path, gallery: tuple[Crop, ...] = ()) -> Path:
    """Writes `report.json` and `report.html` into `folder` and gives the page's path.  Raises OSError.

    gallery: crops of heads newly missed and newly found (`gallery.cut_crops`).  They show real people: leave it
    empty where the page is to be passed on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report_json(report), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / JSON_NAME, text + "\n")
    page = folder / PAGE_NAME
    write_whole(page, report_page(report, gallery))
    return page


def read_report(path: Path) -> RunReport:
    """The report in a run's folder, or in a `report.json`.  Raises OSError, ValueError."""
    file = path / JSON_NAME if path.is_dir() else path
    values = read_json(file, dict, "so it is not a report of helmlite; give the command again that wrote it")
    try:
        return report_from_json(values)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
