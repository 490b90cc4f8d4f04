from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helmlite.runtime.session import BF16_PRECISIONS, is_installed, open_session

RUNTIMES = ["onnxruntime", "openvino"]
MakeOnnx = Callable[..., Path]


def planes(red: float, blue: float, size: int = 64) -> np.ndarray:
    result = np.zeros((1, 3, size, size), dtype=np.float32)
    result[:, 0], result[:, 2] = red, blue
    return result


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_outputs_by_name_and_by_hand(make_onnx: MakeOnnx, runtime: str) -> None:
    session = open_session(make_onnx("decoded"), runtime, threads=1)
    outputs = session.run_named(planes(1.0, 0.5))
    assert session.input_size == 64
    assert set(session.output_names) == {"boxes", "scores"}
    assert outputs["boxes"].shape == (1, 3, 4)
    np.testing.assert_allclose(outputs["scores"][0], [[0.9, 0.45], [0.5, 0.25], [0.8, 0.4]], rtol=1e-6)
    first = session.run(planes(1.0, 0.5))[session.output_names.index("scores")]
    np.testing.assert_array_equal(first, outputs["scores"])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_session_says_what_it_runs_in(make_onnx: MakeOnnx, runtime: str) -> None:
    session = open_session(make_onnx("decoded"), runtime, threads=1, precision="f32")
    assert (session.runtime, session.precision, session.threads) == (runtime, "f32", 1)
    assert session.version[0].isdigit()
    assert dict(zip(session.output_names, session.output_shapes))["scores"] == (1, 3, 2)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_results_are_not_overwritten_by_the_next_run(make_onnx: MakeOnnx, runtime: str) -> None:
    session = open_session(make_onnx("decoded"), runtime, threads=1)
    first = session.run_named(planes(1.0, 0.0))["scores"]
    session.run_named(planes(0.0, 1.0))
    assert first[0, 0, 0] == pytest.approx(0.9)


def test_nothing_spins_after_a_run(tmp_path: Path) -> None:
    """ONNX Runtime's threads would otherwise keep a core busy, 40 ms or more, that what comes next needs."""
    onnx = pytest.importorskip("onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    weights = onnx.numpy_helper.from_array(np.ones((64, 3, 3, 3), np.float32), "weights")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "weights"], ["maps"])],
        "wide",
        [helper.make_tensor_value_info("images", floats, [1, 3, 256, 256])],
        [helper.make_tensor_value_info("maps", floats, [1, 64, 254, 254])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "wide.onnx")
    session = open_session(tmp_path / "wide.onnx", "onnxruntime", threads=4)
    idle = []
    for _ in range(5):
        session.run(planes(1.0, 0.5, 256))
        before = time.process_time()
        time.sleep(0.1)
        idle.append(time.process_time() - before)
    assert sorted(idle)[2] < 0.01


def test_openvino_gets_the_precision_hint(make_onnx: MakeOnnx) -> None:
    openvino = pytest.importorskip("openvino")
    path = make_onnx("decoded")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert open_session(path, "openvino", 1, "bf16").precision == "bf16"
        assert open_session(path, "openvino", 1, "int8_bf16").precision == "int8_bf16"
        assert open_session(path, "openvino", 1, "default").precision == "bf16"  # its own choice on such a CPU
    else:
        for precision in BF16_PRECISIONS:
            with pytest.raises(ValueError, match="no BF16 kernels"):
                open_session(path, "openvino", 1, precision)
    assert open_session(path, "openvino", 1, "f32").precision == "f32"


def test_a_free_input_size_must_be_said(make_onnx: MakeOnnx) -> None:
    path = make_onnx("decoded", size="side")
    for runtime in RUNTIMES:
        with pytest.raises(ValueError, match="leaves the size of its input free: say it with --input-size"):
            open_session(path, runtime, 1)
        for size in (100, 1_000_000, 0, -32):
            with pytest.raises(
                ValueError, match=f"--input-size must be a multiple of 32, from 32 to .*; got {size}|say it"
            ):
                open_session(path, runtime, 1, input_size=size)
        session = open_session(path, runtime, 1, input_size=96)
        assert session.input_size == 96
        assert session.run_named(planes(1.0, 0.0, 96))["scores"][0, 0, 0] == pytest.approx(0.9)


def test_wrong_arguments(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    path = make_onnx("decoded")
    with pytest.raises(ValueError, match=r"Unknown runtime 'tensorrt'\. Known: onnxruntime, openvino"):
        open_session(path, "tensorrt")
    with pytest.raises(ValueError, match="Unknown precision 'f64'"):
        open_session(path, precision="f64")
    with pytest.raises(ValueError, match="at least one thread; got 0"):
        open_session(path, threads=0)
    for precision in BF16_PRECISIONS:
        with pytest.raises(ValueError, match="no BF16 on the CPU"):
            open_session(path, "onnxruntime", precision=precision)
    with pytest.raises(ValueError, match="takes 64 x 64 pixels, not 320"):
        open_session(path, input_size=320)
    with pytest.raises(FileNotFoundError, match="No model at"):
        open_session(tmp_path / "none.onnx")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_that_is_no_model_is_one_line(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"this is no network")
    with pytest.raises(ValueError, match=r"cannot open .*broken\.onnx") as caught:
        open_session(path, runtime, 1)
    assert "\n" not in str(caught.value)


def test_onnxruntime_opens_no_xml(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text("<net/>")
    with pytest.raises(ValueError, match=r"ONNX Runtime opens \.onnx files; got model\.xml"):
        open_session(path, "onnxruntime")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("shape", "element"), [([1, 3, 64, 32], 1), ([1, 1, 64, 64], 1), ([8], 1), ([1, 3, 64, 64], 2)]
)
def test_an_input_that_no_detector_has_is_described(
    tmp_path: Path, runtime: str, shape: list[int], element: int
) -> None:
    import onnx
    from onnx import helper

    graph = helper.make_graph(
        [helper.make_node("Identity", ["pixels"], ["same"])],
        "other",
        [helper.make_tensor_value_info("pixels", element, shape)],
        [helper.make_tensor_value_info("same", element, shape)],
    )
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    described = r"other\.onnx has the input pixels \(" + ", ".join(map(str, shape))
    with pytest.raises(ValueError, match=described + r".*a detector takes one \(1, 3, S, S\) float32"):
        open_session(path, runtime, 1)


def test_is_installed() -> None:
    assert is_installed("onnxruntime")
