"""The pictures that are kept: the best of each reason in turn, and of pictures that show the same thing one.

Reasons take turns, so that one loud reason (a weak detector is unsure everywhere) does not push out the others; a
reason that has no picture left lets the next one go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from helmlite.data.duplicates import Fingerprint, find_duplicates
from helmlite.mine.corners import Box
from helmlite.mine.reasons import REASONS, Spot, worth_together


@dataclass(frozen=True)
class PreLabel:
    """A box that is suggested to the person who labels.

    score: None where no detector reports it but the frames before and after do
    by:    names of the detectors that report it, at their thresholds;  `frames around` where none does
    """

    class_name: str
    box_xyxy: Box
    score: float | None
    by: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """One picture or frame that was looked at.

    source: its file name;  index, time_s: of the frame;  path: of a picture or of the video
    size:   width and height in pixels
    """

    source: str
    index: int
    time_s: float | None
    path: Path | None
    size: tuple[int, int]
    spots: tuple[Spot, ...]
    labels: tuple[PreLabel, ...]
    look: Fingerprint = field(repr=False)

    def worths(self) -> dict[str, float]:
        """Reason -> what the picture is worth by it, in (0, 1]; reasons that it does not have are left out."""
        own = {reason: [item.worth for item in self.spots if item.reason == reason] for reason in REASONS}
        return {reason: worth_together(worths) for reason, worths in own.items() if worths}


@dataclass(frozen=True)
class Chosen:
    """What is kept.

    pictures: in the order of their choice, each with the reason whose turn it was
    known_twins, twins: pictures passed over because a known picture, or a chosen one, shows the same
    """

    pictures: tuple[tuple[Candidate, str], ...]
    known_twins: int
    twins: int


def choose(candidates: Sequence[Candidate], count: int, known: Sequence[Fingerprint] = ()) -> Chosen:
    """At most so many of these pictures.  known: looks of pictures that are labelled already"""
    twins_of = _twins([*known, *(item.look for item in candidates)])
    queues = {reason: _ranked(candidates, reason) for reason in REASONS}
    chosen: dict[int, str] = {}
    passed: set[int] = set()
    known_twins: set[int] = set()
    while len(chosen) < count and any(queues.values()):
        for reason, queue in queues.items():
            while queue and len(chosen) < count:
                at = queue.pop(0)
                if at in chosen or at in passed:
                    continue
                others = twins_of.get(at + len(known), set())
                if any(other < len(known) or other - len(known) in chosen for other in others):
                    passed.add(at)
                    known_twins |= {at} if any(other < len(known) for other in others) else set()
                    continue
                chosen[at] = reason
                break
    kept = tuple((candidates[at], reason) for at, reason in chosen.items())
    return Chosen(kept, len(known_twins), len(passed) - len(known_twins))


def _ranked(candidates: Sequence[Candidate], reason: str) -> list[int]:
    worths = {at: item.worths().get(reason, 0.0) for at, item in enumerate(candidates)}
    return sorted((at for at, worth in worths.items() if worth > 0), key=lambda at: (-worths[at], at))


def _twins(looks: Sequence[Fingerprint]) -> Mapping[int, set[int]]:
    found: dict[int, set[int]] = {}
    for first, second in np.asarray(find_duplicates(looks).pairs).tolist():
        found.setdefault(first, set()).add(second)
        found.setdefault(second, set()).add(first)
    return found
