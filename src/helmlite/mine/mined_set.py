"""The pre-labelled set on the disk: a YOLO data set, which CVAT imports as it is, and what mining knows about it.

    images/train/*, labels/train/*.txt, train.txt, data.yaml    CVAT's "Ultralytics YOLO Detection 1.0" as well
    mined.json      every picture: where it is from, why it was chosen, what was suggested, and by which detector
    mined.csv       the same as a table, a row for each suggestion
    annotations.xml, labels.json      for CVAT (cvat.py)
    tasks.json, config.xml            for Label Studio (label_studio.py)

mined.json keeps the suggestions, so that the label files may be corrected where they are.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from helmlite.data.dataset import Sample
from helmlite.data.labels import as_utf8
from helmlite.data.roles import Class
from helmlite.data.yolo import write_yolo_config, write_yolo_labels
from helmlite.evaluate.plain import from_plain, to_plain
from helmlite.files import check_new_folder, new_folder, read_json, write_whole
from helmlite.mine.choose import Candidate, PreLabel
from helmlite.mine.cvat import write_cvat
from helmlite.mine.label_studio import write_label_studio
from helmlite.mine.mine import Mined
from helmlite.mine.reasons import Spot
from helmlite.runtime.sources import Source, open_source
from helmlite.spreadsheet import spreadsheet_text

TOOLS = ("yolo", "cvat", "label-studio")
MINED_NAME, TABLE_NAME = "mined.json", "mined.csv"
IMAGES, LABELS = "images/train", "labels/train"
FORMAT = 1
_JPEG_QUALITY = 95
_COLUMNS = (
    "picture", "chosen_for", "score", "reasons", "class", "class_score", "left", "top", "right", "bottom", "by", "says",
)  # fmt: skip


@dataclass(frozen=True)
class Detector:
    """A detector that looked.  thresholds: by class, from which on it reports"""

    name: str
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class MinedPicture:
    """One picture of the set.

    picture:    its file name in `images/train`;  size: width and height in pixels
    source, frame, time_s: the file and frame that it was taken from;  group: the video, None of single pictures
    score:      what it is worth by the reason that it was chosen for, in [0, 1]
    reasons:    reason -> what it is worth by it
    """

    picture: str
    size: tuple[int, int]
    source: str
    frame: int
    time_s: float | None
    group: str | None
    chosen_for: str
    score: float
    reasons: Mapping[str, float]
    spots: tuple[Spot, ...]
    labels: tuple[PreLabel, ...]


@dataclass(frozen=True)
class MinedSet:
    """What mined.json holds.

    detectors: the first is the one that is to become better
    frames, of_interest, known_twins, twins, remarks, problems, interrupted: see `mine.Mined` and `choose.Chosen`
    """

    format: int
    source: str
    tool: str
    classes: tuple[Class, ...]
    detectors: tuple[Detector, ...]
    pictures: tuple[MinedPicture, ...]
    frames: int
    of_interest: int
    known_twins: int
    twins: int
    remarks: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    interrupted: bool = False


def write_mined(mined: Mined, source: Source, out: Path, tool: str = "yolo") -> MinedSet:
    """Writes the chosen pictures with their suggestions into a new folder; nothing is left there on an error.

    tool: one of TOOLS, for which files are added.  Frames of a video are read again, since none was kept.
    Raises ValueError for an unknown tool, a folder that is in use, or where nothing was chosen.
    """
    check_tool(tool)
    check_new_folder(out)
    if not mined.chosen.pictures:
        raise ValueError(f"Nothing in {source.name} is worth labelling: {_in_words(mined)}.")
    described = describe(mined, source, tool)
    candidates = [candidate for candidate, _ in mined.chosen.pictures]
    with new_folder(out) as folder:
        _write_pictures(folder / IMAGES, described.pictures, candidates, source)
        _write_labels(folder, described)
        if tool == "cvat":
            write_cvat(folder, described)
        if tool == "label-studio":
            write_label_studio(folder, described, f"{out.name}/{IMAGES}")
        write_whole(folder / MINED_NAME, _json(described))
        write_whole(folder / TABLE_NAME, _table(described))
    return described


def check_tool(tool: str) -> None:
    """Raises ValueError where `tool` is none of TOOLS."""
    if tool not in TOOLS:
        raise ValueError(f"Unknown tool '{tool}'. A mined set is written for {', '.join(TOOLS)}.")


def read_mined(folder: Path) -> MinedSet:
    """What mined.json in this folder says.  Raises ValueError where there is none, or it is damaged."""
    path = folder / MINED_NAME
    if not path.is_file():
        raise ValueError(f"{folder}: no {MINED_NAME} in it; give the --out folder of `helmlite mine`.")
    values = read_json(path, dict, "copy the folder again")
    if values.get("format") != FORMAT:
        raise ValueError(f"{path}: of format {values.get('format')}, this version reads {FORMAT}.")
    return from_plain(MinedSet, values, str(path))


def describe(mined: Mined, source: Source, tool: str) -> MinedSet:
    """What mined.json will hold."""
    names = _names([candidate for candidate, _ in mined.chosen.pictures], source)
    pictures = tuple(
        MinedPicture(
            picture=name,
            size=candidate.size,
            source=as_utf8(candidate.source),
            frame=candidate.index,
            time_s=candidate.time_s,
            group=as_utf8(Path(candidate.source).stem) if source.kind == "video" else None,
            chosen_for=reason,
            score=candidate.worths().get(reason, 0.0),
            reasons=candidate.worths(),
            spots=candidate.spots,
            labels=candidate.labels,
        )
        for name, (candidate, reason) in zip(names, mined.chosen.pictures, strict=True)
    )
    detectors = tuple(
        Detector(item.name, {one.name: limit for one, limit in zip(item.classes, item.thresholds, strict=True)})
        for item in mined.watchers
    )
    return MinedSet(
        format=FORMAT,
        source=as_utf8(source.name),
        tool=tool,
        classes=mined.classes,
        detectors=detectors,
        pictures=pictures,
        frames=mined.frames,
        of_interest=mined.of_interest,
        known_twins=mined.chosen.known_twins,
        twins=mined.chosen.twins,
        remarks=mined.remarks,
        problems=tuple(as_utf8(item) for item in mined.problems),
        interrupted=mined.interrupted,
    )


def _in_words(mined: Mined) -> str:
    parts = [f"{mined.frames} looked at", f"{mined.of_interest} of interest"]
    if mined.chosen.known_twins:
        parts.append(f"{mined.chosen.known_twins} like pictures that are labelled already")
    return ", ".join(parts)


def _names(candidates: Sequence[Candidate], source: Source) -> list[str]:
    """A file name for each picture, whose stems differ, upper and lower case alike."""
    taken: set[str] = set()
    names = []
    for item in candidates:
        file = Path(as_utf8(item.source))
        wanted = f"{file.stem}_{item.index:06d}" if source.kind == "video" else file.stem
        stem, number = wanted, 2
        while stem.casefold() in taken:
            stem, number = f"{wanted}_{number}", number + 1
        taken.add(stem.casefold())
        names.append(stem + (".jpg" if source.kind == "video" else file.suffix))
    return names


def _write_pictures(
    folder: Path, pictures: Sequence[MinedPicture], candidates: Sequence[Candidate], source: Source
) -> None:
    folder.mkdir(parents=True)
    if source.kind != "video":
        for picture, candidate in zip(pictures, candidates, strict=True):
            assert candidate.path is not None  # pictures come from files
            shutil.copyfile(candidate.path, folder / picture.picture)
        return
    wanted = {picture.frame: picture.picture for picture in pictures}
    frames = open_source(str(source.paths[0])).frames(lambda problem: None)
    for frame in frames:
        if frame.index in wanted:
            bgr = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
            encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
            (folder / wanted.pop(frame.index)).write_bytes(encoded.tobytes())
        if not wanted:
            break
    frames.close()
    if wanted:
        raise OSError(f"{source.name}: frame {min(wanted)} could be read once, but not a second time.")


def _write_labels(folder: Path, described: MinedSet) -> None:
    labels = folder / LABELS
    labels.mkdir(parents=True)
    label_of = {item.name: label for label, item in enumerate(described.classes)}
    for picture in described.pictures:
        boxes = np.array([item.box_xyxy for item in picture.labels], np.float32).reshape(-1, 4)
        numbers = np.array([label_of[item.class_name] for item in picture.labels], np.int64)
        sample = Sample(folder / IMAGES / picture.picture, boxes, numbers)
        write_yolo_labels((labels / picture.picture).with_suffix(".txt"), sample, picture.size)
    lines = [f"{IMAGES}/{picture.picture}\n" for picture in described.pictures]
    (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
    write_yolo_config(folder / "data.yaml", [item.name for item in described.classes], {"train": "train.txt"})


def _json(described: MinedSet) -> str:
    return json.dumps(to_plain(described), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _table(described: MinedSet) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for picture in described.pictures:
        reasons = "; ".join(f"{reason} {worth:.3f}" for reason, worth in picture.reasons.items())
        name, chosen_for, reasons = map(spreadsheet_text, (picture.picture, picture.chosen_for, reasons))
        start = [name, chosen_for, f"{picture.score:.4f}", reasons]
        says = spreadsheet_text("; ".join(item.says for item in picture.spots))
        for item in picture.labels:
            score = "" if item.score is None else f"{item.score:.4f}"
            place = [f"{value:.1f}" for value in item.box_xyxy]
            class_name, by = spreadsheet_text(item.class_name), spreadsheet_text(" + ".join(item.by))
            writer.writerow([*start, class_name, score, *place, by, says])
        if not picture.labels:
            writer.writerow([*start, *[""] * 7, says])
    return text.getvalue()
