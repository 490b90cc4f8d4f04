"""How much memory a network takes, measured in a process of its own, so that nothing else is counted.

    python -m helmlite.runtime.memory '{"path": "model.onnx", "runtime": "onnxruntime", ...}'

The runtime's own libraries are loaded before the first look, so what is told is the network's: its weights in the form
that the runtime keeps, and the values of a picture on its way.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helmlite.runtime.session import open_session

_RUNS = 3


@dataclass(frozen=True)
class MemoryUse:
    """Bytes beyond the process with the runtime loaded.

    opening_bytes: the most while the file was read and the network prepared
    peak_bytes:    the most of all, pictures included
    """

    opening_bytes: int
    peak_bytes: int

    def to_json(self) -> dict[str, Any]:
        return {"opening_bytes": self.opening_bytes, "peak_bytes": self.peak_bytes}


def measure_memory(path: Path, runtime: str, threads: int, precision: str, input_size: int) -> MemoryUse | None:
    """What this file takes in this runtime; None where the system does not tell (/proc is Linux's).

    Raises ValueError, with what the process said last, where the network cannot be opened there.
    """
    if peak_bytes() is None:
        return None
    asked = {
        "path": str(path), "runtime": runtime, "threads": threads, "precision": precision, "input_size": input_size,
    }  # fmt: skip
    command = [sys.executable, "-m", "helmlite.runtime.memory", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ValueError(f"The memory of {path.name} could not be measured: {last[0]}")
    return MemoryUse(**json.loads(done.stdout.splitlines()[-1]))


def peak_bytes(root: Path = Path("/")) -> int | None:
    """The most memory that this process ever held, or None where the system does not tell."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", (root / "proc/self/status").read_text(), re.M)
    except OSError:
        return None
    return None if found is None else int(found.group(1)) * 1024


def _measured(path: str, runtime: str, threads: int, precision: str, input_size: int) -> MemoryUse:
    if runtime == "openvino":
        import openvino

        openvino.Core().available_devices  # noqa: B018  (loads what every network needs)
    else:
        import onnxruntime

        onnxruntime.get_available_providers()
    before = peak_bytes() or 0
    session = open_session(Path(path), runtime, threads, precision, input_size)
    opened = peak_bytes() or 0
    for _ in range(_RUNS):
        session.run(np.zeros((1, 3, session.input_size, session.input_size), np.float32))
    return MemoryUse(opened - before, (peak_bytes() or 0) - before)


if __name__ == "__main__":
    print(json.dumps(_measured(**json.loads(sys.argv[1])).to_json()))
