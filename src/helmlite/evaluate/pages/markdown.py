"""Reports, comparisons and cross-domain matrices as Markdown for a pull request: the answer first, then one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from helmlite.evaluate import figures
from helmlite.evaluate.comparison import Comparison
from helmlite.evaluate.cross_domain import CrossDomain, DomainCell
from helmlite.evaluate.gate import interval_in_words, told_in_words
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.pages import cross_domain_page
from helmlite.evaluate.pages.columns import ACCURACY, COST, Whole, cells
from helmlite.evaluate.pages.comparison_page import (
    COLUMNS,
    conditions_in_words,
    headline,
    notes_of,
    pictures_in_words,
    sentences_of,
)
from helmlite.evaluate.pages.evidence import findings_of
from helmlite.evaluate.report import RunReport, verdict_line


def comparison_markdown(comparison: Comparison) -> str:
    """What the page says first, its table and its notes."""
    lines = [
        f"## {plain(headline(comparison))}",
        "",
        *_findings(comparison),
        *(f"- **{plain(name)}** {plain(sentence)}" for name, sentence in sentences_of(comparison)),
        "",
        *_measured_table("model", COLUMNS, [item.measured for item in comparison.models], comparison),
        "",
        *(f"- {plain(line)}" for line in notes_of(comparison)),
        "",
        f"{plain(pictures_in_words(comparison))}. Seed {comparison.seed}.",
    ]
    if comparison.measured_on:
        lines.append(f"Latency: {plain(conditions_in_words(comparison))}.")
    return "\n".join(lines) + "\n"


def cross_domain_markdown(matrix: CrossDomain) -> str:
    """What the page says first, accuracies and losses as two tables, and the notes."""
    page = cross_domain_page
    names = [item.name for item in matrix.domains]
    rows = [(f"{item.name}: {page.home_in_words(item)}", item.name) for item in matrix.models]

    def filled(made: Callable[[DomainCell], str]) -> list[str]:
        cells = [[title, *(made(matrix.cell(model, name)) for name in names)] for title, model in rows]
        return _table(("model: trained on", *names), cells)

    lines = [
        f"## {plain(page.headline(matrix))}",
        "",
        "mAP50-95 in points (95 % interval):",
        "",
        *filled(page.accuracy_in_words),
        "",
        "Points of mAP50-95 lost against the best model that was trained on the column's set, paired by picture:",
        "",
        *filled(page.loss_in_words),
        "",
        *(f"- **{plain(what)}** {plain(said)}" for what, said in page.sentences_of(matrix)),
        "",
        *(f"- {plain(line)}" for line in page.notes_of(matrix)),
        "",
        *(f"- {plain(page.set_in_words(item))}, data `{item.data[0].sha256[:12]}`" for item in matrix.domains),
        "",
        f"Seed {matrix.seed}.",
    ]
    return "\n".join(lines) + "\n"


def report_markdown(report: RunReport) -> str:
    """The verdict, the gate's checks that matter, a row for each step, and where the speed comes from."""
    rows = [report.baseline, *report.steps, report.result, *report.references]
    interval = f" (95 % interval: {interval_in_words(report.map_loss_ci95)})" if report.map_loss_ci95 else ""
    lines = [
        f"## {plain(verdict_line(report))}",
        "",
        f"{plain(report.model)} for {plain(report.target)}. mAP50-95 on the reported pictures: "
        f"{told_in_words(report.map_loss_points, report.map_loss_ci95)}{interval}.",
        "",
        *(_findings(report.evidence) if report.evidence is not None else ()),
        *(f"- {plain(line)}" for line in report.gate.says),
        "",
        *_measured_table("step", (*ACCURACY, *COST), rows, report),
    ]
    if report.speedup_factors:
        chain = " × ".join(f"{item.name} {item.ratio:.2f}" for item in report.speedup_factors)
        lines += ["", f"Faster by: {plain(chain)} = {figures.times(report.factor_product)}."]
    notes = [*report.notes, *([report.resolution.in_words()] if report.resolution else [])]
    lines += ["", *(f"- {plain(line)}" for line in notes), ""]
    lines += [
        f"- {plain(item.purpose)}: {item.pictures} pictures of {plain(item.split)}, {item.boxes} boxes, data "
        f"`{item.sha256[:12]}`"
        for item in report.data
    ]
    if report.measured_on:
        lines.append(f"- latency: {plain(', '.join(f'{key} {value}' for key, value in report.measured_on.items()))}")
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Text that cannot be taken for Markdown's own signs or for a tag, on one line."""
    for sign in ("\\", "|", "*", "_", "`", "<", "["):
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())


def _findings(comparison: Comparison) -> list[str]:
    found = findings_of(comparison)
    lines = [f"- {f'**{plain(name)}** ' if name else ''}{plain(sentence)}" for name, sentence in found]
    return ["**Findings**", "", *lines, ""] if lines else []


def _measured_table(first: str, columns: Sequence[str], rows: Sequence[Measured], whole: Whole) -> list[str]:
    return _table((first, *columns), [[item.name, *cells(item, whole, columns)] for item in rows])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(map(plain, columns))} |", f"|{'---|' * len(columns)}"]
    return lines + [f"| {' | '.join(map(plain, row))} |" for row in rows]
