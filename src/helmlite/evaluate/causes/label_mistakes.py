"""Labels that are probably wrong: boxes where detectors are sure and the label says otherwise, or nothing.

Three kinds.  *Missing*: heads are reported and nothing is labelled there.  *Wrong class*: another class is reported on
a labelled head.  *Ghost*: a head that is not small is labelled where nobody finds any.
That confident detectors find wrong labels is long known (Northcutt et al. 2021, "Confident Learning", for classes;
Tkachenko et al. 2023, "ObjectLab", for boxes); here the score is kept so simple that it can be read:

    missing       mean score of the detectors for the class that they report there (0 of one that is silent)
    wrong class   that mean for the other class, minus that for the labelled one
    ghost         (1 - highest score there) * share of the heads alike that get a higher one: of those that are
                  blurred, dark, crowded too, the least of these, or of the clear heads.  Small heads are never ghosts

A detector that learned from these very labels has learned their mistakes too: look at splits that it did not see.
What is listed is to be looked at, not to be changed unseen: a sure detector may just be wrong.

`benchmarks/planted_label_mistakes.py` on bikes_helmets (test, 76 pictures, 140 heads; helmet-yolo12m in PyTorch, CPU,
416 pixels; seeds 0 to 4, 30 planted in each): 46 of 50 removed labels are found, 48 of 50 changed classes and 36 of 50
ghosts; of the first 15 listed all were planted, of the first 30 82 %.  What the set itself has wrong counts against
that: of the 11 that are listed in the set as it is, none looks like an error of the detector (one is a man in a cap
beside a motorcycle).  On val: 46, 46 and 40; 95 % and 75 %.  The limits for ghosts were set with these figures in
view, and the detector has seen pictures of this origin, so another set will fare worse.

A weak detector's list is worth little: india_traffic (val, 93 pictures, mAP50 49) gives 23, 16 and 23 of 50, and of
the first 30 listed 16 % were planted.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_areas, box_iou, nms
from helmlite.data.dataset import Dataset, Sample
from helmlite.data.labels import as_utf8
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.causes.box_facts import BoxFacts, measure_boxes
from helmlite.evaluate.causes.traits import LOWEST_SHARE, Limits, choose_limits, traits_of
from helmlite.evaluate.diagnosis.error_kinds import Groups, group_of, head_groups
from helmlite.evaluate.errors import MATCH_IOU
from helmlite.evaluate.plain import to_plain
from helmlite.evaluate.statistics.resampling import check_pairing
from helmlite.evaluate.statistics.risks import FEWEST_HEADS
from helmlite.files import write_whole
from helmlite.spreadsheet import spreadsheet_text

MISSING, WRONG_CLASS, GHOST = "missing", "wrong class", "ghost"
LEAST_SURE = 0.3
GHOST_SCORE = 0.1  # up to which a head counts as not found at all
GHOST_PEERS = 0.8  # of the heads alike get more: where fewer do, one that is not found says more of the detector
SILENT_IOU = 0.3  # with no labelled box of any class more: looser than a match, since a loose label is a label too
SILENT_COVER = 0.5  # nor does half of the smaller of the two lie in the other: a face within a head is that head
FORMATS = (".csv", ".json")
_CLEAR = "clear"  # a head without any trait
MISTAKES_NAME = "label-mistakes.csv"  # beside a report
_COLUMNS = ("picture", "kind", "sure", "labelled", "suggested", "left", "top", "right", "bottom", "box", "says")


@dataclass(frozen=True)
class LabelCandidate:
    """One label to look at.

    picture:   path below the data set's folder, or as it is where it lies elsewhere;  picture_index: in the data set
    kind:      `missing`, `wrong class` or `ghost`
    sure:      in [0, 1], see above
    box_xyxy:  pixels of the picture: the reported box of a missing one, else the labelled box
    box:       index of the labelled box in its picture; None where it is missing
    labelled:  its class; None where it is missing
    suggested: class that is reported; None for a ghost
    scores:    of each detector, for the class that is reported (for a ghost: for any head); None: it reports none there
    """

    picture: str
    picture_index: int
    kind: str
    sure: float
    box_xyxy: tuple[float, float, float, float]
    box: int | None
    labelled: str | None
    suggested: str | None
    scores: tuple[float | None, ...]
    says: str


@dataclass(frozen=True)
class LabelMistakes:
    """What to look at, the surest first, among so many labelled heads in so many pictures.

    detectors:  how many were asked
    not_judged: labelled heads, not small, that nobody finds, where too many heads alike are not found either: missed
                by the detector or wrong in the labels, it cannot be told
    """

    candidates: tuple[LabelCandidate, ...]
    split: str
    pictures: int
    boxes: int
    detectors: int
    not_judged: int = 0

    def in_words(self) -> str:
        """`3 of 140 labelled heads look wrong and 5 seem to be missing, in 76 pictures (1 detector)`.

        Where some could not be judged, how many.
        """
        missing = sum(item.kind == MISSING for item in self.candidates)
        asked = f"{self.detectors} detector{'' if self.detectors == 1 else 's'}"
        return (
            f"{len(self.candidates) - missing} of {self.boxes} labelled heads look wrong and {missing} seem to be "
            f"missing, in {self.pictures} pictures ({asked})"
            + (f"; {self.not_judged} that nobody finds cannot be judged" if self.not_judged else "")
        )


@dataclass(frozen=True)
class _Labelled:
    """One labelled head: its scores by detector (rows) and group of classes (columns), and the facts of its box."""

    picture: int
    box: int
    box_xyxy: NDArray[np.float32]
    label: int
    scores: NDArray[np.float64]  # (detectors, groups), NaN where nothing is reported
    suggested: tuple[int, ...]  # for each group the label of its loudest detection there
    facts: BoxFacts


def find_label_mistakes(
    predictions: Sequence[Predictions],
    dataset: Dataset,
    least_sure: float = LEAST_SURE,
    share: float = LOWEST_SHARE,
) -> LabelMistakes:
    """Labels that these detectors contradict, the surest first.  Pictures are read one after another.

    predictions: of one or more detectors on the same pictures, low scores included: a ghost is a head with none
    least_sure:  below it nothing is listed
    share:       of the heads that count as small, as blurred and as dark

    Pictures that nobody labelled are left out.
    Raises ValueError without a detector, where two did not see the same pictures, and for values outside 0 to 1.
    """
    if not predictions:
        raise ValueError("No detector was given: label mistakes are found by what detectors report.")
    if not 0 < least_sure <= 1:
        raise ValueError(f"What is listed is at least so sure: a number above 0 and up to 1; got {least_sure}.")
    for other in predictions[1:]:
        check_pairing(predictions[0], other)
    groups = head_groups(dataset.classes)
    heads: list[_Labelled] = []
    candidates: list[LabelCandidate] = []
    pictures = 0
    for position, index in enumerate(predictions[0].indices):
        sample = dataset[index]
        if not sample.is_labelled:
            continue
        pictures += 1
        found = [_heads_of(side.detections[position], groups) for side in predictions]
        heads += _labelled_heads(index, sample, found, dataset, groups)
        candidates += _missing(index, sample, found, dataset, groups, least_sure)
    candidates += _wrong_classes(heads, dataset, groups)
    ghosts, not_judged = _ghosts(heads, dataset, choose_limits([item.facts for item in heads], share))
    candidates += ghosts
    listed = sorted((item for item in candidates if item.sure >= least_sure), key=lambda item: -item.sure)
    return LabelMistakes(tuple(listed), dataset.split, pictures, len(heads), len(predictions), len(not_judged))


def write_label_mistakes(mistakes: LabelMistakes, path: Path) -> None:
    """Writes the list as CSV or JSON, by the file's ending: whole or not at all.

    The CSV has a row for each candidate and a column for each detector's score, empty where it reports nothing; it
    opens in a spreadsheet, where a column of one's own can say what was decided.
    Raises ValueError for another ending, OSError where it cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: label mistakes are written as {' or '.join(FORMATS)}, by the file's ending.")
    if path.suffix.lower() == ".json":
        text = json.dumps(to_plain(mistakes), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        text = _as_csv(mistakes)
    write_whole(path, text)


def _as_csv(mistakes: LabelMistakes) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(f"score_{number + 1}" for number in range(mistakes.detectors))])
    for item in mistakes.candidates:
        place = [f"{value:.1f}" for value in item.box_xyxy]
        scores = ["" if score is None else f"{score:.4f}" for score in item.scores]
        picture, kind, labelled, suggested, says = (
            spreadsheet_text(text or "") for text in (item.picture, item.kind, item.labelled, item.suggested, item.says)
        )
        said = [kind, f"{item.sure:.4f}", labelled, suggested, *place, item.box, says]
        writer.writerow([picture, *said, *scores])
    return text.getvalue()


def _heads_of(found: Detections, groups: Groups) -> Detections:
    return found[np.isin(found.labels, [label for group in groups for label in group])]


def _labelled_heads(
    index: int, sample: Sample, found: Sequence[Detections], dataset: Dataset, groups: Groups
) -> list[_Labelled]:
    boxes = np.flatnonzero(np.isin(sample.labels, [label for group in groups for label in group]))
    at = sample.boxes_xyxy[boxes]
    heads = []
    for number, box, facts in zip(boxes, at, measure_boxes(dataset, index, at, at), strict=True):
        scores, suggested = _scores_at(box, found, groups)
        heads.append(_Labelled(index, int(number), box, int(sample.labels[number]), scores, suggested, facts))
    return heads


def _scores_at(
    box: NDArray[np.float32], found: Sequence[Detections], groups: Groups
) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Highest score of each detector (rows) for each group (columns) on this box, and each group's loudest label."""
    scores = np.full((len(found), len(groups)), np.nan)
    loudest = [(-1.0, group[0]) for group in groups]
    for row, detections in enumerate(found):
        on_it = detections[_iou(box[None], detections.boxes_xyxy)[0] >= MATCH_IOU]
        for column, group in enumerate(groups):
            own = on_it[np.isin(on_it.labels, group)]
            if len(own):
                best = int(own.scores.argmax())
                scores[row, column] = own.scores[best]
                loudest[column] = max(loudest[column], (float(own.scores[best]), int(own.labels[best])))
    return scores, tuple(label for _, label in loudest)


def _missing(
    index: int, sample: Sample, found: Sequence[Detections], dataset: Dataset, groups: Groups, least_sure: float
) -> list[LabelCandidate]:
    """Spots where a head is reported and nothing labelled.  A mean of least_sure needs one score that is as high."""
    boxes = np.concatenate([item.above(least_sure).boxes_xyxy for item in found])
    loud = np.concatenate([item.above(least_sure).scores for item in found])
    spots = nms(boxes, loud, np.zeros(len(loud), dtype=np.int64), MATCH_IOU)
    candidates = []
    for box in boxes[spots]:
        if not _is_silent(box, sample, groups):
            continue
        scores, suggested = _scores_at(box, found, groups)
        means = np.nan_to_num(scores).mean(axis=0)
        best = int(means.argmax())
        name = dataset.classes[suggested[best]].name
        candidates.append(
            LabelCandidate(
                picture=_path_of(dataset, index),
                picture_index=index,
                kind=MISSING,
                sure=float(means[best]),
                box_xyxy=_plain_box(box),
                box=None,
                labelled=None,
                suggested=name,
                scores=_plain_scores(scores[:, best]),
                says=f"{name} is reported and nothing is labelled here",
            )
        )
    return candidates


def _is_silent(box: NDArray[np.float32], sample: Sample, groups: Groups) -> bool:
    """Whether no label speaks of this box.  A rider around it says nothing of his head, a head around it does."""
    if not len(sample.labels):
        return True
    if _iou(box[None], sample.boxes_xyxy).max() >= SILENT_IOU:
        return False
    of_heads = np.isin(sample.labels, [label for group in groups for label in group])
    heads = sample.boxes_xyxy[of_heads]
    size = np.clip(np.minimum(box[2:], heads[:, 2:]) - np.maximum(box[:2], heads[:, :2]), 0, None)
    smaller = np.minimum(box_areas(box[None]), box_areas(heads))
    return bool((size.prod(axis=1) <= SILENT_COVER * smaller).all())


def _wrong_classes(heads: Sequence[_Labelled], dataset: Dataset, groups: Groups) -> list[LabelCandidate]:
    candidates = []
    for head in heads:
        own = groups.index(group_of(head.label, groups))
        means = np.nan_to_num(head.scores).mean(axis=0)
        others = np.where(np.arange(len(groups)) == own, -np.inf, means)
        best = int(others.argmax())
        if best == own or others[best] <= means[own]:
            continue
        suggested, labelled = (dataset.classes[label].name for label in (head.suggested[best], head.label))
        says = f"labelled {labelled}, but {suggested} is reported"
        candidates.append(
            _of_head(
                WRONG_CLASS, head, float(others[best] - means[own]), suggested, head.scores[:, best], says, dataset
            )
        )
    return candidates


def _ghosts(
    heads: Sequence[_Labelled], dataset: Dataset, limits: Limits
) -> tuple[list[LabelCandidate], list[_Labelled]]:
    """Labelled heads, not small, that no detector finds even faintly, against the heads that share their traits.

    The second list holds those of which it cannot be said, since too many alike are not found either.
    """
    highest = np.array([float(np.nan_to_num(item.scores).max(initial=0.0)) for item in heads])
    traits = [traits_of(item.facts, limits) for item in heads]
    alike_scores = _scores_by_trait(highest, traits)
    candidates, not_judged = [], []
    for head, score, own in zip(heads, highest, traits, strict=True):
        if score > GHOST_SCORE or "small" in own:
            continue
        alike = _share_scored_higher(float(score), own, alike_scores)
        if alike < GHOST_PEERS:
            not_judged.append(head)
            continue
        name = dataset.classes[head.label].name
        says = f"labelled {name}, {head.facts.height_pixels:.0f} px high, but nothing above {score:.2f} is reported"
        by_detector = np.array([_highest(row) for row in head.scores])
        candidates.append(_of_head(GHOST, head, (1 - float(score)) * alike, None, by_detector, says, dataset))
    return candidates, not_judged


def _scores_by_trait(
    highest: NDArray[np.float64], traits: Sequence[tuple[str, ...]]
) -> dict[str | None, NDArray[np.float64]]:
    """Sorted scores of the heads with each trait, of those without any (`_CLEAR`) and of all (None)."""
    scores: dict[str | None, NDArray[np.float64]] = {None: np.sort(highest)}
    for trait in {_CLEAR, *(trait for own in traits for trait in own)}:
        chosen = np.array([trait in (own or (_CLEAR,)) for own in traits], dtype=bool)
        scores[trait] = np.sort(highest[chosen])
    return scores


def _share_scored_higher(score: float, own: Sequence[str], scores: Mapping[str | None, NDArray[np.float64]]) -> float:
    """Share of the heads alike that get more than `score`: the least over the traits, or of the heads without any.

    Too few are no measure: then all heads are asked.  scores: as `_scores_by_trait` gives them
    """
    alike = [scores[trait] for trait in own or (_CLEAR,)]
    enough = [item for item in alike if len(item) >= FEWEST_HEADS] or [scores[None]]
    return min(1 - float(np.searchsorted(item, score, side="right")) / len(item) for item in enough)


def _of_head(
    kind: str,
    head: _Labelled,
    sure: float,
    suggested: str | None,
    scores: NDArray[np.float64],
    says: str,
    dataset: Dataset,
) -> LabelCandidate:
    return LabelCandidate(
        picture=_path_of(dataset, head.picture),
        picture_index=head.picture,
        kind=kind,
        sure=sure,
        box_xyxy=_plain_box(head.box_xyxy),
        box=head.box,
        labelled=dataset.classes[head.label].name,
        suggested=suggested,
        scores=_plain_scores(scores),
        says=says,
    )


def _path_of(dataset: Dataset, index: int) -> str:
    path = dataset.image_paths[index]
    folder = dataset.source if dataset.source is None or dataset.source.is_dir() else dataset.source.parent
    if folder is not None and path.is_relative_to(folder):
        path = path.relative_to(folder)
    return as_utf8(path.as_posix())


def _iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(box_iou(first, second))


def _highest(scores: NDArray[np.float64]) -> float:
    known = scores[~np.isnan(scores)]
    return float(known.max()) if known.size else float("nan")


def _plain_scores(scores: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(score) else float(score) for score in scores)


def _plain_box(box: NDArray[np.float32]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in box)
    return left, top, right, bottom
