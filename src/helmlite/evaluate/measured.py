"""One model as a row of a table, and the pictures that it was measured on.

Accuracies and recalls are in [0, 1].  None is "unknown", and is shown as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from helmlite.evaluate.accuracy import ClassAccuracy
from helmlite.evaluate.fidelity import Fidelity, Parity


@dataclass(frozen=True)
class Measured:
    """One model, one row of the table: the baseline, a step, a reference or the result.

    name:              how the row is called: "FP32 at 640", "prune", "OpenVINO INT8"
    map_ci95:          95 % interval of map on the reported pictures, in [0, 1]
    recall_no_helmet:  at the threshold with as many false alarms on `val` as every other row has there
    latency_ms_median: on the target, interleaved with the baseline
    speedup:           baseline's latency over this one's, from interleaved runs
    size_bytes:        only the files that the target loads
    compressed_bytes:  of the same files, packed for download
    note:              what a reader of the row must know
    parity:            the exported file against its detector in PyTorch, on a few pictures of `val`
    fidelity:          what a lower precision cost, boxes and scores apart, on the reported pictures
    """

    name: str
    map: float | None = None
    map50: float | None = None
    recall_no_helmet: float | None = None
    latency_ms_median: float | None = None
    latency_ms_p95: float | None = None
    size_bytes: int | None = None
    compressed_bytes: int | None = None
    macs: int | None = None
    params: int | None = None
    speedup: float | None = None
    map_ci95: tuple[float, float] | None = None
    map75: float | None = None
    by_size: Mapping[str, float | None] = field(default_factory=dict)
    per_class: tuple[ClassAccuracy, ...] = ()
    input_size: int | None = None
    runtime: str = ""
    precision: str = ""
    note: str = ""
    parity: Parity | None = None
    fidelity: Fidelity | None = None


@dataclass(frozen=True)
class DataUsed:
    """One split that the run used: what for, how many pictures, and the hash of pictures and labels."""

    purpose: str  # "training", "tuning and gate", "reported"
    source: str
    split: str
    pictures: int
    boxes: int
    sha256: str
    bare_heads: int | None = None
