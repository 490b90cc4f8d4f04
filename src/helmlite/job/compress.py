"""The whole run: recipe, artifacts, accuracy, gate, speed, bundle, report."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import helmlite
from helmlite.compress.prune import Prune
from helmlite.compress.recipe import StepResult, run_recipe
from helmlite.compress.teaching.unlabelled import unlabelled_pictures
from helmlite.compress.technique import ChoosesOnVal, Context, MeasuresTarget, WithRemarks
from helmlite.data.dataset import Dataset
from helmlite.data.roles import labels_of_role
from helmlite.detections import Image
from helmlite.detector.detector import Log
from helmlite.detector.zoo import MODELS
from helmlite.evaluate.causes.label_mistakes import MISTAKES_NAME, write_label_mistakes
from helmlite.evaluate.comparison import Comparison, Contender, compare
from helmlite.evaluate.errors import match_class
from helmlite.evaluate.fidelity import Parity
from helmlite.evaluate.findings.leaks import find_leak
from helmlite.evaluate.gate import GateVerdict, OperatingPoint, changes_at, judge, operating_point
from helmlite.evaluate.measured import DataUsed, Measured
from helmlite.evaluate.pages.gallery import cut_gallery
from helmlite.evaluate.pictures import pictures_csv
from helmlite.evaluate.report import RunReport, verdict_line
from helmlite.evaluate.report_files import write_report
from helmlite.evaluate.robustness import WorsePredictions, worsened_kept
from helmlite.evaluate.statistics.resamples import FEWEST_PICTURES
from helmlite.evaluate.statistics.resampling import map_ci95, map_loss_ci95, unit_count
from helmlite.evaluate.statistics.resolution import resolvable_loss
from helmlite.evaluate.thresholds import BEST_F1, choose_thresholds
from helmlite.export.layer_times import layer_clock
from helmlite.export.pack import write_bundle
from helmlite.export.parity import measure_parity
from helmlite.job.candidates import (
    Candidate,
    build_candidates,
    finished,
    has_bf16_rows,
    in_bf16,
    precision_name,
)
from helmlite.job.curves import training_curves
from helmlite.job.measure import (
    Seen,
    check_exports,
    export_defects,
    fidelity_of,
    look,
    recall_at_alarms,
)
from helmlite.job.peers import stock_nncf
from helmlite.job.prepare import CompressSettings, Prepared, claim_folder, prepare, steps_for_this_machine
from helmlite.job.speed import ROUNDS, TIMED_PICTURES, Speed, Timings, fastest, measure_speed, speedup_factors
from helmlite.job.teachers_gain import TeachersGain, teachers_gains
from helmlite.runtime.bench import ratio
from helmlite.runtime.bundle import Bundle, Thresholds, read_bundle
from helmlite.runtime.machine import installed_versions, now, read_machine

_COMPARED_PICTURES = 4


def compress(settings: CompressSettings, log: Log) -> RunReport:
    """Compresses a detector and writes bundle and report into `settings.out`; goes on where an earlier run stopped.

    Raises ValueError, before any work is done, for whatever is wrong with the input.
    """
    prepared = prepare(settings)
    steps = _steps(prepared, log)
    started = time.monotonic()
    candidates = build_candidates(prepared, steps, log)
    at_size = next(item for item in candidates if item.input_size == prepared.input_size)
    peer = stock_nncf(at_size, prepared.train, settings.seed, settings.out / "artifacts" / "nncf", log)
    if peer is not None:
        candidates.append(peer)
        if has_bf16_rows(prepared):
            candidates.append(replace(in_bf16(peer, f"{peer.name}, rest in BF16"), note=peer.note))
    log("parity: files held against their detectors")
    parities = check_exports(candidates, _pictures(prepared.val, _COMPARED_PICTURES))
    seen = {item.name: _look(item, prepared, log) for item in candidates}
    ways = finished(candidates, prepared.target.precisions)
    verdicts = {item.name: _judged(prepared, seen[candidates[0].name], seen[item.name]) for item in ways}
    pictures = _pictures(prepared.val, TIMED_PICTURES)
    speed = measure_speed(candidates, pictures, lambda timings: fastest(ways, verdicts, timings), log)
    baseline, result = candidates[0], speed.result
    minutes = (sum(step.seconds for step in steps) + time.monotonic() - started) / 60
    told = (*_without_clock(prepared, steps), *(item.in_words() for item in _gains(prepared, steps, log)))
    report = _report(prepared, candidates, seen, speed, parities, verdicts[result.name], minutes, told)
    bundle = _write_result(prepared, result, seen[result.name], report)
    report = replace(report, notes=(*report.notes, *_other_files(prepared, result, bundle)))
    log(verdict_line(report))
    before, after = seen[baseline.name], seen[result.name]
    evidence = _evidence(prepared, baseline, result, report, seen, log)
    sides = zip(evidence.models, (before, after), strict=True)
    by_picture = {model.measured.name: (found.test, model.thresholds) for model, found in sides}
    gallery = cut_gallery(evidence, [before.test, after.test], prepared.test)
    write_label_mistakes(evidence.label_mistakes, settings.out / MISTAKES_NAME)
    report = replace(report, evidence=evidence)
    write_report(report, settings.out, gallery, pictures_csv(by_picture, prepared.test))
    return report


def train(settings: CompressSettings, log: Log) -> None:
    """The recipe's steps and nothing else.  `compress` with the same settings goes on from there, on any machine.

    This machine is not the target, so steps that would measure it go by multiply-accumulates, and the report says so.
    Raises ValueError as `compress` does, and for a step that cannot do without measuring.
    """
    prepared = prepare(settings)
    for number, step in enumerate(prepared.recipe.steps, start=1):
        if isinstance(step, Prune) and step.measures_target:
            raise ValueError(
                f"--train-only: step {number} (prune) goes by latency, which must be measured on the machine that is "
                "like the box. Run the whole command there, or give macs_ratio instead of latency_ratio."
            )
    _steps(prepared, log, is_target=False)


def _steps(prepared: Prepared, log: Log, is_target: bool = True) -> list[StepResult]:
    claim_folder(prepared)
    for line in prepared.skipped:
        log(f"skipped: {line}")
    folder = prepared.settings.out / "steps"
    context = _context(prepared, log) if is_target else replace(_context(prepared, log), layer_clock=None)
    return run_recipe(prepared.detector, steps_for_this_machine(prepared.recipe.steps), context, folder)


def _without_clock(prepared: Prepared, steps: Sequence[StepResult]) -> list[str]:
    """A line for each step that would have measured the target, and was made where it could not."""
    return [
        f"Step {number} ({step.name}) was made by --train-only, on a machine that is not the target: it went by "
        "multiply-accumulates where it would have gone by measured times."
        for number, (step, made) in enumerate(zip(prepared.recipe.steps, steps, strict=True), start=1)
        if isinstance(step, MeasuresTarget) and step.measures_target and not made.had_clock
    ]


def _context(prepared: Prepared, log: Log) -> Context:
    return Context(
        data=prepared.train,
        original=prepared.detector,
        input_size=prepared.input_size,
        seed=prepared.settings.seed,
        workspace=prepared.settings.out / "steps",
        log=log,
        channel_multiple=prepared.target.channel_multiple,
        device=prepared.settings.device,
        layer_clock=layer_clock(prepared.target.runtime),
        val=prepared.val,
    )


def _look(item: Candidate, prepared: Prepared, log: Log) -> Seen:
    log(f"accuracy: {item.name}")
    return look(item.predictor, prepared.val, prepared.test, _kept_in(item, prepared), log)


def _kept_in(item: Candidate, prepared: Prepared) -> Path:
    """Where what an artifact finds is kept: another place for other pictures, weights or another runtime."""
    row = item.name.replace(" ", "-").replace(".", "").lower()
    about = json.dumps([prepared.hashes["val"], prepared.hashes["test"], item.predictor.identity()], sort_keys=True)
    key = hashlib.sha256(about.encode()).hexdigest()[:12]
    return prepared.settings.out / "predictions" / f"{row}-{key}"


def _gains(prepared: Prepared, steps: Sequence[StepResult], log: Log) -> tuple[TeachersGain, ...]:
    folder = prepared.settings.out / "predictions" / prepared.hashes["test"][:12]  # other pictures: looked at again
    return teachers_gains(steps, prepared.test, prepared.input_size, folder, prepared.settings.seed, log)


def _judged(prepared: Prepared, before: Seen, after: Seen) -> GateVerdict:
    settings = prepared.settings
    return judge(before.val, after.val, prepared.val, settings.max_drop, settings.max_recall_drop, settings.seed)


def _report(
    prepared: Prepared,
    candidates: Sequence[Candidate],
    seen: dict[str, Seen],
    speed: Speed,
    parities: dict[str, Parity],
    gate: GateVerdict,
    minutes: float,
    told: tuple[str, ...],
) -> RunReport:
    baseline, result, timings = candidates[0], speed.result, speed.timings
    before, after = seen[baseline.name], seen[result.name]
    point = _operating_point(prepared, before, after)
    units = unit_count([sample.group for sample in prepared.test])
    enough = units >= FEWEST_PICTURES  # for an interval that can be trusted
    rows = {item.name: _row(prepared, item, seen, timings, parities, baseline, point, enough) for item in candidates}
    chain = [item for item in candidates if item.in_chain]
    if result.in_chain:
        chain = chain[: chain.index(result) + 1]
    else:
        chain = [*(item for item in chain if item.precision == "f32"), result]
    machine = read_machine()
    session = result.predictor.session
    return RunReport(
        model=_model_name(prepared.settings),
        target=prepared.target.name,
        baseline=rows[baseline.name],
        result=rows[result.name],
        gate=gate,
        data=_data_used(prepared),
        steps=tuple(rows[item.name] for item in candidates[1:] if item.in_chain and item is not result),
        references=tuple(rows[item.name] for item in candidates if not item.in_chain and item is not result),
        speedup=speed.whole,
        speedup_factors=speedup_factors([(item.name, item.cause) for item in chain], timings),
        map_loss_ci95=map_loss_ci95(before.test, after.test, prepared.test, seed=prepared.settings.seed)
        if enough
        else None,
        heads=None if point is None else changes_at(point, before.test, after.test, prepared.test),
        resolution=resolvable_loss(before.test, prepared.test, prepared.settings.seed),
        stayed_float=result.bundle.manifest.stayed_float,
        notes=(*prepared.settings.notes, *_notes(prepared, units), *told, *export_defects(candidates, parities)),
        curves=training_curves(prepared.settings.out / "steps"),
        commands=(_command(prepared.settings),),
        versions=installed_versions(("helmlite", "torch", "ultralytics", "openvino", "onnxruntime", "nncf", "numpy")),
        measured_on={
            "CPU": machine.describe(),
            "runtime": f"{session.runtime} {session.version}",
            "threads": str(session.threads),
            "rounds": f"{ROUNDS} interleaved, batch 1, network alone",
        },
        hashes=prepared.hashes,
        seed=prepared.settings.seed,
        minutes=minutes,
        created=now(),
    )


def _row(
    prepared: Prepared,
    item: Candidate,
    seen: dict[str, Seen],
    timings: Timings,
    parities: dict[str, Parity],
    baseline: Candidate,
    point: OperatingPoint | None,
    enough: bool,
) -> Measured:
    timing, found = timings[item.name].network, seen[item.name]
    return Measured(
        name=item.name,
        map=found.accuracy.map,
        map50=found.accuracy.map50,
        map75=found.accuracy.map75,
        recall_no_helmet=None
        if point is None
        else recall_at_alarms(found, point.alarms_per_100, prepared.val, prepared.test),
        latency_ms_median=timing.median_ms,
        latency_ms_p95=timing.p95_ms,
        size_bytes=item.size_bytes,
        compressed_bytes=item.download_bytes,
        macs=item.macs,
        params=item.params,
        speedup=ratio(timings[baseline.name].network, timing).value,
        map_ci95=map_ci95(found.test, prepared.test, seed=prepared.settings.seed) if enough else None,
        by_size=found.accuracy.by_size,
        per_class=found.accuracy.per_class,
        input_size=item.input_size,
        runtime=item.predictor.session.runtime,
        precision=precision_name(item.precision),
        note=item.note,
        parity=parities.get(item.name),
        fidelity=fidelity_of(item, seen),
    )


def _operating_point(prepared: Prepared, before: Seen, after: Seen) -> OperatingPoint | None:
    """Where all rows are compared: the gate's point for the baseline and the result; None without bare heads."""
    labels = labels_of_role(prepared.val.classes, "no_helmet")
    if not labels:
        return None
    return operating_point(*(match_class(item.val, prepared.val, labels) for item in (before, after)))


def _evidence(
    prepared: Prepared, baseline: Candidate, result: Candidate, report: RunReport, seen: dict[str, Seen], log: Log
) -> Comparison:
    """Baseline and result side by side: kinds of errors, causes, thresholds, what the verdict hangs on."""
    settings = prepared.settings
    sides = []
    for row, item in ((report.baseline, baseline), (report.result, result)):
        found = seen[item.name]
        worse = _worse(item, found, prepared, log)
        sides.append(Contender(row, found.test, found.val, worse=worse, predict=item.predictor))
    log("evidence: errors, causes and what the verdict hangs on")
    evidence = compare(sides, prepared.test, prepared.val, settings.thresholds, settings.seed)
    on_test = {item.measured.name: item.reported for item in sides}
    on_val = {item.measured.name: item.tuning for item in sides}
    leaks = (
        find_leak(prepared.test, prepared.train, on_test, settings.seed),
        find_leak(prepared.val, prepared.train, on_val, settings.seed),
    )
    return replace(evidence, leaks=tuple(leak for leak in leaks if leak is not None))


def _worse(item: Candidate, found: Seen, prepared: Prepared, log: Log) -> WorsePredictions | None:
    if not prepared.settings.robustness:
        return None
    log(f"bad conditions: {item.name}")
    folder = _kept_in(item, prepared) / "worse"
    return worsened_kept(folder, item.predictor, prepared.test, found.test, prepared.settings.seed, log)


def _thresholds(prepared: Prepared, seen: Seen) -> Thresholds:
    return choose_thresholds(seen.val, prepared.val, prepared.settings.thresholds)


def _write_result(prepared: Prepared, result: Candidate, seen: Seen, report: RunReport) -> Bundle:
    """The bundle for the box: the chosen artifact for every runtime, with thresholds chosen again on val."""
    write_bundle(
        prepared.settings.out / "bundle",
        result.detector,
        prepared.input_size,
        name=f"{Path(prepared.settings.model).stem}-{prepared.recipe.name}",
        runtime=prepared.target.runtime,
        precision=result.precision,
        target=prepared.target.name,
        thresholds=_thresholds(prepared, seen),
        metrics={
            "test_map": seen.accuracy.map,
            "test_map50": seen.accuracy.map50,
            "test_recall_no_helmet": report.result.recall_no_helmet,
            "latency_ms_median": report.result.latency_ms_median,
            "times_faster": report.speedup,
            "size_bytes": report.result.size_bytes,
            "gate": report.gate.verdict,
        },
        provenance={
            "helmlite": helmlite.__version__,
            "model": prepared.settings.model,
            "recipe": prepared.recipe.to_json(),
            "seed": prepared.settings.seed,
            "data": dict(report.hashes),
        },
    )
    return read_bundle(prepared.settings.out / "bundle")


def _other_files(prepared: Prepared, result: Candidate, bundle: Bundle) -> list[str]:
    """A line for each file of the bundle that another runtime loads: how far it is from the detector in PyTorch.

    What was evaluated is the file of the target's own runtime (`check_exports` holds that one against PyTorch).
    """
    lines = []
    for runtime in bundle.manifest.runtime_files:
        if runtime == prepared.target.runtime:
            continue
        path = bundle.model_path(runtime)
        found = measure_parity(result.detector, path, _pictures(prepared.val, _COMPARED_PICTURES), runtime)
        lines.append(
            f"The bundle's file for {runtime}, which was not evaluated, is on average "
            f"{found.box_mean_pixels:.3f} pixels and {found.score_mean:.5f} in score from the detector in PyTorch; "
            f"{found.matched:.0%} of its {found.boxes} boxes on {found.pictures} pictures match at IoU 0.95."
        )
    return lines


def _data_used(prepared: Prepared) -> tuple[DataUsed, ...]:
    purposes = ((prepared.train, "training"), (prepared.val, "tuning and gate"), (prepared.test, "reported"))
    bare = labels_of_role(prepared.test.classes, "no_helmet")
    used = []
    for split, purpose in purposes:
        labels = [sample.labels for sample in split]
        heads = sum(int(np.isin(item, bare).sum()) for item in labels) if bare else None
        boxes = sum(len(item) for item in labels)
        source = prepared.settings.data.name
        used.append(DataUsed(purpose, source, split.split, len(split), boxes, prepared.hashes[split.split], heads))
    return tuple(used)


def _notes(prepared: Prepared, test_units: int) -> tuple[str, ...]:
    notes = [f"{name.replace('_', ' ')}: {value}" for name, value in prepared.detector.architecture.notes.items()]
    if prepared.settings.unlabelled is not None:
        count = len(unlabelled_pictures(prepared.settings.unlabelled, ()))
        notes.append(
            f"{count} pictures without labels ({prepared.settings.unlabelled.name}) took part in the teacher's losses."
        )
    for number, step in enumerate(prepared.recipe.steps, start=1):
        if isinstance(step, ChoosesOnVal) and step.uses_val:
            notes.append(
                f"Step {number} ({step.name}) made choices by looking at the tuning pictures, on which the gate judges."
            )
        if isinstance(step, WithRemarks):
            notes += [f"Step {number} ({step.name}): {line}" for line in step.remarks(prepared.detector)]
    if test_units < FEWEST_PICTURES:
        notes.append(
            f"{test_units} independent pictures of {prepared.test.split} are too few for an interval that "
            f"can be trusted (at least {FEWEST_PICTURES}), so none is shown."
        )
    if prepared.skipped:
        notes.append(
            f"{len(prepared.skipped)} pictures could not be read and were left out: {_first(prepared.skipped)}."
        )
    for split, count in prepared.left_out.items():
        if count:
            notes.append(
                f"{count} labelled boxes of {split} are of classes that the detector lacks; they were left out."
            )
    public = MODELS.get(prepared.settings.model)
    if public is not None:
        notes.append(f"{public.name}: {public.licence}")
        notes.append(
            f"{public.name} was trained on {public.training_data}. Where the pictures here are of that origin, its own "
            "figure is flattered, and a drop measured against it is an upper bound."
        )
    return tuple(notes)


def _first(lines: Sequence[str], shown: int = 3) -> str:
    more = f"; and {len(lines) - shown} more" if len(lines) > shown else ""
    return "; ".join(line.rstrip(".") for line in lines[:shown]) + more


def _model_name(settings: CompressSettings) -> str:
    """A public name as it is; of a path only its last part, since a report may be shown to others."""
    return settings.model if settings.model in MODELS else Path(settings.model).name


def _command(settings: CompressSettings) -> str:
    """The command again.  Of paths only the last parts, since a report may be shown to others."""
    data, recipe = settings.data, Path(settings.recipe).name
    words = ["helmlite", "compress", _model_name(settings), "--data", f"{data.parent.name}/{data.name}"]
    words += ["--recipe", recipe, "--target", settings.target]
    words += ["--input-size", str(settings.input_size)] if settings.input_size else []
    words += ["--max-drop", f"{settings.max_drop:g}", "--max-recall-drop", f"{settings.max_recall_drop:g}"]
    words += [] if settings.minutes is None else ["--minutes", f"{settings.minutes:g}"]
    words += ["--seed", str(settings.seed)]
    words += ["--thresholds", str(settings.thresholds)] if settings.thresholds != BEST_F1 else []
    words += ["--unlabelled", settings.unlabelled.name] if settings.unlabelled else []
    words += ["--robustness"] if settings.robustness else []
    words += ["--export", "ultralytics-pt"] if settings.stock_pt else []
    words += ["--device", settings.device] if settings.device != "auto" else []
    for name, role in settings.roles.items():
        words += ["--role", f"{role}={name}"]
    return shlex.join([*words, "--out", settings.out.name])


def _pictures(dataset: Dataset, count: int) -> list[Image]:
    return [dataset[index].read_image() for index in range(min(len(dataset), count))]
