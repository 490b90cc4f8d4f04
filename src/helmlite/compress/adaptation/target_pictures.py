"""The pictures that a detector is brought to a new place with: labelled, not labelled, and those of the old place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from helmlite.data.dataset import Dataset, Sample
from helmlite.data.load import merged

_FEWEST_SHOWN = 64  # pictures of an epoch, so that three labelled ones do not make an epoch of one step
_MOST_SHOWN = 256


@dataclass(frozen=True)
class TargetPictures:
    """Classes are the detector's in all three.

    labelled:   the few of the target whose labels may be used;  unlabelled: the others of it, labels unseen
    source:     labelled pictures of the place that the detector comes from, shown again so that it does not forget
    """

    labelled: Dataset | None = None
    unlabelled: Dataset | None = None
    source: Dataset | None = None

    @property
    def all_of_target(self) -> Dataset:
        """Every picture of the target.  Raises ValueError where there is none."""
        return merged([item for item in (self.labelled, self.unlabelled) if item is not None])


def choose_few(dataset: Dataset, count: int, seed: int) -> list[int]:
    """Indices of the pictures that would be labelled: drawn by the seed, one of each scene before a second of any.

    Labels play no part in it, since whoever is to label pictures has not seen them.  A smaller count of the same seed
    gives the first of a larger one, so that ten are among fifty.
    Raises ValueError where there are not so many.
    """
    if not 0 <= count <= len(dataset):
        raise ValueError(
            f"--labelled {count}: the {dataset.split} split has {len(dataset)} readable pictures; give a number from "
            f"0 to {len(dataset)}."
        )
    order = np.random.default_rng((seed, 1)).permutation(len(dataset)).tolist()
    times: dict[str, int] = {}
    turns = []
    for index in order:
        group = dataset[index].group
        turn = 0 if group is None else times.get(group, 0)
        if group is not None:
            times[group] = turn + 1
        turns.append(turn)
    by_turn = sorted(range(len(order)), key=lambda place: turns[place])  # stable: in the drawn order within a turn
    return [order[place] for place in by_turn[:count]]


def without_labels(dataset: Dataset) -> Dataset:
    """The same pictures as if nobody had labelled them."""
    load = dataset.load

    def unseen(index: int) -> Sample:
        sample = load(index)
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        return replace(sample, boxes_xyxy=nothing[0], labels=nothing[1], is_labelled=False)

    return replace(dataset, load=unseen)


def shown_labelled(pictures: TargetPictures, seed: int) -> Dataset | None:
    """The labelled pictures of one epoch: those of the target, repeated, and as many of the source, drawn by the seed.

    The target's are repeated until they are as many as its unlabelled ones, at least 64 and at most 256 (none is ever
    left out).  None where nothing is labelled.
    """
    unlabelled = 0 if pictures.unlabelled is None else len(pictures.unlabelled)
    wanted = min(max(unlabelled, _FEWEST_SHOWN), _MOST_SHOWN)
    parts = []
    if pictures.labelled is not None:
        count = max(len(pictures.labelled), wanted)
        parts.append(pictures.labelled.subset([place % len(pictures.labelled) for place in range(count)]))
        wanted = count
    if pictures.source is not None:
        drawn = np.random.default_rng((seed, 2)).permutation(len(pictures.source))[:wanted]
        parts.append(pictures.source.subset(drawn))
    return merged(parts) if parts else None
