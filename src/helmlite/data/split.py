"""New splits of a data set in which nothing that looks the same stands on two sides.

Near-duplicates, and pictures of one scene or video where the set names them, stay together.  So do the pictures of a
fixed camera, unless one camera took too many of them: those are then cut into stretches of neighbouring names, which
for frames of a video is by time, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset
from helmlite.data.duplicates import Pairs, components, find_duplicates, fingerprint
from helmlite.data.labels import SPLITS
from helmlite.data.load import merged
from helmlite.data.roles import labels_of_role

_STRETCHES = 20  # pieces that a scene is cut into where it is too large to stay whole

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class SplitPlan:
    """Who goes where.

    splits:      split -> the data set, splits without pictures left out
    units:       how many groups of pictures were kept together (a single picture is one)
    scenes_cut:  pictures of each fixed camera that had to be cut
    """

    splits: dict[str, Dataset]
    units: int
    scenes_cut: tuple[int, ...]


def split_dataset(datasets: Sequence[Dataset], val: float = 0.15, test: float = 0.15, seed: int = 0) -> SplitPlan:
    """Splits the pictures of these data sets anew; the same seed and pictures give the same splits.

    Pictures, heads with and heads without a helmet are spread in proportion, as well as whole units allow.
    Raises ValueError for shares that leave nothing for train, or where a split would stay empty.
    """
    _check_shares(val, test)
    whole = _without_repeats(merged(datasets))
    shares = {"train": 1 - val - test, "val": val, "test": test}
    unit_of, scenes_cut = _units(whole, val, test)
    units, unit_index = np.unique(unit_of, return_inverse=True)
    amounts = np.zeros((len(units), 3), np.int64)
    np.add.at(amounts, unit_index, _amounts(whole))
    wanted = [split for split in SPLITS if shares[split] > 0]
    chosen = assign_units(amounts, np.array([shares[split] for split in wanted]), seed)
    splits = {}
    for number, split in enumerate(wanted):
        indices = np.flatnonzero(chosen[unit_index] == number)
        if not len(indices):
            largest = int(np.bincount(unit_index).max())
            raise ValueError(
                f"No picture is left for '{split}': {len(whole)} pictures make {len(units)} groups that look the same "
                f"or are named as one scene, the largest of {largest}. Add pictures, or ask for another share."
            )
        splits[split] = _named(whole.subset(indices), split)
    return SplitPlan(splits, len(units), scenes_cut)


def assign_units(amounts: Counts, shares: NDArray[np.float64], seed: int) -> Counts:
    """The split of each unit: large units first, each to where it brings all amounts nearest to their targets.

    amounts: (U, K) how much of each of K things a unit holds; shares: (S,) of each split, sum 1.  Returns (U,).
    The distance is Pearson's chi-squared, so that a picture too many weighs more in a small split.
    """
    order = np.random.default_rng(seed).permutation(len(amounts))
    order = order[np.argsort(-amounts[order].max(axis=1), kind="stable")]
    totals = amounts.sum(axis=0)
    targets = np.maximum(shares[:, None] * totals, 1e-9)  # (S, K)
    have = np.zeros_like(targets)
    chosen = np.zeros(len(amounts), np.int64)
    for unit in order:
        growth = amounts[unit] * (2 * (have - targets) + amounts[unit]) / targets
        chosen[unit] = int(np.argmin(growth.sum(axis=1)))
        have[chosen[unit]] += amounts[unit]
    return chosen


def _check_shares(val: float, test: float) -> None:
    if not (0 <= val < 1 and 0 <= test < 1 and 0 < val + test < 1):
        raise ValueError(
            f"--val and --test are shares of the pictures, from 0 to below 1, together below 1; got {val} and {test}."
        )


def _without_repeats(dataset: Dataset) -> Dataset:
    first: dict[Path, int] = {}
    for index, path in enumerate(dataset.image_paths):
        first.setdefault(path.resolve(), index)
    return dataset.subset(list(first.values()))


def _units(dataset: Dataset, val: float, test: float) -> tuple[Counts, tuple[int, ...]]:
    """For each picture the number of its unit, and the sizes of the scenes that were cut.

    Units above the larger share of `val` and `test` fit only into train.  A scene stays whole where all of those
    still fit there together.
    """
    samples = list(dataset)
    found = find_duplicates([fingerprint(sample.read_image()) for sample in samples])
    pairs = [found.pairs]
    of_group: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        if sample.group is not None:
            of_group.setdefault(sample.group, []).append(index)
    pairs += [_chained(np.array(members)) for members in of_group.values()]
    cut = []
    for scene in sorted(found.scenes, key=len):
        kept_whole = [*pairs, _chained(scene)]
        sizes = np.bincount(components(len(dataset), np.concatenate(kept_whole)))
        for_train = sizes[sizes > max(val, test) * len(dataset)].sum()
        if for_train <= (1 - val - test) * len(dataset):
            pairs = kept_whole
            continue
        cut.append(len(scene))
        in_time = np.array(sorted(scene.tolist(), key=lambda index: str(dataset.image_paths[index])))
        pairs += [_chained(stretch) for stretch in np.array_split(in_time, _STRETCHES)]
    return components(len(dataset), np.concatenate(pairs)), tuple(cut)


def _chained(indices: NDArray[np.int64]) -> Pairs:
    return np.stack([indices[:-1], indices[1:]], axis=1).astype(np.int64)


def _amounts(dataset: Dataset) -> Counts:
    """Pictures, boxes of the role no_helmet, all other boxes.  (N, 3)"""
    labels = labels_of_role(dataset.classes, "no_helmet")
    bare = [np.isin(sample.labels, labels) for sample in dataset]
    counts = [(1, int(item.sum()), int((~item).sum())) for item in bare]
    return np.array(counts, np.int64).reshape(-1, 3)


def _named(dataset: Dataset, split: str) -> Dataset:
    return Dataset(dataset.classes, dataset.image_paths, dataset.load, split, dataset.source)
