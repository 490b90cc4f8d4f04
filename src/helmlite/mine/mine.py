"""One or two detectors look through pictures or a video, one after another, and what is most worth labelling stays.

Nothing is kept of a picture but what was found in it and how it looks (a few kilobytes), and that only for the best
of each reason.  Of a video at most one frame in a stretch of `gap_s` seconds stays, the one that is worth most.
An interrupt (Ctrl-C) ends the looking, not the work: the best of what was seen until then is given.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_iou, clip_boxes
from helmlite.data.duplicates import Fingerprint, fingerprint
from helmlite.data.load import class_mapping
from helmlite.data.roles import Class
from helmlite.evaluate.diagnosis.error_kinds import group_of, head_groups
from helmlite.evaluate.errors import MATCH_IOU
from helmlite.mine.choose import Candidate, Chosen, PreLabel, choose
from helmlite.mine.corners import Box
from helmlite.mine.flicker import Flicker, flickers
from helmlite.mine.reasons import REASONS, disagreements, look_alikes, low_confidence, plain_box
from helmlite.mine.seen import Seen, Watcher, known_labels, look
from helmlite.runtime.sources import Frame, Source

BY_FRAMES_AROUND = "frames around"
_SPARE = 10  # so many times as many pictures as are wanted are kept of each reason, since many show the same
_LEAST_SPARE = 500
NO_CARRIERS = (
    "look-alikes were not looked for: without labels they can be told only where a detector knows riders or "
    "two-wheelers (a class with the role rider or two_wheeler)"
)
NO_SECOND = "disagreement was not looked for: it takes two detectors (give --model twice)"
NO_VIDEO = "flicker was not looked for: it takes a video"


@dataclass(frozen=True)
class MineSettings:
    """count: pictures to keep;  gap_s: of so many seconds of a video one frame may stay;  limit: frames to look at"""

    count: int = 100
    gap_s: float = 1.0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.count < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"Mining keeps and looks at one picture at least; got {self.count} and {self.limit}.")
        if not 0 < self.gap_s < math.inf:
            raise ValueError(f"The seconds between two frames are above 0; got {self.gap_s:g}.")


@dataclass(frozen=True)
class Mined:
    """What came of it.

    frames:      looked at;  of_interest: those with a reason to look again, whatever became of them
    problems:    a line for each picture that could not be read
    remarks:     which reasons could not be looked for, and why
    interrupted: whether the user stopped it
    offered:     classes of the set; None: those of the first detector
    """

    chosen: Chosen
    watchers: tuple[Watcher, ...]
    frames: int
    of_interest: int
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    interrupted: bool = False
    offered: tuple[Class, ...] | None = None

    @property
    def classes(self) -> tuple[Class, ...]:
        """Of the set, which the person who labels can choose from."""
        return self.watchers[0].classes if self.offered is None else self.offered


def mine(
    source: Source,
    watchers: Sequence[Watcher],
    settings: MineSettings,
    known: Sequence[Fingerprint] = (),
    on_frame: Callable[[int], None] = lambda frames: None,
    offered: Sequence[Class] | None = None,
) -> Mined:
    """The pictures of the source that are most worth labelling.

    watchers: one or two detectors; the first is the one that is to become better
    known:    looks of pictures that are labelled already: what shows the same is left out
    on_frame: told the number of frames after each
    offered:  classes that the set is to have, for instance those of the user's own set; by default those of the first
              detector.  What a detector reports of other classes is left out.

    Raises ValueError for none or more than two detectors, for one without any class of the set, for a camera, which has
    no second look to give, and where no frame at all could be read.
    """
    if not 1 <= len(watchers) <= 2:
        raise ValueError(f"Mining asks one or two detectors; got {len(watchers)}.")
    classes = watchers[0].classes if offered is None else tuple(offered)
    for item in watchers:
        if not known_labels(item, classes):
            told = [", ".join(one.name for one in each) for each in (item.classes, classes)]
            whose = watchers[0].name if offered is None else "the set"
            raise ValueError(
                f"{item.name} has no class of {whose}: {told[0]} against {told[1]}; give --role, for instance "
                "--role no_helmet=NAME."
            )
    if source.kind == "camera":
        raise ValueError(f"{source.name}: record the camera first; mining reads pictures or a video file.")
    pool = _Pool(max(_SPARE * settings.count, _LEAST_SPARE), settings.gap_s)
    problems: list[str] = []
    window: list[Looked] = []  # of a video the last frames, two or three
    count, interrupted = 0, False
    frames = source.frames(problems.append)
    try:
        for frame in frames:
            looked = look_at(frame, watchers, classes)
            if source.kind != "video" or not window:  # nothing lies before the first frame
                pool.add(looked.candidate)
            if source.kind == "video":
                window.append(looked)
            if len(window) == 3:
                pool.add(_in_between(window, watchers[0].name, classes))
                window.pop(0)
            count += 1
            on_frame(count)
            if count == settings.limit:
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        frames.close()
    if len(window) == 2:  # nor after the last
        pool.add(window[1].candidate)
    if not count and not interrupted:
        raise ValueError(f"No frame of {source.name} could be read. {' '.join(problems)}")
    chosen = choose(pool.kept(), settings.count, known)
    return Mined(
        chosen=chosen,
        watchers=tuple(watchers),
        frames=count,
        of_interest=pool.of_interest,
        problems=tuple(problems),
        remarks=_remarks(source, watchers, classes),
        interrupted=interrupted,
        offered=classes,
    )


@dataclass(frozen=True)
class Looked:
    """One frame after all detectors looked at it.  seen: of the first"""

    candidate: Candidate
    seen: Seen


def look_at(frame: Frame, watchers: Sequence[Watcher], classes: Sequence[Class]) -> Looked:
    """What one frame alone gives: its spots, its pre-labels, its look.  classes: of the set"""
    seen = [look(watcher, frame.image, classes) for watcher in watchers]
    spots = [spot for item, watcher in zip(seen, watchers) for spot in low_confidence(item, watcher.name, classes)]
    if len(watchers) == 2:
        both = shared_labels(watchers, classes)
        first, second = (item.chosen(np.isin(item.found.labels, both)) for item in seen)
        spots += disagreements(first, second, [item.name for item in watchers], classes)
    if any(item.knows_carriers for item in watchers):
        carriers = np.concatenate([item.carriers_xyxy for item in seen])
        spots += [
            spot for item, watcher in zip(seen, watchers) for spot in look_alikes(item, carriers, watcher.name, classes)
        ]
    height, width = frame.image.shape[:2]
    labels = pre_labels(seen, [item.name for item in watchers], classes, (width, height))
    return Looked(
        Candidate(
            source=frame.source,
            index=frame.index,
            time_s=frame.time_s,
            path=frame.path,
            size=(width, height),
            spots=tuple(spots),
            labels=labels,
            look=fingerprint(frame.image),
        ),
        seen[0],
    )


def shared_labels(watchers: Sequence[Watcher], classes: Sequence[Class]) -> tuple[int, ...]:
    """Classes of the set that every detector has a word for: one that knows no bare heads does not deny them."""
    groups = [[group_of(label, head_groups(classes)) for label in known_labels(item, classes)] for item in watchers]
    return tuple(label for label in range(len(classes)) if all(any(label in group for group in own) for own in groups))


def pre_labels(
    seen: Sequence[Seen], names: Sequence[str], classes: Sequence[Class], size: tuple[int, int]
) -> tuple[PreLabel, ...]:
    """What the detectors report, each thing once: where two report it, the class and the box of the surer one.

    Boxes mean the same thing where they overlap by 0.5 and are both heads, or are both of one class.  `by` names the
    detectors that give it this class.  What is narrower than a pixel at the edge is left out: no person could see it.
    size: width and height of the picture, in pixels, at whose edge boxes are cut
    """
    shown = [item.reported() for item in seen]
    number = np.repeat(np.arange(len(shown)), [len(item.found) for item in shown])
    boxes = np.concatenate([item.found.boxes_xyxy for item in shown])
    labels = np.concatenate([item.found.labels for item in shown])
    scores = np.concatenate([item.found.scores for item in shown])
    is_head = np.concatenate([item.is_head for item in shown])
    alike = labels[:, None] == labels[None, :]
    same_thing = (box_iou(boxes, boxes) >= MATCH_IOU) & (alike | (is_head[:, None] & is_head[None, :]))
    meanings = [group_of(int(label), head_groups(classes)) for label in labels]
    merged: dict[int, list[int]] = {}  # the surest detection of a thing -> it, and those of others that report it too
    for at in np.argsort(-np.concatenate([item.sureties for item in shown]), kind="stable").tolist():
        # no detector reports a thing twice
        twins = (best for best, own in merged.items() if same_thing[at, best] and number[at] not in number[own])
        merged.setdefault(next(twins, at), []).append(at)
    cut = {best: _cut(boxes[best], size) for best in merged}
    return tuple(
        PreLabel(
            class_name=classes[labels[best]].name,
            box_xyxy=place,
            score=float(scores[best]),
            by=tuple(names[item] for item in sorted({int(number[at]) for at in own if meanings[at] == meanings[best]})),
        )
        for best, own in merged.items()
        if (place := cut[best]) is not None
    )


def _cut(box: NDArray[np.floating], size: tuple[int, int]) -> Box | None:
    """The part of a box that lies in a picture of this width and height; None where it is narrower than a pixel."""
    left, top, right, bottom = plain_box(clip_boxes(box[None], *size)[0])
    return (left, top, right, bottom) if min(right - left, bottom - top) >= 1 else None


def _in_between(window: Sequence[Looked], name: str, classes: Sequence[Class]) -> Candidate:
    """The middle one of three frames, with what the frames around tell of it.  name: of the first detector"""
    before, middle, after = window
    found = flickers(before.seen, middle.seen, after.seen, name, classes)
    return _with_flickers(middle.candidate, found, classes)


def _with_flickers(candidate: Candidate, found: Sequence[Flicker], classes: Sequence[Class]) -> Candidate:
    """The frame with its flickering heads as spots, and the lost ones as pre-labels where nothing is suggested yet."""
    suggested = np.array([item.box_xyxy for item in candidate.labels], np.float32).reshape(-1, 4)
    lost = []
    for item in found:
        box = np.array([item.spot.box_xyxy], np.float32)
        cut = _cut(box[0], candidate.size)
        if item.is_lost and cut and box_iou(box, suggested)[0].max(initial=0.0) < MATCH_IOU:
            lost.append(PreLabel(classes[item.label].name, cut, None, (BY_FRAMES_AROUND,)))
    spots = (*candidate.spots, *(item.spot for item in found))
    return replace(candidate, spots=spots, labels=(*candidate.labels, *lost))


def _remarks(source: Source, watchers: Sequence[Watcher], classes: Sequence[Class]) -> tuple[str, ...]:
    told = []
    first = watchers[0]
    understood = class_mapping(first.classes, classes)
    lost = [item.name for label, item in enumerate(first.classes) if label not in understood]
    if lost:
        told.append(f"the set has no class for {', '.join(lost)} of {first.name}: what it reports of them is left out")
    if len(watchers) == 1:
        told.append(NO_SECOND)
    else:
        heads = [label for group in head_groups(classes) for label in group]
        for item in watchers:
            missing = [classes[label].name for label in heads if label not in shared_labels([item], classes)]
            if missing:
                names = ", ".join(missing)
                told.append(f"{item.name} does not know {names}: disagreement about it was not looked for")
    if source.kind != "video":
        told.append(NO_VIDEO)
    if not any(item.knows_carriers for item in watchers):
        told.append(NO_CARRIERS)
    return tuple(told)


@dataclass
class _Pool:
    """The best candidates of each reason so far: `room` of each, of a video one for each stretch of `gap_s` seconds."""

    room: int
    gap_s: float
    of_interest: int = 0
    _best: dict[str, list[tuple[float, int, Candidate]]] = field(default_factory=lambda: {item: [] for item in REASONS})
    _waiting: Candidate | None = None

    def add(self, candidate: Candidate) -> None:
        worths = candidate.worths()
        if not worths:
            return
        self.of_interest += 1
        if candidate.time_s is None:
            self._keep(candidate)
            return
        waiting = self._waiting
        if waiting is None or self._stretch(waiting) != self._stretch(candidate):
            if waiting is not None:
                self._keep(waiting)
            self._waiting = candidate
        elif max(worths.values()) > max(waiting.worths().values()):
            self._waiting = candidate

    def kept(self) -> list[Candidate]:
        """Every candidate that is still in, in the order of the source."""
        if self._waiting is not None:
            self._keep(self._waiting)
            self._waiting = None
        by_index = {-minus: item for best in self._best.values() for _, minus, item in best}
        return [by_index[index] for index in sorted(by_index)]

    def _stretch(self, candidate: Candidate) -> int:
        return int((candidate.time_s or 0.0) // self.gap_s)

    def _keep(self, candidate: Candidate) -> None:
        for reason, worth in candidate.worths().items():
            entry = (worth, -candidate.index, candidate)  # of equals the earlier one
            if len(self._best[reason]) < self.room:
                heapq.heappush(self._best[reason], entry)
            else:
                heapq.heappushpop(self._best[reason], entry)
