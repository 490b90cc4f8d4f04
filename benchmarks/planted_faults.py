"""Faults planted in a good detector: which of them the report names, and what the gate says of each.

    python benchmarks/planted_faults.py helmet-yolo12m --data DATA.yaml --input-size 416 --runtime openvino
    python benchmarks/planted_faults.py helmet-yolo12m --data DATA.yaml --healthy BUNDLE   # no fault may be named in it

The detector's predictor is wrapped with one fault at a time and held against itself by the code of `helmlite compare`
and of the gate.  Exits 1 where a fault is not named, or where one is named in a healthy detector.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import commit, data_options

from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset, match_classes
from helmlite.data.roles import labels_of_role
from helmlite.detections import Detections, Image, Predictor
from helmlite.evaluate.accuracy import predict_all
from helmlite.evaluate.comparison import Contender, compare
from helmlite.evaluate.findings.blind import FEWEST_HEADS
from helmlite.evaluate.findings.colours import swap_red_and_blue
from helmlite.evaluate.findings.faults import Faults
from helmlite.evaluate.findings.leaks import find_leak, find_own_pictures
from helmlite.evaluate.findings.pairs import heads_of, side_of
from helmlite.evaluate.findings.words import in_words
from helmlite.evaluate.gate import judge
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.thresholds import choose_thresholds
from helmlite.models.opened import OpenedModel, open_model

SHIFT_PX, BLIND_BELOW_PX = 4.0, 24.0
Wrap = Callable[[Predictor, Dataset], Predictor]


def _dead(predict: Predictor, dataset: Dataset) -> Predictor:
    gone = labels_of_role(dataset.classes, "no_helmet")
    return _after(predict, lambda found: found[~np.isin(found.labels, gone)])


def _shifted(predict: Predictor, dataset: Dataset) -> Predictor:
    return _after(predict, lambda found: replace(found, boxes_xyxy=found.boxes_xyxy + np.float32(SHIFT_PX)))


def _swapped(predict: Predictor, dataset: Dataset) -> Predictor:
    return lambda image: predict(swap_red_and_blue(image))


def _halved(predict: Predictor, dataset: Dataset) -> Predictor:
    return _after(predict, lambda found: replace(found, scores=found.scores / 2))


def _blind(predict: Predictor, dataset: Dataset) -> Predictor:
    return _after(predict, lambda found: found[found.boxes_xyxy[:, 3] - found.boxes_xyxy[:, 1] >= BLIND_BELOW_PX])


def _after(predict: Predictor, change: Callable[[Detections], Detections]) -> Predictor:
    return lambda image: change(predict(image))


FAULTS: Mapping[str, tuple[Wrap, Callable[[Faults], bool]]] = {
    "no_helmet is dead": (_dead, lambda faults: any(item.role == "no_helmet" for item in faults.dead)),
    "boxes 4 px right and down": (
        _shifted,
        lambda faults: (
            faults.moved is not None
            and abs(faults.moved.right_px - SHIFT_PX) < 0.5
            and abs(faults.moved.down_px - SHIFT_PX) < 0.5
        ),
    ),
    "red and blue swapped": (_swapped, lambda faults: faults.colours is not None),
    "scores halved": (_halved, lambda faults: any(abs(item.ratio - 0.5) < 0.02 for item in faults.scores)),
    "blind below 24 px": (
        _blind,
        lambda faults: faults.blind is not None and abs(faults.blind.limit_px - BLIND_BELOW_PX) < 6,
    ),
}  # name -> (how it is planted, whether the faults name it)


def remembered(predict: Predictor) -> Predictor:
    """The same detector, which looks at each picture once."""
    known: dict[bytes, Detections] = {}

    def asked(image: Image) -> Detections:
        key = repr(image.shape).encode() + image.tobytes()
        if hash(key) not in known:
            known[hash(key)] = predict(image)
        return known[hash(key)]

    return asked


def contender(name: str, predict: Predictor, reported: Dataset, tuning: Dataset) -> Contender:
    found = predict_all(predict, reported)
    tuned = found if tuning is reported else predict_all(predict, tuning)
    return Contender(Measured(name), found, tuned, predict=predict)


def main() -> int:
    arguments = _arguments()
    opened = open_model(arguments.model, arguments.runtime, arguments.threads, input_size=arguments.input_size)
    reported = match_classes(load_dataset(arguments.data, arguments.split), opened.classes)
    tuning = (
        reported
        if arguments.tune_split == arguments.split
        else match_classes(load_dataset(arguments.data, arguments.tune_split), opened.classes)
    )
    predict = remembered(opened.predict)
    healthy = contender("healthy", predict, reported, tuning)
    print(
        f"{arguments.model}, {len(reported)} pictures of {arguments.data.parent.name} ({arguments.split}), thresholds "
        f"and gate on {tuning.split}, input {opened.input_size}, {opened.runtime}, commit {commit()}"
    )
    failures = 0
    for name, (wrap, is_named) in FAULTS.items():
        planted = contender(name, wrap(predict, reported), reported, tuning)
        told = _told(healthy, planted, reported, tuning, is_named)
        if not told and wrap is _blind and (heads := _low_heads(healthy, reported, tuning)) < FEWEST_HEADS:
            print(f"  the healthy detector finds {heads} heads below 24 px here: too few to say anything of them")
        else:
            failures += not told
    for bundle in arguments.healthy:
        found = _contender_of(open_model(bundle, threads=arguments.threads), bundle, opened, reported, tuning)
        failures += not _told(healthy, found, reported, tuning, lambda faults: not faults.found())
    failures += not _own_training(arguments, opened, predict)
    return 1 if failures else 0


def _low_heads(healthy: Contender, reported: Dataset, tuning: Dataset) -> int:
    """Heads below 24 px that the healthy detector finds."""
    side = side_of(healthy.reported, reported, choose_thresholds(healthy.tuning, tuning).by_class)
    heads = heads_of(side, side, reported, range(len(reported.classes)))
    return int((heads.before & (heads.heights_px < BLIND_BELOW_PX)).sum())


def _contender_of(model: OpenedModel, name: str, opened: OpenedModel, reported: Dataset, tuning: Dataset) -> Contender:
    if [item.name for item in model.classes] != [item.name for item in opened.classes]:
        raise ValueError(f"{name} has other classes than {opened.name}.")
    return contender(Path(name).name, remembered(model.predict), reported, tuning)


def _told(
    healthy: Contender, planted: Contender, reported: Dataset, tuning: Dataset, is_named: Callable[[Faults], bool]
) -> bool:
    """Prints what report and gate say, and gives whether the report says what it should."""
    faults = compare([healthy, planted], reported, tuning).differences[0].faults
    gate = judge(healthy.tuning, planted.tuning, tuning)
    told = is_named(faults)
    print(f"\n{planted.measured.name}: {'as it should be' if told else 'NOT as it should be'}; gate: {gate.verdict}")
    for fault in faults.found():
        print(f"  finding  {in_words(fault)}")
    for line in gate.says:
        print(f"  gate     {line}")
    return told


def _own_training(arguments: argparse.Namespace, opened: OpenedModel, predict: Predictor) -> bool:
    """The first training pictures tested: by their looks, and by the hash in a provenance."""
    whole = load_dataset(arguments.data, "train")
    some = match_classes(whole, opened.classes).subset(list(range(min(arguments.leaked, len(whole)))))
    leak = find_leak(some, whole, {"healthy": predict_all(predict, some)})
    sha256 = whole.sha256()
    own = find_own_pictures(sha256, {"healthy": {"train": sha256}})
    print("\ntested on its own training pictures:")
    for line in [in_words(item) for item in own] + ([] if leak is None else [in_words(leak)]):
        print(f"  finding  {line}")
    return leak is not None and leak.pictures == len(some) and bool(own)


def _arguments() -> argparse.Namespace:
    parser = data_options(__doc__, None)
    parser.add_argument("model")
    parser.add_argument("--tune-split", default="val")
    parser.add_argument("--input-size", type=int, default=None)
    parser.add_argument("--runtime", default=None)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--leaked", type=int, default=20, help="training pictures that are tested")
    parser.add_argument("--healthy", nargs="*", default=[], help="bundles in which no fault may be named")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
