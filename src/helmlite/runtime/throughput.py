"""Pictures a second at 1 to n threads: what a box does that has more to look at than one camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from helmlite.runtime.session import Session


@dataclass(frozen=True)
class Throughput:
    """threads: that the runtime may use;  per_second: pictures through the network alone, one after another"""

    threads: int
    per_second: float

    def to_json(self) -> dict[str, Any]:
        return {"threads": self.threads, "per_second": self.per_second}


def measure_throughput(
    open_with: Callable[[int], Session], planes: Any, threads: Iterable[int], seconds: float = 1.0, warmup: int = 3
) -> tuple[Throughput, ...]:
    """How many pictures a second go through the network with each number of threads.

    open_with: number of threads -> the network, open
    planes:    (1, 3, S, S) float32, the picture that is used
    seconds:   how long each is measured, at least two pictures
    """
    found = []
    for count in threads:
        session = open_with(count)
        for _ in range(warmup):
            session.run(planes)
        done, started = 0, time.perf_counter()
        while done < 2 or time.perf_counter() - started < seconds:
            session.run(planes)
            done += 1
        found.append(Throughput(count, done / (time.perf_counter() - started)))
    return tuple(found)
