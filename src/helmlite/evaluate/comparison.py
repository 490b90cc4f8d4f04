"""Several models on the same pictures, the first of them the one that all others are held against.

Any mix of models and runtimes goes in as predictions; what comes out is plain data, which comparison_files.py writes.
All are asked at one number of false alarms (`errors.alarm_level`), each at the threshold that gives it on the tuning
pictures.  A difference is called a loss or a gain only where its paired 95 % interval leaves zero out; else these
pictures cannot tell the two apart.  Faults that have a name are looked for in every model but the first (findings/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from helmlite.data.dataset import Dataset
from helmlite.data.load import class_mapping
from helmlite.data.roles import Class, labels_of_role
from helmlite.detections import Detections, Predictor
from helmlite.evaluate.accuracy import Predictions, measure_accuracy
from helmlite.evaluate.causes.causes import ErrorCauses, explain_errors
from helmlite.evaluate.causes.disagreements import ChangeCauses, explain_changes
from helmlite.evaluate.causes.label_mistakes import LabelMistakes, find_label_mistakes
from helmlite.evaluate.diagnosis.diagnosis import Diagnosis, diagnose
from helmlite.evaluate.errors import HeadChanges, Matches, alarm_level, compare_heads, match_class, threshold_for_alarms
from helmlite.evaluate.extra_loss import RobustnessComparison, compare_robustness
from helmlite.evaluate.findings.faults import Faults, find_faults
from helmlite.evaluate.findings.leaks import Leak, OwnPictures
from helmlite.evaluate.gate import change_in_words, interval_in_words, told_in_words
from helmlite.evaluate.influence import Influence, most_influential
from helmlite.evaluate.measured import DataUsed, Measured
from helmlite.evaluate.robustness import DrawnCases, Robustness, WorsePredictions, draw_cases, measure_robustness
from helmlite.evaluate.statistics.intervals import Floats, Interval, known
from helmlite.evaluate.statistics.resamples import ChangedHeads, Resamples, resamples_of
from helmlite.evaluate.statistics.resampling import check_pairing
from helmlite.evaluate.statistics.resolution import Resolution, resolvable_loss
from helmlite.evaluate.thresholds import BEST_F1, DEFAULT_THRESHOLD, ThresholdRule, choose_thresholds
from helmlite.runtime.manifest import Thresholds

_RESAMPLES = 1000
_TOO_FEW_PICTURES = "too few pictures for an interval"


@dataclass(frozen=True)
class Contender:
    """One model as it goes into a comparison, its labels in the data set's classes.

    measured: its name and conditions, what it costs;  the accuracies in it are filled in by `compare`
    reported: what it found in the reported pictures;  tuning: in those that thresholds are chosen on
    own_thresholds: those that it carries, for each class; None where it carries none
    worse:    what it found in the reported pictures made worse; None where that was not asked
    predict:  asks the model again, with labels as here, whether it takes red for blue; None where it cannot be asked
    """

    measured: Measured
    reported: Predictions
    tuning: Predictions
    own_thresholds: tuple[float, ...] | None = None
    worse: WorsePredictions | None = None
    predict: Predictor | None = None


@dataclass(frozen=True)
class OperatingResult:
    """The no_helmet role at one threshold on the reported pictures.  recall: None where nothing of it is labelled"""

    threshold: float
    recall: float | None
    alarms_per_100: float


@dataclass(frozen=True)
class ComparedModel:
    """One model, measured.

    measured:       its row: accuracy, its interval, recall of no_helmet at the common number of false alarms, cost
    thresholds:     chosen for it by the rule, a score for each class, on the tuning pictures
    diagnosis:      what kind of errors it makes on the reported pictures, at these thresholds
    at_own_level:   bare heads at the threshold where it raises as many false alarms as the others there
    as_carried:     bare heads at the threshold that the model carries itself; None where it carries none
    with_the_firsts: bare heads if the first model's threshold were kept: what not choosing anew would cost
    robustness:      accuracy in bad conditions, at the chosen thresholds; None where it was not asked
    causes:          every missed head and false alarm at these thresholds, and what is known about why
    """

    measured: Measured
    thresholds: Thresholds
    diagnosis: Diagnosis
    causes: ErrorCauses
    at_own_level: OperatingResult | None = None
    as_carried: OperatingResult | None = None
    with_the_firsts: OperatingResult | None = None
    robustness: Robustness | None = None

    def thresholds_at_level(self, no_helmet_labels: Sequence[int]) -> tuple[float, ...]:
        """A score for each class: the chosen ones, and of no_helmet that of the common number of false alarms."""
        if self.at_own_level is None:
            return self.thresholds.by_class
        level = self.at_own_level.threshold
        return tuple(level if n in no_helmet_labels else score for n, score in enumerate(self.thresholds.by_class))


@dataclass(frozen=True)
class Difference:
    """A model against the first, in points, positive for a loss; None where it is unknown.

    changes:    heads that only one of the two finds, at equal false alarms of no_helmet, and what goes with it
    influence:  the pictures that mAP50-95's difference hangs on, the strongest first
    robustness: whether it loses more than the first in bad conditions; None where that was not asked
    says: every difference in a sentence that calls nothing a loss or a gain that may be chance
    faults: what is wrong with it that the first does right, as `findings.words` says it
    """

    name: str
    map_loss_points: float | None
    map_loss_ci95: tuple[float, float] | None
    recall_loss_points: float | None
    recall_loss_ci95: tuple[float, float] | None
    heads: HeadChanges | None
    changes: ChangeCauses
    influence: tuple[Influence, ...] = ()
    robustness: RobustnessComparison | None = None
    says: tuple[str, ...] = ()
    faults: Faults = field(default_factory=Faults)


@dataclass(frozen=True)
class Comparison:
    """Models in the order in which they were given, and each one but the first against the first.

    alarms_per_100: false alarms of no_helmet for every 100 tuning pictures that each model is allowed; None without
                    the role, or where no such head is ever found
    label_mistakes: labels that all models together contradict
    tuned_on:       split that thresholds were chosen on: the reported one itself where there is no other
    leaks:          reported pictures that look like pictures of the data's own train split
    own_pictures:   models whose provenance says that they were made with the reported pictures themselves
    """

    models: tuple[ComparedModel, ...]
    differences: tuple[Difference, ...]
    data: tuple[DataUsed, ...]
    resolution: Resolution
    label_mistakes: LabelMistakes
    alarms_per_100: float | None
    tuned_on: str
    remarks: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    measured_on: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    created: str = ""
    leaks: tuple[Leak, ...] = ()
    own_pictures: tuple[OwnPictures, ...] = ()

    def speedup_of(self, item: Measured) -> float | None:
        """How many times faster than the first a model is; None where either was not timed."""
        is_first = item is self.models[0].measured
        return (None if item.latency_ms_median is None else 1.0) if is_first else item.speedup


def common_classes(of_data: Sequence[Class], of_models: Mapping[str, Sequence[Class]]) -> tuple[list[int], list[str]]:
    """Indices of the data's classes that every model has, and a sentence for each class that some model lacks.

    Raises ValueError where no class is left.
    """
    reached = {name: set(class_mapping(classes, of_data).values()) for name, classes in of_models.items()}
    kept = [index for index in range(len(of_data)) if all(index in found for found in reached.values())]
    remarks = []
    for index, item in enumerate(of_data):
        lacking = [name for name, found in reached.items() if index not in found]
        if lacking:
            remarks.append(f"'{item.name}' is left out: {', '.join(lacking)} has no such class.")
    if not kept:
        known = "; ".join(f"{name}: {', '.join(item.name for item in found)}" for name, found in of_models.items())
        raise ValueError(
            f"No class of the data is known to every model. The data has {', '.join(item.name for item in of_data)}; "
            f"{known}. Give --role, for instance --role no_helmet=NAME."
        )
    return kept, remarks


def in_classes_of(predictions: Predictions, index_of: Mapping[int, int]) -> Predictions:
    """The predictions with labels renumbered by `index_of` (old -> new); detections of other labels are dropped."""

    def renumbered(found: Detections) -> Detections:
        kept = found[np.isin(found.labels, list(index_of))]
        labels = np.array([index_of[int(label)] for label in kept.labels], dtype=np.int64)
        return Detections(kept.boxes_xyxy, kept.scores, labels)

    return replace(predictions, detections=tuple(renumbered(found) for found in predictions.detections))


@dataclass(frozen=True)
class _Asked:
    """What all models are asked on: pictures, the no_helmet role's labels, how thresholds are chosen, the resamples."""

    reported: Dataset
    tuning: Dataset
    no_helmet: tuple[int, ...]
    rule: ThresholdRule
    draws: Resamples
    seed: int


@dataclass(frozen=True)
class _Seen:
    """What is known of a contender on the reported pictures; its row and its difference from the first share it.

    maps:    (1 + B,) mAP50-95 on all pictures and in every resample
    matches: bare heads;  point: the threshold with the common number of false alarms, None without the role
    worse:   bad conditions in the same resamples; None where that was not asked
    """

    contender: Contender
    maps: Floats
    matches: Matches
    point: float | None
    worse: DrawnCases | None


def compare(
    contenders: Sequence[Contender],
    reported: Dataset,
    tuning: Dataset,
    rule: ThresholdRule = BEST_F1,
    seed: int = 0,
) -> Comparison:
    """All models on the reported pictures, at thresholds that are chosen on the tuning pictures.

    Raises ValueError for no model, two of one name, and where they did not see the same pictures.
    """
    names = [item.measured.name for item in contenders]
    if not contenders:
        raise ValueError("There is no model to compare.")
    if len(set(names)) < len(names):
        raise ValueError(f"Every model needs a name of its own; got {', '.join(names)}.")
    first = contenders[0]
    for item in contenders[1:]:
        check_pairing(first.reported, item.reported)
        check_pairing(first.tuning, item.tuning)
    labels = tuple(labels_of_role(reported.classes, "no_helmet"))
    tuned = [match_class(item.tuning, tuning, labels) for item in contenders]
    level = alarm_level(tuned[0], *tuned[1:]) if labels else None
    points = [_asked_at(matches, level) for matches in tuned] if labels else [None] * len(contenders)
    draws = resamples_of(first.reported, reported, seed, _RESAMPLES)
    asked = _Asked(reported, tuning, labels, rule, draws, seed)
    seen = [_seen(item, point, asked) for item, point in zip(contenders, points, strict=True)]
    models = tuple(_model(item, seen[0].point, asked) for item in seen)
    differences = tuple(
        _difference((seen[0], models[0]), (item, model), asked)
        for item, model in zip(seen[1:], models[1:], strict=True)
    )
    same = tuning.split == reported.split
    return Comparison(
        models=models,
        differences=differences,
        data=(data_used(reported, first.reported, "reported"),)
        + (() if same else (data_used(tuning, first.tuning, "thresholds"),)),
        resolution=resolvable_loss(first.reported, reported, seed),
        label_mistakes=find_label_mistakes([item.reported for item in contenders], reported),
        alarms_per_100=level,
        tuned_on=tuning.split,
        remarks=(
            f"Thresholds were chosen on the reported pictures themselves ({reported.split}), which flatters recall.",
        )
        if same
        else (),
        seed=seed,
    )


def _asked_at(matches: Matches, level: float | None) -> float:
    """The threshold with this number of false alarms; the usual one where no such head is ever found, as the gate."""
    return DEFAULT_THRESHOLD if level is None else threshold_for_alarms(matches, level)


def _seen(item: Contender, point: float | None, asked: _Asked) -> _Seen:
    return _Seen(
        item,
        asked.draws.map(item.reported, asked.reported),
        match_class(item.reported, asked.reported, asked.no_helmet),
        point,
        None if item.worse is None else draw_cases(item.worse, asked.reported, asked.seed, _RESAMPLES),
    )


def data_used(dataset: Dataset, predictions: Predictions, purpose: str) -> DataUsed:
    """The pictures that were looked at, with their hash."""
    used = dataset.subset(list(predictions.indices))
    labels = labels_of_role(dataset.classes, "no_helmet")
    boxes = [sample.labels for sample in used]
    return DataUsed(
        purpose,
        "/".join(dataset.source.parts[-2:]) if dataset.source else "",  # a page may be shown to others
        dataset.split,
        len(used),
        sum(len(item) for item in boxes),
        used.sha256(),
        sum(int(np.isin(item, labels).sum()) for item in boxes) if labels else None,
    )


def difference_in_words(
    name: str,
    loss_points: float | None,
    loss_ci95: tuple[float, float] | None,
    why_none: str = _TOO_FEW_PICTURES,
) -> str:
    """A difference in one sentence; what its interval does not prove is not called a loss or a gain.

    why_none: why there is no interval, where there is none

    >>> difference_in_words("mAP50-95", 1.0, (0.2, 1.8))
    'mAP50-95: 1.00 points lost (95 % interval: a loss between 0.20 and 1.80).'
    >>> difference_in_words("mAP50-95", 1.0, (-0.5, 2.5))
    'mAP50-95: no difference shown (95 % interval: between a gain of 0.50 and a loss of 2.50).'
    """
    if loss_points is None:
        return f"{name}: unknown, nothing of it is labelled here."
    if loss_ci95 is None:
        return f"{name}: {told_in_words(loss_points, None)}, {why_none}."
    low, high = loss_ci95
    told = change_in_words(loss_points) if low > 0 or high < 0 else "no difference shown"
    return f"{name}: {told} (95 % interval: {interval_in_words(loss_ci95)})."


def recall_difference(
    before: Matches, after: Matches, thresholds: tuple[float, float], draws: Resamples
) -> tuple[float | None, Interval | None, str]:
    """Recall lost, in points, at thresholds that were chosen elsewhere; its 95 % interval, paired by head; in words.

    Without an interval on too few pictures or heads.
    """
    losses = 100 * (draws.recall(before, thresholds[0]) - draws.recall(after, thresholds[1]))
    was_found, is_found = before.found_at(thresholds[0]), after.found_at(thresholds[1])
    changed = ChangedHeads(int((was_found & ~is_found).sum()), int((is_found & ~was_found).sum()))
    loss, interval = known(losses[0]), draws.recall_loss_interval(losses, before, changed)
    too_few = draws.too_few_heads(before)
    why_none = f"no interval can be trusted on {too_few}" if too_few else _TOO_FEW_PICTURES
    return loss, interval, difference_in_words("Recall of no_helmet", loss, interval, why_none)


def _model(seen: _Seen, firsts_point: float | None, asked: _Asked) -> ComparedModel:
    item, reported = seen.contender, asked.reported
    accuracy = measure_accuracy(item.reported, reported)
    at_level = None if seen.point is None else operating_at(seen.matches, seen.point)
    row = replace(
        item.measured,
        map=accuracy.map,
        map50=accuracy.map50,
        map75=accuracy.map75,
        map_ci95=asked.draws.interval(seen.maps),
        by_size=accuracy.by_size,
        per_class=accuracy.per_class,
        recall_no_helmet=None if at_level is None else at_level.recall,
    )
    carried, labels = item.own_thresholds, asked.no_helmet
    thresholds = choose_thresholds(item.tuning, asked.tuning, asked.rule)
    return ComparedModel(
        measured=row,
        thresholds=thresholds,
        diagnosis=diagnose(item.reported, reported, thresholds.by_class),
        causes=explain_errors(item.reported, reported, thresholds.by_class),
        at_own_level=at_level,
        as_carried=operating_by_class(item.reported, reported, labels, carried) if carried and labels else None,
        with_the_firsts=None if firsts_point is None else operating_at(seen.matches, firsts_point),
        robustness=None if seen.worse is None else measure_robustness(seen.worse, thresholds.by_class),
    )


def operating_at(matches: Matches, threshold: float) -> OperatingResult:
    """What is found and what rings falsely when scores of at least `threshold` count."""
    return OperatingResult(threshold, matches.recall_at(threshold), matches.alarms_per_100(threshold))


def operating_by_class(
    predictions: Predictions, dataset: Dataset, labels: Sequence[int], thresholds: Sequence[float]
) -> OperatingResult:
    """All classes of a role, each at its own threshold, as a device decides."""
    parts = [(match_class(predictions, dataset, (label,)), thresholds[label]) for label in labels]
    heads = sum(matches.head_count for matches, _ in parts)
    found = sum(int(matches.found_at(threshold).sum()) for matches, threshold in parts)
    alarms = sum(matches.alarms_per_100(threshold) for matches, threshold in parts)
    return OperatingResult(min(thresholds[label] for label in labels), found / heads if heads else None, alarms)


def _difference(before: tuple[_Seen, ComparedModel], after: tuple[_Seen, ComparedModel], asked: _Asked) -> Difference:
    (first, first_model), (other, other_model) = before, after
    found = (first.contender.reported, other.contender.reported)
    losses = 100 * (first.maps - other.maps)
    loss, interval = known(losses[0]), asked.draws.loss_interval(losses)
    says = [difference_in_words("mAP50-95", loss, interval)]
    heads, recall_loss, recall_interval = None, None, None
    if first.point is not None and other.point is not None and first.matches.head_count:
        points = (first.point, other.point)
        heads = compare_heads(first.matches, other.matches, found[0], *points)
        recall_loss, recall_interval, sentence = recall_difference(first.matches, other.matches, points, asked.draws)
        says.append(f"{sentence} {heads.in_words().capitalize()}.")
    worse = None
    if first.worse is not None and other.worse is not None:
        worse = compare_robustness(first.worse, other.worse)
        says.append(worse.in_words())
    by_class = (first_model.thresholds.by_class, other_model.thresholds.by_class)
    at_level = (first_model.thresholds_at_level(asked.no_helmet), other_model.thresholds_at_level(asked.no_helmet))
    has_fallen = loss is not None and loss > 0  # a proof is not asked for: the finding needs one of its own
    asks_again = other.contender.predict if has_fallen else None
    return Difference(
        other.contender.measured.name,
        loss,
        interval,
        recall_loss,
        recall_interval,
        heads,
        changes=explain_changes(*found, asked.reported, *at_level),
        influence=most_influential(*found, asked.reported),
        robustness=worse,
        says=tuple(says),
        faults=find_faults(*found, asked.reported, by_class, asked.seed, asks_again),
    )
