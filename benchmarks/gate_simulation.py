"""How often the gate is right: thousands of simulated sets of pictures whose true loss is known.

    python benchmarks/gate_simulation.py FOLDER --sets 500 --pictures 30 76 216 600
    python benchmarks/gate_simulation.py FOLDER --table
    python benchmarks/gate_simulation.py FOLDER --decide --pictures 76 --sets 200
    python benchmarks/gate_simulation.py FOLDER --speed

Detectors and pictures are those of error_model.py.  The candidate's true loss is set to 0, half, once and twice the
gate's margins (1 point of mAP50-95, 2 points of recall of bare heads) and measured on TRUTH_SETS sets of TRUTH_PICTURES
pictures.  Then every set is judged by the functions of the gate, once with each interval of
helmlite.evaluate.statistics.intervals, and as the gate does it: percentiles, widened where few heads or none changed.
What a dropping candidate loses of the mAP follows from its heads, and is no multiple of the margin.

--decide asks what `pictures_to_decide` is worth: where a set is undecided, a new one of as many pictures as it says is
drawn (to MOST_TO_DRAW) and judged.

A slice of sets is a file in the folder, and what is there is not made again: an interrupted run goes on.  A set is
drawn from (seed, likeness, pictures, scene size, number), so that slices can be made in any order.  One folder holds
one number of resamples for each scene size and seed, and a slice the checks that it was made with: others are refused.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import commit
from error_model import LIKENESS, Floats, Likeness, Loss, Seen, draw, seen_by_baseline, seen_by_candidate

from helmlite.evaluate.gate import FAILED, PASSED, UNDECIDED, operating_point, pictures_to_decide, verdict_of
from helmlite.evaluate.statistics.intervals import (
    Interval,
    basic_interval,
    bca_interval,
    bias_corrected_interval,
    percentile_interval,
)
from helmlite.evaluate.statistics.paired import widened
from helmlite.evaluate.statistics.resamples import is_unchanged
from helmlite.evaluate.statistics.resampling import (
    Weights,
    bootstrap_weights,
    jackknife_weights,
    mean_average_precision,
    recalls_at_alarms,
    unit_numbers,
)
from helmlite.files import write_whole

MARGINS = {"mAP": 1.0, "recall": 2.0}  # points, the gate's own
LEVELS = (0.0, 0.5, 1.0, 2.0)  # true losses, in margins
METHODS: dict[str, Callable[[float, Floats, Floats], Interval | None]] = {
    "percentile": lambda value, resamples, jackknife: percentile_interval(resamples),
    "basic": lambda value, resamples, jackknife: basic_interval(value, resamples),
    "BC": lambda value, resamples, jackknife: bias_corrected_interval(value, resamples),
    "BCa": bca_interval,
}
AS_THE_GATE = "gate"
SHOWN = (AS_THE_GATE, *METHODS)
TRUTH_PICTURES, TRUTH_SETS = 100_000, 10
_STEPS = 3
_POINTS_PER_BOX_LOSS = 45.0  # points of mAP50-95 lost for each unit of box_loss
_SLICE = 50
MOST_TO_DRAW = 5_000
_HEADS = ((5, 14), (15, 24), (25, 34), (35, 39), (40, 44), (45, 49), (50, 59), (60, 99), (100, 199), (200, 999))
_NOTHING: Interval = (-1e9, 1e9)  # an interval that nothing is known of holds everything and decides nothing


@dataclass(frozen=True)
class Truth:
    """A candidate and its true losses in points, each with its standard error."""

    loss: Loss
    points: dict[str, float]
    standard_errors: dict[str, float]


class OtherSettingsError(ValueError):
    """A folder holds slices that were made with other settings."""


def main() -> int:
    arguments = _arguments()
    try:
        return run(arguments)
    except OtherSettingsError as error:
        print(error, file=sys.stderr)
        return 2


def run(arguments: argparse.Namespace) -> int:
    """What the command line asks for.  Raises OtherSettingsError."""
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.speed:
        print(speed(arguments.resamples))
        return 0
    if arguments.decide:
        for name in arguments.likeness:
            truths = _kept_truths(arguments.folder, name, arguments.seed)
            for pictures in arguments.pictures:
                print("\n".join(decided_table(arguments, name, truths, pictures)), flush=True)
        return 0
    if not arguments.table:
        _check_resamples(arguments.folder, arguments.scene_size, arguments.seed, arguments.resamples)
        for name in arguments.likeness:
            truths = _kept_truths(arguments.folder, name, arguments.seed)
            for pictures in arguments.pictures:
                _simulate(arguments, name, truths, pictures)
    for lines in (table, heads_table):
        print("\n".join(lines(arguments.folder, arguments.scene_size, arguments.seed)))
    return 0


def losses_of_set(
    seed: Sequence[int],
    likeness: Likeness,
    truths: Sequence[Loss],
    pictures: int,
    resamples: int,
    scene_size: int = 1,
    checks: Sequence[str] = tuple(MARGINS),
) -> list[dict[str, Any]]:
    """One simulated set, judged for each true loss: by check, the loss, its standard error and four intervals."""
    random = np.random.default_rng(list(seed))
    drawn = draw(pictures, likeness, random, scene_size)
    weights = np.concatenate(
        [
            np.ones((1, pictures), dtype=np.int64),
            bootstrap_weights(drawn.groups, resamples, int(random.integers(2**31))),
            jackknife_weights(drawn.groups),
        ]
    )
    unit_of = np.array(unit_numbers(drawn.groups))
    baseline = seen_by_baseline(drawn)
    before = 100 * mean_average_precision(baseline.records, weights) if "mAP" in checks else None
    rows = []
    for loss in truths:
        candidate = seen_by_candidate(drawn, loss)
        recalls, changed = _recall_losses(baseline, candidate, weights)
        count = baseline.bare.head_count if any(changed) else len(np.unique(unit_of[baseline.bare.head_pictures]))
        row = {"heads": baseline.bare.head_count, "changed": changed}
        row["recall"] = _in_short(recalls, resamples, (*changed, count))
        if before is not None:
            losses = before - 100 * mean_average_precision(candidate.records, weights)
            row["mAP"] = _in_short(losses, resamples, (0, 0, len(np.unique(unit_of))) if is_unchanged(losses) else None)
        rows.append(row)
    return rows


def truths_of(likeness: Likeness, seed: int) -> list[Truth]:
    """For each level the candidate that truly loses it, and what it loses on sets that it was not chosen on."""
    candidates = _candidates_that_lose(likeness, seed)
    found = [_true_losses(likeness, candidates, (seed, number + 1)) for number in range(TRUTH_SETS)]
    truths = []
    for level, loss in enumerate(candidates):
        points = {check: np.array([item[level][check] for item in found]) for check in MARGINS}
        errors = {check: float(values.std(ddof=1) / np.sqrt(TRUTH_SETS)) for check, values in points.items()}
        truths.append(Truth(loss, {check: float(values.mean()) for check, values in points.items()}, errors))
    return truths


def _candidates_that_lose(likeness: Likeness, seed: int) -> list[Loss]:
    """Both losses are nearly straight lines of what makes them: a few steps on one large set."""
    losses = [Loss(0.0 if likeness.drops else 0.02 * level, 0.14 * level) for level in LEVELS]
    for _ in range(_STEPS):
        found = _true_losses(likeness, losses, (seed, 0))
        losses = [_nearer(loss, level, points) for loss, level, points in zip(losses, LEVELS, found, strict=True)]
        if likeness.drops:
            losses = [replace(loss, box_loss=0.0) for loss in losses]
    return losses


def _nearer(loss: Loss, level: float, found: dict[str, float]) -> Loss:
    if level == 0:  # two detectors of one make: nothing is lost, by symmetry
        return loss
    score = loss.score_loss * level * MARGINS["recall"] / max(found["recall"], 0.1)
    return Loss(loss.box_loss + (level * MARGINS["mAP"] - found["mAP"]) / _POINTS_PER_BOX_LOSS, score)


def _true_losses(likeness: Likeness, losses: Sequence[Loss], seed: tuple[int, int]) -> list[dict[str, float]]:
    """Losses on one large set, less what the candidate without a loss, which truly has none, seems to lose there."""
    drawn = draw(TRUTH_PICTURES, likeness, np.random.default_rng(seed))
    baseline = seen_by_baseline(drawn)
    found = [_large_losses(baseline, seen_by_candidate(drawn, loss)) for loss in losses]
    return [{check: item[check] - found[LEVELS.index(0)][check] for check in MARGINS} for item in found]


def _large_losses(baseline: Seen, candidate: Seen) -> dict[str, float]:
    one = np.ones((1, baseline.records.picture_count), dtype=np.int64)
    maps = [mean_average_precision(side.records, one)[0] for side in (baseline, candidate)]
    return {"mAP": 100 * float(maps[0] - maps[1]), "recall": float(_recall_losses(baseline, candidate, one)[0][0])}


def _recall_losses(baseline: Seen, candidate: Seen, weights: Weights) -> tuple[Floats, tuple[int, int]]:
    """Losses in points in each resample, as the gate has them, and how many heads were newly missed and found."""
    point = operating_point(baseline.bare, candidate.bare)
    before, after = (recalls_at_alarms(side.bare, point.alarms_per_100, weights) for side in (baseline, candidate))
    found, still = baseline.bare.found_at(point.baseline_threshold), candidate.bare.found_at(point.candidate_threshold)
    return 100 * (before - after), (int((found & ~still).sum()), int((still & ~found).sum()))


def _in_short(losses: Floats, resamples: int, few: tuple[int, int, int] | None) -> dict[str, Any]:
    """few: how many were lost and won, of how many, where the gate's interval is widened by that"""
    value, drawn, left = float(losses[0]), losses[1 : 1 + resamples], losses[1 + resamples :]
    intervals = {name: METHODS[name](value, drawn, left) or _NOTHING for name in METHODS}
    plain = intervals["percentile"]
    intervals[AS_THE_GATE] = plain if few is None or plain == _NOTHING else widened(plain, *few)
    known = drawn[~np.isnan(drawn)]
    return {
        "loss": round(value, 4),
        "sd": round(float(known.std()), 4) if len(known) else None,
        "intervals": {name: [round(end, 4) for end in ends] for name, ends in intervals.items()},
    }


def _kept_truths(folder: Path, name: str, seed: int) -> list[Truth]:
    path = folder / f"truth-{_plain(name)}-s{seed}.json"
    if not path.is_file():
        truths = truths_of(LIKENESS[name], seed)
        write_whole(path, json.dumps({"commit": commit(), "truths": [asdict(item) for item in truths]}))
    kept = json.loads(path.read_text())["truths"]
    return [Truth(Loss(**item["loss"]), item["points"], item["standard_errors"]) for item in kept]


def _simulate(arguments: argparse.Namespace, name: str, truths: Sequence[Truth], pictures: int) -> None:
    for start in range(0, arguments.sets, _SLICE):
        path = arguments.folder / f"{_setting(name, pictures, arguments.scene_size, arguments.seed)}-{start}.json"
        known = _known_sets(path, arguments.checks)
        stop = min(start + _SLICE, arguments.sets)
        if start + len(known) >= stop:
            continue
        losses = [item.loss for item in truths]
        rows = [
            losses_of_set(
                (arguments.seed, list(LIKENESS).index(name), pictures, arguments.scene_size, number),
                LIKENESS[name],
                losses,
                pictures,
                arguments.resamples,
                arguments.scene_size,
                arguments.checks,
            )
            for number in range(start + len(known), stop)
        ]
        before = json.loads(path.read_text())["commit"] if known else commit()
        made_at = " and ".join(dict.fromkeys([*before.split(" and "), commit()]))
        values = {"commit": made_at, "resamples": arguments.resamples, "checks": sorted(arguments.checks)}
        write_whole(path, json.dumps({**values, "sets": [*known, *rows]}))
        print(path.name, flush=True)


def _known_sets(path: Path, checks: Sequence[str]) -> list[Any]:
    """The sets of a slice that is there, so far.  Raises OtherSettingsError where other checks were made."""
    if not path.is_file():
        return []
    sets: list[Any] = json.loads(path.read_text())["sets"]
    made = sorted(check for check in MARGINS if check in sets[0][0])
    if made != sorted(checks):
        raise OtherSettingsError(f"{path} was made with --checks {' '.join(made)}; give the same, or another folder.")
    return sets


def _check_resamples(folder: Path, scene_size: int, seed: int, resamples: int | None = None) -> None:
    """Raises OtherSettingsError where slices differ in their number of resamples, or from the one asked for."""
    found = {json.loads(path.read_text())["resamples"] for path in _slices(folder, scene_size, seed)}
    if len(found) > 1 or (resamples is not None and found - {resamples}):
        made = " and ".join(str(item) for item in sorted(found))
        raise OtherSettingsError(
            f"{folder}: its slices were made with --resamples {made}; give the same, or another folder."
        )


def _slices(folder: Path, scene_size: int, seed: int) -> list[Path]:
    return sorted(folder.glob(f"*-n*-g{scene_size}-s{seed}-*.json"))


def speed(resamples: int, pictures: int = 1000) -> str:
    """How long the resamples of both losses take, matched pictures given; one thread, in a sentence."""
    random = np.random.default_rng(0)
    wall, processor = time.perf_counter(), time.process_time()
    for check in MARGINS:
        _losses(check, LIKENESS["retrained"], Loss(), pictures, resamples, random)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return (
        f"{resamples} paired resamples of {pictures} pictures, mAP50-95 and recall: {wall:.1f} s, the processor "
        f"{processor:.1f} s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; commit {commit()}"
    )


def decided_table(arguments: argparse.Namespace, name: str, truths: Sequence[Truth], pictures: int) -> list[str]:
    """Of the sets that were undecided, how many are decided after so many pictures as they said, as Markdown."""
    lines = [
        f"**{name}**, {pictures} pictures, commit {commit()}, seed {arguments.seed}",
        "",
        "| check | true loss, margins | undecided | of those: no number, or above what was drawn | pictures, median "
        "| decided after them, % |",
        "|---|---|---|---|---|---|",
    ]
    for check, margin in MARGINS.items():
        for level, truth in zip(LEVELS, truths, strict=True):
            needed, decided = [], []
            for number in range(arguments.sets):
                seed = (arguments.seed, list(LIKENESS).index(name), pictures, 7, number)
                random = np.random.default_rng(seed)
                losses = _losses(check, LIKENESS[name], truth.loss, pictures, arguments.resamples, random)
                if _verdict(losses, margin) != UNDECIDED:
                    continue
                needed.append(pictures_to_decide(losses, margin, pictures) or 10**9)
                if needed[-1] <= MOST_TO_DRAW:
                    more = _losses(check, LIKENESS[name], truth.loss, needed[-1], arguments.resamples, random)
                    decided.append(_verdict(more, margin) != UNDECIDED)
            share = float(np.mean(decided)) if decided else float("nan")
            error = np.sqrt(share * (1 - share) / max(len(decided), 1))
            lines.append(
                f"| {check} | {level:g} | {len(needed)} of {arguments.sets} | {len(needed) - len(decided)} "
                f"| {np.median(needed):.0f} | {100 * share:.0f} ± {100 * error:.0f} |"
            )
    return lines


def _losses(
    check: str, likeness: Likeness, loss: Loss, pictures: int, resamples: int, random: np.random.Generator
) -> Floats:
    drawn = draw(pictures, likeness, random)
    drawn_again = bootstrap_weights(drawn.groups, resamples, int(random.integers(2**31)))
    weights = np.concatenate([np.ones((1, pictures), dtype=np.int64), drawn_again])
    baseline, candidate = seen_by_baseline(drawn), seen_by_candidate(drawn, loss)
    if check == "recall":
        return _recall_losses(baseline, candidate, weights)[0]
    before, after = (mean_average_precision(side.records, weights) for side in (baseline, candidate))
    return 100 * (before - after)


def _verdict(losses: Floats, margin: float) -> str:
    interval = percentile_interval(losses[1:])
    return UNDECIDED if interval is None else verdict_of(interval, margin)


def table(folder: Path, scene_size: int, seed: int) -> list[str]:
    """What was simulated so far, as Markdown, and the same as summary.json in the folder.

    Raises OtherSettingsError where slices of other settings were mixed.
    """
    _check_resamples(folder, scene_size, seed)
    lines, summary = [], []
    for name in LIKENESS:
        if not (folder / f"truth-{_plain(name)}-s{seed}.json").is_file():
            continue
        truths = _kept_truths(folder, name, seed)
        for check in MARGINS:
            said = ", ".join(f"{item.points[check]:.3f} ± {item.standard_errors[check]:.3f}" for item in truths)
            lines += ["", f"**{name}, {check}**: true losses of {said} points", ""]
            lines += [
                "| pictures | heads | sets | interval | holds the truth (0, ½, 1, 2 margins), % "
                "| passes at the margin, % | passes at 0, % | passes at ½, % | fails at 2, % |",
                "|---|---|---|---|---|---|---|---|---|",
            ]
            for pictures, sets in _read_sets(folder, name, scene_size, seed):
                if check not in sets[0][0]:
                    continue
                for method in SHOWN:
                    found = rates(sets, truths, check, method)
                    summary.append({"likeness": name, "check": check, "pictures": pictures, "method": method} | found)
                    lines.append(_line(pictures, method, found))
    values = {"origin": _origin(folder, scene_size, seed), "seed": seed, "scene_size": scene_size, "rows": summary}
    write_whole(folder / f"summary-g{scene_size}-s{seed}.json", json.dumps(values, indent=1))
    return [f"{_origin(folder, scene_size, seed)}, seed {seed}, scenes of {scene_size}", *lines]


def _origin(folder: Path, scene_size: int, seed: int) -> str:
    """Commits that the slices were made at, and with how many resamples."""
    slices = [json.loads(path.read_text()) for path in _slices(folder, scene_size, seed)]
    commits, resamples = (sorted({str(item[key]) for item in slices}) for key in ("commit", "resamples"))
    return f"commit {' and '.join(commits)}, {' and '.join(resamples)} resamples"


def heads_table(folder: Path, scene_size: int, seed: int) -> list[str]:
    """What the gate's interval of the recall is worth by the number of bare heads in the set, as Markdown."""
    lines = [
        "",
        "**recall by the number of bare heads, as the gate judges**",
        "",
        "| likeness | heads | sets | holds the truth (0, ½, 1, 2 margins), % | passes at the margin, % |",
        "|---|---|---|---|---|",
    ]
    for name in LIKENESS:
        if not (folder / f"truth-{_plain(name)}-s{seed}.json").is_file():
            continue
        truths = _kept_truths(folder, name, seed)
        sets = [item for _, found in _read_sets(folder, name, scene_size, seed) for item in found]
        for low, high in _HEADS:
            some = [item for item in sets if low <= item[0]["heads"] <= high]
            if some:
                found = rates(some, truths, "recall", AS_THE_GATE)
                covered = ", ".join(f"{100 * share:.1f}" for share in found["covered"])
                passed = 100 * found["passed"][LEVELS.index(1.0)]
                lines.append(f"| {name} | {low} to {high} | {len(some)} | {covered} | {passed:.1f} |")
    return lines


def rates(sets: Sequence[Any], truths: Sequence[Truth], check: str, method: str) -> dict[str, Any]:
    """Shares in [0, 1] of simulated sets, by true loss: whose interval holds the truth, that pass, that fail."""
    covered, passed, failed = [], [], []
    for level, truth in enumerate(truths):
        ends = [item[level][check]["intervals"][method] for item in sets]
        covered.append(float(np.mean([low <= truth.points[check] <= high for low, high in ends])))
        verdicts = [verdict_of((low, high), MARGINS[check]) for low, high in ends]
        passed.append(verdicts.count(PASSED) / len(sets))
        failed.append(verdicts.count(FAILED) / len(sets))
    heads = float(np.mean([item[0]["heads"] for item in sets]))
    return {"sets": len(sets), "heads": heads, "covered": covered, "passed": passed, "failed": failed}


def _line(pictures: int, method: str, found: dict[str, Any]) -> str:
    at = LEVELS.index(1.0)
    error = np.sqrt(max(found["passed"][at] * (1 - found["passed"][at]), 1e-9) / found["sets"])
    covered = ", ".join(f"{100 * share:.1f}" for share in found["covered"])
    cells = [
        str(pictures),
        f"{found['heads']:.0f}",
        str(found["sets"]),
        method,
        covered,
        f"{100 * found['passed'][at]:.1f} ± {100 * error:.1f}",
        f"{100 * found['passed'][0]:.1f}",
        f"{100 * found['passed'][1]:.1f}",
        f"{100 * found['failed'][3]:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _read_sets(folder: Path, name: str, scene_size: int, seed: int) -> Iterator[tuple[int, list[Any]]]:
    found: dict[int, list[Any]] = {}
    for path in sorted(folder.glob(f"{_plain(name)}-n*-g{scene_size}-s{seed}-*.json")):
        pictures = int(path.stem.split("-n")[1].split("-")[0])
        found.setdefault(pictures, []).extend(json.loads(path.read_text())["sets"])
    yield from sorted(found.items())


def _setting(name: str, pictures: int, scene_size: int, seed: int) -> str:
    return f"{_plain(name)}-n{pictures}-g{scene_size}-s{seed}"


def _plain(name: str) -> str:
    return name.replace(" ", "_")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, nargs="+", default=[30, 76, 216, 600])
    parser.add_argument("--likeness", nargs="+", choices=sorted(LIKENESS), default=sorted(LIKENESS))
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--scene-size", type=int, default=1)
    parser.add_argument(
        "--checks", nargs="+", choices=list(MARGINS), default=list(MARGINS), help="recall alone is quick"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decide", action="store_true", help="what pictures_to_decide is worth")
    parser.add_argument("--speed", action="store_true", help="seconds for the resamples of 1,000 pictures")
    parser.add_argument("--table", action="store_true", help="only what is in the folder")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
