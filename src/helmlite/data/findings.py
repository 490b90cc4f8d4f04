"""The kinds of findings that `data check` knows, and how bad each is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from helmlite.data.labels import as_utf8

# error: a run on this data would be misled; warning: worth a look; note: good to know
SEVERITY_OF = {
    "missing-picture": "error",
    "unreadable-picture": "error",
    "name-not-utf8": "error",
    "not-a-box": "error",
    "unknown-class": "error",
    "box-outside": "error",
    "box-without-area": "error",
    "size-differs": "error",
    "contradicting-boxes": "error",
    "in-two-splits": "error",
    "duplicate-across-splits": "error",
    "split-unusable": "error",
    "classes-differ": "error",
    "role-not-in-split": "error",
    "nothing-labelled": "error",
    "box-over-edge": "warning",
    "doubled-box": "warning",
    "no-label-file": "warning",
    "label-without-picture": "warning",
    "class-count-differs": "warning",
    "picture-without-labels": "warning",
    "listed-twice": "warning",
    "scene-across-splits": "warning",
    "class-not-in-split": "warning",
    "class-without-boxes": "warning",
    "few-training-pictures": "warning",
    "no-such-split": "warning",
    "no-role": "warning",
    "no-boxes": "note",
    "duplicates-in-split": "note",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where.  `line` counts from 1; None where the whole file is meant."""

    severity: str
    kind: str
    file: Path
    line: int | None
    message: str


def finding(kind: str, file: Path, message: str, line: int | None = None) -> Finding:
    """A finding of this kind, as bad as that kind is; it can be printed, whatever letters the file's name has."""
    return Finding(SEVERITY_OF[kind], kind, Path(as_utf8(str(file))), line, as_utf8(message))
