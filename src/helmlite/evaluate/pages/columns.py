"""What a table of models or of steps shows of each: said once for terminal, Markdown and the page of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from helmlite.evaluate import figures
from helmlite.evaluate.comparison import Comparison
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.report import RunReport

Whole = RunReport | Comparison  # what knows how many times faster one of its rows is

ACCURACY = ("mAP50-95", "95 %", "mAP50", "no_helmet recall")
COST = ("MACs", "parameters", "files", "latency", "times faster")
COMPARED_COST = ("files", "latency", "times faster")  # of models that need not be ours: nobody counts their operators

_CELLS: Mapping[str, Callable[[Measured, Whole], str]] = {
    "mAP50-95": lambda item, _: figures.points(item.map),
    "95 %": lambda item, _: figures.points_between(item.map_ci95) or figures.UNKNOWN,
    "mAP50": lambda item, _: figures.points(item.map50),
    "mAP75": lambda item, _: figures.points(item.map75),
    "no_helmet recall": lambda item, _: figures.share(item.recall_no_helmet),
    "MACs": lambda item, _: figures.count(item.macs),
    "parameters": lambda item, _: figures.count(item.params),
    "files": lambda item, _: figures.size(item.size_bytes),
    "latency": lambda item, _: figures.milliseconds(item.latency_ms_median),
    "times faster": lambda item, whole: figures.times(whole.speedup_of(item)),
}


def cells(item: Measured, whole: Whole, columns: Sequence[str]) -> list[str]:
    """What one row shows in these columns, its name not among them.  KeyError for a column that there is not."""
    return [_CELLS[column](item, whole) for column in columns]
