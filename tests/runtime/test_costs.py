"""Memory, throughput and energy: measured where the system tells, and None where it does not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helmlite.runtime.bench import drawn_picture, measure_costs, thread_counts
from helmlite.runtime.bundle import Bundle, BundlePredictor
from helmlite.runtime.energy import measure_energy, read_counters, spent
from helmlite.runtime.memory import MemoryUse, measure_memory, peak_bytes
from helmlite.runtime.throughput import measure_throughput

onnx = pytest.importorskip("onnx")


def _zone(root: Path, number: int, name: str, energy: int, limit: int = 1_000_000) -> None:
    folder = root / "sys/class/powercap" / f"intel-rapl:{number}"
    folder.mkdir(parents=True, exist_ok=True)
    for file, value in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", limit)):
        (folder / file).write_text(f"{value}\n")


def test_energy_by_hand(tmp_path: Path) -> None:
    """Two packages; each picture takes 3 mJ of the first and 1 mJ of the second, whose counter begins anew."""
    state = {"done": 0}

    def write() -> None:
        _zone(tmp_path, 0, "package-0", 100 + 3000 * state["done"])
        _zone(tmp_path, 1, "package-1", (999_500 + 1000 * state["done"]) % 1_000_000)
        _zone(tmp_path, 2, "psys", 5)

    def picture() -> None:
        state["done"] += 1
        write()

    write()
    assert set(read_counters(tmp_path)) == {"intel-rapl:0", "intel-rapl:1"}
    found = measure_energy(picture, seconds=0, root=tmp_path)
    assert found is not None
    assert found.pictures == 1
    assert found.joules_per_picture == pytest.approx(0.004)
    assert found.watts > 0
    assert spent((90, 100), (95, 100)) == 5


def test_energy_is_not_told_where_it_cannot_be_read(tmp_path: Path) -> None:
    assert measure_energy(int, seconds=0, root=tmp_path) is None
    _zone(tmp_path, 0, "package-0", 1)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("secret")
    assert read_counters(tmp_path) == {}


def test_threads_are_doubled_up_to_the_cores() -> None:
    assert [thread_counts(cores) for cores in (1, 2, 3, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8]]


def test_throughput_counts_what_was_done() -> None:
    class Counting:
        def __init__(self, threads: int) -> None:
            self.threads, self.runs = threads, 0

        def run(self, planes: object) -> list[object]:
            self.runs += 1
            return []

    opened: list[Counting] = []

    def open_with(count: int) -> Counting:
        opened.append(Counting(count))
        return opened[-1]

    found = measure_throughput(open_with, None, [1, 4], seconds=0, warmup=3)  # type: ignore[arg-type]
    assert [item.threads for item in found] == [session.threads for session in opened] == [1, 4]
    assert [session.runs for session in opened] == [5, 5]  # three to warm up, and two at least
    assert all(item.per_second > 0 for item in found)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of a process")
def test_memory_grows_with_the_network(tmp_path: Path) -> None:
    """A graph with 40 MB of weights takes at least those more than one with none."""
    from onnx import TensorProto, helper, numpy_helper

    taken = {}
    for name, count in (("small", 1), ("large", 10_000_000)):
        weights = numpy_helper.from_array(np.full((count,), 0.5, np.float32), "weights")
        nodes = [
            helper.make_node("ReduceSum", ["weights"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["images", "sum"], ["out"]),
        ]
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, 8, 8])],
            [weights],
        )
        path = tmp_path / f"{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
        taken[name] = measure_memory(path, "onnxruntime", 1, "f32", 8)
    small, large = taken["small"], taken["large"]
    assert small is not None and large is not None
    assert large.peak_bytes - small.peak_bytes > 35_000_000
    assert 0 <= large.opening_bytes <= large.peak_bytes
    with pytest.raises(ValueError, match=r"memory of gone\.onnx could not be measured: .*No model at"):
        measure_memory(tmp_path / "gone.onnx", "onnxruntime", 1, "f32", 8)


def test_memory_is_not_told_elsewhere(tmp_path: Path) -> None:
    assert peak_bytes(tmp_path) is None
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tx\nVmHWM:\t   2048 kB\n")
    assert peak_bytes(tmp_path) == 2048 * 1024
    assert MemoryUse(1, 2).to_json() == {"opening_bytes": 1, "peak_bytes": 2}


def test_costs_of_a_bundle(make_bundle: Callable[..., Bundle]) -> None:
    predictor = BundlePredictor(make_bundle(), "openvino", threads=1)
    found = measure_costs(predictor, drawn_picture(64, 64), seconds=0)
    assert found["throughput"][0]["threads"] == 1
    assert all(item["per_second"] > 0 for item in found["throughput"])
    assert found["memory"] is None or found["memory"]["peak_bytes"] >= found["memory"]["opening_bytes"] > 0
    assert set(found) == {"memory", "throughput", "energy"}
