"""Faults planted in the shipped detector on drawn scenes: report and gate name each, and none in its INT8 copy."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from helmlite.data.dataset import Dataset
from helmlite.data.load import load_dataset
from helmlite.data.scenes import write_scenes
from helmlite.evaluate.comparison import Comparison, Contender, compare
from helmlite.evaluate.findings.faults import Faults
from helmlite.evaluate.findings.leaks import find_leak
from helmlite.evaluate.findings.words import in_words
from helmlite.evaluate.gate import FAILED, GateVerdict, judge
from helmlite.evaluate.pages.evidence import findings_of

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

_FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"
_SIZE, _PICTURES = 320, 100
INT8 = "INT8"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    sys.path.insert(0, str(_FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("planted_faults", _FOLDER / "planted_faults.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["planted_faults"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(_FOLDER))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    """(train, test), drawn with a seed that the detector has not seen."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, train=40, val=0, test=_PICTURES, seed=4711)
    train, test = (load_dataset(folder / "data.yaml", split) for split in ("train", "test"))
    return train, test


@pytest.fixture(scope="module")
def contenders(
    benchmark: ModuleType, scenes: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory
) -> list[Contender]:
    """The healthy detector, one for each fault, and an INT8 copy."""
    from helmlite.compress.quantize import Quantize
    from helmlite.compress.shipped import load_demo_detector
    from helmlite.compress.technique import Context

    train, test = scenes
    detector = load_demo_detector()
    predict = benchmark.remembered(detector.predictor(_SIZE))
    planted = {name: wrap(predict, test) for name, (wrap, _) in benchmark.FAULTS.items()}
    context = Context(train, detector, _SIZE, 0, tmp_path_factory.mktemp("int8"))
    planted[INT8] = benchmark.remembered(Quantize().apply(detector, context).predictor(_SIZE))
    return [benchmark.contender(name, side, test, test) for name, side in {"healthy": predict, **planted}.items()]


@pytest.fixture(scope="module")
def comparison(contenders: list[Contender], scenes: tuple[Dataset, Dataset]) -> Comparison:
    return compare(contenders, scenes[1], scenes[1])


def _faults(comparison: Comparison, name: str) -> Faults:
    return next(item.faults for item in comparison.differences if item.name == name)


@pytest.mark.parametrize(
    "name",
    ["no_helmet is dead", "boxes 4 px right and down", "red and blue swapped", "scores halved", "blind below 24 px"],
)
def test_the_fault_is_named(comparison: Comparison, benchmark: ModuleType, name: str) -> None:
    _, is_named = benchmark.FAULTS[name]
    assert is_named(_faults(comparison, name)), [sentence for _, sentence in findings_of(comparison)]


def test_every_planted_fault_is_tried(benchmark: ModuleType) -> None:
    assert set(benchmark.FAULTS) == {
        "no_helmet is dead", "boxes 4 px right and down", "red and blue swapped", "scores halved", "blind below 24 px",
    }  # fmt: skip


def test_a_copy_in_int8_has_no_fault(comparison: Comparison) -> None:
    assert _faults(comparison, INT8).found() == ()


def test_the_gate_names_them_too(contenders: list[Contender], scenes: tuple[Dataset, Dataset]) -> None:
    """By class, mean and size.  Halved scores it passes, and rightly: thresholds are chosen anew."""
    healthy, *others = contenders

    def verdict(name: str) -> GateVerdict:
        side = next(item for item in others if item.measured.name == name)
        return judge(healthy.tuning, side.tuning, scenes[1])

    dead = verdict("no_helmet is dead")
    of_class, recall = dead.check("class no_helmet"), dead.check("recall of no_helmet")
    assert dead.verdict == FAILED
    assert of_class is not None and of_class.verdict == FAILED and of_class.candidate == 0
    assert recall is not None and recall.verdict == FAILED
    moved = verdict("boxes 4 px right and down").check("mAP50-95")
    assert moved is not None and moved.verdict == FAILED
    small = verdict("blind below 24 px").check("size small")
    assert small is not None and small.verdict == FAILED
    halved = verdict("scores halved").check("mAP50-95")
    assert halved is not None and halved.loss_points == pytest.approx(0.0, abs=1e-6)


def test_it_is_tested_on_its_own_training_pictures(
    contenders: list[Contender], scenes: tuple[Dataset, Dataset]
) -> None:
    train, test = scenes
    leak = find_leak(train.subset(list(range(5))), train, {})
    assert leak is not None and (leak.pictures, leak.tested) == (5, 5)
    assert in_words(leak).startswith("5 of 5 pictures of train look the same as pictures of train")
    assert find_leak(test, train, {}) is None, "drawn streets differ"
