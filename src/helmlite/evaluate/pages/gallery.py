"""Which places are worth a look, as crops side by side: heads lost and won, false alarms, labels that may be wrong.

Heads lost and won come in the order of disagreement, bare heads before all others: a score that fell from 0.9 to
nothing says more than one that slipped below its threshold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helmlite.data.dataset import Dataset
from helmlite.data.roles import labels_of_role
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.causes.causes import ErrorCauses
from helmlite.evaluate.causes.disagreements import ChangedHead
from helmlite.evaluate.comparison import Comparison
from helmlite.evaluate.pages.crops import ListedBox, ListedCrop, cut_listed
from helmlite.evaluate.plain import from_plain, to_plain
from helmlite.files import read_json, write_whole

NEWLY_MISSED, NEWLY_FOUND = "heads newly missed", "heads newly found"
FALSE_ALARMS, DOUBTFUL_LABELS = "false alarms", "labels to look at"
GALLERY_NAME = "gallery.json"  # beside the page, so that it can be made again
MOST_CROPS = 24  # of a part; fewer of each where there are several models


@dataclass(frozen=True)
class GalleryPart:
    """One list of places.

    kind:  what they are: NEWLY_MISSED, NEWLY_FOUND, FALSE_ALARMS, DOUBTFUL_LABELS
    sides: names of the detectors, from left to right, as in each crop's `jpegs`
    total: how many there are, more than `crops` where the list was cut
    """

    kind: str
    sides: tuple[str, ...]
    total: int
    crops: tuple[ListedCrop, ...]


def cut_gallery(
    comparison: Comparison, reported: Sequence[Predictions], dataset: Dataset, most: int = MOST_CROPS
) -> tuple[GalleryPart, ...]:
    """The parts that hold something.  Pictures are read one after another; one that has gone leaves its crop out.

    reported: what each model of the comparison found in the reported pictures, in its order
    most:     crops of a part
    """
    models, bare = comparison.models, labels_of_role(dataset.classes, "no_helmet")
    limit = max(most // max(len(comparison.differences), 1), 6)
    parts: list[GalleryPart] = []

    def cut(kind: str, numbers: Sequence[int], listed: Sequence[ListedBox], equal_alarms: bool) -> None:
        sides = [reported[number] for number in numbers]
        chosen = [models[number] for number in numbers]
        thresholds = [m.thresholds_at_level(bare) if equal_alarms else m.thresholds.by_class for m in chosen]
        crops = cut_listed(listed, sides, thresholds, dataset, bare, limit)
        if listed:
            parts.append(GalleryPart(kind, tuple(models[n].measured.name for n in numbers), len(listed), crops))

    bare_names = {dataset.classes[label].name for label in bare}
    for number, item in enumerate(comparison.differences, start=1):
        cut(NEWLY_MISSED, (0, number), _changed(item.changes.newly_missed, bare_names), equal_alarms=True)
        cut(NEWLY_FOUND, (0, number), _changed(item.changes.newly_found, bare_names), equal_alarms=True)
        cut(FALSE_ALARMS, (0, number), _alarms(models[number].causes), equal_alarms=False)
    if not comparison.differences:
        cut(FALSE_ALARMS, (0,), _alarms(models[0].causes), equal_alarms=False)
    doubtful = [
        ListedBox(found.picture_index, found.box_xyxy, found.says) for found in comparison.label_mistakes.candidates
    ]
    cut(DOUBTFUL_LABELS, sorted({0, len(models) - 1}), doubtful, equal_alarms=False)
    return tuple(parts)


def write_gallery(gallery: Sequence[GalleryPart], folder: Path) -> None:
    """Keeps the crops in `folder`.  Raises OSError."""
    write_whole(folder / GALLERY_NAME, json.dumps(to_plain(gallery), ensure_ascii=False, allow_nan=False) + "\n")


def read_gallery(folder: Path) -> tuple[GalleryPart, ...]:
    """The crops that are kept in `folder`; none where none were.  Raises OSError, ValueError where they are damaged."""
    file = folder / GALLERY_NAME
    if not file.is_file():
        return ()
    parts = read_json(file, list, "remove it, and the page comes without pictures")
    return tuple(from_plain(GalleryPart, item, str(file)) for item in parts)


def _changed(heads: Sequence[ChangedHead], bare_names: set[str]) -> list[ListedBox]:
    """In the order of disagreement, bare heads first."""
    ordered = sorted(heads, key=lambda item: item.missed.class_name not in bare_names)
    return [ListedBox(item.missed.head.picture, item.missed.box_xyxy, _in_words(item)) for item in ordered]


def _in_words(item: ChangedHead) -> str:
    scores = [
        f"{score:.2f}" if score is not None else "nothing" for score in (item.baseline_score, item.candidate_score)
    ]
    return f"{item.missed.class_name}, {scores[0]} → {scores[1]}: {item.missed.says}"


def _alarms(causes: ErrorCauses) -> list[ListedBox]:
    return [ListedBox(alarm.picture_index, alarm.box_xyxy, alarm.says) for alarm in causes.alarms]
