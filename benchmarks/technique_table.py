"""docs/techniques.md from the rows that benchmarks/techniques.py made: tables by group, and two plots.

Intervals are 95 % bootstrap intervals over the test pictures; where a row has several seeds, each resample also draws
its seeds with replacement, so that the interval holds the spread over trainings too.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from technique_rows import ALARMS_PER_100, BASELINE_EPOCHS, CONTROLS, EPOCHS, GROUPS, INPUT_SIZE, ROWS, Row

from helmlite.data.dataset import Dataset
from helmlite.evaluate.statistics.intervals import percentile_interval

Values = NDArray[np.float64]  # (1 + resamples,) mAP50-95 in points, the first with every picture once


@dataclass(frozen=True)
class Measured:
    """A row and what was found with each of its seeds."""

    row: Row
    seeds: Sequence[Mapping[str, Any]]

    def maps(self, prefix: str = "") -> list[Values]:
        """For each seed mAP50-95 in every resample; [] where it was not looked at."""
        return [np.array(item[f"{prefix}resampled"]) for item in self.seeds if f"{prefix}resampled" in item]

    def mean(self, key: str) -> float | None:
        known = [item[key] for item in self.seeds if item.get(key) is not None]
        return float(np.mean(known)) if known else None


def write_page(results: Path, folder: Path, pictures: Mapping[str, Dataset], commit: str) -> None:
    """Writes techniques.md, techniques-latency.png and techniques-bytes.png into `folder`."""
    found, refused = read_rows(results)
    timing = json.loads((results / "timing.json").read_text()) if (results / "timing.json").is_file() else {}
    lines = _head(pictures, timing, commit, found)
    for group, title in GROUPS.items():
        rows = [found[row.name] for row in ROWS if row.group == group and row.name in found]
        if rows:
            lines += _table(title, rows, timing, found)
    if refused:
        lines += ["", "## Refused", "", *(f"- {name}: {why}" for name, why in refused.items())]
    if missing := [row.name for row in ROWS if row.name not in found and row.name not in refused]:
        lines += ["", f"Not made yet: {', '.join(missing)}."]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "techniques.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _draw(found, timing, folder)


def read_rows(results: Path) -> tuple[dict[str, Measured], dict[str, str]]:
    """Finished rows by name, and why others were refused."""
    found, refused = {}, {}
    for row in ROWS:
        paths = [results / f"{row.name}-s{seed}.json" for seed in range(row.seeds)]
        seeds = [json.loads(path.read_text()) for path in paths if path.is_file()]
        reasons = [item["refused"] for item in seeds if "refused" in item]
        if reasons:
            refused[row.name] = reasons[0]
        done = [item for item in seeds if "refused" not in item]
        if done:
            found[row.name] = Measured(row, done)
    return found, refused


def difference_ci95(first: Sequence[Values], second: Sequence[Values]) -> tuple[float, float, float] | None:
    """first - second in points with its interval, paired over pictures; seeds are drawn anew in each resample.

    None where one of them is empty.
    """
    if not first or not second:
        return None
    change = over_seeds(first, 1) - over_seeds(second, 2)
    interval = percentile_interval(change[1:])
    return None if interval is None else (float(change[0]), *interval)


def over_seeds(values: Sequence[Values], seed: int) -> Values:
    """Mean over the seeds; in each resample (the first aside) over as many seeds drawn with replacement."""
    stacked = np.stack(values)  # (S, 1 + B)
    drawn = np.random.default_rng(seed).integers(0, len(stacked), size=stacked.shape)
    drawn[:, 0] = np.arange(len(stacked))
    return np.take_along_axis(stacked, drawn, axis=0).mean(axis=0)


def _head(
    pictures: Mapping[str, Dataset], timing: Mapping[str, Any], commit: str, found: Mapping[str, Measured]
) -> list[str]:
    sizes = ", ".join(f"{split} {len(item)} (data {item.sha256()[:12]})" for split, item in pictures.items())
    machines = sorted({item["machine"] for row in found.values() for item in row.seeds if "machine" in item})
    seeds = [item for row in found.values() for item in row.seeds]
    commits = sorted({item[key] for item in seeds for key in ("commit", "recall_commit") if key in item})
    return [
        "# Techniques, alone and combined",
        "",
        "Written by `python benchmarks/techniques.py --write docs`; do not edit.",
        "",
        f"Pictures: bikes_helmets, india_traffic and thai_cctv together: {sizes}. Baseline: `tiny`, fine-tuned for "
        f"{BASELINE_EPOCHS} epochs from the weights that ship. Every row that trains does so for {EPOCHS} epochs in "
        f"all, from that baseline, at {INPUT_SIZE} pixels. Accuracy is of the exported file in OpenVINO on `test`, "
        "choices were made on `val`; intervals are 95 %, over pictures and, where there are several, over seeds. "
        f"Differences are paired. Recall is that of no_helmet, with {ALARMS_PER_100} false alarms for every 100 "
        "pictures of `val`.",
        "",
        f"{len(found)} rows, written at commit {commit}, made at {', '.join(commits)} on {'; '.join(machines)}. Speed: "
        f"{timing.get('machine', 'not measured')} ({', '.join(timing.get('flags', []))}), "
        f"{timing.get('rounds', 0)} rounds in turn, batch 1, {timing.get('versions', {})}, network alone, FP32 rows "
        "with the f32 hint, as a ratio to the baseline; bigger is faster.",
        "",
        "![Accuracy against latency](techniques-latency.png)",
        "",
        "![Accuracy against bytes](techniques-bytes.png)",
    ]


def _table(title: str, rows: Sequence[Measured], timing: Mapping[str, Any], found: Mapping[str, Measured]) -> list[str]:
    columns = (
        "row", "mAP50-95", "mAP50", "no_helmet recall", "against", "before training", "against, before training",
        "MACs, M", "file, kB", "download, kB", "OpenVINO", "ONNX Runtime", "minutes",
    )  # fmt: skip
    lines = ["", f"## {title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for item in rows:
        control = found.get(CONTROLS.get(item.row.name, "baseline"))
        lines.append(_line(item, None if control is item else control, timing))
    return lines


def _line(item: Measured, control: Measured | None, timing: Mapping[str, Any]) -> str:
    value = over_seeds(item.maps(), 1)
    interval = percentile_interval(value[1:])
    shown = f"{value[0]:.1f}" + (f" ({interval[0]:.1f}–{interval[1]:.1f})" if interval else "")
    shown += f", {len(item.seeds)} seeds" if len(item.seeds) > 1 else ""
    before = item.maps("before_")
    cells = [
        item.row.name,
        shown,
        f"{100 * (item.mean('test_map50') or 0):.1f}",
        _percent(item.mean("recall_no_helmet")),
        _against(item, control, ""),
        f"{over_seeds(before, 1)[0]:.1f}" if before else "–",
        _against(item, control, "before_"),
        f"{item.seeds[0]['macs'] / 1e6:.0f}",
        f"{item.seeds[0]['size_bytes'] / 1e3:.0f}",
        f"{item.seeds[0]['download_bytes'] / 1e3:.0f}",
        *(_faster(timing, runtime, item.row.name) for runtime in ("openvino", "onnxruntime")),
        f"{item.mean('minutes') or 0:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _against(item: Measured, control: Measured | None, prefix: str) -> str:
    change = None if control is None else difference_ci95(item.maps(prefix), control.maps(prefix))
    if control is None or change is None:
        return "–"
    return f"{control.row.name}: {change[0]:+.1f} ({change[1]:+.1f} to {change[2]:+.1f})"


def _faster(timing: Mapping[str, Any], runtime: str, name: str) -> str:
    times = timing.get(runtime, {})
    return f"{times['baseline'] / times[name]:.2f}×" if name in times and "baseline" in times else "–"


def _draw(found: Mapping[str, Measured], timing: Mapping[str, Any], folder: Path) -> None:
    from matplotlib.figure import Figure

    times = timing.get("openvino", {})
    planes = {
        "techniques-latency.png": ("median latency in OpenVINO, ms", times),
        "techniques-bytes.png": ("file, kB", {name: item.seeds[0]["size_bytes"] / 1e3 for name, item in found.items()}),
    }
    for name, (label, places) in planes.items():
        points: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
        for item in found.values():
            if item.row.name in places:
                height = float(over_seeds(item.maps(), 1)[0])
                points[item.row.group].append((places[item.row.name], height, item.row.name))
        if not points:
            continue
        figure = Figure(figsize=(11, 8), layout="constrained")
        axis = figure.subplots()
        for group, members in points.items():
            axis.scatter([x for x, _, _ in members], [y for _, y, _ in members], label=GROUPS[group], s=30)
            for x, y, text in members:
                axis.annotate(text, (x, y), fontsize=6, xytext=(3, 3), textcoords="offset points")
        axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.set_ylabel("mAP50-95 on test, points")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
        figure.savefig(folder / name, dpi=110)
