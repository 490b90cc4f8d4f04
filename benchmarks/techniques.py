"""Every technique alone and combined, from one baseline with one training budget, on real roadside pictures.

    python benchmarks/techniques.py --plan                      rows and minutes, before anything is trained
    python benchmarks/techniques.py --work DIR                  makes what is missing; goes on where it was stopped
    python benchmarks/techniques.py --work DIR --only 'prune*'  some rows; --seeds 1: each once, before those of several
    python benchmarks/techniques.py --teacher DIR --only none   makes the large teacher, which 'kd-large*' need
    python benchmarks/techniques.py --work DIR --time           speed of all rows that were made, in turn
    python benchmarks/techniques.py --work DIR --recall         recall of rows made before, from kept predictions
    python benchmarks/techniques.py --write docs                docs/techniques.md with its plots

Data: bikes_helmets, india_traffic and thai_cctv together.  The baseline is `tiny`, trained here from the weights that
ship.  Each row starts from it and has the same number of training epochs in all, whatever it does with them; rows
without training have none.  Choices are made on `val`; `test` is what the table shows.  Rows named "large" have a
teacher far stronger than the baseline: a public detector of 20 million parameters, fine-tuned on the same pictures; it
is kept in --teacher, and what it reaches in --results.

The baseline and a small file for each finished row are kept in --results, so that the work can be spread over machines
and days.  Speed is measured on networks of the same structure, rebuilt from what those files say, all in one run.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import commit
from technique_results import TEACHER_NAME, TIMING_NAME
from technique_rows import (
    ALARMS_PER_100,
    BASELINE_EPOCHS,
    EPOCHS,
    INPUT_SIZE,
    LARGE_TEACHER,
    ROWS,
    TEACHER_EPOCHS,
    Row,
)
from technique_speed import bundle_of, measure_speed
from technique_table import write_page

from helmlite.compress.checkpoint import is_checkpoint, load_checkpoint, read_provenance, save_checkpoint
from helmlite.compress.load import load_detector
from helmlite.compress.recipe import StepResult, parse_recipe, run_recipe
from helmlite.compress.shipped import load_demo_detector
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset, match_classes, merged
from helmlite.data.roles import labels_of_role
from helmlite.detector.detector import Detector
from helmlite.detector.fit import FitSettings, finetune
from helmlite.detector.fit_state import detector_sha256
from helmlite.detector.macs import count_macs, count_parameters
from helmlite.evaluate.accuracy import Predictions, load_predictions, measure_accuracy, predictions_kept
from helmlite.evaluate.cost import file_bytes
from helmlite.evaluate.errors import match_class, threshold_for_alarms
from helmlite.evaluate.statistics.resampling import bootstrap_weights, match_records, mean_average_precision
from helmlite.export.layer_times import layer_clock
from helmlite.files import write_whole
from helmlite.job.prepare import steps_for_this_machine
from helmlite.runtime.bundle import Bundle, BundlePredictor, read_bundle
from helmlite.runtime.machine import read_machine
from helmlite.runtime.packing import download_size

SETS = ("bikes_helmets", "india_traffic", "thai_cctv")
_RESAMPLES = 1000
_LAST_STRUCTURE = ("insert_quantizers", "round_weights", "cluster_weights")  # made anew where speed is measured
_SECONDS_A_PICTURE = 0.03  # tiny at 320 on two cores, forward and backward: for the plan only

Pictures = Mapping[str, Dataset]


def main() -> int:
    arguments = _arguments()
    rows = [row for row in ROWS if fnmatch.fnmatch(row.name, arguments.only)]
    pictures = {split: roadside(split) for split in ("train", "val", "test")}
    if arguments.plan:
        return _print_plan(rows, len(pictures["train"]))
    if arguments.recall:
        return _recall_again(arguments, rows, pictures)
    if arguments.write:
        write_page(arguments.results, arguments.write, pictures, commit())
        return 0
    baseline = _baseline(arguments, pictures)
    if arguments.teacher:
        _large_teacher(arguments, pictures)
    if arguments.time:
        found = measure_speed(arguments.results, baseline, pictures, arguments.work, arguments.rounds, arguments.turns)
        write_whole(arguments.results / TIMING_NAME, json.dumps(found, indent=1))
        return 0
    for row in rows:
        for seed in range(min(row.seeds, arguments.seeds)):
            if not (arguments.results / f"{row.name}-s{seed}.json").is_file():
                _say(f"== {row.name}, seed {seed}")
                found = _made(row, seed, baseline, pictures, arguments)
                write_whole(arguments.results / f"{row.name}-s{seed}.json", json.dumps(found))
                _say(f"== {row.name}, seed {seed}: {found.get('refused') or found['test_map']}")
    return 0


def roadside(split: str) -> Dataset:
    """The three roadside sets as one."""
    folder = Path(os.environ.get("HELMLITE_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
    classes = load_demo_detector().classes
    sets = [match_classes(load_dataset(folder / name / "data.yaml", split), classes) for name in SETS]
    return replace(merged(sets), split=split)


def _baseline(arguments: argparse.Namespace, pictures: Pictures) -> Detector:
    if not is_checkpoint(arguments.results / "baseline"):
        settings = FitSettings(
            input_size=INPUT_SIZE, epochs=BASELINE_EPOCHS, device=arguments.device, close_mosaic_epochs=10
        )
        trained = finetune(load_demo_detector(), pictures["train"], settings, 0, arguments.work / "baseline", log=_say)
        about = {"technique": "baseline", "epochs": BASELINE_EPOCHS, "commit": commit()}
        save_checkpoint(trained, arguments.results / "baseline", about | {"data_sha256": pictures["train"].sha256()})
    return kept_baseline(arguments.results, pictures)


def _large_teacher(arguments: argparse.Namespace, pictures: Pictures) -> Path:
    """The checkpoint of the large teacher; made where it is not there, and measured."""
    place: Path | None = arguments.teacher
    if place is None:
        raise SystemExit("This row has a large teacher: name the folder where it is, or is to be made, with --teacher.")
    about = {"epochs": TEACHER_EPOCHS, "data_sha256": pictures["train"].sha256(), "of": LARGE_TEACHER}
    if not is_checkpoint(place):
        settings = FitSettings(
            input_size=INPUT_SIZE, epochs=TEACHER_EPOCHS, device=arguments.device, close_mosaic_epochs=2
        )
        work = place.with_name(f"{place.name}.work")
        trained = finetune(load_detector(LARGE_TEACHER), pictures["train"], settings, 0, work, log=_say)
        save_checkpoint(trained, place, {**about, "technique": "teacher", "commit": commit()})
    if any(read_provenance(place).get(key) != value for key, value in about.items()):
        raise SystemExit(f"{place} is another detector than the teacher of these rows.")
    if not (arguments.results / TEACHER_NAME).is_file():
        detector = load_checkpoint(place)
        found = accuracy_of(detector, place.with_name(f"{place.name}.measured"), "", pictures)
        stated = {**about, "commit": commit(), "params": count_parameters(detector.network), **found}
        write_whole(arguments.results / TEACHER_NAME, json.dumps(stated))
    return place


def kept_baseline(results: Path, pictures: Pictures) -> Detector:
    """The baseline that was made before."""
    place = results / "baseline"
    if read_provenance(place)["data_sha256"] != pictures["train"].sha256():
        raise SystemExit(f"{place} was trained on other pictures.")
    return load_checkpoint(place)


def _made(row: Row, seed: int, baseline: Detector, pictures: Pictures, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row with one seed: what the table needs of it."""
    folder = arguments.work / "rows" / f"{row.name}-s{seed}"
    stated = {"row": row.name, "seed": seed, "commit": commit(), "baseline": detector_sha256(baseline)}
    try:
        steps = _steps_of(row, seed, baseline, pictures, arguments)
    except ValueError as error:  # a technique that says why not is a result too
        return {**stated, "refused": str(error)}
    last = steps[-1].detector if steps else baseline
    _forget_others(folder, last)
    trained = [item for item in steps if item.name == "distill"]
    found = stated | accuracy_of(last, folder, "", pictures)
    if trained and len(steps) > 1:
        first = next(index for index, item in enumerate(steps) if item.name == "distill")
        if first:
            found |= accuracy_of(steps[first - 1].detector, folder / "before", "before_", pictures)
    found["recall_no_helmet"] = recall_of(folder, pictures)
    bundle = read_bundle(folder / "bundle")
    files = [bundle.folder / path for path in bundle.manifest.runtime_files["openvino"]]
    return found | {
        "minutes": round(sum(item.seconds for item in steps) / 60, 2),
        "machine": read_machine().describe(),
        "macs": count_macs(last.network, INPUT_SIZE),
        "params": count_parameters(last.network),
        "size_bytes": file_bytes(files),
        "download_bytes": download_size(files),
        "edits": [{"kind": e.kind, **e.to_json()} for e in last.edits if e.kind not in _LAST_STRUCTURE],
    }


def _forget_others(folder: Path, detector: Detector) -> None:
    """Removes what a row of this name left that ended in another detector: its file, and what that found."""
    mark, made_from = folder / "made-from", detector_sha256(detector)
    if folder.exists() and (not mark.is_file() or mark.read_text() != made_from):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(mark, made_from)


def _steps_of(
    row: Row, seed: int, baseline: Detector, pictures: Pictures, arguments: argparse.Namespace
) -> list[StepResult]:
    if not row.recipe:
        return []
    context = Context(
        data=pictures["train"],
        original=baseline,
        input_size=INPUT_SIZE,
        seed=seed,
        workspace=arguments.work / "steps",
        log=_say,
        device=arguments.device,
        layer_clock=layer_clock("openvino"),
        val=pictures["val"],
    )
    recipe = row.recipe
    if f'"{LARGE_TEACHER}"' in recipe:
        recipe = recipe.replace(LARGE_TEACHER, str(_large_teacher(arguments, pictures).resolve()))
    steps = steps_for_this_machine(parse_recipe(recipe, row.name).steps)
    return run_recipe(baseline, steps, context, arguments.work / "steps")


def accuracy_of(detector: Detector, folder: Path, prefix: str, pictures: Pictures) -> dict[str, Any]:
    """Accuracy of the exported file on both splits, and on test in every resample of the pictures."""
    bundle = bundle_of(folder / "bundle", detector)
    numbers: dict[str, Any] = {}
    for split in ("val", "test"):
        found = _predictions(bundle, folder / f"{split}.json", pictures[split])
        accuracy = measure_accuracy(found, pictures[split])
        numbers |= {f"{prefix}{split}_map": accuracy.map, f"{prefix}{split}_map50": accuracy.map50}
    count = len(pictures["test"])
    weights = np.vstack([np.ones((1, count), np.int64), bootstrap_weights([None] * count, _RESAMPLES, seed=0)])
    maps = 100 * mean_average_precision(match_records(found, pictures["test"]), weights)
    return numbers | {f"{prefix}resampled": [round(float(value), 3) for value in maps]}


def _predictions(bundle: Bundle, path: Path, dataset: Dataset) -> Predictions:
    return predictions_kept(path, BundlePredictor(bundle, "openvino"), dataset)


def _recall_again(arguments: argparse.Namespace, rows: Sequence[Row], pictures: Pictures) -> int:
    """Recall of rows that were made before, from the predictions that --work still holds."""
    for row in rows:
        for path in sorted(arguments.results.glob(f"{row.name}-s?.json")):
            folder = arguments.work / "rows" / path.stem
            found = json.loads(path.read_text())
            if "refused" in found or not (folder / "test.json").is_file():
                continue
            found |= {"recall_no_helmet": recall_of(folder, pictures), "recall_commit": commit()}
            write_whole(path, json.dumps(found))
            _say(f"{path.stem}: {found['recall_no_helmet']}")
    return 0


def recall_of(folder: Path, pictures: Pictures) -> float | None:
    """Recall of no_helmet on test, at the threshold with ALARMS_PER_100 false alarms on val: the same for every row."""
    labels = labels_of_role(pictures["val"].classes, "no_helmet")
    val, test = (
        match_class(load_predictions(folder / f"{split}.json", pictures[split]), pictures[split], labels)
        for split in ("val", "test")
    )
    return test.recall_at(threshold_for_alarms(val, ALARMS_PER_100))


def _print_plan(rows: list[Row], pictures: int) -> int:
    each = EPOCHS * pictures * _SECONDS_A_PICTURE / 60
    total = BASELINE_EPOCHS * pictures * _SECONDS_A_PICTURE / 60
    print(f"baseline: tiny, {BASELINE_EPOCHS} epochs of {pictures} pictures at {INPUT_SIZE}: {total:.0f} minutes")
    for row in rows:
        minutes = row.seeds * (each * row.cost if "epochs" in row.recipe else 1.0)
        total += minutes
        print(f"{row.group:12} {row.name:28} {row.seeds} seed(s) {minutes:5.0f} minutes")
    print(f"{len(rows)} rows, {total / 60:.1f} hours on two cores")
    return 0


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("techniques-work"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "docs" / "results" / "techniques")
    parser.add_argument("--only", default="*", help="rows, as a pattern")
    parser.add_argument("--seeds", type=int, default=9, help="of each row at most")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--rounds", type=int, default=10, help="of each turn")
    parser.add_argument("--turns", type=int, default=5, help="of each row, each with a network opened anew")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--recall", action="store_true")
    parser.add_argument("--teacher", type=Path, help="where the large teacher is, or is to be made")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
