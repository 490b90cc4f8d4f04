"""What this machine is: processor, usable cores, kernels, memory, clock and temperature, runtimes.

Everything is read from where the system shows it and is None, or missing from the list, where it does not: nothing
here fails on macOS, on ARM, in a container or where /sys is not mounted.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

# Instruction sets that decide which kernels a runtime can use: how /proc/cpuinfo (or sysctl) spells them -> our word.
_FLAGS = {
    "avx2": "avx2", "avx512f": "avx512", "avx512_vnni": "avx512_vnni", "avx_vnni": "avx_vnni",
    "avx512_bf16": "avx512_bf16", "amx_tile": "amx", "amx_int8": "amx_int8", "amx_bf16": "amx_bf16",
    "asimd": "neon", "asimddp": "dotprod", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve", "sve2": "sve2",
    "asimdhp": "fp16",
    "hw.optional.avx2_0": "avx2", "hw.optional.avx512f": "avx512", "hw.optional.avx512vnni": "avx512_vnni",
    "hw.optional.arm.feat_dotprod": "dotprod", "hw.optional.arm.feat_i8mm": "i8mm",
    "hw.optional.arm.feat_bf16": "bf16", "hw.optional.arm.feat_fp16": "fp16", "hw.optional.neon": "neon",
}  # fmt: skip
_WIDE_SUMS = {"avx512_vnni", "avx_vnni", "amx_int8"}  # x86 that adds INT8 products in 32 bits
RUNTIME_PACKAGES = ("onnxruntime", "openvino", "ncnn", "ai-edge-litert", "torch")


@dataclass(frozen=True)
class Machine:
    """What was found.  None stands for: the system does not say.

    cores:        logical cores; usable: how many of them this process may use (affinity and container quota)
    quota:        cores that the container may use on average, as a number like 1.5
    flags:        instruction sets that matter for inference
    memory_bytes: of the machine; memory_limit_bytes: of the container
    runtimes:     package -> version, of those installed
    """

    system: str
    architecture: str
    cpu: str | None
    cores: int
    usable: int
    quota: float | None
    flags: tuple[str, ...]
    memory_bytes: int | None
    memory_limit_bytes: int | None
    runtimes: dict[str, str]

    def describe(self) -> str:
        """One line, as it stands beside a measurement."""
        return f"{self.cpu or self.architecture}, {self.usable} of {self.cores} cores, {self.system}"


def read_machine(root: Path = Path("/")) -> Machine:
    """What this machine says about itself.  `root` is where /proc and /sys lie; tests give another folder."""
    quota = cpu_quota(root)
    values = _darwin_values() if sys.platform == "darwin" else {}
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        cpu=_cpu_model(root, values),
        cores=os.cpu_count() or 1,
        usable=usable_cores(root),
        quota=quota,
        flags=cpu_flags(root, values),
        memory_bytes=_memory_bytes(root, values),
        memory_limit_bytes=_memory_limit(root),
        runtimes=installed_versions(RUNTIME_PACKAGES),
    )


def usable_cores(root: Path = Path("/")) -> int:
    """How many threads make sense: cores in this process's affinity, not more than its quota, at least one."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, math.floor(quota + 1e-6)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cores that this process may use on average, from cgroup v2 or v1; None where there is no limit."""
    top = root / "sys/fs/cgroup"
    own = re.search(r"^0::/(.*)$", _read(root / "proc/self/cgroup") or "", re.MULTILINE)
    folder = top / (own.group(1) if own else "")
    limits = [_ratio(_read(top / "cpu/cpu.cfs_quota_us"), _read(top / "cpu/cpu.cfs_period_us"))]
    for place in (folder, *folder.parents):  # a service's limit may be set on any group above it
        limit, _, period = (_read(place / "cpu.max") or "").partition(" ")
        limits.append(_ratio(limit, period))
        if place == top:
            break
    return min((limit for limit in limits if limit is not None), default=None)


def cpu_flags(root: Path = Path("/"), darwin: dict[str, str] | None = None) -> tuple[str, ...]:
    """The instruction sets that matter for inference, in our words, sorted."""
    found = {word for key, word in _FLAGS.items() if (darwin or {}).get(key) == "1"}
    listed = re.search(r"^(?:flags|Features)\s*:(.*)$", _read(root / "proc/cpuinfo") or "", re.MULTILINE)
    if listed:
        found |= {_FLAGS[flag] for flag in listed.group(1).split() if flag in _FLAGS}
    return tuple(sorted(found))


def int8_weight_bits(machine: Machine) -> int:
    """Bits that INT8 weights may have here without overflow: 7 on x86 without VNNI, else 8.

    Without VNNI, x86 adds two products of an unsigned and a signed byte in 16 bits and clips (`vpmaddubsw`):
    2 * 255 * 127 does not fit, 2 * 255 * 63 does.  OpenVINO's files then answer otherwise than they should.
    """
    is_x86 = machine.architecture.lower() in ("x86_64", "amd64", "i686")
    return 7 if is_x86 and not set(machine.flags) & _WIDE_SUMS else 8


def clock_khz(root: Path = Path("/")) -> list[int]:
    """Current clock of each core in kHz; [] where the system does not say."""
    paths = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
    return [value for value in map(_read_int, paths) if value is not None]


def clock_limit_khz(root: Path = Path("/")) -> tuple[int, int] | None:
    """(what the governor now allows, what the processor could) in kHz; None where the system does not say."""
    folder = root / "sys/devices/system/cpu/cpu0/cpufreq"
    allowed, possible = _read_int(folder / "scaling_max_freq"), _read_int(folder / "cpuinfo_max_freq")
    return None if allowed is None or possible is None else (allowed, possible)


def temperatures(root: Path = Path("/")) -> dict[str, float]:
    """Thermal zone -> degrees Celsius; {} where the system shows none."""
    found: dict[str, float] = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        millidegrees = _read_int(zone / "temp")
        if millidegrees is not None:
            found[f"{zone.name} ({_read(zone / 'type') or 'unnamed'})"] = millidegrees / 1000
    return found


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """Package -> version, of those that are installed; none of them is imported."""
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def openvino_devices() -> dict[str, dict[str, Any]]:
    """OpenVINO's devices -> full name and what they are optimized for; {} where OpenVINO is not installed."""
    try:
        import openvino
    except ImportError:
        return {}
    core = openvino.Core()
    devices: dict[str, dict[str, Any]] = {}
    for device in core.available_devices:
        capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        name = str(core.get_property(device, "FULL_DEVICE_NAME")).strip()
        devices[device] = {"name": name, "capabilities": sorted(str(item) for item in capabilities)}
    return devices


def _cpu_model(root: Path, darwin: dict[str, str]) -> str | None:
    if "machdep.cpu.brand_string" in darwin:
        return darwin["machdep.cpu.brand_string"]
    text = _read(root / "proc/cpuinfo") or ""
    named = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    board = _read(root / "proc/device-tree/model")
    if board:
        return board.rstrip("\0")
    return named.group(1).strip() if named else platform.processor() or None


def _memory_bytes(root: Path, darwin: dict[str, str]) -> int | None:
    if darwin.get("hw.memsize", "").isdigit():
        return int(darwin["hw.memsize"])
    total = re.search(r"^MemTotal:\s*(\d+) kB", _read(root / "proc/meminfo") or "", re.MULTILINE)
    return int(total.group(1)) * 1024 if total else None


def _memory_limit(root: Path) -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _read_int(root / "sys/fs/cgroup" / name)
        if limit is not None:
            return limit if limit < 1 << 60 else None  # v1 writes a huge number for "no limit"
    return None


def _darwin_values() -> dict[str, str]:
    """sysctl's answers on macOS; {} where it does not answer."""
    try:
        listing = subprocess.run(
            ["sysctl", "hw", "machdep.cpu"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.partition(": ") for line in listing.splitlines())
    return {
        (key.lower() if key.startswith("hw.optional") else key): value.strip()
        for key, separator, value in pairs
        if separator
    }


def _ratio(limit: str | None, period: str | None) -> float | None:
    try:
        quota = float(limit or "") / float(period or "")
    except (ValueError, ZeroDivisionError):  # "max" stands for no limit
        return None
    return quota if quota > 0 else None  # v1 writes -1 for no limit


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _read_int(path: Path) -> int | None:
    text = _read(path)
    try:
        return int(text) if text else None
    except ValueError:
        return None


def now() -> str:
    """The time, UTC, to the second: `2026-11-29T01:55:00+00:00`."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
