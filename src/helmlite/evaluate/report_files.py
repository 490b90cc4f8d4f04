"""A report in a run's folder: `report.json` for programs, `report.html` (one file that opens offline) for people,
`report.md` for a pull request, `pictures.csv`; and `gallery.json`, the crops, so that the page can be made again.
"""

from __future__ import annotations

import json
from pathlib import Path

from helmlite.evaluate.pages.gallery import Crop
from helmlite.evaluate.pages.markdown import report_markdown
from helmlite.evaluate.pages.run_page import report_page
from helmlite.evaluate.pictures import CSV_NAME
from helmlite.evaluate.plain import from_plain, to_plain
from helmlite.evaluate.report import RunReport, report_from_json, report_json
from helmlite.files import read_json, write_whole

JSON_NAME, PAGE_NAME, MARKDOWN_NAME, GALLERY_NAME = "report.json", "report.html", "report.md", "gallery.json"
REPORT_NAMES = (JSON_NAME, PAGE_NAME, MARKDOWN_NAME, GALLERY_NAME, CSV_NAME)


def write_report(report: RunReport, folder: Path, gallery: tuple[Crop, ...] = (), pictures: str | None = None) -> Path:
    """Writes the files into `folder` and gives the page's path.  Raises OSError.

    gallery:  crops of heads newly missed and newly found (`gallery.cut_crops`).  They show real people: leave it
              empty where the page is to be passed on.
    pictures: the text of `pictures.csv` (`pictures.pictures_csv`); None writes no such file
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / JSON_NAME, _json(report_json(report), indent=2))
    write_whole(folder / MARKDOWN_NAME, report_markdown(report))
    write_whole(folder / GALLERY_NAME, _json(to_plain(gallery)))
    if pictures is not None:
        write_whole(folder / CSV_NAME, pictures)
    write_whole(folder / PAGE_NAME, report_page(report, gallery))
    return folder / PAGE_NAME


def read_gallery(run: Path) -> tuple[Crop, ...]:
    """The crops of a run's page; none where the run kept none.  Raises OSError, ValueError where they are damaged."""
    file = run / GALLERY_NAME
    if not file.is_file():
        return ()
    crops = read_json(file, list, "remove it, and the page comes without pictures")
    return tuple(from_plain(Crop, item, str(file)) for item in crops)


def read_report(path: Path) -> RunReport:
    """The report in a run's folder, or in a `report.json`.  Raises OSError, ValueError."""
    file = path / JSON_NAME if path.is_dir() else path
    values = read_json(file, dict, "so it is not a report of helmlite; give the command again that wrote it")
    try:
        return report_from_json(values)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _json(values: object, indent: int | None = None) -> str:
    return json.dumps(values, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
