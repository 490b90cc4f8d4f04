"""Detectors run over a source, frame by frame: what they find, how fast, and where two of them disagree."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from helmlite.data.roles import Class
from helmlite.detections import Detections, Image
from helmlite.runtime.agreement import Agreement, compare
from helmlite.runtime.bundle import BundlePredictor
from helmlite.runtime.draw import Panel, annotate, side_by_side
from helmlite.runtime.output import JsonLines, Output, detections_to_json
from helmlite.runtime.sources import Frame, Source

_KEPT_FRAMES = 100_000  # an hour at 25 frames a second: a camera runs for ever
_SPEED_FRAMES = 30  # the speed shown in pictures is the median over so many frames


@dataclass
class Watch:
    """A predictor at work, with the times it took lately and what it found so far."""

    predictor: BundlePredictor
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT_FRAMES))
    found_by_label: Counter[int] = field(default_factory=Counter)
    _recent_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_SPEED_FRAMES))

    def look(self, image: Image) -> Detections:
        if not self.latencies_ms:
            self.predictor(image)  # the first inference of a session also allocates
        before = time.perf_counter()
        found = self.predictor(image)
        latency = (time.perf_counter() - before) * 1000
        self.latencies_ms.append(latency)
        self._recent_ms.append(latency)
        self.found_by_label.update(found.labels.tolist())
        return found

    def panel(self, found: Detections) -> Panel:
        return Panel(self.predictor.name, found, self.predictor.classes, float(np.median(self._recent_ms)))

    def count_by_class(self) -> list[tuple[Class, int]]:
        return [(item, self.found_by_label[label]) for label, item in enumerate(self.predictor.classes)]


@dataclass
class Summary:
    """What a run over a source came to.

    problems:    one line for each frame or file that could not be read
    differing:   frames in which two detectors disagree; the counts beside it are boxes over all frames
    interrupted: whether the user stopped it
    """

    watch: Watch
    other: Watch | None
    frames: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    differing: int = 0
    same: int = 0
    only_left: int = 0
    only_right: int = 0
    other_class: int = 0
    interrupted: bool = False

    @property
    def frames_per_second(self) -> float:
        """Frames a second over the whole: reading, detecting, drawing and writing."""
        return self.frames / self.seconds if self.seconds else 0.0

    def add(self, agreement: Agreement) -> None:
        self.differing += not agreement.is_full
        self.same += len(agreement.same)
        self.only_left += len(agreement.only_left)
        self.only_right += len(agreement.only_right)
        self.other_class += len(agreement.other_class)


def detect(
    source: Source,
    predictor: BundlePredictor,
    versus: BundlePredictor | None = None,
    output: Output | None = None,
    lines: JsonLines | None = None,
    limit: int | None = None,
    show_scores: bool = False,
    on_frame: Callable[[int], None] = lambda frames: None,
) -> Summary:
    """Runs over the source's frames, at most `limit` of them, and writes what was asked for.

    on_frame: told the number of frames after each.  An interrupt (Ctrl-C) ends the run with everything written whole.

    Raises ValueError where no frame at all could be read, OSError where something cannot be written.
    """
    summary = Summary(Watch(predictor), Watch(versus) if versus else None)
    start = time.perf_counter()
    frames = source.frames(summary.problems.append)
    try:
        for frame in frames:
            record = _look_at(frame, summary, output, show_scores)
            if lines is not None:
                lines.write(record)
            summary.frames += 1
            on_frame(summary.frames)
            if summary.frames == limit:
                break
    except KeyboardInterrupt:
        summary.interrupted = True
    except BaseException:
        if output is not None:
            output.abandon()
        raise
    finally:
        frames.close()
    if output is not None:
        output.close()
    summary.seconds = time.perf_counter() - start
    if summary.frames == 0 and not summary.interrupted:
        raise ValueError(f"No frame of {source.name} could be read. {' '.join(summary.problems)}")
    return summary


def _look_at(frame: Frame, summary: Summary, output: Output | None, show_scores: bool) -> dict[str, Any]:
    """Detects in one frame, draws it, counts it, and gives the object for its JSON line."""
    watch, other = summary.watch, summary.other
    found = watch.look(frame.image)
    record: dict[str, Any] = {
        "source": frame.source,
        "frame": frame.index,
        "time_s": None if frame.time_s is None else round(frame.time_s, 3),
        "latency_ms": round(watch.latencies_ms[-1], 2),
        "detections": detections_to_json(found, watch.predictor.classes),
    }
    if other is None:
        if output is not None:
            output.write(frame, annotate(frame.image, found, watch.predictor.classes, show_scores))
        return record
    other_found = other.look(frame.image)
    agreement = compare(found, other_found, watch.predictor.classes, other.predictor.classes)
    summary.add(agreement)
    if output is not None:
        output.write(frame, side_by_side(frame.image, watch.panel(found), other.panel(other_found), show_scores)[0])
    record["versus"] = {
        "latency_ms": round(other.latencies_ms[-1], 2),
        "detections": detections_to_json(other_found, other.predictor.classes),
        "only_left": list(agreement.only_left),
        "only_right": list(agreement.only_right),
        "other_class": [list(pair) for pair in agreement.other_class],
    }
    return record
