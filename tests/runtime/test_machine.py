from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from helmlite.runtime import machine
from helmlite.runtime.machine import (
    clock_khz,
    clock_limit_khz,
    cpu_flags,
    cpu_quota,
    installed_versions,
    int8_weight_bits,
    read_machine,
    temperatures,
    usable_cores,
)

RASPBERRY_5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
"""
SAPPHIRE_RAPIDS = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8480+
flags\t\t: fpu sse avx2 avx512f avx512_vnni avx_vnni avx512_bf16 amx_bf16 amx_tile amx_int8
"""


def place(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def test_nothing_is_known_where_the_system_shows_nothing(tmp_path: Path) -> None:
    found = read_machine(tmp_path)
    assert found.flags == ()
    assert found.quota is found.memory_bytes is found.memory_limit_bytes is None
    assert 1 <= found.usable <= found.cores
    assert clock_khz(tmp_path) == []
    assert clock_limit_khz(tmp_path) is None
    assert temperatures(tmp_path) == {}
    assert found.describe()


def test_this_machine_says_something() -> None:
    found = read_machine()
    assert found.cores >= found.usable >= 1
    assert "onnxruntime" in found.runtimes


def test_arm_and_x86_flags(tmp_path: Path) -> None:
    place(tmp_path, "proc/cpuinfo", RASPBERRY_5)
    place(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    assert cpu_flags(tmp_path) == ("dotprod", "fp16", "neon")
    assert read_machine(tmp_path).cpu == "Raspberry Pi 5 Model B Rev 1.0"
    other = tmp_path / "x86"
    place(other, "proc/cpuinfo", SAPPHIRE_RAPIDS)
    place(other, "proc/meminfo", "MemTotal:       16384 kB\nMemFree: 1 kB\n")
    expected = ("amx", "amx_bf16", "amx_int8", "avx2", "avx512", "avx512_bf16", "avx512_vnni", "avx_vnni")
    assert cpu_flags(other) == expected
    assert read_machine(other).cpu == "Intel(R) Xeon(R) Platinum 8480+"
    assert read_machine(other).memory_bytes == 16384 * 1024


@pytest.mark.parametrize(
    ("architecture", "flags", "bits"),
    [
        ("x86_64", ("avx2",), 7),
        ("AMD64", (), 7),
        ("x86_64", ("avx2", "avx512"), 7),
        ("x86_64", ("avx2", "avx_vnni"), 8),
        ("x86_64", ("avx512", "avx512_vnni"), 8),
        ("aarch64", ("neon",), 8),
    ],
)
def test_seven_bits_where_sums_would_overflow(architecture: str, flags: tuple[str, ...], bits: int) -> None:
    found = replace(read_machine(), architecture=architecture, flags=flags)
    assert int8_weight_bits(found) == bits
    assert 2 * 255 * 63 < 2**15 <= 2 * 255 * 127  # two products in 16 bits


def test_macos_flags_come_from_sysctl(tmp_path: Path) -> None:
    values = {"hw.optional.arm.feat_dotprod": "1", "hw.optional.arm.feat_i8mm": "1", "hw.optional.arm.feat_bf16": "0"}
    assert cpu_flags(tmp_path, values) == ("dotprod", "i8mm")


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, None),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 0.5),
        (
            {
                "proc/self/cgroup": "0::/system.slice/watch.service\n",
                "sys/fs/cgroup/system.slice/cpu.max": "200000 100000",
                "sys/fs/cgroup/system.slice/watch.service/cpu.max": "300000 100000",
            },
            2.0,
        ),
        ({"proc/self/cgroup": "0::/../outside\n"}, None),
    ],
)
def test_container_quota(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for path, text in files.items():
        place(tmp_path, path, text)
    assert cpu_quota(tmp_path) == quota


def test_usable_cores_keep_to_affinity_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert usable_cores(tmp_path) == 6
    place(tmp_path, "sys/fs/cgroup/cpu.max", "250000 100000")
    assert usable_cores(tmp_path) == 2
    place(tmp_path, "sys/fs/cgroup/cpu.max", "50000 100000")
    assert usable_cores(tmp_path) == 1
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS has none
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path / "none") == 1


def test_memory_limits(tmp_path: Path) -> None:
    place(tmp_path, "sys/fs/cgroup/memory.max", "max")
    assert read_machine(tmp_path).memory_limit_bytes is None
    place(tmp_path, "sys/fs/cgroup/memory.max", "536870912")
    assert read_machine(tmp_path).memory_limit_bytes == 512 * 2**20
    other = tmp_path / "v1"
    place(other, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    assert read_machine(other).memory_limit_bytes is None


def test_clock_and_temperature(tmp_path: Path) -> None:
    for core, khz in ((0, 1500000), (1, 2400000)):
        place(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", f"{khz}\n")
    place(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "1500000")
    place(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "2400000")
    place(tmp_path, "sys/class/thermal/thermal_zone0/temp", "81500")
    place(tmp_path, "sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    place(tmp_path, "sys/class/thermal/thermal_zone1/temp", "broken")
    assert clock_khz(tmp_path) == [1500000, 2400000]
    assert clock_limit_khz(tmp_path) == (1500000, 2400000)
    assert temperatures(tmp_path) == {"thermal_zone0 (cpu-thermal)": 81.5}


def test_versions_of_what_is_installed() -> None:
    assert set(installed_versions(["numpy", "no-such-package-anywhere"])) == {"numpy"}


def test_openvino_devices_where_there_is_no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    assert machine.openvino_devices() == {}
