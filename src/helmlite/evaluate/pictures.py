"""What each model did on each picture, as a table for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import numpy as np

from helmlite.data.dataset import Dataset
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.errors import match_picture
from helmlite.evaluate.statistics.resampling import check_pairing
from helmlite.runtime.manifest import Thresholds
from helmlite.spreadsheet import spreadsheet_text

CSV_NAME = "pictures.csv"


def pictures_csv(models: Mapping[str, tuple[Predictions, Thresholds]], dataset: Dataset) -> str:
    """A row for each picture and class: labelled boxes, and of each model how many it found and how many it invented.

    models: name -> what it found in these pictures, and from which score on a detection of each class counts
    Raises ValueError for no model, and where they did not see the same pictures.
    """
    if not models:
        raise ValueError("A table of pictures needs at least one model.")
    (first, _), *others = models.values()
    for found, _ in others:
        check_pairing(first, found)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = [f"{name}: {what}" for name in models for what in ("found", "false alarms", "best score")]
    writer.writerow(["picture", "class", "role", "labelled", *(spreadsheet_text(item) for item in columns)])
    for position, index in enumerate(first.indices):
        sample = dataset[index]
        for label, item in enumerate(dataset.classes):
            boxes = sample.boxes_xyxy[sample.labels == label]
            said = (sample.image_path.name, item.name, item.role or "")
            row: list[object] = [*(spreadsheet_text(text) for text in said), len(boxes)]
            for found, thresholds in models.values():
                detections = found.detections[position]
                of_class = detections[detections.labels == label]
                scores, alarms = match_picture(of_class.above(thresholds.by_class[label]), boxes)
                best = f"{float(of_class.scores.max()):.4f}" if len(of_class) else ""
                row += [int(np.isfinite(scores).sum()), len(alarms), best]
            writer.writerow(row)
    return out.getvalue()
