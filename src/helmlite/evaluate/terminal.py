"""The report and an accuracy as a terminal shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from helmlite.evaluate import figures
from helmlite.evaluate.accuracy import Accuracy
from helmlite.evaluate.comparison import Comparison
from helmlite.evaluate.comparison_page import headline
from helmlite.evaluate.gate import change_in_words, interval_in_words
from helmlite.evaluate.report import Measured, RunReport, verdict_line
from helmlite.evaluate.robustness import Robustness

_COLOURS = {"passed": "green", "undecided": "yellow", "failed": "red", "not judged": "dim"}

_WIDE = 112  # columns that the whole table takes
Whole = RunReport | Comparison  # what knows how many times faster one of its rows is
Column = Callable[[Measured, Whole], str]
_ACCURACY: Mapping[str, Column] = {
    "mAP50-95": lambda item, _: figures.points(item.map),
    "95 %": lambda item, _: figures.points_between(item.map_ci95).replace(" to ", "–"),
    "mAP50": lambda item, _: figures.points(item.map50),
    "no_helmet\nrecall": lambda item, _: figures.share(item.recall_no_helmet),
}
_COST: Mapping[str, Column] = {
    "MACs": lambda item, _: figures.count(item.macs),
    "params": lambda item, _: figures.count(item.params),
    "files": lambda item, _: figures.size(item.size_bytes),
    "latency": lambda item, _: figures.milliseconds(item.latency_ms_median),
    "times\nfaster": lambda item, report: figures.times(report.speedup_of(item)),
}

_COMPARED_COST: Mapping[str, Column] = {title: _COST[title] for title in ("files", "latency", "times\nfaster")}


def show_report(report: RunReport, width: int | None = None) -> None:
    """Verdict, table of the steps, split of the speed-up, gate and notes, on standard output."""
    console = Console(width=width, highlight=False)
    for table in _steps_tables(report, console.width):
        console.print(table)
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
    parts = [_ACCURACY, _COMPARED_COST] if console.width < _WIDE else [{**_ACCURACY, **_COMPARED_COST}]
    for columns in parts:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("model", overflow="fold")
        for title in columns:
            table.add_column(title, justify="right", no_wrap=True)
        for number, item in enumerate(comparison.models):
            cells = [column(item.measured, comparison) for column in columns.values()]
            table.add_row(Text(item.measured.name), *cells, style="" if number else "dim")
        console.print(table)
    for difference in comparison.differences:
        for sentence in difference.says:
            console.print(Text(f"{difference.name}  {sentence}"), soft_wrap=True)
    for note in (comparison.resolution.in_words(), *comparison.remarks):
        console.print(Text(f"note  {note}"), soft_wrap=True)
    console.print()
    console.print(Text(headline(comparison), style="bold"), soft_wrap=True)


def show_robustness(conditions: Sequence[Robustness]) -> None:
    """What each condition costs, as a table on standard output."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("pictures made worse")
    for column in ("mAP50-95", "mAP50"):
        table.add_column(column, justify="right")
    table.add_column("against the pictures as they are")
    for item in conditions:
        change = change_in_words(item.loss_points)
        if item.loss_ci95 is not None:
            change += f" ({interval_in_words(item.loss_ci95)})"
        table.add_row(item.condition, figures.points(item.map), figures.points(item.map50), change)
    Console(highlight=False).print(table)


def _steps_tables(report: RunReport, width: int) -> list[Table]:
    """One table where the terminal is wide enough for all columns, else accuracy and cost below each other."""
    if width >= _WIDE:
        return [_steps_table(report, {**_ACCURACY, **_COST})]
    return [_steps_table(report, _ACCURACY), _steps_table(report, _COST)]


def _steps_table(report: RunReport, columns: Mapping[str, Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", overflow="fold")
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    last_of_run = len(report.steps) + 1
    for number, item in enumerate((report.baseline, *report.steps, report.result, *report.references)):
        style = "dim" if number == 0 else "bold" if number == last_of_run else ""
        cells = [column(item, report) for column in columns.values()]
        table.add_row(Text(item.name), *cells, style=style, end_section=number == last_of_run)
    return table


def _speedup_lines(report: RunReport) -> list[str]:
    if not report.speedup_factors:
        return []
    chain = " × ".join(f"{item.name} {item.ratio:.2f}" for item in report.speedup_factors)
    total, measured = figures.times(report.factor_product), figures.times(report.measured_speedup)
    return [f"faster by: {chain} = {total} (measured: {measured})"]


def _drop_line(report: RunReport) -> str:
    text = f"mAP50-95: {change_in_words(report.map_loss_points)}"
    if report.map_loss_ci95 is not None:
        text += f" (95 % interval: {interval_in_words(report.map_loss_ci95)})"
    return text
