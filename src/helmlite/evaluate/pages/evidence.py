"""What stands behind the figures of a comparison, a card for each: errors, heights, scores, causes, heads, conditions.

The page of a comparison and that of a run show the same cards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from helmlite.evaluate import figures
from helmlite.evaluate.causes.causes import ErrorCauses
from helmlite.evaluate.comparison import ComparedModel, Comparison, Difference, OperatingResult
from helmlite.evaluate.diagnosis.confusion import ConfusionMatrix
from helmlite.evaluate.diagnosis.heights import HeightBand
from helmlite.evaluate.diagnosis.tide import KINDS
from helmlite.evaluate.findings.words import Finding, in_words
from helmlite.evaluate.pages.gallery import GalleryPart
from helmlite.evaluate.pages.gallery_cards import gallery_sections
from helmlite.evaluate.pages.html import model_name, named, section, shown
from helmlite.evaluate.pages.plots import line_chart
from helmlite.evaluate.pages.robustness_plot import robustness_plot
from helmlite.evaluate.statistics.risks import Risk


def evidence_sections(comparison: Comparison, gallery: Sequence[GalleryPart] = ()) -> list[str]:
    """The cards in order; empty texts where there is nothing to say.

    gallery: `gallery.cut_gallery` of the same comparison; empty where the page is to be passed on
    """
    return [
        _errors(comparison),
        _heights(comparison),
        _curves(comparison),
        _confusion(comparison),
        _thresholds(comparison),
        _causes(comparison),
        *gallery_sections(gallery),
        _influence(comparison),
        _conditions(comparison),
    ]


def findings_of(comparison: Comparison) -> list[tuple[str, str]]:
    """(model, what is wrong with it) for each fault, after ("", what is wrong with the pictures) for each leak."""
    first = comparison.models[0].measured.name
    of_pictures: list[Finding] = [*comparison.own_pictures, *comparison.leaks]
    return [("", in_words(item)) for item in of_pictures] + [
        (item.name, in_words(fault, first)) for item in comparison.differences for fault in item.faults.found()
    ]


def findings_section(comparison: Comparison) -> str:
    """The card that comes first: what is wrong with the models or the pictures.  Empty where nothing was found."""
    found = "".join(
        f"<li>{f'<b>{model_name(name)}</b> ' if name else ''}{escape(sentence)}</li>"
        for name, sentence in findings_of(comparison)
    )
    return section("Findings", f'<ul class="checks findings">{found}</ul>') if found else ""


def _errors(comparison: Comparison) -> str:
    found = [item.diagnosis for item in comparison.models]
    rows = []
    for number, kind in enumerate(found[0].errors.kinds):
        cells = "".join(
            f"<td>{shown(_points(side.errors.kinds[number].loss_points))}"
            f"<small>{side.shown_errors.kinds[number].count} shown</small></td>"
            for side in found
        )
        rows.append(f"<tr><td>{escape(KINDS[kind.kind])}<small>{escape(kind.kind)}</small></td>{cells}</tr>")
    rows.append(
        "<tr><td>scores off by<small>expected calibration error</small></td>"
        f"{''.join(f'<td>{shown(figures.share(side.calibration.ece))}</td>' for side in found)}</tr>"
    )
    head = f"<tr><th>kind of error</th>{name_cells(comparison)}</tr>"
    table = f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'
    lead = (
        "Points of AP50 that each kind costs over all detections (TIDE, Bolya 2020), and below them how many of the "
        "kind a device would show at the thresholds chosen for it. The last row: how far scores are from the share of "
        "right detections."
    )
    return section("Kinds of errors", table, lead)


def _heights(comparison: Comparison) -> str:
    bands = [item.diagnosis.by_height for item in comparison.models]
    rows = []
    for number, band in enumerate(bands[0]):
        cells = "".join(
            f"<td>{shown(figures.points(side[number].ap50))}<small>{_recalls(side[number])}</small></td>"
            for side in bands
        )
        rows.append(f"<tr><td>{band.in_words()}</td><td>{band.boxes}</td>{cells}</tr>")
    head = f"<tr><th>height of the head</th><th>boxes</th>{name_cells(comparison)}</tr>"
    lead = (
        "AP50 by height in pixels of the original picture, and the recall of each class at its threshold; unknown "
        "where fewer than 10 boxes are labelled."
    )
    return section("By head height", f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>', lead)


def _recalls(band: HeightBand) -> str:
    return ", ".join(
        f'<span translate="no">{escape(item.name)}</span> <span>{figures.share(item.recall)}</span>'
        for item in band.per_class
    )


def _curves(comparison: Comparison) -> str:
    """Precision and recall, F1 by threshold for each class, and how far scores can be believed."""
    parts = []
    names = [model.measured.name for model in comparison.models]
    for label, item in enumerate(comparison.models[0].diagnosis.per_class):
        by_model = [(model.measured.name, model.diagnosis.per_class[label]) for model in comparison.models]
        lines = {
            name: _pairs(of_class.precision_recall.recall, of_class.precision_recall.precision)
            for name, of_class in by_model
            if of_class.precision_recall is not None
        }
        parts.append(_chart("recall, %", "precision, %", lines, f"Precision and recall of {item.name}, IoU 0.5", names))
        lines = {
            name: _pairs(of_class.by_threshold.thresholds, of_class.by_threshold.f1)
            for name, of_class in by_model
            if of_class.by_threshold is not None
        }
        parts.append(_chart("threshold, %", "F1, %", lines, f"F1 of {item.name} by threshold", names))
    lines = {}
    for model in comparison.models:
        bins = [item for item in model.diagnosis.calibration.bins if item.mean_score is not None]
        known = [(item.mean_score, item.precision) for item in bins if item.precision is not None]
        lines[model.measured.name] = tuple((100 * (score or 0.0), 100 * precision) for score, precision in known)
    ideal = "a score that says what it is"
    lines[ideal] = ((0.0, 0.0), (100.0, 100.0))
    parts.append(_chart("score, %", "right, %", lines, "Share of right detections by score", names, [ideal]))
    lead = "Every detection counts here, down to the lowest score. A point of the last plot is a tenth of the scores."
    return section("Curves", "".join(parts), lead) if any(parts) else ""


def _pairs(across: Sequence[float], upward: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple((100 * x, 100 * y) for x, y in zip(across, upward, strict=True))


def _chart(
    x: str,
    y: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    models: Sequence[str],
    guides: Sequence[str] = (),
) -> str:
    plotted = line_chart(x, y, lines, title, models, guides)
    return f'<h3>{escape(title)}</h3><div class="plot">{plotted}</div>' if plotted else ""


def _confusion(comparison: Comparison) -> str:
    parts = [
        f"<h3>{model_name(item.measured.name)}</h3>{_matrix(item.diagnosis.confusion)}" for item in comparison.models
    ]
    lead = (
        "Rows are what is labelled, columns what is shown at the chosen thresholds. The last column is missed, the "
        "last row invented."
    )
    return section("What is taken for what", "".join(parts), lead)


def _matrix(confusion: ConfusionMatrix) -> str:
    names = [*map(named, confusion.classes), "background"]
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = []
    for row, (name, counts, shares) in enumerate(zip(names, confusion.counts, confusion.shares(), strict=True)):
        cells = [
            _confused(count, share, invented=row == len(names) - 1, missed=column == len(names) - 1)
            for column, (count, share) in enumerate(zip(counts, shares, strict=True))
        ]
        rows.append(f"<tr><td>{name}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f'<div class="scroll"><table><tr><th>labelled</th>{head}</tr>{"".join(rows)}</table></div>'


def _confused(count: int, share: float | None, invented: bool, missed: bool) -> str:
    """A cell: how many, and the share of what is labelled so.  Nobody counts the background that is left alone."""
    if invented:
        return "–" if missed else str(count)
    return f"{count}<small>{shown(figures.share(share))}</small>"


def _thresholds(comparison: Comparison) -> str:
    head = "".join(f"<th>{named(item.name)}</th>" for item in comparison.models[0].measured.per_class)
    rows = "".join(
        f"<tr><td>{model_name(item.measured.name)}</td>"
        f"{''.join(f'<td>{score:.3f}</td>' for score in item.thresholds.by_class)}</tr>"
        for item in comparison.models
    )
    chosen = f'<div class="scroll"><table><tr><th>model</th>{head}</tr>{rows}</table></div>'
    kept = "".join(_kept(item, number == 0) for number, item in enumerate(comparison.models))
    parts = [chosen]
    if any(item.at_own_level for item in comparison.models):
        first = escape(comparison.models[0].measured.name)
        head = (
            "<tr><th>model</th><th>at equal false alarms</th><th>at the threshold<br>that it carries</th>"
            f"<th>if the threshold of<br>{first} were kept</th></tr>"
        )
        parts.append("<h3>Bare heads at each threshold, on the reported pictures</h3>")
        parts.append(f'<div class="scroll"><table>{head}{kept}</table></div>')
    return section("Thresholds", "".join(parts), f"Chosen by {comparison.models[0].thresholds.rule}.")


def _kept(item: ComparedModel, is_first: bool) -> str:
    cells = (item.at_own_level, item.as_carried, None if is_first else item.with_the_firsts)
    return (
        f"<tr><td>{model_name(item.measured.name)}</td>{''.join(f'<td>{_operating(cell)}</td>' for cell in cells)}</tr>"
    )


def _operating(result: OperatingResult | None) -> str:
    if result is None:
        return "–"
    return (
        f"{shown(figures.share(result.recall))} found<small>{result.alarms_per_100:.1f} false alarms per 100 at "
        f"{result.threshold:.3f}</small>"
    )


def _causes(comparison: Comparison) -> str:
    """What was missed and invented, by kind, and which traits of a head go with it."""
    counted = [item.causes.count_kinds() for item in comparison.models]
    rows = "".join(
        f"<tr><td>{escape(kind)}</td>{''.join(f'<td>{side[kind]}</td>' for side in counted)}</tr>"
        for kind in counted[0]
    )
    table = f'<div class="scroll"><table><tr><th>number of</th>{name_cells(comparison)}</tr>{rows}</table></div>'
    parts = [table, "<h3>What missed heads are like</h3>", _risks(comparison)]
    for item in comparison.differences:
        parts.append(_change_risks(item, comparison.models[0].measured.name))
    unknown = _pixels_unknown(comparison.models[0].causes)
    lead = (
        "At the chosen thresholds. Small, blurred and dark mean the lowest fifth of these heads. That a trait goes "
        "with misses is said where a 99 % interval shows it; what goes with something need not cause it." + unknown
    )
    return section("Why heads are missed and invented", "".join(parts), lead)


def _pixels_unknown(causes: ErrorCauses) -> str:
    if not causes.pixels_unknown:
        return ""
    return f" {causes.pixels_unknown} heads are in pictures that could no longer be read; their looks are unknown."


def _risks(comparison: Comparison) -> str:
    by_model = [{risk.trait: risk for risk in item.causes.risks} for item in comparison.models]
    rows = "".join(
        f"<tr><td>{escape(trait)}</td>{''.join(f'<td>{_missed(side[trait])}</td>' for side in by_model)}</tr>"
        for trait in by_model[0]
    )
    return f'<div class="scroll"><table><tr><th>heads that are</th>{name_cells(comparison)}</tr>{rows}</table></div>'


def _missed(risk: Risk) -> str:
    """`9 of 20 missed`, against the others, and whether that is shown to matter."""
    if not risk.heads_with:
        return "none"
    others = f"{risk.without_it} of {risk.heads_without} of the others" if risk.heads_without else "no others"
    matters = "shown to matter" if risk.is_shown else "not shown to matter"
    return f"{risk.with_it} of {risk.heads_with} missed<small>{others}</small><small>{matters}</small>"


def _change_risks(difference: Difference, first: str) -> str:
    found = difference.changes
    proved = [risk.in_words("newly missed") for risk in found.missed_risks if risk.is_shown]
    proved += [risk.in_words("newly found") for risk in found.found_risks if risk.is_shown]
    told = (
        "".join(f"<li>{escape(line)}</li>" for line in proved)
        or "<li>No trait is shown to go with the heads that only one of the two finds.</li>"
    )
    title = f"{difference.name} against {first}"
    counts = f"{len(found.newly_missed)} of {found.heads} heads newly missed, {len(found.newly_found)} newly found"
    return f"<h3>{escape(title)}</h3><p>{counts}.</p><ul>{told}</ul>"


def _influence(comparison: Comparison) -> str:
    checks = ("mAP50-95", "recall of no_helmet")
    head = f"<tr><th>picture</th>{''.join(f'<th>{check}, points</th>' for check in checks)}</tr>"
    parts = []
    for item in comparison.differences:
        if item.influence:
            rows = "".join(
                f'<tr><td translate="no">{escape(_first(found.names))}</td>'
                f"{''.join(f'<td>{_moved(found.loss_points, check)}</td>' for check in checks)}</tr>"
                for found in item.influence
            )
            parts.append(f'<h3>{model_name(item.name)}</h3><div class="scroll"><table>{head}{rows}</table></div>')
    lead = (
        "What the loss is because of each picture (all of a scene, where the data set names scenes): the loss with it "
        "less the loss without it. Above 0 it speaks against the model. Look at these pictures and their labels first."
    )
    return section("Pictures that the verdict hangs on", "".join(parts), lead) if parts else ""


def _first(names: Sequence[str], shown_names: int = 3) -> str:
    more = f" + {len(names) - shown_names}" if len(names) > shown_names else ""
    return ", ".join(names[:shown_names]) + more


def _moved(points: Mapping[str, float], check: str) -> str:
    return f"{points[check]:+.2f}".replace("-", "−") if check in points else shown(figures.UNKNOWN)


def _conditions(comparison: Comparison) -> str:
    before = comparison.models[0].robustness
    parts = []
    for model, difference in zip(comparison.models[1:], comparison.differences, strict=True):
        if before is not None and model.robustness is not None and difference.robustness is not None:
            plotted = robustness_plot(before, model.robustness, difference.robustness)
            parts.append(
                f"<h3>{model_name(difference.name)}</h3><p>{escape(difference.robustness.in_words())}</p>"
                f'<div class="plot">{plotted}</div>'
            )
    if not parts:
        return ""
    lead = (
        "The reported pictures made worse by formulas: stand-ins for real bad pictures, not a forecast. Input is "
        f"{comparison.models[0].measured.name}, result the model named above each plot."
    )
    return section("In bad conditions", "".join(parts), lead)


def name_cells(comparison: Comparison) -> str:
    """The models' names as the heads of a table's columns."""
    return "".join(f"<th>{model_name(item.measured.name)}</th>" for item in comparison.models)


def _points(value: float | None) -> str:
    return figures.UNKNOWN if value is None else f"{value:.1f}"
