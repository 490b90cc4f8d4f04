"""What is wrong with a data set, named with file and line, before a run is misled by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helmlite.data.check_boxes import box_findings
from helmlite.data.dataset import UnreadableImageError, read_image
from helmlite.data.duplicates import Fingerprint, find_duplicates, fingerprint
from helmlite.data.findings import Finding, finding
from helmlite.data.labels import SPLITS, Labels, SplitFiles, is_utf8
from helmlite.data.load import format_of, open_split, splits_of, strays_of
from helmlite.data.roles import Class, with_roles

SIZE_LIMITS_PX = (8, 16, 32, 96)  # side of a square of the box's area, in the picture's own pixels
FEWEST_TRAINING_PICTURES = 100
_NEEDED_ROLES = ("helmet", "no_helmet")
_READERS = 4  # threads that decode

Progress = Callable[[int, int], None]  # pictures looked at, pictures in all


@dataclass(frozen=True)
class SplitStatistics:
    """What one split holds.

    boxes:       boxes of each class, in the order of the classes
    sizes:       boxes below each of SIZE_LIMITS_PX, and the rest
    empty:       readable pictures without any box
    unreadable:  pictures that are missing or cannot be decoded
    """

    split: str
    pictures: int
    boxes: tuple[int, ...]
    sizes: tuple[int, ...]
    empty: int
    unreadable: int


@dataclass(frozen=True)
class CheckReport:
    """The findings, worst first, and what the splits hold."""

    source: Path
    format: str
    classes: tuple[Class, ...]
    splits: tuple[SplitStatistics, ...]
    findings: tuple[Finding, ...]

    @property
    def misleads(self) -> bool:
        """Whether a run on this data would be misled: any finding is an error."""
        return any(item.severity == "error" for item in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `json.dumps`."""
        return {
            "source": str(self.source),
            "format": self.format,
            "classes": [asdict(item) for item in self.classes],
            "size_limits_px": list(SIZE_LIMITS_PX),
            "splits": [asdict(item) for item in self.splits],
            "counts": dict(Counter(item.severity for item in self.findings)),
            "findings": [{**asdict(item), "file": str(item.file)} for item in self.findings],
        }


@dataclass(frozen=True)
class _Picture:
    """One picture, looked at: its size and look, or why it cannot be read."""

    split: str
    path: Path
    labels: Labels
    size: tuple[int, int] | None
    look: Fingerprint | None
    problem: str = ""


def check_dataset(
    source: Path | str, roles: Mapping[str, str] | None = None, progress: Progress | None = None
) -> CheckReport:
    """Looks at every picture and label file of a data set.

    Raises ValueError where there is no data set, none of its splits can be opened, or `roles` names no class of it.
    """
    path = Path(source)
    opened, findings = _open(path)
    names = tuple(dict.fromkeys(name for files in opened for name in files.names))
    classes = with_roles(names, roles)
    if any(files.names != names for files in opened):
        findings.append(finding("classes-differ", path, "the splits do not number the same classes in the same order"))
    pictures = _look_at_all(opened, progress)
    for picture in pictures:
        findings += _picture_findings(picture, classes)
    findings += [finding(item.kind, item.file, item.message, item.line) for item in strays_of(path)]
    findings += _repeated(pictures)
    findings += _duplicates(path, pictures)
    statistics = tuple(_statistics(files, pictures, names) for files in opened)
    findings += _split_findings(path, classes, statistics)
    order = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda item: (order[item.severity], item.kind, str(item.file), item.line or 0))
    return CheckReport(path, format_of(path), classes, statistics, tuple(findings))


def _open(path: Path) -> tuple[list[SplitFiles], list[Finding]]:
    opened: list[SplitFiles] = []
    findings: list[Finding] = []
    for split in splits_of(path):
        try:
            opened.append(open_split(path, split))
        except (ValueError, OSError) as error:
            findings.append(finding("split-unusable", path, f"split '{split}': {error}"))
    if not opened:
        raise ValueError(findings[0].message if findings else f"{path}: it names no split (train, val or test).")
    return opened, findings


def _look_at_all(opened: list[SplitFiles], progress: Progress | None) -> list[_Picture]:
    places = [(files, index) for files in opened for index in range(len(files.image_paths))]
    pictures: list[_Picture] = []
    with ThreadPoolExecutor(_READERS) as readers:  # OpenCV lets Python go on while it decodes
        for picture in readers.map(lambda place: _look_at(*place), places):
            pictures.append(picture)
            if progress is not None:
                progress(len(pictures), len(places))
    return pictures


def _look_at(files: SplitFiles, index: int) -> _Picture:
    path, labels = files.image_paths[index], files.read(index)
    try:
        image = read_image(path)
    except UnreadableImageError as error:
        return _Picture(files.split, path, labels, None, None, str(error).removeprefix(f"{path}: "))
    return _Picture(files.split, path, labels, (image.shape[1], image.shape[0]), fingerprint(image))


def _picture_findings(picture: _Picture, classes: tuple[Class, ...]) -> Iterator[Finding]:
    labels = picture.labels
    if not is_utf8(picture.path):
        yield finding("name-not-utf8", picture.path, "its name is not UTF-8; rename it")
    if picture.size is None:
        kind = "unreadable-picture" if picture.path.exists() else "missing-picture"
        yield finding(kind, picture.path, picture.problem)
    for problem in labels.problems:
        yield finding(problem.kind, problem.file, problem.message, problem.line)
    if labels.file is None:
        yield finding("no-label-file", picture.path, "no label file: taken as a picture without any head")
    elif not len(labels.labels) and not labels.problems:
        yield finding("no-boxes", picture.path, "nothing is labelled in it")
    if labels.in_parts and picture.size is None:
        return  # what a part of the picture is in pixels, nobody knows
    yield from box_findings(picture.path, labels, picture.size, classes)


def _repeated(pictures: list[_Picture]) -> Iterator[Finding]:
    first: dict[Path, _Picture] = {}
    for picture in pictures:
        earlier = first.setdefault(picture.path.resolve(), picture)
        if earlier is picture:
            continue
        if earlier.split == picture.split:
            yield finding("listed-twice", picture.path, f"listed twice in {picture.split}")
        else:
            yield finding("in-two-splits", picture.path, f"both in {earlier.split} and in {picture.split}")


def _duplicates(path: Path, pictures: list[_Picture]) -> Iterator[Finding]:
    """Near-duplicates and scenes across splits, and within a split how many."""
    seen = [(picture, picture.look) for picture in pictures if picture.look is not None]
    found = find_duplicates([look for _, look in seen])
    within: Counter[str] = Counter()
    for pair in found.pairs.tolist():
        first, second = (seen[index][0] for index in pair)
        if first.path.resolve() == second.path.resolve():
            continue
        if first.split == second.split:
            within[first.split] += 1
            continue
        message = f"in {first.split}, looks the same as {second.path.name} in {second.split}"
        yield finding("duplicate-across-splits", first.path, message)
    for split, count in within.items():
        yield finding("duplicates-in-split", path, f"{count} pairs of pictures in {split} look the same")
    for scene in found.scenes:
        splits = Counter(seen[index][0].split for index in scene.tolist())
        if len(splits) > 1:
            held = ", ".join(f"{count} in {split}" for split, count in splits.items())
            message = f"{len(scene)} pictures seem to come from one fixed camera ({held}): other cameras are not tested"
            yield finding("scene-across-splits", seen[int(scene[0])][0].path, message)


def _statistics(files: SplitFiles, pictures: list[_Picture], names: tuple[str, ...]) -> SplitStatistics:
    own = [picture for picture in pictures if picture.split == files.split]
    count = Counter(files.names[label] for picture in own for label in picture.labels.labels)
    sides = [_sides_px(picture.labels, picture.size) for picture in own if picture.size is not None]
    bins = np.digitize(np.concatenate(sides), SIZE_LIMITS_PX) if sides else np.zeros(0, np.int64)
    sizes = np.bincount(bins, minlength=len(SIZE_LIMITS_PX) + 1)
    return SplitStatistics(
        files.split,
        len(own),
        tuple(count[name] for name in names),
        tuple(int(value) for value in sizes),
        sum(picture.size is not None and not len(picture.labels.labels) for picture in own),
        sum(picture.size is None for picture in own),
    )


def _sides_px(labels: Labels, size: tuple[int, int]) -> NDArray[np.float64]:
    boxes = labels.in_pixels(size)
    return np.sqrt(np.clip(boxes[:, 2] - boxes[:, 0], 0, None) * np.clip(boxes[:, 3] - boxes[:, 1], 0, None))


def _split_findings(path: Path, classes: tuple[Class, ...], splits: tuple[SplitStatistics, ...]) -> Iterator[Finding]:
    """What no single file shows: splits and classes that are missing."""
    for split in SPLITS:
        if split not in (item.split for item in splits):
            yield finding("no-such-split", path, f"there is no split '{split}', which `helmlite compress` needs")
    for role in _NEEDED_ROLES:
        if role not in (item.role for item in classes):
            names = ", ".join(item.name for item in classes)
            yield finding("no-role", path, f"no class has the role {role} ({names}): give --role {role}=CLASS")
    for number, item in enumerate(classes):
        without = [split.split for split in splits if not split.boxes[number]]
        if len(without) == len(splits):
            yield finding("class-without-boxes", path, f"no box of class '{item.name}' anywhere")
        elif without:
            kind = "role-not-in-split" if item.role in _NEEDED_ROLES else "class-not-in-split"
            yield finding(kind, path, f"no box of class '{item.name}' in {', '.join(without)}")
    for statistics in splits:
        usable = statistics.pictures - statistics.unreadable
        if not sum(statistics.boxes):
            yield finding("nothing-labelled", path, f"no box at all in {statistics.split}")
        if statistics.split == "train" and usable < FEWEST_TRAINING_PICTURES:
            message = f"{usable} usable pictures in train: calibration wants at least {FEWEST_TRAINING_PICTURES}"
            yield finding("few-training-pictures", path, message)
