"""Models trained in one place and tested in others: the matrix *trained on* x *tested on*.

What a model loses away from home cannot be read along its row: other pictures are easier or harder for every model, so
that 60 points here and 50 there say nothing.  It is read down a column, on the same pictures, against the best model
that was trained on the column's own set, paired by picture.  Where no model was trained on a set the loss is unknown.

Which of several is the best is decided on the tuning pictures, never on those that are reported.  Bare heads are
counted at one number of false alarms for all models of a column (`errors.alarm_level`), each at the threshold that
gives it on the tuning pictures, and beside it at the thresholds that a model brings from home.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from helmlite.data.dataset import Dataset
from helmlite.data.roles import labels_of_role
from helmlite.evaluate.accuracy import Predictions, measure_accuracy
from helmlite.evaluate.comparison import (
    Contender,
    OperatingResult,
    data_used,
    difference_in_words,
    operating_at,
    operating_by_class,
    recall_difference,
)
from helmlite.evaluate.errors import Matches, alarm_level, match_class, threshold_for_alarms
from helmlite.evaluate.measured import DataUsed
from helmlite.evaluate.statistics.intervals import Floats, Interval, known
from helmlite.evaluate.statistics.resamples import Resamples, resamples_of
from helmlite.evaluate.statistics.resampling import check_pairing


@dataclass(frozen=True)
class LookedAt:
    """What every model found in one data set, as `cross_domain` takes it.

    reported, tuning: the same split twice where the set has no other
    contenders:       the models in the same order for every set, labels in the set's classes
    """

    name: str
    reported: Dataset
    tuning: Dataset
    contenders: tuple[Contender, ...]


@dataclass(frozen=True)
class TrainedModel:
    """A row of the matrix.

    trained_on: names of the sets; None where nobody said and the model does not know
    known_from: how that is known: "as given", "its own record", or "" where it is not
    """

    name: str
    trained_on: tuple[str, ...] | None = None
    known_from: str = ""
    input_size: int | None = None
    runtime: str = ""
    precision: str = ""


@dataclass(frozen=True)
class Domain:
    """A column of the matrix.

    best:     the model trained on this set with the highest mAP50-95 on its tuning pictures; None where none was
    tuned_on: split that the best and all thresholds were chosen on
    alarms_per_100: false alarms of no_helmet for every 100 tuning pictures that each model is allowed here; None
              without the role, or where no such head is ever found
    units:    independent pictures, or scenes where the set names them;  classes: names of those that every model knows
    """

    name: str
    data: tuple[DataUsed, ...]
    best: str | None
    tuned_on: str
    alarms_per_100: float | None
    units: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class DomainCell:
    """One model on one set.  Accuracies and recalls in [0, 1], losses in points, negative for a gain; None: unknown.

    at_home:  whether the model was trained on this set; None where it is not known what it was trained on
    at_level: bare heads at the number of false alarms that all models of the column are allowed
    as_carried: bare heads at the thresholds that the model brings; None where it brings none
    against:  the model that it is held against; None for that model itself, and where there is none
    """

    model: str
    tested_on: str
    at_home: bool | None
    map: float | None
    map_ci95: Interval | None
    map50: float | None
    map50_ci95: Interval | None
    at_level: OperatingResult | None = None
    recall_ci95: Interval | None = None
    as_carried: OperatingResult | None = None
    against: str | None = None
    map_loss_points: float | None = None
    map_loss_ci95: Interval | None = None
    recall_loss_points: float | None = None
    recall_loss_ci95: Interval | None = None
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class CrossDomain:
    """The matrix.  cells: row by row, in the order of `models` and `domains`."""

    models: tuple[TrainedModel, ...]
    domains: tuple[Domain, ...]
    cells: tuple[DomainCell, ...]
    remarks: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    created: str = ""

    def cell(self, model: str, tested_on: str) -> DomainCell:
        """The cell of this model and set.  Raises KeyError where there is none."""
        for item in self.cells:
            if (item.model, item.tested_on) == (model, tested_on):
                return item
        raise KeyError((model, tested_on))


def cross_domain(models: Sequence[TrainedModel], sets: Sequence[LookedAt], seed: int = 0) -> CrossDomain:
    """The matrix from what the models found.

    Raises ValueError for no model, no set, two of one name, and contenders that are not `models`, in their order.
    """
    names = [item.name for item in models]
    for kind, found in (("model", names), ("data set", [item.name for item in sets])):
        if not found:
            raise ValueError(f"There is no {kind} to fill a matrix with.")
        if len(set(found)) < len(found):
            raise ValueError(f"Every {kind} needs a name of its own; got {', '.join(found)}.")
    columns = [_column(models, item, seed) for item in sets]
    return CrossDomain(
        models=tuple(models),
        domains=tuple(domain for domain, _ in columns),
        cells=tuple(cells[row] for row in range(len(models)) for _, cells in columns),
        remarks=tuple(_remarks(models, sets)),
        seed=seed,
    )


def _column(models: Sequence[TrainedModel], looked: LookedAt, seed: int) -> tuple[Domain, list[DomainCell]]:
    found = looked.contenders
    if [item.measured.name for item in found] != [item.name for item in models]:
        raise ValueError(f"{looked.name}: expected predictions of {', '.join(item.name for item in models)}.")
    for item in found[1:]:
        check_pairing(found[0].reported, item.reported)
        check_pairing(found[0].tuning, item.tuning)
    best = _best(models, looked)
    labels = labels_of_role(looked.reported.classes, "no_helmet")
    tuned = [match_class(item.tuning, looked.tuning, labels) for item in found]
    first = 0 if best is None else best
    level = alarm_level(tuned[first], *tuned[:first], *tuned[first + 1 :]) if labels else None
    draws = resamples_of(found[0].reported, looked.reported, seed)
    sides = [
        _side(item, matches, level, labels, looked.reported, draws) for item, matches in zip(found, tuned, strict=True)
    ]
    cells = [
        _cell(model, looked.name, side, None if best is None else models[best].name, sides[first], draws)
        for model, side in zip(models, sides, strict=True)
    ]
    data = [data_used(looked.reported, found[0].reported, "reported")]
    if looked.tuning.split != looked.reported.split:
        data.append(data_used(looked.tuning, found[0].tuning, "thresholds"))
    domain = Domain(
        looked.name,
        tuple(data),
        None if best is None else models[best].name,
        looked.tuning.split,
        level,
        draws.units,
        tuple(item.name for item in looked.reported.classes),
    )
    return domain, cells


def _best(models: Sequence[TrainedModel], looked: LookedAt) -> int | None:
    """Which of the models that were trained on this set is the best on its tuning pictures; the first of equal ones."""
    at_home = [row for row, model in enumerate(models) if looked.name in (model.trained_on or ())]
    if len(at_home) < 2:
        return at_home[0] if at_home else None
    return max(at_home, key=lambda row: measure_accuracy(looked.contenders[row].tuning, looked.tuning).map or 0.0)


@dataclass(frozen=True)
class _Side:
    """One model on the reported pictures.  maps, maps50: (1 + B,) on the set itself, then on each resample."""

    maps: Floats
    maps50: Floats
    matches: Matches
    threshold: float | None
    as_carried: OperatingResult | None


def _side(
    item: Contender,
    tuned: Matches,
    level: float | None,
    labels: Sequence[int],
    dataset: Dataset,
    draws: Resamples,
) -> _Side:
    found: Predictions = item.reported
    carried = item.own_thresholds
    return _Side(
        draws.map(found, dataset),
        draws.map(found, dataset, ious=(0,)),
        match_class(found, dataset, labels),
        None if level is None else threshold_for_alarms(tuned, level),
        operating_by_class(found, dataset, labels, carried) if carried and labels else None,
    )


def _cell(
    model: TrainedModel, tested_on: str, side: _Side, best: str | None, reference: _Side, draws: Resamples
) -> DomainCell:
    at_level = None if side.threshold is None else operating_at(side.matches, side.threshold)
    cell = DomainCell(
        model=model.name,
        tested_on=tested_on,
        at_home=None if model.trained_on is None else tested_on in model.trained_on,
        map=known(side.maps[0]),
        map_ci95=draws.interval(side.maps),
        map50=known(side.maps50[0]),
        map50_ci95=draws.interval(side.maps50),
        at_level=at_level,
        recall_ci95=None
        if at_level is None
        else draws.head_interval(draws.recall(side.matches, at_level.threshold), side.matches),
        as_carried=side.as_carried,
    )
    if best is None:
        return _told(cell, f"What it loses on {tested_on} is unknown: no model here was trained on it.")
    if best == model.name:
        return _told(cell, f"The best here that was trained on {tested_on}; the others are held against it.")
    return _against(cell, best, side, reference, draws)


def _against(cell: DomainCell, best: str, side: _Side, reference: _Side, draws: Resamples) -> DomainCell:
    """The cell with what it loses against the best that was trained there, paired by picture and by head."""
    losses = 100 * (reference.maps - side.maps)
    loss, interval = known(losses[0]), draws.loss_interval(losses)
    says = [difference_in_words("mAP50-95", loss, interval)]
    recall_loss, recall_interval = None, None
    if side.threshold is not None and reference.threshold is not None and side.matches.head_count:
        points = reference.threshold, side.threshold
        recall_loss, recall_interval, sentence = recall_difference(reference.matches, side.matches, points, draws)
        says.append(sentence)
    return replace(
        cell,
        against=best,
        map_loss_points=loss,
        map_loss_ci95=interval,
        recall_loss_points=recall_loss,
        recall_loss_ci95=recall_interval,
        says=tuple(says),
    )


def _remarks(models: Sequence[TrainedModel], sets: Sequence[LookedAt]) -> list[str]:
    lines = []
    names = [item.name for item in sets]
    for model in models:
        if model.trained_on is None:
            lines.append(
                f"{model.name}: what it was trained on is not known; say so with {model.name},trained_on=NAME."
            )
        for name in model.trained_on or ():
            if name not in names:
                lines.append(f"{model.name}: it was trained on {name}, which is none of the sets here.")
    for item in sets:
        if item.tuning.split == item.reported.split:
            lines.append(
                f"{item.name}: thresholds, and the best of several, were chosen on the reported pictures themselves "
                f"({item.reported.split}), which flatters."
            )
    return lines


def _told(cell: DomainCell, sentence: str) -> DomainCell:
    return replace(cell, says=(sentence,))
