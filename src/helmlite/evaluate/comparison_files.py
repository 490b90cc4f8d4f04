"""A comparison in a folder: `comparison.json` for programs, `comparison.html` for people, `comparison.md` for a pull
request, and `pictures.csv` with what each model did on each picture.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from helmlite.data.dataset import Dataset
from helmlite.evaluate.comparison import Comparison, Contender
from helmlite.evaluate.comparison_page import comparison_markdown, comparison_page
from helmlite.evaluate.errors import match_picture
from helmlite.evaluate.plain import from_plain, to_plain
from helmlite.files import read_json, write_whole
from helmlite.runtime.manifest import Thresholds

JSON_NAME, PAGE_NAME, MARKDOWN_NAME, CSV_NAME = "comparison.json", "comparison.html", "comparison.md", "pictures.csv"
FORMAT_VERSION = 1


def write_comparison(comparison: Comparison, folder: Path, pictures: str | None = None) -> Path:
    """Writes the files into `folder`, which is made, and gives the page's path.  Raises OSError.

    pictures: the text of `pictures.csv` (`pictures_csv`); None leaves that file as it is
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(comparison_json(comparison), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / JSON_NAME, text + "\n")
    write_whole(folder / MARKDOWN_NAME, comparison_markdown(comparison))
    if pictures is not None:
        write_whole(folder / CSV_NAME, pictures)
    write_whole(folder / PAGE_NAME, comparison_page(comparison))
    return folder / PAGE_NAME


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain JSON values."""
    return {"format": FORMAT_VERSION, "kind": "comparison", **to_plain(comparison)}


def read_comparison(path: Path) -> Comparison:
    """The comparison in a folder, or in a `comparison.json`.  Raises OSError, ValueError."""
    file = path / JSON_NAME if path.is_dir() else path
    values = read_json(file, dict, "so it is not a comparison of helmlite; give the command again that wrote it")
    if values.get("kind") != "comparison" or values.get("format") != FORMAT_VERSION:
        raise ValueError(f"{file}: expected a comparison of format {FORMAT_VERSION}.")
    return from_plain(Comparison, values, str(file))


def pictures_csv(contenders: Sequence[Contender], thresholds: Sequence[Thresholds], dataset: Dataset) -> str:
    """A row for each picture and class: labelled boxes, and of each model how many it found and how many it invented.

    thresholds: of each model, a score for each class, from which on a detection counts
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [item.measured.name for item in contenders]
    columns = [f"{name}: {what}" for name in names for what in ("found", "false alarms", "best score")]
    writer.writerow(["picture", "class", "role", "labelled", *columns])
    for position, index in enumerate(contenders[0].reported.indices):
        sample = dataset[index]
        for label, item in enumerate(dataset.classes):
            boxes = sample.boxes_xyxy[sample.labels == label]
            row: list[object] = [_safe(sample.image_path.name), _safe(item.name), item.role or "", len(boxes)]
            for side, chosen in zip(contenders, thresholds, strict=True):
                detections = side.reported.detections[position]
                of_class = detections[detections.labels == label]
                scores, alarms = match_picture(of_class.above(chosen.by_class[label]), boxes)
                best = f"{float(of_class.scores.max()):.4f}" if len(of_class) else ""
                row += [int(np.isfinite(scores).sum()), len(alarms), best]
            writer.writerow(row)
    return out.getvalue()


def _safe(text: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
