"""Tested pictures that a model has learned from: by their looks, and by the hash of the data that it was made with.

A figure on such pictures says how well the model remembers.  Where only some of them leak, the figure without them is
given beside it.  A near-duplicate is what `data.duplicates` takes for one: recompressed, scaled, darkened or mirrored
copies, and neighbouring frames; not a crop, and not another moment under the same camera.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from helmlite.data.dataset import Dataset
from helmlite.data.look_alikes import look_alikes
from helmlite.evaluate.accuracy import Predictions, measure_accuracy
from helmlite.evaluate.statistics.intervals import Interval
from helmlite.evaluate.statistics.resamples import FEWEST_PICTURES
from helmlite.evaluate.statistics.resampling import map_ci95, unit_count

LISTED = 5  # pairs that are named

Progress = Callable[[int, int], None]  # pictures looked at, pictures in all


@dataclass(frozen=True)
class LookAlike:
    """File names of a tested picture, and of one that was learned from and looks the same."""

    tested: str
    learned: str


@dataclass(frozen=True)
class WithoutLeak:
    """One model with the near-duplicates and without them.

    map, map_without: mAP50-95 in [0, 1], None where nothing is labelled
    map_without_ci95: its interval; None below 76 independent pictures
    """

    name: str
    map: float | None
    map_without: float | None
    map_without_ci95: Interval | None


@dataclass(frozen=True)
class Leak:
    """Tested pictures that look the same as pictures that were learned from.

    tested_split, learned_split: names of the two
    pictures: tested ones that leak, of `tested`;  learned: pictures that were held against them
    first:    the first few pairs;  without: of each model the figure without the pictures that leak
    """

    tested_split: str
    learned_split: str
    pictures: int
    tested: int
    learned: int
    first: tuple[LookAlike, ...]
    without: tuple[WithoutLeak, ...]


@dataclass(frozen=True)
class OwnPictures:
    """A model is tested on the very pictures, labels included, that it was made with, as its provenance says.

    model: its name;  split: what the pictures were there: "train", "val";  sha256: of pictures and labels
    """

    model: str
    split: str
    sha256: str


def find_leak(
    tested: Dataset,
    learned: Dataset,
    found: Mapping[str, Predictions],
    seed: int = 0,
    progress: Progress | None = None,
) -> Leak | None:
    """Tested pictures that look the same as learned ones, None where there are none.

    found: name of each model -> what it found in the tested pictures, whose figures without the leak are wanted
    Reads every picture of both, one after another.
    """
    pairs = look_alikes(tested.image_paths, learned.image_paths, progress)
    if not len(pairs):
        return None
    leaking, firsts = np.unique(pairs[:, 0], return_index=True)
    named = [pairs[place] for place in firsts[:LISTED]]
    return Leak(
        tested_split=tested.split,
        learned_split=learned.split,
        pictures=len(leaking),
        tested=len(tested),
        learned=len(learned),
        first=tuple(LookAlike(tested.image_paths[one].name, learned.image_paths[other].name) for one, other in named),
        without=tuple(_without(name, side, tested, set(leaking.tolist()), seed) for name, side in found.items()),
    )


def find_own_pictures(tested_sha256: str, made_with: Mapping[str, Mapping[str, str]]) -> tuple[OwnPictures, ...]:
    """The models that were made with these very pictures.

    tested_sha256: `Dataset.sha256` of the tested pictures, in the data's own classes
    made_with:     name of each model -> split -> hash, as `pictures_made_with` reads it from a provenance
    """
    return tuple(
        OwnPictures(name, split, sha256)
        for name, splits in made_with.items()
        for split, sha256 in splits.items()
        if sha256 == tested_sha256 and split != "test"
    )


def pictures_made_with(provenance: Mapping[str, object]) -> dict[str, str]:
    """Split -> hash of the pictures that a provenance says a model was made with: that of a bundle, or of `finetune`.

    >>> pictures_made_with({"data": {"train": "ab", "val": "cd"}}), pictures_made_with({"data_sha256": "ab"})
    ({'train': 'ab', 'val': 'cd'}, {'train': 'ab'})
    """
    data, train = provenance.get("data"), provenance.get("data_sha256")
    found = {"train": train} if isinstance(train, str) else {}
    if isinstance(data, Mapping):
        found |= {str(split): sha256 for split, sha256 in data.items() if isinstance(sha256, str)}
    return found


def _without(name: str, found: Predictions, tested: Dataset, leaking: set[int], seed: int) -> WithoutLeak:
    kept = [place for place, index in enumerate(found.indices) if index not in leaking]
    rest = Predictions(tuple(found.detections[place] for place in kept), tuple(found.indices[place] for place in kept))
    whole = measure_accuracy(found, tested).map
    if not kept:
        return WithoutLeak(name, whole, None, None)
    units = unit_count([tested[index].group for index in rest.indices])
    interval = map_ci95(rest, tested, seed=seed) if units >= FEWEST_PICTURES else None
    return WithoutLeak(name, whole, measure_accuracy(rest, tested).map, interval)
