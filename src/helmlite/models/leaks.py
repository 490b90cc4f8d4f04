"""What `eval` and `compare` say of their pictures: whether a model has learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helmlite.models.look import Shown, silent

if TYPE_CHECKING:
    from helmlite.data.dataset import Dataset
    from helmlite.evaluate.accuracy import Predictions
    from helmlite.evaluate.findings.leaks import Leak, OwnPictures

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
    made_with: Mapping[str, Mapping[str, str]],
    seed: int = 0,
    shown: Shown = silent,
) -> PicturesSaid:
    """What must be said of the tested pictures.

    whole:     the split in the data's own classes, whatever part of it is tested, as it is hashed
    tested:    the pictures that were tested, in the classes that `found` counts in
    made_with: name of each model -> split -> hash, as its provenance says
    """
    from helmlite.data.load import load_dataset, splits_of
    from helmlite.evaluate.findings.leaks import find_leak, find_own_pictures

    own = find_own_pictures(_sha256(whole, found), made_with) if any(made_with.values()) else ()
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


def _sha256(whole: Dataset, found: Mapping[str, Predictions]) -> str:
    """As a run hashes a split: without the pictures that cannot be read."""
    skipped = {item.path for side in found.values() for item in side.skipped}
    kept = [number for number, path in enumerate(whole.image_paths) if str(path) not in skipped]
    return whole.subset(kept).sha256()
