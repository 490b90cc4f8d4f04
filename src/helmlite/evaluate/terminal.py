"""The report and an accuracy as a terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from helmlite.evaluate import figures
from helmlite.evaluate.accuracy import Accuracy
from helmlite.evaluate.gate import change_in_words, interval_in_words
from helmlite.evaluate.report import Measured, RunReport, verdict_line
from helmlite.evaluate.robustness import Robustness

_COLOURS = {"passed": "green", "undecided": "yellow", "failed": "red", "not judged": "dim"}


def show_report(report: RunReport, width: int | None = None) -> None:
    """Verdict, table of the steps, split of the speed-up, gate and notes, on standard output."""
    console = Console(width=width, highlight=False)
    console.print(_steps_table(report))
    for line in _speedup_lines(report):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(_drop_line(report)), soft_wrap=True)
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


def _steps_table(report: RunReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", overflow="fold", min_width=14)
    for column in (
        "mAP50-95",
        "95 %",
        "mAP50",
        "no_helmet\nrecall",
        "MACs",
        "params",
        "files",
        "latency",
        "times\nfaster",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row(*_row(report.baseline, report), style="dim")
    for step in report.steps:
        table.add_row(*_row(step, report))
    table.add_row(*_row(report.result, report), style="bold", end_section=bool(report.references))
    for reference in report.references:
        table.add_row(*_row(reference, report))
    return table


def _row(item: Measured, report: RunReport) -> tuple[Text | str, ...]:
    return (
        Text(item.name),
        figures.points(item.map),
        figures.points_between(item.map_ci95).replace(" to ", "–"),
        figures.points(item.map50),
        figures.share(item.recall_no_helmet),
        figures.count(item.macs),
        figures.count(item.params),
        figures.size(item.size_bytes),
        figures.milliseconds(item.latency_ms_median),
        figures.times(report.speedup_of(item)),
    )


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
