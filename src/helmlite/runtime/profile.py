"""Where a network's time goes: operator by operator, as the runtime itself reports it, in f32.

Runtimes fuse operators (a convolution with the activation behind it) and report the time under one name or several
joined ones, so a name here is a text in which the names of the file's nodes can be looked for.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from helmlite.runtime.machine import usable_cores
from helmlite.runtime.session import Planes

_KERNEL = "_kernel_time"


def operator_times_ms(
    paths: Sequence[Path],
    picture: Planes,
    runtime: str,
    threads: int | None = None,
    rounds: int = 20,
    warmup: int = 3,
) -> list[dict[str, float]]:
    """For each `.onnx` file the median time of its operators in ms, all files in turn in every round.

    picture: (1, 3, S, S), what each round runs
    Raises ValueError for a runtime that is unknown here, ImportError where it is not installed.
    """
    if runtime not in _OPENERS:
        raise ValueError(f"No profile from the runtime '{runtime}'. Known: {', '.join(_OPENERS)}.")
    opened = [_OPENERS[runtime](path, threads or usable_cores()) for path in paths]
    for _ in range(warmup + rounds):
        for network in opened:
            network.run(picture)
    found = []
    for network in opened:
        samples = network.samples_ms()
        found.append({name: float(np.median(values[warmup:])) for name, values in samples.items()})
    return found


def rt_text(value: Any) -> str:
    """A text that OpenVINO keeps beside an operator (its `get_rt_info`)."""
    return str(value.astype(str)) if hasattr(value, "astype") else str(value)


class _OpenVino:
    def __init__(self, path: Path, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise ImportError('OpenVINO is not installed. Install it with: pip install "helmlite[openvino]"') from error
        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERF_COUNT": True,
        }
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
        self._made_of = {
            item.get_friendly_name(): rt_text(item.get_rt_info()["originalLayersNames"])
            for item in compiled.get_runtime_model().get_ordered_ops()
        }
        self._request = compiled.create_infer_request()
        self._samples: dict[str, list[float]] = defaultdict(list)

    def run(self, planes: Planes) -> None:
        self._request.infer([planes], share_inputs=True)
        for item in self._request.get_profiling_info():
            name = f"{item.node_name},{self._made_of.get(item.node_name, '')}"
            self._samples[name].append(1000 * item.real_time.total_seconds())

    def samples_ms(self) -> Mapping[str, Sequence[float]]:
        return self._samples


class _OnnxRuntime:
    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._folder.name) / "profile")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._feed = self._session.get_inputs()[0].name

    def run(self, planes: Planes) -> None:
        self._session.run(None, {self._feed: planes})

    def samples_ms(self) -> Mapping[str, Sequence[float]]:
        events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
        self._folder.cleanup()
        samples: dict[str, list[float]] = defaultdict(list)
        for event in sorted(events, key=lambda item: item["ts"]):
            if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
                samples[event["name"].removesuffix(_KERNEL)].append(event["dur"] / 1000)
        return samples


_OPENERS: Mapping[str, Callable[[Path, int], _OpenVino | _OnnxRuntime]] = {
    "openvino": _OpenVino,
    "onnxruntime": _OnnxRuntime,
}
