"""How many planted label mistakes `find_label_mistakes` finds, and how many of its first are planted ones.

    helmlite eval helmet-yolo12m --data DATA.yaml --split test --input-size 416 --predictions FOUND.json
    python benchmarks/planted_label_mistakes.py --data DATA.yaml --split test --predictions FOUND.json

In each round ten labelled heads are removed, ten get another class, and ten ghosts of a labelled head's size are put
where no head is.  What the set itself has wrong counts against the list, so that its precision is a lower bound.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import commit

from helmlite.boxes import box_iou
from helmlite.data.dataset import Dataset, Sample, dataset_of, image_size
from helmlite.data.load import load_dataset
from helmlite.evaluate.accuracy import load_predictions
from helmlite.evaluate.causes.label_mistakes import GHOST, MISSING, WRONG_CLASS, LabelCandidate, find_label_mistakes

OF_EACH = 10
KINDS = (MISSING, WRONG_CLASS, GHOST)
Planted = tuple[str, int, np.ndarray]  # type: ignore[type-arg]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.data, arguments.split)
    found = load_predictions(arguments.predictions, dataset)
    print(f"{arguments.split} of {arguments.data.parent.name}, {len(found)} pictures, commit {commit()}")
    print(f"as it is: {find_label_mistakes([found], dataset).in_words()}")
    for seed in range(arguments.rounds):
        changed, planted = plant(dataset, np.random.default_rng(seed))
        listed = find_label_mistakes([found], changed).candidates
        counts = ", ".join(f"{kind} {_found_of(kind, planted, listed)} of {OF_EACH}" for kind in KINDS)
        hits = [any(_is_same(item, one) for one in planted) for item in listed]
        first = ", ".join(f"{sum(hits[:size])} of the first {size}" for size in (15, 30))
        print(f"seed {seed}: {counts}; {first}; {len(listed)} listed")


def plant(dataset: Dataset, random: np.random.Generator) -> tuple[Dataset, list[Planted]]:
    """The data set with mistakes, and what they are: kind, picture, box."""
    truth = list(dataset)
    samples = list(truth)
    heads = [(number, box) for number, sample in enumerate(truth) for box in range(len(sample.labels))]
    chosen = [heads[number] for number in random.permutation(len(heads))[: 2 * OF_EACH]]
    planted: list[Planted] = []
    for number, box in chosen[OF_EACH:]:  # first, while the boxes have their numbers
        labels = samples[number].labels.copy()
        labels[box] = (labels[box] + 1) % len(dataset.classes)
        samples[number] = replace(samples[number], labels=labels)
        planted.append((WRONG_CLASS, number, truth[number].boxes_xyxy[box]))
    for number, box in sorted(chosen[:OF_EACH], reverse=True):  # the last box of a picture first
        sample = samples[number]
        boxes, labels = np.delete(sample.boxes_xyxy, box, axis=0), np.delete(sample.labels, box)
        samples[number] = replace(sample, boxes_xyxy=boxes, labels=labels)
        planted.append((MISSING, number, truth[number].boxes_xyxy[box]))
    while len(planted) < 3 * OF_EACH:
        number, ghost = _ghost(truth, heads, random)
        if ghost is None:
            continue
        sample = samples[number]
        boxes = np.concatenate([sample.boxes_xyxy, ghost[None]])
        labels = np.append(sample.labels, random.integers(len(dataset.classes)))
        samples[number] = replace(sample, boxes_xyxy=boxes, labels=labels)
        planted.append((GHOST, number, ghost))
    return replace(dataset_of(samples, dataset.classes, dataset.split), source=dataset.source), planted


def _ghost(truth: list[Sample], heads: list[tuple[int, int]], random: np.random.Generator):  # type: ignore[no-untyped-def]
    """A picture and a box of some head's size in it; None where it does not fit or touches a head."""
    number = int(random.integers(len(truth)))
    donor, box = heads[int(random.integers(len(heads)))]
    size = truth[donor].boxes_xyxy[box][2:] - truth[donor].boxes_xyxy[box][:2]
    room = np.array(image_size(truth[number].image_path)) - size
    if (room <= 0).any():
        return number, None
    corner = random.uniform(0, room)
    ghost = np.concatenate([corner, corner + size]).astype(np.float32)
    return number, None if box_iou(ghost[None], truth[number].boxes_xyxy).any() else ghost


def _is_same(item: LabelCandidate, planted: Planted) -> bool:
    kind, picture, box = planted
    overlap = box_iou(np.array([item.box_xyxy], np.float32), box[None])[0, 0]
    return item.kind == kind and item.picture_index == picture and bool(overlap >= 0.5)


def _found_of(kind: str, planted: list[Planted], listed: tuple[LabelCandidate, ...]) -> int:
    return sum(one[0] == kind and any(_is_same(item, one) for item in listed) for one in planted)


if __name__ == "__main__":
    main()
