"""What `helmlite adapt` brings in a new place with no, 10 and 50 labelled pictures.

    python benchmarks/adapt.py MODEL --data thai_cctv/data.yaml --plan                  rows, before anything is trained
    python benchmarks/adapt.py MODEL --data thai_cctv/data.yaml --work DIR              makes what is missing
    python benchmarks/adapt.py MODEL --data ... --source bikes_helmets/data.yaml --work DIR --only '*-10' --epochs 20

Goes on where it was stopped: every row is a `helmlite adapt` with a folder of its own, and what a row found is kept.
Figures are of test, and beside them of val and test together, since a place with few pictures needs all of them for an
interval; val has judged the rows and chosen no setting.  (Statistics that val proves worse are not kept: the row's
sentences say so where it happens.)  Each row is held against the detector as it was, paired by picture; below 76
independent pictures a nominal 95 % interval holds the truth less often, and is marked.  Recall of bare heads is at one
number of false alarms for all rows, thresholds chosen on val.

The table goes to standard output as Markdown with commit, seed and data hashes, the figures into --work as JSON.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import commit

from helmlite.compress.load import load_detector
from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset, match_classes, merged
from helmlite.data.roles import labels_of_role
from helmlite.detector.detector import Detector
from helmlite.detector.fit_state import detector_sha256
from helmlite.evaluate.accuracy import Predictions, measure_accuracy, predictions_kept
from helmlite.evaluate.errors import alarm_level, match_class, threshold_for_alarms
from helmlite.evaluate.statistics.resamples import FEWEST_PICTURES
from helmlite.evaluate.statistics.resampling import map_ci95, map_loss_ci95, unit_count
from helmlite.files import write_whole
from helmlite.job.adapt import AdaptSettings, adapt

BEFORE = "before"
EPOCHS = 20


@dataclass(frozen=True)
class Row:
    """One way, or several together.  ways: () for the detector as it was;  prior: pictures its statistics count as"""

    name: str
    ways: tuple[str, ...] = ()
    labelled: int = 0
    prior: float = 16.0


ROWS = (
    Row(BEFORE),
    *(Row(f"norms-{prior}", ("norms",), prior=prior) for prior in (0, 16, 64, 256)),
    Row("self-training", ("self-training",)),
    Row("norms-self", ("norms", "self-training")),
    *(
        row
        for count in (10, 50)
        for row in (
            Row(f"few-shot-{count}", ("few-shot",), count),
            Row(f"norms-few-shot-{count}", ("norms", "few-shot"), count),
            Row(f"all-{count}", ("norms", "few-shot", "self-training"), count),
        )
    ),
)


def main() -> int:
    arguments = _arguments()
    rows = [row for row in ROWS if row.name == BEFORE or fnmatch.fnmatch(row.name, arguments.only)]
    if arguments.plan:
        for row in rows:
            trained = f", {arguments.epochs} epochs" if set(row.ways) - {"norms"} else ""
            print(f"{row.name:20} {' + '.join(row.ways) or 'as it was'}, {row.labelled} labelled{trained}")
        return 0
    found = {row.name: _adapted(row, arguments) for row in rows}
    before = found[BEFORE][0]
    pictures = {split: _pictures(arguments, split, before) for split in ("val", "test")}
    seen = {
        name: {split: _found(detector, name, split, pictures[split], arguments) for split in pictures}
        for name, (detector, _) in found.items()
    }
    figures = _figures(rows, seen, pictures, arguments.seed)
    for row in figures:
        row["says"] = list(found[row["row"]][1])
    stated = _stated(arguments, before, pictures)
    write_whole(arguments.work / "adapt-result.json", json.dumps({**stated, "rows": figures}, indent=1) + "\n")
    _print(stated, figures)
    return 0


def _adapted(row: Row, arguments: argparse.Namespace) -> tuple[Detector, tuple[str, ...]]:
    """The detector of a row, and what its adaptation said."""
    if not row.ways:
        return load_detector(arguments.model), ()
    trains = bool(set(row.ways) - {"norms"})
    settings = AdaptSettings(
        arguments.model,
        arguments.work / row.name,
        arguments.data,
        source=arguments.source if trains else None,
        labelled=row.labelled,
        ways=row.ways,
        epochs=arguments.epochs if trains else None,
        rounds=arguments.rounds,
        prior_pictures=row.prior,
        input_size=arguments.input_size,
        seed=arguments.seed,
        device=arguments.device,
    )
    done = adapt(settings, lambda line: print(f"{time.strftime('%H:%M:%S')} {row.name}: {line}", file=sys.stderr))
    return done.detector, done.says


def _pictures(arguments: argparse.Namespace, split: str, detector: Detector) -> Dataset:
    dataset = match_classes(load_dataset(arguments.data, split), detector.classes)
    return dataset if arguments.limit is None else dataset.subset(list(range(min(arguments.limit, len(dataset)))))


def _found(detector: Detector, name: str, split: str, dataset: Dataset, arguments: argparse.Namespace) -> Predictions:
    size = arguments.input_size or detector.architecture.input_size
    place = arguments.work / "found" / f"{name}-{detector_sha256(detector)[:12]}-{size}-{len(dataset)}-{split}.json"
    return predictions_kept(place, detector.predictor(size), dataset)


def _figures(
    rows: list[Row], seen: Mapping[str, Mapping[str, Predictions]], pictures: Mapping[str, Dataset], seed: int
) -> list[dict[str, Any]]:
    labels = labels_of_role(pictures["val"].classes, "no_helmet")
    tuned = {name: match_class(item["val"], pictures["val"], labels) for name, item in seen.items()}
    level = alarm_level(tuned[BEFORE], *(item for name, item in tuned.items() if name != BEFORE)) if labels else None
    together = replace(merged([pictures["val"], pictures["test"]]), split="val+test")
    shown = {"test": pictures["test"], "val+test": together}
    table = []
    for row in rows:
        values: dict[str, Any] = {"row": row.name, "ways": list(row.ways), "labelled": row.labelled}
        for split, dataset in shown.items():
            ours, first = (_of(seen[name], split, pictures) for name in (row.name, BEFORE))
            values[split] = {
                "map": measure_accuracy(ours, dataset).map,
                "map_ci95": map_ci95(ours, dataset, seed=seed),
                "gain_ci95": None if row.name == BEFORE else _gain(map_loss_ci95(first, ours, dataset, seed=seed)),
                "independent_pictures": unit_count([dataset[index].group for index in ours.indices]),
            }
        if level is not None:
            matches = match_class(seen[row.name]["test"], pictures["test"], labels)
            values["recall_no_helmet"] = matches.recall_at(threshold_for_alarms(tuned[row.name], level))
            values |= {"alarms_per_100": level, "bare_heads": matches.head_count}
        table.append(values)
    return table


def _of(found: Mapping[str, Predictions], split: str, pictures: Mapping[str, Dataset]) -> Predictions:
    """The predictions of test, or of val and test as one."""
    if split == "test":
        return found["test"]
    val, test = found["val"], found["test"]
    indices = (*val.indices, *(len(pictures["val"]) + index for index in test.indices))
    return Predictions((*val.detections, *test.detections), indices)


def _gain(loss_ci95: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if loss_ci95 is None else (0.0 - loss_ci95[1], 0.0 - loss_ci95[0])


def _stated(arguments: argparse.Namespace, detector: Detector, pictures: Mapping[str, Dataset]) -> dict[str, Any]:
    return {
        "commit": commit(),
        "seed": arguments.seed,
        "epochs": arguments.epochs,
        "rounds": arguments.rounds,
        "input_size": arguments.input_size or detector.architecture.input_size,
        "model_sha256": detector_sha256(detector),
        "source_given": arguments.source is not None,
        "data_sha256": {split: dataset.sha256() for split, dataset in pictures.items()},
    }


def _print(stated: Mapping[str, Any], figures: list[dict[str, Any]]) -> None:
    print(
        "| row | labelled | " + " | ".join(f"{split}: mAP50-95 | against before" for split in ("test", "val+test")),
        end="",
    )
    print(" | recall of bare heads, test |\n|" + "---|" * 7)
    for row in figures:
        cells = [row["row"], str(row["labelled"])]
        for split in ("test", "val+test"):
            values = row[split]
            mark = "" if values["independent_pictures"] >= FEWEST_PICTURES else " *"
            gain = _gained(values["map"], figures[0][split]["map"])
            cells.append(f"{_points(values['map'])} ({_between(values['map_ci95'], 100)}{mark})")
            cells.append("" if row["row"] == BEFORE else f"{gain} ({_between(values['gain_ci95'], 1)}{mark})")
        recall = row.get("recall_no_helmet")
        cells.append("unknown" if recall is None else f"{100 * recall:.1f} %")
        print(f"| {' | '.join(cells)} |")
    print("\n* fewer than 76 independent pictures: the interval holds less often than 95 times in 100.")
    for row in figures:
        for sentence in row["says"]:
            print(f"- {row['row']}: {sentence}")
    print("\n" + ", ".join(f"{name} {value}" for name, value in stated.items()))


def _gained(after: float | None, before: float | None) -> str:
    """`+1.3`, in points"""
    return "unknown" if after is None or before is None else f"{100 * (after - before):+.1f}"


def _points(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f}"


def _between(interval: tuple[float, float] | None, factor: float) -> str:
    return "unknown" if interval is None else f"{factor * interval[0]:.1f} to {factor * interval[1]:.1f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--source", type=Path, help="the place that the model comes from, shown again in training")
    parser.add_argument("--work", type=Path, default=Path("adapt-work"))
    parser.add_argument("--only", default="*", help="rows, as a pattern")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="in all, of each row that trains")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--limit", type=int, help="only the first so many pictures of val and test, for a trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--plan", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
