"""docs/techniques.md from the rows that benchmarks/techniques.py made: what they say, tables by group, two plots."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from technique_findings import findings, to_reach_for, trains_before
from technique_results import TEACHER_NAME, Measured, Pair, Timing, read_rows, read_timing
from technique_rows import ALARMS_PER_100, BASELINE_EPOCHS, CONTROLS, EPOCHS, GROUPS, INPUT_SIZE, ROWS

from helmlite.data.dataset import Dataset
from helmlite.evaluate.statistics.intervals import percentile_interval


def write_page(results: Path, folder: Path, pictures: Mapping[str, Dataset], commit: str) -> None:
    """Writes techniques.md, techniques-latency.png and techniques-bytes.png into `folder`."""
    found, refused = read_rows(results)
    timing = read_timing(results)
    lines = _head(pictures, timing, commit, found)
    if (results / TEACHER_NAME).is_file():
        lines += ["", _teacher_in_words(json.loads((results / TEACHER_NAME).read_text()))]
    lines += to_reach_for(found, timing) + findings(found, timing)
    lines += ["", "![Accuracy against latency](techniques-latency.png)"]
    lines += ["", "![Accuracy against bytes](techniques-bytes.png)"]
    lines += ["", "Points whose name would cover another one's have none; they are in the tables below."]
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


def _head(pictures: Mapping[str, Dataset], timing: Timing, commit: str, found: Mapping[str, Measured]) -> list[str]:
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
        'Differences are paired by picture and by seed; "before training" is after the cut or the replacement, with '
        f"nothing trained yet. Recall is that of no_helmet, with {ALARMS_PER_100} false alarms for every 100 pictures "
        "of `val`.",
        "",
        f"{len(found)} rows, written at commit {commit}, made at {', '.join(commits)} on {'; '.join(machines)}. Speed: "
        f"{_speed_is_of(timing)}, network alone, FP32 rows "
        "with the f32 hint, as a ratio to the baseline; bigger is faster. Minutes are those of one core beside another "
        "row, on machines that differ by two: orders of magnitude.",
    ]


def _teacher_in_words(stated: Mapping[str, Any]) -> str:
    return (
        f'Rows named "large" have {stated["of"]} as their teacher ({stated["params"] / 1e6:.1f} million parameters), '
        f"fine-tuned for {stated['epochs']} epochs on the same pictures at {INPUT_SIZE} pixels (commit "
        f"{stated['commit']}): mAP50-95 {100 * stated['test_map']:.1f} on test, {100 * stated['val_map']:.1f} on val."
    )


def _speed_is_of(timing: Timing) -> str:
    stated = timing.stated
    if not stated:
        return "not measured"
    versions = ", ".join(f"{name} {version}" for name, version in stated["versions"].items())
    flags = ", ".join(stated["flags"])
    return (
        f"{stated['machine']} ({flags}), {stated['turns']} times {stated['rounds']} rounds in turn with the baseline, "
        f"both opened anew each time, batch 1, {versions}; rows of one and the same INT8 network differ by "
        f"{timing.spread('openvino') - 1:.0%} in OpenVINO and by {timing.spread('onnxruntime') - 1:.0%} in ONNX Runtime"
    )


def _table(title: str, rows: Sequence[Measured], timing: Timing, found: Mapping[str, Measured]) -> list[str]:
    columns = (
        "row", "mAP50-95", "mAP50", "no_helmet recall", "against", "before training", "against, before training",
        "MACs, M", "file, kB", "download, kB", "OpenVINO", "ONNX Runtime", "minutes",
    )  # fmt: skip
    lines = ["", f"## {title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for item in rows:
        control = found.get(CONTROLS.get(item.name, "baseline"))
        lines.append(_line(item, None if control is item else control, timing))
    return lines


def _line(item: Measured, control: Measured | None, timing: Timing) -> str:
    value = item.over_seeds()
    interval = percentile_interval(value[1:])
    shown = f"{value[0]:.1f}" + (f" ({interval[0]:.1f}–{interval[1]:.1f})" if interval else "")
    shown += f", {len(item.seeds)} seeds" if len(item.seeds) > 1 else ""
    before = item.maps("before_")
    cells = [
        item.name,
        shown,
        f"{100 * (item.mean('test_map50') or 0):.1f}",
        _percent(item.mean("recall_no_helmet")),
        _against(item, control, ""),
        f"{item.over_seeds('before_')[0]:.1f}" if before else "–",
        _against(item, control, "before_"),
        f"{item.seeds[0]['macs'] / 1e6:.0f}",
        f"{item.seeds[0]['size_bytes'] / 1e3:.0f}",
        f"{item.seeds[0]['download_bytes'] / 1e3:.0f}",
        *(_faster(timing, runtime, item.name) for runtime in ("openvino", "onnxruntime")),
        f"{item.mean('minutes') or 0:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _against(item: Measured, control: Measured | None, prefix: str) -> str:
    pair = None if control is None else Pair.of(item, control, prefix)
    if control is None or pair is None or (prefix and trains_before(item) != trains_before(control)):
        return "–"
    return f"{control.name}: {pair.difference}"


def _faster(timing: Timing, runtime: str, name: str) -> str:
    times = timing.faster(runtime, name)
    return "–" if times is None else f"{times:.2f}×"


def _draw(found: Mapping[str, Measured], timing: Timing, folder: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    usual = timing.median_ms("openvino", "baseline") or 0.0
    times = {name: usual / speed for name in found if (speed := timing.faster("openvino", name)) is not None}
    planes = {
        "techniques-latency.png": ("median latency in OpenVINO, ms", times),
        "techniques-bytes.png": ("file, kB", {name: item.seeds[0]["size_bytes"] / 1e3 for name, item in found.items()}),
    }
    for name, (label, places) in planes.items():
        points: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
        for item in found.values():
            if item.name in places:
                height = float(item.over_seeds()[0])
                points[item.row.group].append((places[item.name], height, item.name))
        if not points:
            continue
        figure = Figure(figsize=(11, 8), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        for group, members in points.items():
            place = list(GROUPS).index(group)
            style = {"label": GROUPS[group], "color": f"C{place % 10}", "marker": "o" if place < 10 else "^"}
            axis.scatter([x for x, _, _ in members], [y for _, y, _ in members], s=30, **style)
        axis.set_xscale("log")
        _name_points(axis, sorted((point for members in points.values() for point in members), key=lambda p: -p[1]))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("{x:g}")
        axis.set_xlabel(label)
        axis.set_ylabel("mAP50-95 on test, points")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
        figure.savefig(folder / name)


def _name_points(axis: Any, points: Sequence[tuple[float, float, str]]) -> None:
    """Names the points, the first ones first, where no name would cover another."""
    renderer = axis.figure.canvas.get_renderer()
    axis.figure.draw_without_rendering()
    taken: list[Any] = []
    for x, y, text in points:
        name = axis.annotate(text, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
        box = name.get_window_extent(renderer)
        if any(box.overlaps(other) for other in taken):
            name.remove()
        else:
            taken.append(box)
