"""Pictures of one data set that look the same as pictures of another: what was learned from, and what is tested.

Pictures are read one after another and only their looks are kept, 4 KB each.  A picture is looked at once in a run,
however often it is asked for, and decoded no larger than a look needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import UnreadableImageError, read_image
from helmlite.data.duplicates import Fingerprint, find_duplicates, fingerprint
from helmlite.data.image_files import size_from_header

Progress = Callable[[int, int], None]  # pictures looked at, pictures in all

_READERS = 4  # threads that decode
_REMEMBERED = 100_000  # pictures: 400 MB
_ENOUGH_PX = 128  # side that a look is taken from: four times what it keeps
_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))


def look_alikes(tested: Sequence[Path], learned: Sequence[Path], progress: Progress | None = None) -> NDArray[np.int64]:
    """Pairs of a tested picture and a learned one that look the same, copies included.  (M, 2) indices, in order

    What cannot be read looks like nothing.
    """
    looks = looks_of([*tested, *learned], progress)
    seen = [number for number, look in enumerate(looks) if look is not None]
    pairs = find_duplicates([look for look in looks if look is not None]).pairs
    whole = np.array(seen, dtype=np.int64)[pairs].reshape(-1, 2)
    across = whole[(whole[:, 0] < len(tested)) & (whole[:, 1] >= len(tested))]
    return across - np.array([0, len(tested)])


def looks_of(paths: Sequence[Path], progress: Progress | None = None) -> list[Fingerprint | None]:
    """How each picture looks; None where it cannot be read."""
    found: list[Fingerprint | None] = []
    with ThreadPoolExecutor(_READERS) as readers:  # OpenCV lets Python go on while it decodes
        for look in readers.map(look_of, paths):
            found.append(look)
            if progress is not None:
                progress(len(found), len(paths))
    return found


def look_of(path: Path) -> Fingerprint | None:
    """How a picture looks, from memory where the same file was looked at before; None where it cannot be read."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return None
    return _look_of(path.resolve(), about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=_REMEMBERED)
def _look_of(path: Path, size_bytes: int, changed_ns: int) -> Fingerprint | None:
    try:
        content = path.read_bytes()
        size = size_from_header(content)
        for factor, flag in _REDUCED:
            if size is not None and min(size) >= factor * _ENOUGH_PX:
                small = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
                return None if small is None else fingerprint(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
        return fingerprint(read_image(path))
    except (OSError, UnreadableImageError, cv2.error):
        return None
