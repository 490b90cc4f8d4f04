"""A comparison as one HTML page that opens offline, the answer first."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from helmlite.evaluate import figures
from helmlite.evaluate.comparison import Comparison, Difference
from helmlite.evaluate.findings.words import in_words
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.pages.columns import COMPARED_COST, cells
from helmlite.evaluate.pages.evidence import evidence_sections, findings_section, name_cells
from helmlite.evaluate.pages.gallery import GalleryPart
from helmlite.evaluate.pages.html import bullet_list, document, how_made, model_name, named, section, shown
from helmlite.evaluate.pages.plots import IntervalRow, ScatterPoint, interval_plot, scatter_plot

COLUMNS = ("mAP50-95", "95 %", "mAP50", "mAP75", "no_helmet recall", *COMPARED_COST)

_LONGEST_LABEL = 20  # letters


def comparison_page(comparison: Comparison, gallery: Sequence[GalleryPart] = (), twin: str = "") -> str:
    """The whole page as text.  Every word that comes from outside is escaped.

    twin: name of the same page in Chinese, in the same folder; empty for none
    """
    names = " · ".join(item.measured.name for item in comparison.models)
    sections = [
        _header(comparison),
        findings_section(comparison),
        _differences(comparison),
        _models(comparison),
        _classes(comparison),
        *evidence_sections(comparison, gallery),
        _notes(comparison),
        _provenance(comparison),
    ]
    return document(f"helmlite compare: {names}", sections, twin)


def headline(comparison: Comparison) -> str:
    """One line: who is held against whom, and whether these pictures tell them apart.

    `b against a: no difference shown`, `b against a: 1.20 points of mAP50-95 lost`
    """
    first = comparison.models[0].measured
    if not comparison.differences:
        return f"{first.name}: mAP50-95 {figures.points(first.map)} points"
    if len(comparison.differences) > 1:
        lost, won = (_count(comparison.differences, sign) for sign in (1, -1))
        alike = len(comparison.differences) - lost - won
        return (
            f"{len(comparison.differences)} models against {first.name}: mAP50-95 shown to be lower in {lost}, higher "
            f"in {won}, not told apart in {alike}"
        )
    difference = comparison.differences[0]
    return f"{difference.name} against {first.name}: {_proven(difference)}"


def _count(differences: Sequence[Difference], sign: int) -> int:
    return sum(_direction(item.map_loss_ci95) == sign for item in differences)


def _direction(loss_ci95: tuple[float, float] | None) -> int:
    """1 for a loss that the interval proves, -1 for a gain, 0 for what cannot be told."""
    if loss_ci95 is None:
        return 0
    return 1 if loss_ci95[0] > 0 else -1 if loss_ci95[1] < 0 else 0


def _proven(difference: Difference) -> str:
    direction = _direction(difference.map_loss_ci95)
    if direction and difference.map_loss_points is not None:
        return f"{abs(difference.map_loss_points):.2f} points of mAP50-95 {'lost' if direction > 0 else 'gained'}"
    return "no difference in mAP50-95 shown" if difference.map_loss_ci95 else "no interval, so nothing is proved"


def sentences_of(comparison: Comparison) -> list[tuple[str, str]]:
    """(model, what its difference from the first is) in order."""
    return [(item.name, sentence) for item in comparison.differences for sentence in item.says]


def _header(comparison: Comparison) -> str:
    when = f" · {escape(comparison.created)}" if comparison.created else ""
    return (
        f'<div class="eyebrow">helmlite · {len(comparison.models)} models on '
        f"{escape(pictures_in_words(comparison))}{when}</div><h1>{escape(headline(comparison))}</h1>"
    )


def _differences(comparison: Comparison) -> str:
    if not comparison.differences:
        return ""
    first = comparison.models[0].measured.name
    rows = []
    for item in comparison.differences:
        for what, loss, interval in (
            ("mAP50-95", item.map_loss_points, item.map_loss_ci95),
            ("recall", item.recall_loss_points, item.recall_loss_ci95),
        ):
            if loss is not None and interval is not None:
                verdict = {1: "failed", 0: "not judged", -1: "passed"}[_direction(interval)]
                rows.append(IntervalRow(f"{shortened(item.name)}: {what}", verdict, loss, *interval, 0.0))
    plotted = (
        f'<div class="plot">{interval_plot(rows)}</div><p class="key">Dot: the difference. Bar: its 95 % interval, '
        "paired by picture, of mAP50-95 and of the recall of no_helmet. "
        "A bar across the upright tick at zero proves neither a loss nor a gain.</p>"
        if rows
        else ""
    )
    sentences = "".join(
        f"<li><b>{model_name(name)}</b> {escape(sentence)}</li>" for name, sentence in sentences_of(comparison)
    )
    level = (
        ""
        if comparison.alarms_per_100 is None
        else (
            f" Recall at {comparison.alarms_per_100:.1f} false alarms for every 100 pictures of {comparison.tuned_on}, "
            "each model at the threshold that gives it."
        )
    )
    return section("Differences", f'{plotted}<ul class="checks">{sentences}</ul>', f"Each against {first}.{level}")


def shortened(name: str) -> str:
    """A name that fits beside a plot: its end tells more than its beginning."""
    return name if len(name) <= _LONGEST_LABEL else "…" + name[1 - _LONGEST_LABEL :]


def _models(comparison: Comparison) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in ("model", *COLUMNS))
    rows = []
    for number, item in enumerate(comparison.models):
        measured = item.measured
        below = "".join(f"<small>{escape(part)}</small>" for part in (_ran(measured), measured.note) if part)
        rows.append(
            f'<tr class="{"baseline" if number == 0 else "step"}"><td>{model_name(measured.name)}{below}</td>'
            f"{''.join(f'<td>{shown(cell)}</td>' for cell in cells(measured, comparison, COLUMNS))}</tr>"
        )
    points = [
        ScatterPoint(item.measured.name, "baseline" if number == 0 else "reference", latency, 100 * accuracy, True)
        for number, item in enumerate(comparison.models)
        if (latency := item.measured.latency_ms_median) is not None and (accuracy := item.measured.map) is not None
    ]
    plotted = scatter_plot(points)
    below = f'<h3>Accuracy against latency</h3><div class="plot">{plotted}</div>' if plotted else ""
    conditions = conditions_in_words(comparison) or "not measured"
    table = f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'
    return section("Models", table + below, f"On {pictures_in_words(comparison)}. Latency: {conditions}.")


def _ran(measured: Measured) -> str:
    parts = (f"{measured.input_size} px" if measured.input_size else "", measured.runtime, measured.precision)
    return " · ".join(part for part in parts if part)


def _classes(comparison: Comparison) -> str:
    models = [item.measured for item in comparison.models]
    rows = []
    for label, item in enumerate(models[0].per_class):
        cells = "".join(f"<td>{shown(figures.points(model.per_class[label].ap))}</td>" for model in models)
        rows.append(
            f"<tr><td>{named(item.name)}<small>{escape(item.role or 'no role')}</small></td><td>{item.boxes}</td>"
            f"{cells}</tr>"
        )
    for size in models[0].by_size:
        cells = "".join(f"<td>{shown(figures.points(model.by_size.get(size)))}</td>" for model in models)
        rows.append(f"<tr><td>{escape(size)} boxes</td><td></td>{cells}</tr>")
    head = f"<tr><th>AP50-95, points</th><th>boxes</th>{name_cells(comparison)}</tr>"
    table = f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'
    lead = "Sizes as in COCO: small below 32², large above 96² pixels of the original picture."
    return section("Each class and size", table, lead)


def _notes(comparison: Comparison) -> str:
    return section("What to bear in mind", bullet_list(notes_of(comparison)))


def notes_of(comparison: Comparison) -> list[str]:
    """What a reader must bear in mind, and which faults could not be looked for."""
    unsaid = [f"{item.name}: {in_words(one)}" for item in comparison.differences for one in item.faults.unsaid]
    return [comparison.resolution.in_words(), *comparison.remarks, *unsaid]


def pictures_in_words(comparison: Comparison) -> str:
    """`76 pictures of data.yaml (test): 140 boxes, 54 of them bare heads`"""
    used = comparison.data[0]
    heads = "" if used.bare_heads is None else f", {used.bare_heads} of them bare heads"
    source = f" of {used.source}" if used.source else ""
    return f"{used.pictures} pictures{source} ({used.split}): {used.boxes} boxes{heads}"


def conditions_in_words(comparison: Comparison) -> str:
    """What every latency was measured on."""
    return ", ".join(f"{key} {value}" for key, value in comparison.measured_on.items())


def _provenance(comparison: Comparison) -> str:
    details = {"Seed and versions": {"seed": str(comparison.seed), **comparison.versions}}
    return how_made(comparison.data, comparison.commands, details)
