"""The set to train on: the corrected pictures with a weight for each, alone or together with the user's own set.

    images/train/*, labels/train/*.txt    the corrected pictures, those without any head too: they teach what is none
    weights.csv       pictures that taught something weigh more (data/weights.py)
    data.yaml         where the user's own set is given: its `train` and this one, its val and test, in its classes
    meta.csv          the scene or video of each picture, where any is known
    outcomes.json, outcomes.csv    what the person decided, box by box (outcomes.py)

Val and test stay the user's own: mined pictures were chosen because detectors fail on them, so that accuracy on them
says nothing about the street.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helmlite.data.dataset import Sample
from helmlite.data.labels import SplitFiles
from helmlite.data.load import class_mapping, format_of, open_split, splits_of
from helmlite.data.roles import Class, with_roles
from helmlite.data.weights import LARGEST_WEIGHT, write_weights
from helmlite.data.yolo import read_yolo_config, write_yolo_config, write_yolo_labels
from helmlite.evaluate.plain import to_plain
from helmlite.files import check_new_folder, new_folder, write_whole
from helmlite.mine.corners import NamedBox
from helmlite.mine.corrected import Corrected
from helmlite.mine.mined_set import IMAGES, LABELS, MinedPicture, MinedSet
from helmlite.mine.outcomes import CONFIRMED, KINDS, Outcome, decide, is_as_suggested, with_more
from helmlite.spreadsheet import spreadsheet_text

WEIGHTS_NAME, OUTCOMES_NAME = "weights.csv", "outcomes"
HARD_WEIGHT = 3.0
_COLUMNS = ("picture", "kind", "class", "suggested", "score", "by", "left", "top", "right", "bottom", "says")


@dataclass(frozen=True)
class TakenBack:
    """What was made of the corrections.

    pictures: in the new set;  hard: those of them that weigh `weight`, since something was wrong in them
    unchanged: pictures whose labels are exactly as suggested: right, or opened by nobody, which no format tells apart
    not_asked: classes of the user's own set that could not be given to a box, as the mined set does not have them
    not_seen: mined pictures that nobody has looked at, left out;  unknown: pictures that were not mined, left out
    """

    pictures: int
    hard: int
    unchanged: int
    not_asked: tuple[str, ...]
    weight: float
    outcomes: tuple[Outcome, ...]
    not_seen: tuple[str, ...]
    unknown: tuple[str, ...]

    def count_kinds(self) -> dict[str, int]:
        """How many boxes there are of each of `outcomes.KINDS`; none is left out."""
        counted = Counter(item.kind for item in self.outcomes)
        return {kind: counted[kind] for kind in KINDS}

    def remarks(self) -> tuple[str, ...]:
        """What the user must know, one sentence each."""
        told = [f"{self.unchanged} of {self.pictures} pictures came back exactly as suggested."]
        if self.unchanged == self.pictures:
            told.append("No label differs from what was suggested: is this the corrected set?")
        if self.not_asked:
            told.append(
                f"Nobody was asked for {', '.join(self.not_asked)}: where the corrected pictures show any, training "
                "takes it for background. `helmlite mine --classes-of DATA` offers every class of your set."
            )
        if self.not_seen:
            told.append(f"{len(self.not_seen)} mined pictures have not come back; they are left out.")
        if self.unknown:
            told.append(f"{len(self.unknown)} pictures were not mined ({self.unknown[0]} ...); they are left out.")
        return tuple(told)


def take_back(
    corrected: Corrected,
    mined: MinedSet,
    mined_folder: Path,
    out: Path,
    own: Path | None = None,
    weight: float = HARD_WEIGHT,
) -> TakenBack:
    """Writes the set to train on into a new folder; nothing is left there on an error.

    own:    the user's YOLO set, whose classes are taken and whose pictures come along
    weight: of a picture in which a suggestion was wrong or something missing, above 0; the others weigh 1

    Raises ValueError for a folder that is in use, a weight that is none, a set of another format than YOLO, and for a
    class that the set does not have.
    """
    check_new_folder(out)
    if not 0 < weight <= LARGEST_WEIGHT:
        raise ValueError(f"The weight of hard pictures is above 0 and at most {LARGEST_WEIGHT:g}; got {weight:g}.")
    files = _own_files(own)
    said = [box.class_name for boxes in corrected.boxes.values() for box in boxes]
    classes = with_more(mined.classes, said)
    target = _classes_of(files[0], mined) if files else classes
    label_of = _labels(classes, target, said, own)
    first = mined.detectors[0].name
    pictures = [item for item in mined.pictures if item.picture in corrected.boxes]
    outcomes = {
        item.picture: decide(item.picture, item.labels, corrected.boxes[item.picture], mined.classes, first)
        for item in pictures
    }
    unchanged = [item for item in pictures if is_as_suggested(item.labels, corrected.boxes[item.picture])]
    asked = class_mapping(target, classes)
    hard = [name for name, own_outcomes in outcomes.items() if any(one.kind != CONFIRMED for one in own_outcomes)]
    with new_folder(out) as folder:
        _write_pictures(folder, mined_folder, pictures, corrected.boxes, label_of)
        write_weights(folder / WEIGHTS_NAME, {f"{IMAGES}/{name}": weight for name in hard})
        _write_config(folder / "data.yaml", target, files)
        _write_groups(folder / "meta.csv", pictures, files)
        taken = TakenBack(
            pictures=len(pictures),
            hard=len(hard),
            unchanged=len(unchanged),
            not_asked=tuple(item.name for label, item in enumerate(target) if label not in asked),
            weight=weight,
            outcomes=tuple(one for item in pictures for one in outcomes[item.picture]),
            not_seen=corrected.not_seen,
            unknown=corrected.unknown,
        )
        about = {**to_plain(taken), "counts": taken.count_kinds()}
        write_whole(folder / f"{OUTCOMES_NAME}.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")
        write_whole(folder / f"{OUTCOMES_NAME}.csv", _table(taken.outcomes))
    return taken


def _own_files(own: Path | None) -> tuple[SplitFiles, ...]:
    """Every split of the user's own set, train first."""
    if own is None:
        return ()
    if format_of(own) != "yolo":
        raise ValueError(
            f"{own}: is not in YOLO format, whose data.yaml can name two sets; "
            f"`helmlite data convert {own} --to yolo --out DIR` makes it so."
        )
    names = [name for name in splits_of(own) if name != "train"]
    return tuple(open_split(own, name) for name in ("train", *names))


def _classes_of(files: SplitFiles, mined: MinedSet) -> tuple[Class, ...]:
    """Classes of the user's own set; with the roles that `mine` was given where the mined set has the same ones."""
    same = files.names == tuple(item.name for item in mined.classes)
    return mined.classes if same else with_roles(files.names)


def _labels(classes: Sequence[Class], target: Sequence[Class], said: Sequence[str], own: Path | None) -> dict[str, int]:
    """Class name -> label in the set that is written."""
    index_of = class_mapping(classes, target)
    label_of = {item.name: index_of[number] for number, item in enumerate(classes) if number in index_of}
    for name in said:
        if name not in label_of:
            known = ", ".join(item.name for item in target)
            raise ValueError(f"'{name}' in the corrected labels is no class of {own} ({known}).")
    return label_of


def _write_pictures(
    folder: Path,
    mined_folder: Path,
    pictures: Sequence[MinedPicture],
    boxes_of: Mapping[str, Sequence[NamedBox]],
    label_of: Mapping[str, int],
) -> None:
    for name in (IMAGES, LABELS):
        (folder / name).mkdir(parents=True)
    for item in pictures:
        shutil.copyfile(mined_folder / IMAGES / item.picture, folder / IMAGES / item.picture)
        own = boxes_of[item.picture]
        boxes = np.array([box.box_xyxy for box in own], np.float32).reshape(-1, 4)
        labels = np.array([label_of[box.class_name] for box in own], np.int64)
        sample = Sample(folder / IMAGES / item.picture, boxes, labels)
        write_yolo_labels((folder / LABELS / item.picture).with_suffix(".txt"), sample, item.size)


def _write_config(path: Path, classes: Sequence[Class], files: Sequence[SplitFiles]) -> None:
    names = [item.name for item in classes]
    if not files:
        write_yolo_config(path, names, {"train": IMAGES}, WEIGHTS_NAME)
        return
    config = read_yolo_config(files[0].source)  # links are kept: labels lie beside the link, not where it leads
    places: dict[str, str | list[str]] = {
        split: [str(entry.absolute()) for entry in entries] for split, entries in config.splits.items()
    }
    places["train"] = [*places["train"], IMAGES]
    write_yolo_config(path, names, places, [*(str(item.absolute()) for item in config.weights), WEIGHTS_NAME])


def _write_groups(path: Path, pictures: Sequence[MinedPicture], files: Sequence[SplitFiles]) -> None:
    rows = [(Path(item.picture).stem, "train", item.group) for item in pictures if item.group]
    for one in files:
        rows += [
            (image.stem, one.split, group)
            for image, group in zip(one.image_paths, one.groups or (None,) * len(one.image_paths), strict=True)
            if group
        ]
    if rows:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("stem", "split", "group"), *rows])


def _table(outcomes: Sequence[Outcome]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for item in outcomes:
        score = "" if item.score is None else f"{item.score:.4f}"
        picture, kind, class_name, suggested, by, says = (
            spreadsheet_text(text or "")
            for text in (item.picture, item.kind, item.class_name, item.suggested, " + ".join(item.by), item.says)
        )
        place = [f"{value:.1f}" for value in item.box_xyxy]
        writer.writerow([picture, kind, class_name, suggested, score, by, *place, says])
    return text.getvalue()
