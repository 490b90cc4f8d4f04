"""What a model costs: parameters, operations, bytes; and how a speed-up is split into what caused it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Cost:
    """What one model costs, each None where it is unknown.

    params:           numbers in its weight tensors
    macs:             multiply-accumulates of one picture at its input size
    size_bytes:       of the files that the target loads, and nothing else
    compressed_bytes: of the same files as a zlib stream: what a download costs
    """

    params: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    compressed_bytes: int | None = None


@dataclass(frozen=True)
class Factor:
    """One measured part of a speed-up: `ratio` times faster through this change alone.

    >>> Factor("input size", 40.0, 20.0).ratio
    2.0
    """

    name: str
    before_ms: float
    after_ms: float
    note: str = ""

    def __post_init__(self) -> None:
        if not (self.before_ms > 0 and self.after_ms > 0):
            raise ValueError(f"'{self.name}' needs latencies above 0 ms; got {self.before_ms} and {self.after_ms}.")

    @property
    def ratio(self) -> float:
        """How many times faster."""
        return self.before_ms / self.after_ms


def product(factors: Sequence[Factor]) -> float:
    """The speed-up that the factors make together; 1.0 for none."""
    return math.prod(item.ratio for item in factors)


def ratio(before: float | None, after: float | None) -> float | None:
    """How many times smaller or faster `after` is, or None where either is unknown or `after` is 0.

    >>> ratio(30.0, 10.0), ratio(None, 10.0)
    (3.0, None)
    """
    return None if before is None or not after else before / after


def file_bytes(paths: Iterable[Path]) -> int:
    """Bytes of these files together.  Folders count with everything in them.  Raises OSError for a missing one."""
    return sum(file.stat().st_size for file in _files(paths))


def compressed_bytes(paths: Iterable[Path]) -> int:
    """Bytes of the same files after zlib at its strongest level, each file on its own."""
    total = 0
    for file in _files(paths):
        packer = zlib.compressobj(9)
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                total += len(packer.compress(chunk))
        total += len(packer.flush())
    return total


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(item for item in path.rglob("*") if item.is_file())
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file; its size is part of the report.")
    return files
