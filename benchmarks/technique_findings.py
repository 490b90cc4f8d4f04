"""What the rows of benchmarks/techniques.py say: which technique to reach for, and the questions that they answer.

Every sentence is made from the figures; where a row is not there yet, its sentence is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from technique_results import Difference, Measured, Timing, difference_ci95, share_won_back

Found = Mapping[str, Measured]

_MARGIN = 1.0  # points of mAP50-95 below which a method is called not inferior
_LEARNED = ("slim-50", "admm-50", "growing-50", "gates-50")
_WITHOUT_TEACHER = ("no-teacher", "no-teacher-repeat")
_HARD = {
    "w4-tensor": ("4-bit weights with one scale for a whole layer", "w4-tensor-adaround", "qat-w4-tensor-steps"),
    "w3": ("3-bit weights with a scale for each channel", "w3-adaround", "qat-w3-steps"),
}


def to_reach_for(found: Found, timing: Timing) -> list[str]:
    """A row for each purpose, chosen by its accuracy on val; accuracy shown is of test."""
    baseline = found.get("baseline")
    if baseline is None:
        return []
    lines = [
        "",
        "## Which one to reach for",
        "",
        "For each purpose the best row among those that lose no more than the points named, both by `val`; what is "
        "shown of it is of `test`.",
        "",
        "| wanted | loses at most, by val | row | mAP50-95 on test, against the baseline | OpenVINO | ONNX Runtime | "
        "file, kB | download, kB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    untrained = [item for item in found.values() if "epochs" not in item.row.recipe]
    everything = list(found.values())
    purposes: Sequence[tuple[str, Sequence[Measured], Callable[[Measured], float | None]]] = (
        ("fastest in OpenVINO", everything, lambda item: timing.median_ms("openvino", item.name)),
        ("fastest in ONNX Runtime", everything, lambda item: timing.median_ms("onnxruntime", item.name)),
        ("smallest file", everything, lambda item: item.mean("size_bytes")),
        ("smallest download", everything, lambda item: item.mean("download_bytes")),
        ("fastest in OpenVINO, no training", untrained, lambda item: timing.median_ms("openvino", item.name)),
        ("smallest download, no training", untrained, lambda item: item.mean("download_bytes")),
    )
    for wanted, rows, least in purposes:
        for points in (1.0, 3.0):
            if (chosen := _least(rows, least, _val(baseline) - points)) is not None:
                lines.append(_reached(wanted, points, chosen, baseline, timing))
    return lines


def findings(found: Found, timing: Timing) -> list[str]:
    """The questions that the rows answer, a line each."""
    lines = [
        *_pruning(found),
        *_distillation(found),
        *_hard_rounding(found),
        *_activation(found, timing),
    ]
    return ["", "## What the rows say", "", *lines] if lines else []


def _least(rows: Sequence[Measured], value: Callable[[Measured], float | None], lowest_val: float) -> Measured | None:
    known = [(amount, item) for item in rows if (amount := value(item)) is not None and _val(item) >= lowest_val]
    return min(known, key=lambda pair: pair[0])[1] if known else None


def _reached(wanted: str, points: float, chosen: Measured, baseline: Measured, timing: Timing) -> str:
    change = difference_ci95(chosen.maps(), baseline.maps())
    speeds = [timing.faster(runtime, chosen.name) for runtime in ("openvino", "onnxruntime")]
    cells = [
        wanted,
        f"{points:.0f}",
        chosen.name,
        f"{100 * (chosen.mean('test_map') or 0):.1f}, {change}",
        *("–" if times is None else f"{times:.2f}×" for times in speeds),
        *(f"{(chosen.mean(key) or 0) / 1e3:.0f}" for key in ("size_bytes", "download_bytes")),
    ]
    return f"| {' | '.join(cells)} |"


def _val(item: Measured) -> float:
    """mAP50-95 on val in points."""
    return 100 * (item.mean("val_map") or 0.0)


def _pruning(found: Found) -> list[str]:
    lines = []
    guided, uniform = found.get("prune-sensitivity-50"), found.get("prune-uniform-50")
    if guided and uniform:
        before, after = (_change(guided, uniform, prefix) for prefix in ("before_", ""))
        lines.append(
            f"- Half of the MACs, ratios by sensitivity against one ratio for all (L2 both): before training {before}, "
            f"after it {after}: {_judged(after)} ({_seeds(guided, uniform)})."
        )
    for name in _LEARNED:
        for control in (uniform, guided):
            if (item := found.get(name)) and control:
                before, after = (_change(item, control, prefix) for prefix in ("before_", ""))
                lines.append(
                    f"- Half of the MACs, {name} against {control.name}: before the last training {before}, after it "
                    f"{after}: {_judged(after)} ({_seeds(item, control)})."
                )
    return lines


def _distillation(found: Found) -> list[str]:
    control = found.get("no-teacher")
    taught = [item for item in found.values() if item.row.group == "distil" and item.name not in _WITHOUT_TEACHER]
    if control is None or not taught:
        return []
    best = max(taught, key=_val)
    change = _change(best, control, "")
    return [
        f"- The best distillation loss by val is {best.name} ({_val(best):.1f}; the control {_val(control):.1f}). "
        f"On test {change} against that control, which has the same budget: {_judged(change)} "
        f"({_seeds(best, control)})."
    ]


def _hard_rounding(found: Found) -> list[str]:
    lines = []
    baseline = found.get("baseline")
    for name, (what, *mended) in _HARD.items():
        plain = found.get(name)
        if baseline is None or plain is None:
            continue
        parts = [f"- Plain rounding to {what} costs {_change(plain, baseline, '')}"]
        for item in (found[key] for key in mended if key in found):
            share = share_won_back(plain, item, baseline)
            if share is not None:
                parts.append(f"{item.name} wins back {share.value:.0f} % of it ({share.low:.0f} to {share.high:.0f} %)")
        lines.append("; ".join(parts) + ".")
    return lines


def _activation(found: Found, timing: Timing) -> list[str]:
    lines = []
    for runtime, title in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")):
        smooth = [name for name in ("int8-mse", "int8-before-activation") if timing.median_ms(runtime, name)]
        if not smooth:
            continue
        fastest = min(smooth, key=lambda name: timing.median_ms(runtime, name) or 0.0)
        for name in ("relu-int8", "relu6-int8", "hardswish-int8"):
            if name in found and (times := timing.faster(runtime, name, than=fastest)) is not None:
                lines.append(f"- INT8 in {title}: {name} is {times:.2f}× as fast as SiLU ({fastest}).")
    return lines


def _change(first: Measured, second: Measured, prefix: str) -> Difference | None:
    return difference_ci95(first.maps(prefix), second.maps(prefix))


def _judged(change: Difference | None) -> str:
    if change is None:
        return "not known"
    if change.low > 0:
        return "better"
    if change.high < 0:
        return "worse"
    return f"not inferior by {_MARGIN:.0f} point" if change.low > -_MARGIN else "not told apart"


def _seeds(*items: Measured) -> str:
    counts = [len(item.seeds) for item in items]
    return " and ".join(f"{count} seed{'s' if count > 1 else ''}" for count in counts)
