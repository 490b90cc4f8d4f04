"""What the rows of benchmarks/techniques.py say: which technique to reach for, and the questions that they answer.

Every sentence is made from the figures; where a row is not there yet, its sentence is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from technique_results import Measured, Pair, Timing, share_won_back

Found = Mapping[str, Measured]

_MARGIN = 1.0  # points of mAP50-95 below which a method is called not inferior
_ALIKE = 1.02  # what is no further than this from the least counts as the least
_CUTS = {50: "Half of the MACs", 30: "30 % of the MACs"}
_LEARNED = ("slim", "admm", "growing", "gates")
_WITHOUT_TEACHER = ("no-teacher", "no-teacher-repeat")
_HARD = {  # the row that loses -> what, those that mend it without training, and with it
    "w4-tensor": (
        "4-bit weights with one scale for a whole layer",
        ("w4-tensor-adaround",),
        ("qat-w4-tensor-steps",),
    ),
    "w3": ("3-bit weights with a scale for each channel", ("w3-adaround", "w3-mixed"), ("qat-w3-steps",)),
}


def to_reach_for(found: Found, timing: Timing) -> list[str]:
    """A row for each purpose, chosen by its accuracy on val; the accuracy shown is of test."""
    baseline = found.get("baseline")
    if baseline is None:
        return []
    lines = [
        "",
        "## Which one to reach for",
        "",
        "Of the rows that lose no more than the points named on `val`: those within 2 % of the smallest, or no further "
        "from the fastest than rows of one and the same network are from each other, and of them the most accurate on "
        "`val`. The accuracy shown is of `test`.",
        "",
        "| wanted | loses at most, on val | row | mAP50-95 on test, against the baseline | OpenVINO | ONNX Runtime | "
        "file, kB | download, kB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    everything = list(found.values())
    untrained = [item for item in everything if "epochs" not in item.row.recipe]
    in_openvino, in_onnxruntime = (_time_in(timing, runtime) for runtime in ("openvino", "onnxruntime"))
    file, download = _Cost(lambda item: item.first["size_bytes"]), _Cost(lambda item: item.first["download_bytes"])
    for wanted, rows, cost in (
        ("fastest in OpenVINO", everything, in_openvino),
        ("fastest in ONNX Runtime", everything, in_onnxruntime),
        ("smallest file", everything, file),
        ("smallest download", everything, download),
        ("fastest in OpenVINO, no training", untrained, in_openvino),
        ("smallest download, no training", untrained, download),
    ):
        for points in (1.0, 3.0):
            if (chosen := _chosen(rows, cost, _val(baseline) - points)) is not None:
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
    if not lines:
        return []
    return [
        "",
        "## What the rows say",
        "",
        "Differences are points of mAP50-95 on `test` with their 95 % interval. With one seed it holds the chance of "
        "these pictures, not that of another training.",
        "",
        *lines,
    ]


def trains_before(item: Measured) -> bool:
    """Whether the technique itself trains, so that what it has before the last training is not untrained."""
    return item.row.group == "optimise" or item.name == "prune-gradual-50"


@dataclass(frozen=True)
class _Cost:
    """What is to be small.  alike: a row that costs no more than this many times the least counts as the least"""

    of: Callable[[Measured], float | None]
    alike: float = _ALIKE


def _time_in(timing: Timing, runtime: str) -> _Cost:
    def part_of_baseline(item: Measured) -> float | None:
        times = timing.faster(runtime, item.name)
        return None if times is None else 1 / times

    return _Cost(part_of_baseline, max(_ALIKE, timing.spread(runtime)))


def _chosen(rows: Sequence[Measured], cost: _Cost, lowest_val: float) -> Measured | None:
    known = [(amount, item) for item in rows if (amount := cost.of(item)) is not None and _val(item) >= lowest_val]
    if not known:
        return None
    least = min(amount for amount, _ in known)
    return max((item for amount, item in known if amount <= cost.alike * least), key=_val)


def _reached(wanted: str, points: float, chosen: Measured, baseline: Measured, timing: Timing) -> str:
    pair = None if chosen is baseline else Pair.of(chosen, baseline)
    speeds = [timing.faster(runtime, chosen.name) for runtime in ("openvino", "onnxruntime")]
    cells = [
        wanted,
        f"{points:.0f}",
        chosen.name,
        f"{chosen.over_seeds()[0]:.1f}" + ("" if pair is None else f", {pair.difference}"),
        *("–" if times is None else f"{times:.2f}×" for times in speeds),
        *(f"{chosen.first[key] / 1e3:.0f}" for key in ("size_bytes", "download_bytes")),
    ]
    return f"| {' | '.join(cells)} |"


def _val(item: Measured) -> float:
    """mAP50-95 on val in points, of the seed that every row has."""
    return float(100 * item.first["val_map"])


def _pruning(found: Found) -> list[str]:
    lines = []
    for percent, said in _CUTS.items():
        guided, uniform = found.get(f"prune-sensitivity-{percent}"), found.get(f"prune-uniform-{percent}")
        if guided and uniform:
            before = Pair.of(guided, uniform, "before_")
            told = "" if before is None else f"before training {before.difference}, "
            lines.append(
                f"- {said}, ratios by sensitivity against one ratio for all (L2 both): {told}after it "
                f"{_judged(guided, uniform)}."
            )
        against = [control for control in (uniform, guided) if control]
        for name in (f"{kind}-{percent}" for kind in _LEARNED):
            if (item := found.get(name)) and against:
                told = "; ".join(f"against {control.name} {_judged(item, control)}" for control in against)
                lines.append(f"- {said}, {name}, a half of whose training is spent before the cut: {told}.")
    return lines


def _distillation(found: Found) -> list[str]:
    control = found.get("no-teacher")
    taught = [item for item in found.values() if item.row.group == "distil" and item.name not in _WITHOUT_TEACHER]
    if control is None or not taught:
        return []
    best = max(taught, key=_val)
    return [
        f"- The best distillation loss by val (seed {best.first['seed']}) is {best.name}: {_val(best):.1f} there, the "
        f"control of equal budget {_val(control):.1f}. On test {_judged(best, control)}."
    ]


def _hard_rounding(found: Found) -> list[str]:
    lines = []
    baseline = found.get("baseline")
    for name, (what, untrained, trained) in _HARD.items():
        plain = found.get(name)
        pair = None if baseline is None or plain is None else Pair.of(plain, baseline)
        if baseline is None or plain is None or pair is None:
            continue
        parts = [f"- Plain rounding to {what} changes mAP50-95 by {pair.difference}"]
        for names, how in ((untrained, "without training"), (trained, "with ten epochs and a teacher")):
            for item in (found[key] for key in names if key in found):
                share = share_won_back(plain, item, baseline)
                if share is not None:
                    told = f"{share.value:.0f} % of that ({share.low:.0f} to {share.high:.0f} %)"
                    parts.append(f"{how} {item.name} wins back {told}")
        lines.append("; ".join(parts) + ".")
    return lines


def _activation(found: Found, timing: Timing) -> list[str]:
    lines = []
    for runtime, title in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")):
        smooth = {
            name: times
            for name in ("int8-mse", "int8-before-activation")
            if (times := timing.faster(runtime, name)) is not None
        }
        for name in ("relu-int8", "relu6-int8", "hardswish-int8"):
            fastest = max(smooth, key=smooth.__getitem__, default="")
            if name in found and (times := timing.faster(runtime, name, than=fastest)) is not None:
                lines.append(f"- INT8 in {title}: {name} is {times:.2f}× as fast as SiLU ({fastest}).")
    return lines


def _judged(item: Measured, control: Measured) -> str:
    """The difference after training, and what it shows."""
    pair = Pair.of(item, control)
    if pair is None:
        return "not known"
    change = pair.difference
    if change.low > 0:
        word = "better"
    elif change.high < 0:
        word = "worse"
    else:
        word = f"not inferior by {_MARGIN:.0f} point" if change.low > -_MARGIN else "not told apart"
    return f"{change}: {word} ({pair.seeds} seed{'s' if pair.seeds > 1 else ''})"
