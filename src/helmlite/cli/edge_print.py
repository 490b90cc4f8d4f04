"""What detect, bench and doctor tell the user in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from helmlite.runtime.bundle import BundlePredictor
from helmlite.runtime.detect import Summary, Watch
from helmlite.runtime.doctor import Diagnosis
from helmlite.runtime.draw import can_write

_SHOWN_PROBLEMS = 10


@contextmanager
def progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; what it yields is told how many frames are done."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Frames", total=total)
        yield lambda frames: bar.update(task, completed=frames)


def print_remarks(console: Console, predictors: Sequence[BundlePredictor]) -> None:
    """What each model runs in, what is not as its bundle asked, and which class names cannot be drawn."""
    for predictor in predictors:
        session = predictor.session
        console.print(
            f"{predictor.name}: {session.runtime} {session.version}, {session.precision}, "
            f"{session.threads} thread{'s' if session.threads > 1 else ''}, {session.input_size} pixels",
            highlight=False,
            markup=False,
        )
        for remark in predictor.remarks:
            console.print(f"  {remark}", style="yellow", highlight=False, markup=False)
    unwritten = [item.name for predictor in predictors for item in predictor.classes if not can_write(item.name)]
    if unwritten:
        console.print(
            f"OpenCV {_opencv_version()} cannot draw {', '.join(dict.fromkeys(unwritten))}: pictures show the role "
            'instead. OpenCV 5 can: pip install -U "opencv-python-headless>=5"',
            style="yellow",
            highlight=False,
            markup=False,
        )


def print_summary(console: Console, summary: Summary, written: Sequence[str]) -> None:
    """Frames, speed, what was found by role, where two models differ, what could not be read, where results are."""
    if summary.interrupted:
        console.print("Interrupted; what was written is whole.", style="yellow")
    watches = [summary.watch] + ([summary.other] if summary.other else [])
    console.print(
        f"{summary.frames} frames in {summary.seconds:.1f} s ({summary.frames_per_second:.1f} a second in all)"
    )
    if summary.frames:
        console.print(_found_table(watches))
    if summary.other is not None:
        console.print(
            f"Disagreement in {summary.differing} of {summary.frames} frames: {summary.same} boxes agree, "
            f"{summary.only_left} only left, {summary.only_right} only right, {summary.other_class} of another class."
        )
    if summary.problems:
        console.print(f"{len(summary.problems)} skipped or cut short:", style="yellow")
        for problem in summary.problems[:_SHOWN_PROBLEMS]:
            console.print(f"  {problem}", highlight=False, markup=False, soft_wrap=True)
        if len(summary.problems) > _SHOWN_PROBLEMS:
            console.print(f"  and {len(summary.problems) - _SHOWN_PROBLEMS} more")
    for path in written:
        console.print(f"Written: {path}", highlight=False, markup=False, soft_wrap=True)


def print_bench(console: Console, report: dict[str, Any]) -> None:
    """The figures of `bench_report` as a table, a column for each model, and the verdict below it."""
    models = report["models"]
    console.print(f"{report['device']}; {report['pictures']}", highlight=False, markup=False)
    table = Table()
    table.add_column("")
    for name in models:
        table.add_column(name, justify="right", overflow="fold")
    rows = (*_BENCH_ROWS, *_FULL_ROWS) if all("throughput" in model for model in models.values()) else _BENCH_ROWS
    for title, show in rows:
        table.add_row(title, *(show(model) for model in models.values()))
    console.print(table)
    first = next(iter(models))
    for name, times in report["times_as_fast"].items():
        console.print(
            f"{first} is {_times(times['end_to_end'])} as fast as {name} end to end (from picture to boxes), "
            f"{_times(times['network'])} in the network alone, and {_size(times['size'])}.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def print_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """What was found, and the precision to try first, in words."""
    machine = diagnosis.machine
    quota = f", container quota {machine.quota:g}" if machine.quota is not None else ""
    rows = [
        ("Processor", f"{machine.cpu or 'unknown'} ({machine.architecture})"),
        ("Cores", f"{machine.usable} usable of {machine.cores}{quota}"),
        ("Instructions", ", ".join(machine.flags) or "none that speed up inference were found"),
        ("Memory", _memory(machine.memory_bytes, machine.memory_limit_bytes)),
        ("System", machine.system),
        ("Runtimes", ", ".join(f"{name} {version}" for name, version in machine.runtimes.items()) or "none"),
    ]
    for device, facts in diagnosis.devices.items():
        rows.append((f"OpenVINO {device}", f"{facts['name']}: {', '.join(facts['capabilities'])}"))
    if diagnosis.clock_limit_mhz:
        allowed, possible = diagnosis.clock_limit_mhz
        rows.append(("Clock", f"{allowed:.0f} MHz allowed, {possible:.0f} MHz possible"))
    for precision, timing in diagnosis.trials.items():
        median = timing.median()
        rows.append((f"Tried {precision}", f"{median.value:.2f} ms ({median.low:.2f} to {median.high:.2f})"))
    rows += [(f"Tried {precision}", f"not possible: {why}") for precision, why in diagnosis.failed.items()]
    rows.append(("Speed", diagnosis.steadiness.in_words()))
    table = Table(show_header=False, box=None)
    for title, text in rows:
        table.add_row(title, text)
    console.print(table)
    choice = diagnosis.choice
    console.print(f"helmlite would try {choice.precision} in {choice.runtime} first. {choice.why}", highlight=False)


def _found_table(watches: Sequence[Watch]) -> Table:
    table = Table()
    table.add_column("found")
    table.add_column("role")
    for watch in watches:
        table.add_column(watch.predictor.name, justify="right", overflow="fold")
    counts = [Counter[str]() for _ in watches]
    names: dict[str, list[str]] = {}
    for watch, by_key in zip(watches, counts):
        for item, count in watch.count_by_class():
            key = item.role or f"({item.name})"
            by_key[key] += count
            names.setdefault(key, []).append(item.name)
    for key, called in names.items():
        role = "-" if key.startswith("(") else key
        found = (str(by_key[key]) if key in by_key else "-" for by_key in counts)
        table.add_row(", ".join(dict.fromkeys(called)), role, *found)
    table.add_row("median ms", "", *(f"{np.median(watch.latencies_ms):.1f}" for watch in watches))
    return table


def _estimate(values: dict[str, float]) -> str:
    return f"{_milliseconds(values['value'])} ms ({_milliseconds(values['low'])} to {_milliseconds(values['high'])})"


def _milliseconds(value: float) -> str:
    """Three or four digits, as many as mean something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _size(times_smaller: float) -> str:
    if 0.95 < times_smaller < 1.05:
        return "of the same size"
    if times_smaller > 1:
        return f"{times_smaller:.1f} times smaller"
    return f"{1 / times_smaller:.1f} times larger"


def _times(values: dict[str, float]) -> str:
    return f"{values['value']:.2f} times ({values['low']:.2f} to {values['high']:.2f})"


_BENCH_ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("runtime", lambda model: f"{model['runtime']} {model['runtime_version']}"),
    ("precision", lambda model: str(model["precision"])),
    ("threads", lambda model: str(model["threads"])),
    ("input size", lambda model: str(model["input_size"])),
    ("bytes loaded", lambda model: f"{model['size_bytes']:,}"),
    ("rounds", lambda model: str(model["network"]["rounds"])),
    ("network, median", lambda model: _estimate(model["network"]["median_ms"])),
    ("network, p95", lambda model: _estimate(model["network"]["p95_ms"])),
    ("end to end, median", lambda model: _estimate(model["end_to_end"]["median_ms"])),
    ("end to end, p95", lambda model: _estimate(model["end_to_end"]["p95_ms"])),
)

_FULL_ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("network, p99", lambda model: _estimate(model["network"]["p99_ms"])),
    ("end to end, p99", lambda model: _estimate(model["end_to_end"]["p99_ms"])),
    ("memory, at most", lambda model: _mebibytes(model["memory"])),
    ("pictures a second", lambda model: _by_threads(model["throughput"])),
    ("energy a picture", lambda model: _energy(model["energy"])),
)


def _mebibytes(memory: dict[str, int] | None) -> str:
    return "not told" if memory is None else f"{memory['peak_bytes'] / 2**20:.0f} MiB"


def _by_threads(found: Sequence[dict[str, Any]]) -> str:
    return ", ".join(
        f"{item['per_second']:.1f} ({item['threads']} thread{'s' if item['threads'] > 1 else ''})" for item in found
    )


def _energy(energy: dict[str, float] | None) -> str:
    if energy is None:
        return "not told"
    return f"{energy['joules_per_picture']:.3g} J ({energy['watts']:.0f} W, whole processor)"


def _memory(total: int | None, limit: int | None) -> str:
    text = f"{total / 2**30:.1f} GiB" if total else "unknown"
    return f"{text}, container limit {limit / 2**30:.1f} GiB" if limit else text


def _opencv_version() -> str:
    import cv2

    return str(cv2.__version__)
