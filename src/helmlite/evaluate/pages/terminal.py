"""The report and an accuracy as a terminal shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from helmlite.evaluate import figures
from helmlite.evaluate.accuracy import Accuracy
from helmlite.evaluate.comparison import Comparison
from helmlite.evaluate.conditions import SEVERITIES
from helmlite.evaluate.cross_domain import CrossDomain, DomainCell
from helmlite.evaluate.gate import interval_in_words, told_in_words
from helmlite.evaluate.pages import cross_domain_page
from helmlite.evaluate.pages.columns import ACCURACY, COMPARED_COST, COST, cells
from helmlite.evaluate.pages.comparison_page import headline, notes_of
from helmlite.evaluate.pages.evidence import findings_of
from helmlite.evaluate.report import RunReport, verdict_line
from helmlite.evaluate.robustness import CaseMeasured, Robustness

_COLOURS = {"passed": "green", "undecided": "yellow", "failed": "red", "not judged": "dim"}

_NOT_KNOWN = "?"  # where a cell has room for no more
_WIDE = 116  # letters that the whole table takes
_SHORT = 9  # letters of a heading that stays on one line


def show_report(report: RunReport, width: int | None = None) -> None:
    """Verdict, table of the steps, split of the speed-up, gate and notes, on standard output."""
    console = Console(width=width, highlight=False)
    for columns in _parts(ACCURACY, COST, console.width):
        console.print(_steps_table(report, columns))
    for line in _speedup_lines(report):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(_drop_line(report)), soft_wrap=True)
    if report.result.fidelity is not None:
        console.print(Text(f"{report.result.name} {report.result.fidelity.in_words()}"), soft_wrap=True)
    console.print()
    for check in report.gate.checks:
        if check.verdict != "passed" or check.name in ("mAP50-95", "recall of no_helmet"):
            console.print(
                Text.assemble((f"{check.verdict:>10}  ", _COLOURS[check.verdict]), check.says), soft_wrap=True
            )
    for name, sentence in findings_of(report.evidence) if report.evidence is not None else []:
        console.print(Text(f"   finding  {name}{': ' if name else ''}{sentence}", style="yellow"), soft_wrap=True)
    notes = [*report.notes, *([report.resolution.in_words()] if report.resolution else [])]
    for note in notes:
        console.print(Text(f"      note  {note}"), soft_wrap=True)
    console.print()
    console.print(Text(verdict_line(report), style=f"bold {_COLOURS[report.gate.verdict]}"), soft_wrap=True)


def show_accuracy(accuracy: Accuracy, title: str) -> None:
    """An accuracy as a table of the classes, with the means above it, on standard output."""
    console = Console(highlight=False)
    console.print(
        Text(
            f"{title}: mAP50-95 {figures.points(accuracy.map)}, mAP50 {figures.points(accuracy.map50)}, "
            f"mAP75 {figures.points(accuracy.map75)} points on {accuracy.images} pictures, {accuracy.boxes} boxes",
            style="bold",
        ),
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class")
    table.add_column("role")
    for column in ("AP50-95", "AP50", "pictures", "boxes"):
        table.add_column(column, justify="right")
    for item in accuracy.per_class:
        numbers = (figures.points(item.ap), figures.points(item.ap50), str(item.images), str(item.boxes))
        table.add_row(Text(item.name), item.role or "", *numbers)
    console.print(table)
    sizes = ", ".join(f"{size} {figures.points(value)}" for size, value in accuracy.by_size.items())
    console.print(Text(f"by size: {sizes}"), soft_wrap=True)
    if accuracy.skipped:
        console.print(Text(f"{len(accuracy.skipped)} skipped:", style="yellow"))
        for skipped in accuracy.skipped:
            console.print(Text(f"  {skipped.reason}"), soft_wrap=True)


def show_comparison(comparison: Comparison) -> None:
    """The models as a table, each difference from the first in words, and what to bear in mind."""
    console = Console(highlight=False)
    for columns in _parts(ACCURACY, COMPARED_COST, console.width):
        table = _table_of("model", columns)
        for number, item in enumerate(comparison.models):
            row = [_short(cell) for cell in cells(item.measured, comparison, columns)]
            table.add_row(Text(item.measured.name), *row, style="" if number else "dim")
        console.print(table)
    for name, sentence in findings_of(comparison):
        console.print(Text.assemble(("finding  ", "red"), f"{name}  " if name else "", sentence), soft_wrap=True)
    for difference in comparison.differences:
        for sentence in difference.says:
            console.print(Text(f"{difference.name}  {sentence}"), soft_wrap=True)
    for note in notes_of(comparison):
        console.print(Text(f"note  {note}"), soft_wrap=True)
    console.print()
    console.print(Text(headline(comparison), style="bold"), soft_wrap=True)


def show_cross_domain(matrix: CrossDomain, width: int | None = None) -> None:
    """Accuracies and losses as two tables, the losses in words, and what to bear in mind."""
    page = cross_domain_page
    console = Console(width=width, highlight=False)

    def recall(cell: DomainCell) -> str:
        return figures.UNKNOWN if cell.at_level is None else figures.share(cell.at_level.recall)

    parts: tuple[tuple[str, Callable[[DomainCell], str]], ...] = (
        ("mAP50-95, points", page.accuracy_in_words),
        ("points lost against the best that was trained there", page.loss_in_words),
        ("recall of no_helmet at equal false alarms", recall),
    )
    for title, made in parts:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
        table.add_column("model: trained on", overflow="fold")
        for domain in matrix.domains:
            table.add_column(Text(domain.name), justify="right", overflow="fold")
        for model in matrix.models:
            cells = [Text(made(matrix.cell(model.name, domain.name))) for domain in matrix.domains]
            table.add_row(Text(f"{model.name}: {page.home_in_words(model)}"), *cells)
        console.print(table)
    for what, said in page.sentences_of(matrix):
        console.print(Text(f"{what}  {said}"), soft_wrap=True)
    for note in page.notes_of(matrix):
        console.print(Text(f"note  {note}"), soft_wrap=True)
    console.print()
    console.print(Text(page.headline(matrix), style="bold"), soft_wrap=True)


def show_robustness(robustness: Robustness, width: int | None = None) -> None:
    """Accuracy and loss of each condition at each severity, as a table on standard output."""
    console = Console(width=width, highlight=False)
    untouched = robustness.untouched
    console.print(
        Text(
            f"{robustness.pictures} pictures made worse; as they are: mAP50-95 {figures.points(untouched.map)}, "
            f"mAP50 {figures.points(untouched.map50)}, recall of no_helmet {figures.share(untouched.recall_no_helmet)}",
            style="bold",
        ),
        soft_wrap=True,
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("condition", overflow="fold")
    for severity in SEVERITIES:
        table.add_column(f"severity {severity}", justify="right")
    for name in dict.fromkeys(item.condition for item in robustness.cases):
        cells = {item.severity: _case_cell(item) for item in robustness.cases if item.condition == name}
        table.add_row(Text(name), *(cells.get(severity, Text("")) for severity in SEVERITIES), end_section=True)
    console.print(table)
    for line in (
        "each: mAP50-95, mAP50, recall of no_helmet at the threshold that it has on the pictures as they are; below it "
        "how mAP50-95 changes, and the 95 % interval of that (+ gained, − lost)",
        f"mean over all: mAP50-95 {figures.points(robustness.mean_map)}, {figures.share(robustness.kept)} of what it "
        "is on the pictures as they are",
    ):
        console.print(Text(line, style="dim"), soft_wrap=True)


def _case_cell(item: CaseMeasured) -> Text:
    """Three lines; what cannot be told from no loss is not called one."""
    measures = item.measures
    recall = _NOT_KNOWN if measures.recall_no_helmet is None else f"{100 * measures.recall_no_helmet:.0f} %"
    shown = [_NOT_KNOWN if value is None else figures.points(value) for value in (measures.map, measures.map50)]
    first = f"{shown[0]}  {shown[1]}  {recall}"
    if item.loss_points is None:
        return Text(f"{first}\nunknown\n")
    if item.loss_ci95 is None:
        return Text.assemble(first, (f"\n{told_in_words(item.loss_points, None)}\ninterval unknown", "dim"))
    low, high = item.loss_ci95
    if not item.is_told_from_none:
        return Text.assemble(first, (f"\nno change proved\n{_change(low)} to {_change(high)}", "dim"))
    between = f"{min(abs(low), abs(high)):.1f} to {max(abs(low), abs(high)):.1f}"
    colour = "red" if item.loss_points > 0 else "green"
    changed = f"{abs(item.loss_points):.1f} points {'lost' if item.loss_points > 0 else 'gained'}"
    return Text.assemble(first, (f"\n{changed}", colour), (f"\n{between}", "dim"))


def _change(loss_points: float) -> str:
    return f"{'−' if loss_points > 0 else '+'}{abs(loss_points):.1f}"


def _steps_table(report: RunReport, columns: Sequence[str]) -> Table:
    table = _table_of("step", columns)
    last_of_run = len(report.steps) + 1
    for number, item in enumerate((report.baseline, *report.steps, report.result, *report.references)):
        style = "dim" if number == 0 else "bold" if number == last_of_run else ""
        row = [_short(cell) for cell in cells(item, report, columns)]
        table.add_row(Text(item.name), *row, style=style, end_section=number == last_of_run)
    return table


def _parts(accuracy: Sequence[str], cost: Sequence[str], width: int) -> list[Sequence[str]]:
    """One table where the terminal is wide enough for all columns, else accuracy and cost below each other."""
    return [(*accuracy, *cost)] if width >= _WIDE else [accuracy, cost]


def _table_of(first: str, columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for title in columns:
        table.add_column(title.replace(" ", "\n") if len(title) > _SHORT else title, justify="right", no_wrap=True)
    return table


def _short(cell: str) -> str:
    return cell.replace(" to ", "–")


def _speedup_lines(report: RunReport) -> list[str]:
    if not report.speedup_factors:
        return []
    chain = " × ".join(f"{item.name} {item.ratio:.2f}" for item in report.speedup_factors)
    total, measured = figures.times(report.factor_product), figures.times(report.measured_speedup)
    return [f"faster by: {chain} = {total} (measured: {measured})"]


def _drop_line(report: RunReport) -> str:
    text = f"mAP50-95: {told_in_words(report.map_loss_points, report.map_loss_ci95)}"
    if report.map_loss_ci95 is not None:
        text += f" (95 % interval: {interval_in_words(report.map_loss_ci95)})"
    return text
