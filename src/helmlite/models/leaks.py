"""Whether a model has learned from the pictures that it is tested on: what `eval`, `compare` and `cross-domain` say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helmlite.models.look import Shown, silent

if TYPE_CHECKING:
    from helmlite.data.dataset import Dataset
    from helmlite.data.roles import Class
    from helmlite.evaluate.accuracy import Predictions
    from helmlite.evaluate.findings.leaks import Leak, OwnPictures
    from helmlite.models.opened import OpenedModel

LEARNED = "train"


@dataclass(frozen=True)
class PicturesSaid:
    """Near-duplicates of the data's own train split, models made with the tested pictures, and other remarks."""

    leaks: tuple[Leak, ...] = ()
    own_pictures: tuple[OwnPictures, ...] = ()
    remarks: tuple[str, ...] = ()


def said_of_pictures(
    data: Path,
    whole: Dataset,
    tested: Dataset,
    found: Mapping[str, Predictions],
    opened: Mapping[str, OpenedModel],
    seed: int = 0,
    shown: Shown = silent,
) -> PicturesSaid:
    """What must be said of the tested pictures.

    whole:  the split in the data's own classes
    tested: its first pictures, or all of them, in the classes that `found` counts in
    opened: by name, their classes with the roles that were given
    """
    from helmlite.data.load import load_dataset, splits_of
    from helmlite.evaluate.findings.leaks import find_leak

    own = own_pictures(whole, found, opened)
    if whole.split == LEARNED:
        return PicturesSaid(
            own_pictures=own,
            remarks=()
            if own
            else (
                f"These are pictures of {LEARNED}: what a model scores on pictures it learned from is no test of it.",
            ),
        )
    if LEARNED not in splits_of(data):
        return PicturesSaid(own_pictures=own)
    try:
        learned = load_dataset(data, LEARNED)
    except (ValueError, OSError) as error:
        reason = f"The {LEARNED} split cannot be opened, so near-duplicates of it were not looked for: {error}"
        return PicturesSaid(own_pictures=own, remarks=(reason,))
    with shown(f"near-duplicates of {LEARNED}") as progress:
        leak = find_leak(tested, learned, found, seed, progress)
    return PicturesSaid(() if leak is None else (leak,), own)


def own_pictures(
    whole: Dataset, found: Mapping[str, Predictions], opened: Mapping[str, OpenedModel]
) -> tuple[OwnPictures, ...]:
    """The models that were made with the very pictures of this split.

    whole: the split in the data's own classes;  found: what models found in its first pictures, or in all of them
    """
    from helmlite.evaluate.findings.leaks import find_own_pictures

    made_with = {name: model for name, model in opened.items() if model.made_with}
    if not made_with:
        return ()
    hashed = readable_part(whole, found)
    return tuple(
        own
        for name, model in made_with.items()
        for sha256 in sorted(hashes_of(hashed, model.classes))
        for own in find_own_pictures(sha256, {name: model.made_with})
    )


def hashes_of(pictures: Dataset, classes: Sequence[Class]) -> set[str]:
    """Hashes by which the record of a model with these classes may know the pictures.

    `compress` hashes them in the data's own classes, `finetune` in the detector's.
    pictures: in the data's own classes, all of them readable
    """
    from helmlite.data.load import class_mapping, match_classes

    found = {pictures.sha256()}
    if class_mapping(pictures.classes, classes):
        found.add(match_classes(pictures, classes).sha256())
    return found


def readable_part(whole: Dataset, found: Mapping[str, Predictions] | None = None) -> Dataset:
    """The split as a run hashes it, without the pictures that cannot be read.

    found: what models found in its first pictures, or in all of them; each picture that none looked at is read here
    """
    from helmlite.evaluate.accuracy import is_readable

    sides = () if found is None else found.values()
    looked_at = {index for side in sides for index in side.indices}
    skipped = {item.path for side in sides for item in side.skipped}
    kept = [
        index
        for index, path in enumerate(whole.image_paths)
        if str(path) not in skipped and (index in looked_at or is_readable(whole, index))
    ]
    return whole.subset(kept)
