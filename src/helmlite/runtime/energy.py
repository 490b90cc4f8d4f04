"""Energy for each picture where the processor tells it (RAPL: Intel since 2011, AMD since 2017), and silence elsewhere.

The counters are of the whole processor package: what else runs on it, and what it takes for doing nothing, is in them.
Linux keeps them from other users than root since 2020 (CVE-2020-8694): `sudo`, or no figure.
Source: Linux kernel, Documentation/power/powercap/powercap.rst.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ZONES = "sys/class/powercap"


@dataclass(frozen=True)
class Energy:
    """joules_per_picture, watts: of all processor packages while pictures went through;  pictures: so many"""

    joules_per_picture: float
    watts: float
    pictures: int

    def to_json(self) -> dict[str, Any]:
        return {"joules_per_picture": self.joules_per_picture, "watts": self.watts, "pictures": self.pictures}


def measure_energy(one_picture: Callable[[], object], seconds: float = 3.0, root: Path = Path("/")) -> Energy | None:
    """What a call takes, repeated for so long; None where the system does not tell or this user may not read it."""
    before = read_counters(root)
    if not before:
        return None
    done, started = 0, time.perf_counter()
    while done < 1 or time.perf_counter() - started < seconds:
        one_picture()
        done += 1
    took, after = time.perf_counter() - started, read_counters(root)
    if after.keys() != before.keys():
        return None
    joules = sum(spent(before[zone], after[zone]) for zone in before) / 1e6
    return Energy(joules / done, joules / took, done)


def read_counters(root: Path = Path("/")) -> dict[str, tuple[int, int]]:
    """Zone of each processor package -> (microjoules so far, where the counter begins anew).  {} where unreadable."""
    found = {}
    for zone in sorted((root / _ZONES).glob("intel-rapl:*")):
        try:
            if (zone / "name").read_text().startswith("package"):
                numbers = (zone / "energy_uj").read_text(), (zone / "max_energy_range_uj").read_text()
                found[zone.name] = (int(numbers[0]), int(numbers[1]))
        except (OSError, ValueError):
            return {}
    return found


def spent(before: tuple[int, int], after: tuple[int, int]) -> int:
    """Microjoules between two readings of one counter, which may have begun anew once.

    >>> spent((90, 100), (10, 100))
    20
    """
    return after[0] - before[0] if after[0] >= before[0] else after[0] + before[1] - before[0]
