"""A run retold, step by step, from what it left on disk: no figure is computed anew."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helmlite.compress.checkpoint import load_checkpoint
from helmlite.compress.describe import described
from helmlite.compress.recipe import step_folders, step_provenance
from helmlite.detector.detector import Detector
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.report import RunReport, verdict_line
from helmlite.evaluate.report_files import JSON_NAME, read_report


def explain(run: Path) -> list[str]:
    """The run's story, a line each.  Raises ValueError where the folder is no finished run, or a file of it damaged."""
    path = run / JSON_NAME
    if not path.is_file():
        raise ValueError(f"{run}: no {JSON_NAME} there; is it the --out folder of a finished `helmlite compress`?")
    report = read_report(path)
    made = [step_provenance(item) for item in step_folders(run / "steps")]
    done = {f"{number}. {about['technique']}": about for number, about in enumerate(made, start=1)}
    rows = [report.baseline, *report.steps]
    if report.result.name not in {row.name for row in rows}:
        rows.append(report.result)
    lines = [verdict_line(report), "", f"{report.model}, for {report.target}, seed {report.seed}:"]
    lines += [_measured(report.baseline)]
    for before, row in itertools.pairwise(rows):
        lines += ["", *_step(before, row, done)]
    return [*lines, "", *_end(report)]


def step_detectors(run: Path) -> list[Detector]:
    """The detector after each step of a run, in order."""
    return [load_checkpoint(item) for item in step_folders(run / "steps")]


def _step(before: Measured, row: Measured, done: Mapping[str, dict[str, Any]]) -> list[str]:
    about = done.get(row.name)
    if about is None:
        lines = [f"{row.name}: the same weights, run so."]
    else:
        purpose = described(about["technique"]).purpose
        lines = [f"{row.name}, in {about['seconds']:.0f} s: {purpose}"]
        chosen = {name: value for name, value in about["settings"].items() if value not in (None, "", [])}
        lines.append(f"   settings: {json.dumps(chosen, ensure_ascii=False)}")
    return [*lines, f"   {_difference(before, row)}", f"   {_measured(row)}"]


def _difference(before: Measured, row: Measured) -> str:
    parts = []
    if before.map is not None and row.map is not None:
        points = 100 * (row.map - before.map)
        parts.append("mAP50-95 unchanged" if abs(points) < 0.05 else f"mAP50-95 {points:+.1f} points")
    if before.macs and row.macs and before.macs != row.macs:
        parts.append(f"{row.macs / before.macs:.0%} of the multiply-accumulates")
    if before.size_bytes and row.size_bytes and abs(row.size_bytes / before.size_bytes - 1) > 0.01:
        parts.append(f"{row.size_bytes / before.size_bytes:.0%} of the bytes")
    if before.latency_ms_median and row.latency_ms_median:
        parts.append(f"{before.latency_ms_median / row.latency_ms_median:.2f} times as fast")
    return ", ".join(parts) or "nothing measurable changed"


def _measured(row: Measured) -> str:
    def known(value: float | None, text: str) -> str:
        return "unknown" if value is None else text.format(value)

    share = known(None if row.map is None else 100 * row.map, "{:.1f}")
    recall = known(None if row.recall_no_helmet is None else 100 * row.recall_no_helmet, "{:.1f} %")
    size = known(None if row.size_bytes is None else row.size_bytes / 1e6, "{:.2f} MB")
    return (
        f"{row.name}: mAP50-95 {share}, no_helmet recall {recall}, {size}, "
        f"{known(row.latency_ms_median, '{:.2f} ms')} ({row.precision} at {row.input_size})"
    )


def _end(report: RunReport) -> list[str]:
    lines = [f"gate: {report.gate.verdict}", *(f"   {line}" for line in report.gate.says)]
    if report.stayed_float:
        lines.append(f"{len(report.stayed_float)} parts stayed in float, for instance:")
        lines += [f"   {item.name}: {item.why}" for item in report.stayed_float[:5]]
    if report.commands:
        lines += ["again with:", *(f"   {command}" for command in report.commands)]
    return lines
