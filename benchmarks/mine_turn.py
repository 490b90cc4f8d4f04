"""One turn of the crank: does mining find the pictures that a detector learns most from?

    python benchmarks/mine_turn.py --from A/data.yaml --on B/data.yaml --work DIR [--start CHECKPOINT] --epochs 60

A detector is trained on A and mined on the training pictures of B, taken as unlabelled, beside a second detector that
differs by its seed only.  The true labels of B play the person who corrects.  Then it is trained again, each time for
as many steps as whole epochs allow, on A and

    nothing else       what more training alone brings
    random pictures    as many of B as were mined, drawn by chance, corrected and weighted in the same way
    mined pictures     what `helmlite mine` chose

and everything is measured on the test pictures of B, at a number of false alarms that is chosen from all arms
together (chosen from one of them it would suit that one): recall of bare heads at it, and false alarms for every 100
pictures at the recall that the detector had there before, with 95 % bootstrap intervals over the pictures (by scene,
where the set names scenes), the mean over all seeds.  An interval says what other pictures might have shown; what other
seeds might have, the rows of each seed show.

Goes on where it was stopped when it is started again with the same arguments.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from common import commit

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.load import load_detector
from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset, match_classes, readable
from helmlite.data.roles import labels_of_role
from helmlite.detector.detector import Detector
from helmlite.detector.fit import FitSettings, finetune
from helmlite.detector.fit_state import detector_sha256
from helmlite.detector.tiny import new_tiny
from helmlite.evaluate.accuracy import Predictions, load_predictions, predict_all, save_predictions
from helmlite.evaluate.errors import Matches, alarm_level, match_class
from helmlite.evaluate.statistics.intervals import percentile_interval
from helmlite.evaluate.statistics.resampling import (
    Weights,
    alarms_at_recalls,
    bootstrap_weights,
    recalls_at_alarms,
)
from helmlite.evaluate.thresholds import choose_thresholds
from helmlite.files import write_whole
from helmlite.mine.choose import Candidate, Chosen
from helmlite.mine.corners import NamedBox
from helmlite.mine.corrected import Corrected
from helmlite.mine.mine import Mined, MineSettings, look_at, mine
from helmlite.mine.mined_set import MinedSet, read_mined, write_mined
from helmlite.mine.seen import Watcher
from helmlite.mine.take_back import take_back
from helmlite.runtime.sources import Frame, OnProblem, Source

ARMS = ("before", "nothing else", "random pictures", "mined pictures")
_SECOND = 1000  # added to the seed of the second detector
_BY_CHANCE = "chance"


@dataclass(frozen=True)
class Turn:
    """One seed's turn, and everything that it needs.  work: its folder"""

    options: argparse.Namespace
    seed: int
    work: Path
    from_train: Dataset
    from_val: Dataset
    on_train: Dataset
    on_test: Dataset

    def trained(self, name: str, start: Detector, data: Dataset, seed: int, epochs: int) -> Detector:
        """The detector after so many epochs, from the disk where it was trained before."""
        folder = self.work / name
        if not (folder / "provenance.json").is_file():
            settings = FitSettings(self.options.input_size, epochs=epochs, batch_size=self.options.batch_size)
            pictures = match_classes(data, start.classes)
            done = finetune(start, pictures, settings, seed, self.work / f"{name}.fit", lambda line: _say(name, line))
            save_checkpoint(done, folder, {"made_by": "benchmarks/mine_turn.py", "settings": asdict(settings)})
        return load_checkpoint(folder)

    def measured(self, name: str, detector: Detector) -> Predictions:
        """What the detector finds in the test pictures of B."""
        path = self.work / f"{name}.predictions.json"
        if not path.is_file():
            save_predictions(predict_all(self.predictor(detector), self.on_test), self.on_test, path)
        return load_predictions(path, self.on_test)

    def predictor(self, detector: Detector):  # type: ignore[no-untyped-def]
        return detector.predictor(self.options.input_size)

    def watcher(self, name: str, detector: Detector) -> Watcher:
        """The detector with thresholds by best F1 on A's val."""
        data = match_classes(self.from_val, detector.classes)
        thresholds = choose_thresholds(predict_all(self.predictor(detector), data), data)
        return Watcher(name, self.predictor(detector), detector.classes, thresholds.by_class)


def main() -> int:
    options = _arguments()
    data = {
        "from_train": load_dataset(options.data_from, "train"),
        "from_val": load_dataset(options.data_from, "val"),
        "on_train": load_dataset(options.data_on, "train"),
        "on_test": load_dataset(options.data_on, "test"),
    }
    if options.pictures is not None:
        data = {name: _first(item, options.pictures) for name, item in data.items()}
    data = {name: readable(item)[0] for name, item in data.items()}
    options.work.mkdir(parents=True, exist_ok=True)
    about = _check_same(options, data)
    found: list[dict[str, Matches]] = []
    notes: list[str] = []
    for seed in options.seeds:
        turn = Turn(options, seed, options.work / f"seed-{seed}", **data)
        arms, said = _one_turn(turn)
        found.append(arms)
        notes += said
    _report(found, notes, about, options, data["on_test"])
    return 0


def _one_turn(turn: Turn) -> tuple[dict[str, Matches], list[str]]:
    """For each arm the bare heads found and the false alarms on B's test; and what was mined, in words."""
    options, seed = turn.options, turn.seed
    turn.work.mkdir(parents=True, exist_ok=True)
    starts = [_start(options, one) for one in (seed, seed + _SECOND)]
    before = turn.trained("before", starts[0], turn.from_train, seed, options.epochs)
    second = turn.trained("second", starts[1], turn.from_train, seed + _SECOND, options.epochs)
    watchers = [turn.watcher("before", before), turn.watcher("second", second)]
    on_train = match_classes(turn.on_train, before.classes)
    arms, notes = {"before": before}, []
    epochs = options.more_epochs or options.epochs
    count = options.count
    for name, choose in (("mined pictures", _by_worth), ("random pictures", _by_chance)):
        short = name.partition(" ")[0]
        folder = turn.work / f"{short}-set"
        if not folder.is_dir():
            source = _source(on_train)
            write_mined(choose(source, watchers, turn, count), source, folder)
        described = read_mined(folder)
        count = len(described.pictures)  # near-duplicates are dropped, so that mining may find fewer
        back = turn.work / f"{short}-back"
        if not back.is_dir():
            take_back(_as_labelled(described, on_train), described, folder, back, options.data_from, options.weight)
        outcomes = json.loads((back / "outcomes.json").read_text())
        notes.append(f"seed {seed}, {name}: {len(described.pictures)}, {outcomes['hard']} hard, {outcomes['counts']}")
        joined = load_dataset(back / "data.yaml", "train")
        if options.pictures is not None:  # A's first pictures, and all that came back
            new = len(described.pictures)
            known = range(min(options.pictures, len(joined) - new))
            joined = joined.subset([*known, *range(len(joined) - new, len(joined))])
        arms[name] = turn.trained(short, before, joined, seed, epochs)
    steps = epochs * math.ceil((len(turn.from_train) + count) / options.batch_size)
    alone = max(round(steps / math.ceil(len(turn.from_train) / options.batch_size)), 1)
    arms["nothing else"] = turn.trained("longer", before, turn.from_train, seed, alone)
    turn = replace(turn, on_test=match_classes(turn.on_test, before.classes))
    bare = labels_of_role(before.classes, "no_helmet")
    seen = {arm: turn.measured(arm.partition(" ")[0], arms[arm]) for arm in ARMS}
    return {arm: match_class(predictions, turn.on_test, bare) for arm, predictions in seen.items()}, notes


def _start(options: argparse.Namespace, seed: int) -> Detector:
    """A given detector, or a `tiny` with random weights."""
    if options.start is not None:
        return load_detector(options.start)
    return new_tiny(load_dataset(options.data_from, "train").classes, options.input_size, seed=seed)


def _by_worth(source: Source, watchers: Sequence[Watcher], turn: Turn, count: int) -> Mined:
    return mine(source, watchers, MineSettings(count))


def _by_chance(source: Source, watchers: Sequence[Watcher], turn: Turn, count: int) -> Mined:
    """As many pictures, whatever they show, looked at and pre-labelled as the mined ones are."""
    wanted = set(np.random.default_rng(turn.seed).permutation(len(source.paths))[:count].tolist())
    chosen: list[tuple[Candidate, str]] = []
    for frame in source.frames(lambda problem: _say("random", problem)):
        if frame.index in wanted:
            chosen.append((look_at(frame, watchers, watchers[0].classes).candidate, _BY_CHANCE))
    return Mined(Chosen(tuple(chosen), 0, 0), tuple(watchers), len(chosen), 0, (), ())


def _source(data: Dataset) -> Source:
    """The pictures of a data set as a source; the frame's index says which of them it is."""

    def frames(on_problem: OnProblem):  # type: ignore[no-untyped-def]
        for index, path in enumerate(data.image_paths):
            try:
                yield Frame(data[index].read_image(), path.name, index, None, path)
            except ValueError as error:
                on_problem(str(error))

    return Source("unlabelled", "pictures", len(data), None, data.image_paths, frames)


def _as_labelled(described: MinedSet, data: Dataset) -> Corrected:
    """What a person who makes no mistake gives back: the true labels."""
    boxes = {}
    for item in described.pictures:
        sample = data[item.frame]
        rows = zip(sample.boxes_xyxy.tolist(), sample.labels.tolist(), strict=True)
        boxes[item.picture] = tuple(NamedBox(data.classes[label].name, tuple(box)) for box, label in rows)
    return Corrected(boxes, (), ())


def _report(
    found: Sequence[Mapping[str, Matches]],
    notes: Sequence[str],
    about: Mapping[str, object],
    options: argparse.Namespace,
    on_test: Dataset,
) -> None:
    weights = bootstrap_weights([sample.group for sample in on_test], options.resamples, 0)
    weights = np.concatenate([np.ones((1, len(on_test)), np.int64), weights])  # the first row is the set itself
    values = {arm: _at_equal(found, arm, weights) for arm in ARMS}
    lines = [json.dumps(about, ensure_ascii=False), *notes, ""]
    lines.append("| on | false alarms per 100 at equal recall | recall of bare heads at equal false alarms |")
    lines.append("|---|---|---|")
    for arm in ARMS:
        lines.append(f"| {arm} | {_shown(values[arm][0])} | {_shown(100 * values[arm][1])} |")
        if len(found) > 1:
            each = [_at_equal([turn], arm, weights[:1]) for turn in found]
            seeds = ("; ".join(f"{scale * item[kind][0]:.1f}" for item in each) for kind, scale in ((0, 1), (1, 100)))
            lines.append("| &nbsp; seed by seed | " + " | ".join(seeds) + " |")
    for arm, other in (("mined pictures", "before"), ("mined pictures", "random pictures")):
        alarms, recall = (values[arm][kind] - values[other][kind] for kind in (0, 1))
        lines.append(f"| {arm} - {other} | {_shown(alarms)} | {_shown(100 * recall)} |")
    plain = {arm: [_plain(item) for item in pair] for arm, pair in values.items()}
    about_all = {**about, "notes": list(notes), "alarms_per_100_and_recall": plain}
    write_whole(options.work / "results.json", json.dumps(about_all, indent=1, ensure_ascii=False) + "\n")
    write_whole(options.work / "results.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def _at_equal(turns: Sequence[Mapping[str, Matches]], arm: str, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Alarms for every 100 pictures at the recall of `before`, recall at one number of alarms for all arms: means over
    seeds.  (B,), (B,)"""
    alarms, recalls = [], []
    for turn in turns:
        first, now = turn["before"], turn[arm]
        level = alarm_level(first, *(turn[other] for other in ARMS[1:]))
        if level is None:
            alarms.append(np.full(len(weights), np.nan))
            recalls.append(np.full(len(weights), np.nan))
            continue
        own = recalls_at_alarms(first, level, weights[:1])[0]
        alarms.append(alarms_at_recalls(now, float(own), weights))
        recalls.append(recalls_at_alarms(now, level, weights))
    return np.mean(alarms, axis=0), np.mean(recalls, axis=0)


def _plain(values: np.ndarray) -> dict[str, object]:
    interval = percentile_interval(values[1:])
    return {"value": None if np.isnan(values[0]) else float(values[0]), "ci95": interval}


def _shown(values: np.ndarray) -> str:
    told = _plain(values)
    if told["value"] is None:
        return "unknown (so many heads are never found)"
    interval = told["ci95"]
    return f"{values[0]:.1f}" + (f" ({interval[0]:.1f} to {interval[1]:.1f})" if interval else " (interval unknown)")


def _check_same(options: argparse.Namespace, data: Mapping[str, Dataset]) -> dict[str, object]:
    """What the run is made from; ValueError where the folder holds a run made from something else."""
    about: dict[str, object] = {
        "from": options.data_from.resolve().parent.name,
        "on": options.data_on.resolve().parent.name,
        "start": "tiny, random weights" if options.start is None else Path(options.start).name,
        "start_sha256": None if options.start is None else detector_sha256(load_detector(options.start))[:12],
        **{key: getattr(options, key) for key in ("epochs", "more_epochs", "count", "weight", "input_size")},
        "batch_size": options.batch_size,
        "pictures": {name: len(item) for name, item in data.items()},
        "data_sha256": hashlib.sha256("".join(item.sha256() for item in data.values()).encode()).hexdigest()[:12],
    }
    path = options.work / "about.json"
    if path.is_file() and json.loads(path.read_text()) != about:
        raise ValueError(f"{options.work} holds a run with other arguments or pictures; give --work a new folder.")
    write_whole(path, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    more = {"seeds": options.seeds, "resamples": options.resamples, "commit": commit(), "torch": torch.__version__}
    return {**about, **more, "threads": torch.get_num_threads()}


def _first(data: Dataset, count: int) -> Dataset:
    return data.subset(list(range(min(count, len(data)))))


def _say(name: str, line: str) -> None:
    print(f"{name}: {line}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="data_from", type=Path, required=True, help="set A, a YOLO data.yaml")
    parser.add_argument("--on", dest="data_on", type=Path, required=True, help="set B: mined, and tested on")
    parser.add_argument("--work", type=Path, required=True, help="folder of everything that is made")
    parser.add_argument("--start", help="detector to begin with; by default a `tiny` with random weights")
    parser.add_argument("--epochs", type=int, default=60, help="on A")
    parser.add_argument("--more-epochs", type=int, help="of each second training; by default as many")
    parser.add_argument("--count", type=int, default=60, help="pictures that are labelled")
    parser.add_argument("--weight", type=float, default=3.0, help="of pictures that taught something")
    parser.add_argument("--input-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--pictures", type=int, help="only so many of every split: to see that it works")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
