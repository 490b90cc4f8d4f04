"""The matrix *trained on* x *tested on* as one HTML page that opens offline, the answer first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from helmlite.evaluate import figures
from helmlite.evaluate.comparison import OperatingResult
from helmlite.evaluate.cross_domain import CrossDomain, Domain, DomainCell, TrainedModel
from helmlite.evaluate.pages.comparison_page import shortened
from helmlite.evaluate.pages.html import bullet_list, document, how_made, named, section, shown
from helmlite.evaluate.pages.plots import HeatBlock, HeatCell, heat_map
from helmlite.evaluate.statistics.intervals import Interval

HOME = "at home"


def cross_domain_page(matrix: CrossDomain, twin: str = "") -> str:
    """The whole page as text.  Every word that comes from outside is escaped.

    twin: name of the same page in Chinese, in the same folder; empty for none
    """
    sections = [
        _header(matrix),
        _accuracies(matrix),
        _losses(matrix),
        _sentences(matrix),
        _heads(matrix),
        section("What to bear in mind", bullet_list(notes_of(matrix))),
        how_made(
            [item for domain in matrix.domains for item in domain.data],
            matrix.commands,
            {"Seed and versions": {"seed": str(matrix.seed), **matrix.versions}},
        ),
    ]
    return document("helmlite cross-domain: " + " · ".join(item.name for item in matrix.models), sections, twin)


def headline(matrix: CrossDomain) -> str:
    """One line: in how many cells a model is shown to lose away from home.

    `2 models on 3 sets: away from home mAP50-95 shown to be lower in 2, higher in 0, not told apart in 1; unknown in 1`
    """
    away = [item for item in matrix.cells if item.at_home is not True]
    judged = [item for item in away if item.at_home is False and item.map_loss_ci95 is not None]
    lost = sum(is_told(item.map_loss_ci95) and (item.map_loss_points or 0) > 0 for item in judged)
    won = sum(is_told(item.map_loss_ci95) and (item.map_loss_points or 0) < 0 for item in judged)
    counts = f"{_counted(len(matrix.models), 'model')} on {_counted(len(matrix.domains), 'set')}"
    if not away:
        return f"{counts}: every model was trained on every set"
    if not judged:
        is_known = any(item.at_home is False and item.map_loss_points is not None for item in away)
        if is_known:
            return f"{counts}: too few pictures to prove anything"
        return f"{counts}: what models lose away from home is unknown"
    unknown = len(away) - len(judged)
    tail = f"; unknown in {unknown}" if unknown else ""
    return (
        f"{counts}: away from home mAP50-95 shown to be lower in {lost}, higher in {won}, not told apart in "
        f"{len(judged) - lost - won}{tail}"
    )


def is_told(interval: Interval | None) -> bool:
    """Whether an interval of a loss leaves zero out."""
    return interval is not None and (interval[0] > 0 or interval[1] < 0)


def home_in_words(model: TrainedModel) -> str:
    """`bikes_helmets, hardhat (as given)`, or `unknown`"""
    if model.trained_on is None:
        return figures.UNKNOWN
    source = f" ({model.known_from})" if model.known_from else ""
    return ", ".join(model.trained_on) + source


def set_in_words(domain: Domain) -> str:
    """`thai_cctv: 76 pictures (test), 140 boxes, 54 of them bare heads`"""
    used = domain.data[0]
    heads = "" if used.bare_heads is None else f", {used.bare_heads} of them bare heads"
    return f"{domain.name}: {used.pictures} pictures ({used.split}), {used.boxes} boxes{heads}"


def accuracy_in_words(cell: DomainCell) -> str:
    """`62.4 (58.1 to 66.4), at home`, in points; the interval only where there is one"""
    between = figures.points_between(cell.map_ci95)
    return figures.points(cell.map) + (f" ({between})" if between else "") + (f", {HOME}" if cell.at_home else "")


def loss_in_words(cell: DomainCell) -> str:
    """`3.1 (0.4 to 5.9)`, points lost and their interval; `held against` for the best itself, else `unknown`"""
    if cell.map_loss_points is None:
        return "held against" if cell.at_home and cell.against is None else figures.UNKNOWN
    interval = cell.map_loss_ci95
    return f"{cell.map_loss_points:.1f}" + (f" ({interval[0]:.1f} to {interval[1]:.1f})" if interval else "")


def sentences_of(matrix: CrossDomain) -> list[tuple[str, str]]:
    """(`model on set`, what it loses there) in order."""
    return [(f"{item.model} on {item.tested_on}", sentence) for item in matrix.cells for sentence in item.says]


def notes_of(matrix: CrossDomain) -> list[str]:
    """What a reader must bear in mind."""
    known = sum(item.map_loss_ci95 is not None for item in matrix.cells)
    chance = (
        [f"Each of the {known} intervals of a loss stands alone: of 20 true zeros about one is left out by chance."]
        if known
        else []
    )
    fewer = [
        f"{item.name}: no interval can be trusted on {item.units} independent pictures."
        for item in matrix.domains
        if all(cell.map_ci95 is None for cell in matrix.cells if cell.tested_on == item.name)
    ]
    columns = "Figures of different columns are of different pictures and cannot be compared."
    return [columns, *chance, *fewer, *matrix.remarks]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _header(matrix: CrossDomain) -> str:
    when = f" · {escape(matrix.created)}" if matrix.created else ""
    return f'<div class="eyebrow">helmlite cross-domain{when}</div><h1>{escape(headline(matrix))}</h1>'


def _accuracies(matrix: CrossDomain) -> str:
    def inner(cell: DomainCell) -> str:
        mark = f" · {HOME}" if cell.at_home else ""
        number = shown(figures.points(cell.map))
        small = [figures.points_between(cell.map_ci95), f"mAP50 {figures.points(cell.map50)}{mark}"]
        return (f"<b>{number}</b>" if cell.at_home else number) + "".join(
            f"<small>{escape(part)}</small>" for part in small if part
        )

    lead = "mAP50-95 in points, its 95 % interval over the pictures, and mAP50. Read down a column: " + "; ".join(
        set_in_words(item) for item in matrix.domains
    )
    return section("Accuracy", _table(matrix, inner), f"{lead}.")


def _losses(matrix: CrossDomain) -> str:
    names = [shortened(item.name) for item in matrix.models]
    columns = [shortened(item.name) for item in matrix.domains]
    blocks = [
        HeatBlock("change of mAP50-95, points", _rows(matrix, _map_cell)),
        HeatBlock("change of recall of no_helmet, points", _rows(matrix, _recall_cell)),
    ]
    plotted = heat_map("What models lose away from home", names, columns, blocks)
    lead = (
        "Against the best model here that was trained on the column's set (its own cell says 0.0), paired by picture. "
        "Colour only where the 95 % interval leaves zero out; unknown where no model was trained on the set."
    )
    return section("What is lost away from home", f'<div class="plot">{plotted}</div>', lead)


def _rows(matrix: CrossDomain, made: Callable[[DomainCell], HeatCell]) -> list[list[HeatCell]]:
    return [[made(matrix.cell(model.name, domain.name)) for domain in matrix.domains] for model in matrix.models]


def _map_cell(cell: DomainCell) -> HeatCell:
    return _heat_cell(cell, cell.map_loss_points, cell.map_loss_ci95, cell.map)


def _recall_cell(cell: DomainCell) -> HeatCell:
    recall = None if cell.at_level is None else cell.at_level.recall
    return _heat_cell(cell, cell.recall_loss_points, cell.recall_loss_ci95, recall)


def _heat_cell(cell: DomainCell, loss: float | None, interval: Interval | None, value: float | None) -> HeatCell:
    says = f"{cell.model}, tested on {cell.tested_on}: {' '.join(cell.says)}"
    is_reference = bool(cell.at_home) and cell.against is None and value is not None
    return HeatCell(0.0 if is_reference else None if loss is None else -loss, is_told(interval), says)


def _sentences(matrix: CrossDomain) -> str:
    lines = "".join(
        f"<li><b>{named(f'{item.model} · {item.tested_on}')}</b> {escape(said)}</li>"
        for item in matrix.cells
        for said in item.says
    )
    return section("Cell by cell", f'<ul class="checks">{lines}</ul>')


def _heads(matrix: CrossDomain) -> str:
    if not any(item.at_level for item in matrix.cells):
        return ""

    def inner(cell: DomainCell) -> str:
        between = figures.points_between(cell.recall_ci95)
        found = _operating(cell.at_level, f" ({between} %)" if between else "")
        carried = "" if cell.as_carried is None else f"<small>as it comes: {_operating(cell.as_carried)}</small>"
        return found + carried

    levels = "; ".join(
        f"{item.name}: {item.alarms_per_100:.1f} on {item.tuned_on}"
        for item in matrix.domains
        if item.alarms_per_100 is not None
    )
    lead = (
        f"Recall where each model may raise as many false alarms for every 100 pictures as the others ({levels}), and, "
        "where a model brings thresholds, what these give away from home."
    )
    return section("Bare heads", _table(matrix, inner), lead)


def _operating(result: OperatingResult | None, interval: str = "") -> str:
    if result is None:
        return "–"
    return (
        f"{shown(figures.share(result.recall))}{escape(interval)}<small>{result.alarms_per_100:.1f} false alarms per "
        f"100 at {result.threshold:.3f}</small>"
    )


def _table(matrix: CrossDomain, inner: Callable[[DomainCell], str]) -> str:
    head = "".join(f"<th>{named(item.name)}</th>" for item in matrix.domains)
    rows = "".join(_row(model, matrix.domains, matrix, inner) for model in matrix.models)
    return f'<div class="scroll"><table><tr><th>trained on \\ tested on</th>{head}</tr>{rows}</table></div>'


def _row(
    model: TrainedModel, domains: Sequence[Domain], matrix: CrossDomain, inner: Callable[[DomainCell], str]
) -> str:
    ran = [f"{model.input_size} px" if model.input_size else "", model.runtime, model.precision]
    below = (f"trained on {home_in_words(model)}", " · ".join(part for part in ran if part))
    small = "".join(f"<small>{escape(part)}</small>" for part in below if part)
    cells = "".join(f"<td>{inner(matrix.cell(model.name, domain.name))}</td>" for domain in domains)
    return f"<tr><td>{named(model.name)}{small}</td>{cells}</tr>"
