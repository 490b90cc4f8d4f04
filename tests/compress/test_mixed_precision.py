"""Layers that get more bits or stay in float: the choice by hand, what is noted, what a plan says about it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helmlite.compress import quantize as quantize_file
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.edits.shared_weights import shared_weights
from helmlite.compress.layer_times import LayerTimes
from helmlite.compress.quantize import Quantize
from helmlite.compress.rounding import mixed_precision
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers
from helmlite.compress.rounding.mixed_precision import (
    _without_needless,
    by_noise_for_price,
    fewest,
    layer_prices,
    noise_to_signal,
    sensitivities,
)
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, QuantPoint
from helmlite.compress.shipped import load_demo_detector
from helmlite.compress.technique import Context
from helmlite.compress.tie import Tie
from helmlite.data.dataset import Dataset, dataset_of
from helmlite.data.load import load_dataset
from helmlite.data.roles import with_roles
from helmlite.data.scenes import write_scenes
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helmlite.evaluate.accuracy import evaluate

_CLASSES = with_roles(["helmet", "no_helmet"])
_OTHERS = ("neck", "backbone.down", "backbone.mix", "backbone.context")  # left out, so that it takes seconds
_LAYERS = ("heads.0.logits", "heads.1.logits", "backbone.stem.conv")


def test_noise_for_its_price_first() -> None:
    # 4 / 4 = 1, 3 / 1 = 3, 1 / 2 = 0.5
    assert by_noise_for_price({"a": 4.0, "b": 3.0, "c": 1.0}, {"a": 4.0, "b": 1.0, "c": 2.0}) == ["b", "a", "c"]


@pytest.mark.parametrize("needed", [1, 2, 37, 99, 100])
def test_the_fewest_by_halving(needed: int) -> None:
    asked: list[int] = []

    def is_enough(number: int) -> bool:
        asked.append(number)
        return number >= needed

    assert fewest(100, is_enough) == needed
    assert len(asked) <= 7


def test_what_is_not_needed_goes_back_the_dearest_first() -> None:
    prices = {"a": 1.0, "b": 5.0, "c": 3.0}
    assert _without_needless(["a", "b", "c"], prices, lambda kept: "c" in kept) == ["c"]
    assert _without_needless(["a", "b", "c"], prices, lambda kept: "b" in kept or len(kept) == 2) == ["a", "c"]


def test_noise_to_signal_by_hand() -> None:
    # 1 / 4 in the first map, 0 in the second
    assert noise_to_signal([torch.tensor([2.0]), torch.ones(9)], [torch.tensor([3.0]), torch.ones(9)]) == 0.125


class TwoConvs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)
        with torch.no_grad():
            self.first.weight.fill_(1.0)
            self.last.weight.fill_(2.0)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.last(self.first(images)),)


def test_each_layer_is_rounded_alone() -> None:
    """The first weight becomes 1.2 and the second stays; the value that the second reads becomes 0.9 of what it is."""
    plan = QuantizationPlan(
        {
            "images": QuantPoint(8, (1.0,), (0,)),
            "first:weight": QuantPoint(8, (0.6,), (0,), 0, True),
            "first/conv2d": QuantPoint(8, (9.0,), (0,)),
            "last:weight": QuantPoint(8, (1.0,), (0,), 0, True),
        }
    )
    network, reads = TwoConvs(), {"first": "images", "last": "first/conv2d"}
    rounded = {path: {name: plan.points[name] for name in (f"{path}:weight", value)} for path, value in reads.items()}
    found = sensitivities(network, rounded, torch.full((1, 1, 2, 2), 10.0))
    assert found == pytest.approx({"first": 0.04, "last": 0.01}, rel=1e-4)
    assert not hasattr(network, "quantizers")


@pytest.fixture(scope="module")
def detector() -> Detector:
    return new_tiny(_CLASSES, 64)


def test_a_price_is_the_targets_time_where_there_is_a_clock(detector: Detector, tmp_path: Path) -> None:
    where = Context(dataset_of([], _CLASSES), detector, 64, 0, tmp_path, log=lambda line: None)
    macs = layer_prices(detector, ["backbone.stem.conv"], where)
    assert macs == {
        "backbone.stem.conv": 32 * 32 * 27 * detector.network.get_submodule("backbone.stem.conv").out_channels
    }
    clock = replace(
        where, layer_clock=lambda detectors, size: [LayerTimes({"backbone.stem.conv": 2.5}, 1.0)] * len(detectors)
    )
    assert layer_prices(detector, ["backbone.stem.conv"], clock) == {"backbone.stem.conv": 2.5}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), train=4, val=3, test=1, seed=0)


class Accuracy:
    """0.6 less 0.1 for every one of three layers whose weights are rounded; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, detector: Detector, data: Dataset, of: str, input_size: int) -> float:
        self.asked += 1
        return 0.6 - 0.1 * sum(path in _weights(detector) for path in _LAYERS)


@pytest.mark.slow
def test_the_layers_that_matter_stay_in_float_and_the_plan_says_why(
    detector: Detector, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy, log = Accuracy(), list[str]()
    monkeypatch.setattr(mixed_precision, "_accuracy", accuracy)
    where = Context(
        load_dataset(scenes, "train"), detector, 64, 0, tmp_path, log=log.append, val=load_dataset(scenes, "val")
    )
    technique = Quantize(max_drop=0.15, keep_float=_OTHERS)
    mixed = technique.apply(detector, where)
    edit = mixed.edits[-1]
    assert isinstance(edit, InsertQuantizers)
    kept = [part for part in edit.plan.stayed_float if part.why.startswith("kept in float: sensitivity")]
    names = {part.name.removesuffix("/conv2d") for part in kept}
    assert len(names & set(_LAYERS)) >= 2  # of three, two must stay
    assert not names & set(edit.plan.weights())
    assert any("layers stay in float" in line for line in log)
    (notes,) = tmp_path.glob("sensitivity-*.json")
    assert sum(name.startswith("noise ") for name in json.loads(notes.read_text())) > 20
    asked = accuracy.asked
    again = technique.apply(detector, where)
    assert accuracy.asked == asked  # everything was noted
    assert again.edits == mixed.edits
    monkeypatch.setattr(mixed_precision, "_accuracy", lambda detector, *rest: 0.6 - 0.5 * len(_weights(detector)))
    with pytest.raises(ValueError, match="unless every layer stays in float"):
        technique.apply(detector, replace(where, workspace=tmp_path / "other"))


def test_a_weight_is_rounded_alone_where_no_value_is_named() -> None:
    rounded = {"first": {"first:weight": QuantPoint(8, (0.6,), (0,), 0, True)}}
    found = sensitivities(TwoConvs(), rounded, torch.full((1, 1, 2, 2), 10.0))
    assert found == pytest.approx({"first": 0.04}, rel=1e-4)  # 1 becomes 1.2


class AccuracyByBits:
    """0.6 less 0.1 for every one of some weights with few bits, and `for_eight` for each that is rounded at all."""

    def __init__(self, for_eight: float = 0.0, layers: tuple[str, ...] = _LAYERS) -> None:
        self.for_eight, self.layers, self.asked = for_eight, layers, 0

    def __call__(self, detector: Detector, *rest: Any) -> float:
        self.asked += 1
        bits = {path: point.bits for path, point in _weights(detector).items() if path in self.layers}
        return 0.6 - 0.1 * sum(item < 8 for item in bits.values()) - self.for_eight * len(bits)


@pytest.fixture
def where(detector: Detector, scenes: Path, tmp_path: Path) -> Context:
    return Context(
        load_dataset(scenes, "train"), detector, 64, 0, tmp_path, log=lambda line: None, val=load_dataset(scenes, "val")
    )


def _plan_of(detector: Detector) -> QuantizationPlan:
    edit = detector.edits[-1]
    assert isinstance(edit, InsertQuantizers)
    return edit.plan


@pytest.mark.slow
def test_few_bits_are_raised_before_a_layer_stays_in_float(
    detector: Detector, where: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, accuracy = list[str](), AccuracyByBits()
    monkeypatch.setattr(mixed_precision, "_accuracy", accuracy)
    technique = Quantize(weight_bits=3, max_drop=0.15, keep_float=_OTHERS)
    mixed = technique.apply(detector, replace(where, log=log.append))
    plan = _plan_of(mixed)
    bits = {path: point.bits for path, point in plan.weights().items()}
    raised = [path for path, count in bits.items() if count == 8]
    assert len(set(raised) & set(_LAYERS)) >= 2 and set(bits.values()) == {3, 8}  # of three, two must be raised
    assert set(plan.calibration["raised"]) == set(raised)
    assert not any("sensitivity" in part.why for part in plan.stayed_float)
    assert any("layers get weights of 8 bits (" in line for line in log)
    assert any("weights in INT3" in line and "weights in INT8" in line for line in log)
    asked = accuracy.asked
    assert technique.apply(detector, where).edits == mixed.edits
    assert accuracy.asked == asked  # everything was noted


@pytest.mark.slow
def test_where_more_bits_are_not_enough_a_layer_stays_in_float(
    detector: Detector, where: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 bits in all weights lose 0.24 of 0.17: a layer stays in float, by its noise with 8 bits, not with 3."""
    log, noises = list[str](), dict[str, float]()
    real = mixed_precision.sensitivities

    def watched(network: Any, rounded: Any, *rest: Any) -> dict[str, float]:
        assert {point.bits for points in rounded.values() for point in points.values()} == {8}
        noises.update(real(network, rounded, *rest))
        return noises

    monkeypatch.setattr(mixed_precision, "sensitivities", watched)
    monkeypatch.setattr(mixed_precision, "_accuracy", AccuracyByBits(for_eight=0.08))
    technique = Quantize(weight_bits=3, max_drop=0.17, keep_float=_OTHERS)
    plan = _plan_of(technique.apply(detector, replace(where, log=log.append)))
    assert {point.bits for point in plan.weights().values()} == {8}
    kept = {part.name: part.why for part in plan.stayed_float if part.why.startswith("kept in float: sensitivity")}
    assert kept
    for name, why in kept.items():
        assert why == f"kept in float: sensitivity {noises[name.rpartition('/')[0]]:.2g} of noise to signal"
    assert set(plan.calibration["raised"]) == set(plan.weights())
    assert any("stay in float" in line and "all others get weights of 8 bits" in line for line in log)


@pytest.mark.slow
def test_a_shared_weight_is_raised_for_all_that_share_it(
    detector: Detector, where: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    tied = Tie(what="head").apply(detector, where)
    groups = [set(group) for group in shared_weights(merge_parallel_convs(fold_batchnorm(tied)).network)]
    assert groups
    monkeypatch.setattr(mixed_precision, "_accuracy", AccuracyByBits(layers=tuple(sorted(set.union(*groups)))))
    plan = _plan_of(Quantize(weight_bits=3, max_drop=0.15, keep_float=_OTHERS).apply(tied, where))
    bits = {path: point.bits for path, point in plan.weights().items()}
    assert set(bits.values()) == {3, 8}
    for group in groups:
        assert len({bits[path] for path in group}) == 1
    assert set(plan.calibration["raised"]) == {path for path, count in bits.items() if count == 8}


def test_with_learned_rounding_what_is_raised_is_measured_as_it_ships(
    detector: Detector, where: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[int] = []

    def learn(self: Any, network: Any, plan: QuantizationPlan) -> None:
        learned.append(sum(point.bits == 8 for point in plan.weights().values()))
        with torch.no_grad():
            network.get_submodule(_LAYERS[0]).bias.add_(1e-3)  # so that it can be told from rounding to nearest

    monkeypatch.setattr(quantize_file._Subject, "_learn_rounding", learn)
    first_bias, by_bits = detector_bias(merge_parallel_convs(fold_batchnorm(detector))), AccuracyByBits()

    def accuracy(item: Detector, *rest: Any) -> float:
        is_learned = bool(_weights(item)) and float((detector_bias(item) - first_bias).mean()) > 5e-4
        return by_bits(item) - (0.1 if is_learned else 0.0)

    monkeypatch.setattr(mixed_precision, "_accuracy", accuracy)
    settings = Quantize(weight_bits=3, max_drop=0.15, keep_float=_OTHERS, rounding="adaround", correct_biases=False)
    with pytest.raises(ValueError, match=r"with learned rounding, more than max_drop = 0\.15.*weights of 8 bits"):
        settings.apply(detector, where)
    assert len(learned) == 2 and learned[0] == 0 < learned[1]  # before the search, and what it chose


def test_with_learned_rounding_what_ships_is_what_was_measured(
    detector: Detector, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learned rounding that is good enough needs no search; one that is worse than what was searched with is said."""
    learned: list[Detector] = []

    def learn(self: Any, network: Any, plan: Any) -> None:
        learned.append(network)
        with torch.no_grad():
            network.get_submodule(_LAYERS[0]).bias.add_(1e-3)  # so that it can be told from rounding to nearest

    monkeypatch.setattr(quantize_file._Subject, "_learn_rounding", learn)
    first_bias = detector_bias(merge_parallel_convs(fold_batchnorm(detector)))

    def accuracy(of_learned: float) -> Any:
        def measured(item: Detector, *rest: Any) -> float:
            is_learned = bool(_weights(item)) and float((detector_bias(item) - first_bias).mean()) > 5e-4
            return of_learned if is_learned else 0.6 - 0.1 * sum(path in _weights(item) for path in _LAYERS)

        return measured

    def made(of_learned: float, folder: str) -> Detector:
        monkeypatch.setattr(mixed_precision, "_accuracy", accuracy(of_learned))
        where = Context(
            load_dataset(scenes, "train"), detector, 64, 0, tmp_path / folder, print, val=load_dataset(scenes, "val")
        )
        settings = Quantize(max_drop=0.15, keep_float=_OTHERS, rounding="adaround", correct_biases=False)
        return settings.apply(detector, where)

    everything = made(0.55, "good")
    assert set(_LAYERS) <= set(_weights(everything))
    assert len(learned) == 1  # made once, measured, shipped
    with pytest.raises(ValueError, match=r"falls by 0\.500 with learned rounding, more than max_drop = 0\.15"):
        made(0.1, "bad")


def detector_bias(detector: Detector) -> torch.Tensor:
    bias = detector.network.get_submodule(_LAYERS[0]).bias
    assert isinstance(bias, torch.Tensor)
    return bias.detach()


def _weights(detector: Detector) -> dict[str, QuantPoint]:
    plans = [edit.plan for edit in detector.edits if isinstance(edit, InsertQuantizers)]
    return plans[-1].weights() if plans else {}


def test_it_looks_at_pictures_drawn_from_all(
    detector: Detector, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tuning split may hold one set after another: the first pictures are not like the others."""
    looked_at: list[tuple[Path, ...]] = []

    def accuracy(detector: Detector, data: Dataset, of: str, input_size: int) -> float:
        looked_at.append(data.image_paths)
        return 0.5

    monkeypatch.setattr(mixed_precision, "_accuracy", accuracy)
    train = load_dataset(scenes, "train")
    assert len(train) > 2
    for seed in range(8):
        where = Context(train, detector, 64, seed, tmp_path / str(seed), log=lambda line: None)
        Quantize(max_drop=0.35, keep_float=_OTHERS, drop_pictures=2, pictures=2).apply(detector, where)
    assert all(len(set(paths)) == 2 for paths in looked_at)
    assert set().union(*looked_at) == set(train.image_paths)


@pytest.mark.slow
def test_the_real_accuracy_decides(scenes: Path, tmp_path: Path) -> None:
    """No stand-in: with 3-bit weights a detector that finds something loses it, unless some weights get more bits."""
    detector, data = load_demo_detector(), load_dataset(scenes, "train")
    where = Context(data, detector, 320, 0, tmp_path, log=lambda line: None)

    def lost(**settings: Any) -> float:
        changed = Quantize(weight_bits=3, pictures=4, **settings).apply(detector, where)
        before, after = (evaluate(item.predictor(320), data).map50 for item in (detector, changed))
        assert before is not None and after is not None
        assert before > 0.3
        return before - after

    allowed = lost() / 2
    assert allowed > 0.02
    assert lost(max_drop=allowed, drop_of="map50") <= allowed + 1e-6


def test_nothing_stays_where_integers_are_good_enough(
    detector: Detector, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixed_precision, "_accuracy", Accuracy())
    where = Context(load_dataset(scenes, "train"), detector, 64, 0, tmp_path, log=lambda line: None)
    edit = Quantize(max_drop=0.35, keep_float=_OTHERS).apply(detector, where).edits[-1]
    assert isinstance(edit, InsertQuantizers)
    assert not any("sensitivity" in part.why for part in edit.plan.stayed_float)
