"""Half of the multiply-accumulates gone, before any training: what is left by each importance and each global ranking.

    python benchmarks/rankings.py l2 l1 lamp taylor

Detector and pictures are those of benchmarks/techniques.py (its baseline, mAP50-95 on `val`).  price: what loses least
importance for its cost goes first; threshold: what has least importance; uniform: the same share of every bundle.  One
cut, BatchNorm measured again on 128 pictures.  docs/decisions/0007 says what follows from it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common import commit
from technique_rows import INPUT_SIZE
from techniques import kept_baseline, roadside

from helmlite.compress.channels.channel_groups import build_channel_groups
from helmlite.compress.channels.cut_channels import cut
from helmlite.compress.channels.importance import IMPORTANCES, scores_named
from helmlite.compress.channels.ledger import macs_ledger
from helmlite.compress.channels.ranking import (
    allowed_steps,
    global_steps,
    kept_units,
    smallest_steps,
    threshold_steps,
    uniform_steps,
)
from helmlite.data.dataset import Dataset
from helmlite.detector.batches import plain_batches
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.detector.macs import count_macs, count_parameters
from helmlite.evaluate.accuracy import measure_accuracy, predict_all

_MACS_RATIO, _MULTIPLE, _IMAGES, _BATCH, _MIN_KEEP = 0.5, 8, 128, 8, 0.1
RANKINGS = ("price", "threshold", "uniform")


def main() -> int:
    arguments = _arguments()
    pictures = {split: roadside(split) for split in ("train", "val")}
    baseline = kept_baseline(arguments.results, pictures)
    print(f"commit {commit()}, seed {arguments.seed}, val {len(pictures['val'])} pictures, input {INPUT_SIZE}")
    print("\n| importance | ranking | MACs, M | parameters | mAP50-95 on val |\n|---|---|---|---|---|")
    _line("–", "whole", baseline, pictures["val"])
    for importance in arguments.importances:
        for ranking in RANKINGS:
            _line(
                importance, ranking, _cut(baseline, importance, ranking, pictures["train"], arguments), pictures["val"]
            )
    return 0


def _cut(detector: Detector, importance: str, ranking: str, train: Dataset, arguments: argparse.Namespace) -> Detector:
    groups = build_channel_groups(family_of(detector), detector.network)
    ledger = macs_ledger(detector, INPUT_SIZE)
    target = _MACS_RATIO * ledger.left
    levels = allowed_steps(groups, _MULTIPLE, smallest_steps(groups, _MIN_KEEP))

    def batches():  # type: ignore[no-untyped-def]
        return plain_batches(train, INPUT_SIZE, _IMAGES, _BATCH, arguments.seed)

    scores = scores_named(importance, detector, groups, batches(), arguments.seed)
    if ranking == "uniform":
        whole = [bundle.steps for bundle in groups.bundles]
        steps = uniform_steps(groups, ledger, levels, whole, target)
    else:
        by = global_steps if ranking == "price" else threshold_steps
        steps = by(groups, scores, ledger, levels, target)
    lighter = cut(detector, groups, kept_units(groups, scores, steps))
    reestimate_batchnorm(family_of(lighter), lighter.network, batches())
    return lighter


def _line(importance: str, ranking: str, detector: Detector, val: Dataset) -> None:
    accuracy = measure_accuracy(predict_all(detector.predictor(INPUT_SIZE), val), val)
    macs, parameters = count_macs(detector.network, INPUT_SIZE), count_parameters(detector.network)
    shown = 100 * (accuracy.map or 0)
    print(f"| {importance} | {ranking} | {macs / 1e6:.0f} | {parameters} | {shown:.1f} |", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("importances", nargs="+", choices=IMPORTANCES)
    parser.add_argument("--seed", type=int, default=0)
    results = Path(__file__).parents[1] / "docs" / "results" / "techniques"
    parser.add_argument("--results", type=Path, default=results)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
