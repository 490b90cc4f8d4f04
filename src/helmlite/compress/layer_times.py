"""How long each convolution takes on the target: what pruning for latency goes by.

Who measures is not known here: `Context.layer_clock` does, and `export/layer_times.py` has the one that runs the
target's runtime on this machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from helmlite.detector.detector import Detector
from helmlite.detector.fit_state import detector_sha256, json_sha256
from helmlite.files import write_whole


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds for one picture.

    convolutions: module path -> all its calls together, with what the runtime fuses into it
    rest:         everything else
    """

    convolutions: Mapping[str, float]
    rest: float

    @property
    def total(self) -> float:
        return sum(self.convolutions.values()) + self.rest


# (detectors, input size in pixels) -> their times, measured in turn so that they share a machine's ups and downs
LayerClock = Callable[[Sequence[Detector], int], Sequence[LayerTimes]]


def measured_once(
    clock: LayerClock, detectors: Sequence[Detector], input_size: int, folder: Path
) -> tuple[LayerTimes, ...]:
    """What the clock says, or what it said when it was first asked: a run that goes on makes the same choices again.

    folder: keeps the answers, each under the hash of these detectors and this size
    """
    asked = json_sha256({"detectors": [detector_sha256(item) for item in detectors], "input_size": input_size})
    path = folder / f"layer-times-{asked[:12]}.json"
    if path.is_file():
        return tuple(LayerTimes(**item) for item in json.loads(path.read_text(encoding="utf-8")))
    found = tuple(clock(detectors, input_size))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps([asdict(item) for item in found], indent=1))
    return found
