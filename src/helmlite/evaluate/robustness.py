"""Accuracy on pictures made worse as roadside cameras make them: a detector may hold its average and lose the night.

Every picture is read once, changed by each of the nine conditions in each of three severities (`conditions/`), and
forgotten; detections are what is kept.  A loss is the mAP50-95 of the pictures as they are minus that of the same
pictures under a condition, its interval paired by picture.  Of 27 intervals of 95 % about one misses the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from helmlite.data.dataset import Dataset
from helmlite.data.roles import labels_of_role
from helmlite.detections import Detections, Predictor
from helmlite.evaluate.accuracy import Predictions, Progress, measure_accuracy, read_predictions, save_predictions
from helmlite.evaluate.conditions import CONDITIONS, SEVERITIES, worsened
from helmlite.evaluate.errors import match_class
from helmlite.evaluate.statistics.intervals import Floats, known
from helmlite.evaluate.statistics.resamples import Resamples, resamples_of
from helmlite.evaluate.statistics.resampling import check_pairing
from helmlite.evaluate.thresholds import best_f1_threshold


@dataclass(frozen=True)
class Case:
    """One condition at one severity, 1 to 3."""

    condition: str
    severity: int

    def in_words(self) -> str:
        """`fog at severity 2 (visibility 100 m)`"""
        return f"{self.condition} at severity {self.severity} ({self.strength})"

    @property
    def strength(self) -> str:
        """What the severity means: `visibility 100 m`."""
        return CONDITIONS[self.condition].says[self.severity - 1]


@dataclass(frozen=True)
class WorsePredictions:
    """What a detector found in the pictures as they are, and in the same pictures under each case.

    seed: of what was drawn by chance; two detectors saw the same only with the same seed

    Raises ValueError where a case is of other pictures than the untouched.
    """

    untouched: Predictions
    worse: Mapping[Case, Predictions]
    seed: int = 0

    def __post_init__(self) -> None:
        for predictions in self.worse.values():
            check_pairing(self.untouched, predictions)


@dataclass(frozen=True)
class DrawnCases:
    """mAP50-95 of the untouched pictures and of each case, in the data set itself and in its resamples: (1 + B,) each.

    Drawn once, since it is what takes the time: a detector's own losses and how they differ from another's share it.
    """

    found: WorsePredictions
    dataset: Dataset
    draws: Resamples
    untouched: Floats
    worse: Mapping[Case, Floats]


@dataclass(frozen=True)
class Measures:
    """map, map50: in [0, 1];  recall_no_helmet: at the thresholds chosen on the untouched pictures;
    false_alarms_per_100: of the same role at the same thresholds, for every 100 pictures.  None: unknown"""

    map: float | None
    map50: float | None
    recall_no_helmet: float | None
    false_alarms_per_100: float | None


@dataclass(frozen=True)
class CaseMeasured:
    """Accuracy in one case, and what the case costs on the same pictures.

    strength:    what the severity means, in words
    loss_points: of mAP50-95 against the pictures as they are, negative for a gain
    loss_ci95:   its 95 % interval, paired by picture; None where there are too few pictures for one
    """

    condition: str
    severity: int
    strength: str
    measures: Measures
    loss_points: float | None
    loss_ci95: tuple[float, float] | None

    @property
    def is_told_from_none(self) -> bool:
        """Whether the interval of the loss leaves 0 out."""
        return self.loss_ci95 is not None and not self.loss_ci95[0] <= 0 <= self.loss_ci95[1]


@dataclass(frozen=True)
class Robustness:
    """Accuracy in every case.

    mean_map: mAP50-95 averaged over all cases; kept: what share of the untouched it is (mPC and rPC of Michaelis et
              al. 2019, section 3.3).  None where it is unknown in a case
    thresholds: score of each class of the no_helmet role from which on it counts; empty without that role, or where
              none was given and nothing was found
    units:    independent draws: pictures, or scenes where the data set names them
    seed:     of what was drawn to make the pictures worse
    """

    untouched: Measures
    cases: tuple[CaseMeasured, ...]
    mean_map: float | None
    kept: float | None
    thresholds: tuple[float, ...]
    pictures: int
    units: int
    resamples: int
    seed: int


def all_cases(conditions: Sequence[str] = tuple(CONDITIONS)) -> tuple[Case, ...]:
    """Every severity of these conditions, mildest first.  Raises ValueError for one that is unknown."""
    for name in conditions:
        if name not in CONDITIONS:
            raise ValueError(f"Unknown condition '{name}'. Known: {', '.join(CONDITIONS)}.")
    return tuple(Case(name, severity) for name in conditions for severity in SEVERITIES)


def predict_worsened(
    predict: Predictor,
    dataset: Dataset,
    untouched: Predictions,
    cases: Sequence[Case] = all_cases(),
    seed: int = 0,
    progress: Progress | None = None,
) -> WorsePredictions:
    """What `predict` finds under each case in the pictures that `untouched` could be measured on.

    One picture is in memory at a time, once as it is and once changed.  Raises UnreadableImageError for a picture that
    has become unreadable since.
    """
    found: dict[Case, list[Detections]] = {case: [] for case in cases}
    for position, index in enumerate(untouched.indices):
        sample = dataset[index]
        image, name = sample.read_image(), sample.image_path.name
        for case in cases:
            changed = worsened(image, sample.boxes_xyxy, case.condition, case.severity, name, seed)
            found[case].append(predict(changed))
        if progress is not None:
            progress(position + 1, len(untouched))
    worse = {case: replace(untouched, detections=tuple(items)) for case, items in found.items()}
    return WorsePredictions(untouched, worse, seed)


def worsened_kept(
    folder: Path,
    predict: Predictor,
    dataset: Dataset,
    untouched: Predictions,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> WorsePredictions:
    """As `predict_worsened`, all cases; kept in `folder`, a file for each, so that a resumed run need not look again.

    log: told where what was kept is damaged or incomplete, and is therefore made again
    """
    files = {
        case: folder / f"{case.condition.replace(' ', '-')}-{case.severity}-seed-{seed}.json" for case in all_cases()
    }
    if any(path.is_file() for path in files.values()):
        try:
            kept = {case: read_predictions(path) for case, path in files.items()}
        except (ValueError, OSError):
            log(f"{folder}: incomplete or damaged, and made again")
        else:
            first = next(iter(kept.values()))  # the others need not be held against the pictures once more
            if first.is_of(dataset) and all(item.is_beside(first) for item in kept.values()):
                return WorsePredictions(untouched, {case: item.predictions for case, item in kept.items()}, seed)
            log(f"{folder}: not of these very pictures, labels and classes, and made again")
    folder.mkdir(parents=True, exist_ok=True)
    found = predict_worsened(predict, dataset, untouched, seed=seed)
    for case, predictions in found.worse.items():
        save_predictions(predictions, dataset, files[case])
    return found


def draw_cases(found: WorsePredictions, dataset: Dataset, seed: int = 0, resamples: int = 1000) -> DrawnCases:
    """mAP50-95 in every case, and in `resamples` draws of the pictures.

    seed: of the draws; two detectors can be held against each other only with the same
    """
    draws = resamples_of(found.untouched, dataset, seed, resamples)
    worse = {case: draws.map(predictions, dataset) for case, predictions in found.worse.items()}
    return DrawnCases(found, dataset, draws, draws.map(found.untouched, dataset), worse)


def measure_robustness(drawn: DrawnCases, thresholds: Sequence[float] | None = None) -> Robustness:
    """Accuracy in each case, held against the pictures as they are.

    thresholds: the score of each class from which on a detection counts, as a bundle carries them; by default the
                best F1 of the no_helmet role on the untouched pictures
    """
    found, dataset, draws = drawn.found, drawn.dataset, drawn.draws
    labels = labels_of_role(dataset.classes, "no_helmet")
    chosen = _thresholds(found.untouched, dataset, labels, thresholds)
    untouched = _measures(found.untouched, dataset, labels, chosen)
    rows = []
    for case, predictions in found.worse.items():
        losses = 100 * (drawn.untouched - drawn.worse[case])
        rows.append(
            CaseMeasured(
                case.condition,
                case.severity,
                case.strength,
                _measures(predictions, dataset, labels, chosen),
                known(losses[0]),
                draws.loss_interval(losses),
            )
        )
    maps = [row.measures.map for row in rows if row.measures.map is not None]
    mean = float(np.mean(maps)) if maps and len(maps) == len(rows) else None
    return Robustness(
        untouched=untouched,
        cases=tuple(rows),
        mean_map=mean,
        kept=mean / untouched.map if mean is not None and untouched.map else None,
        thresholds=tuple(chosen.values()),
        pictures=len(found.untouched),
        units=draws.units,
        resamples=len(draws.weights) - 1,
        seed=found.seed,
    )


def _thresholds(
    untouched: Predictions, dataset: Dataset, labels: Sequence[int], given: Sequence[float] | None
) -> dict[tuple[int, ...], float]:
    """From which score on which classes count: class by class where that is given, else all of the role alike."""
    if given is not None:
        return {(label,): float(given[label]) for label in labels}
    best = best_f1_threshold(match_class(untouched, dataset, labels)) if labels else None
    return {} if best is None else {tuple(labels): best[0]}


def _measures(
    predictions: Predictions, dataset: Dataset, labels: Sequence[int], thresholds: Mapping[tuple[int, ...], float]
) -> Measures:
    accuracy = measure_accuracy(predictions, dataset)
    heads = found = 0
    alarms = 0.0
    for classes, threshold in thresholds.items():
        matches = match_class(predictions, dataset, classes)
        heads += matches.head_count
        found += int(matches.found_at(threshold).sum())
        alarms += matches.alarms_per_100(threshold)
    return Measures(accuracy.map, accuracy.map50, found / heads if heads else None, alarms if thresholds else None)
