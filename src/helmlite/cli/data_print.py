"""How the `helmlite data` commands show what they found: tables for the eye, one line for each finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from helmlite.data.check import CheckReport
    from helmlite.data.convert import Written
    from helmlite.data.findings import Finding

_COLOUR = {"error": "red", "warning": "yellow", "note": "cyan"}


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function that takes (done, of how many) and draws them on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show_report(report: CheckReport, shown: int) -> None:
    """The splits as a table, the findings by kind, and a last line that says what to make of them."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    console.print(f"[bold]{escape(str(report.source))}[/bold] ({report.format})", soft_wrap=True)
    console.print(_split_table(report))
    root = report.source if report.source.is_dir() else report.source.parent
    for (severity, kind), group in groupby(report.findings, key=lambda item: (item.severity, item.kind)):
        findings = list(group)
        colour = _COLOUR[severity]
        console.print(f"[{colour}]{severity}[/{colour}] {kind}: {len(findings)}")
        for item in findings[:shown]:
            console.print(f"  {escape(_line(item, root))}", soft_wrap=True)
        if len(findings) > shown:
            console.print(f"  and {len(findings) - shown} more (--show N, --json FILE)")
    _show_verdict(report, console)


def show_written(written: Written, to: str) -> None:
    """One line for a data set that was written, and one for each picture left out."""
    for problem in written.skipped:
        print(f"skipped: {problem}")
    counts = ", ".join(f"{count} {split}" for split, count in written.pictures.items())
    left_out = f"; {len(written.skipped)} skipped" if written.skipped else ""
    print(f"{counts} pictures{left_out}, written as {to}: {written.folder}")


def _show_verdict(report: CheckReport, console: Console) -> None:
    counts = {severity: sum(item.severity == severity for item in report.findings) for severity in _COLOUR}
    told = ", ".join(f"{count} {severity}{'s' if count != 1 else ''}" for severity, count in counts.items())
    if report.misleads:
        console.print(f"[red bold]A run on this data would be misled.[/red bold] {told}")
    else:
        console.print(f"[green bold]Fit to run on.[/green bold] {told}")


def _split_table(report: CheckReport) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from helmlite.data.check import SIZE_LIMITS_PX

    table = Table(box=box.SIMPLE)
    table.add_column("")
    for split in report.splits:
        table.add_column(split.split, justify="right")
    table.add_row("pictures", *(str(split.pictures) for split in report.splits))
    table.add_row("  unreadable", *(str(split.unreadable) for split in report.splits))
    table.add_row("  nothing labelled", *(str(split.empty) for split in report.splits), end_section=True)
    totals = [max(sum(split.boxes), 1) for split in report.splits]
    for number, item in enumerate(report.classes):
        told = f"{escape(item.name)} [dim]{item.role or 'no role'}[/dim]"
        shares = (f"{split.boxes[number]} ({split.boxes[number] / of:.0%})" for split, of in zip(report.splits, totals))
        table.add_row(told, *shares)
    table.add_section()
    limits = [0, *SIZE_LIMITS_PX]
    for number, low in enumerate(limits):
        high = f"to {limits[number + 1]}" if number + 1 < len(limits) else "and more"
        table.add_row(f"boxes of {low} {high} px", *(str(split.sizes[number]) for split in report.splits))
    return table


def _line(item: Finding, root: Path) -> str:
    try:
        file = item.file.resolve().relative_to(root.resolve())
    except ValueError:
        file = item.file
    place = "" if file == Path() else f"{file}:{item.line}: " if item.line else f"{file}: "
    return place + item.message
