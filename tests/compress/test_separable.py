"""Separable replacement: started from the dense kernel, chosen by error and cost, and what follows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.kernels.conv_chain import dense_convs, put_chain, set_kernels
from helmlite.compress.kernels.decompositions import separable, separable_errors
from helmlite.compress.layer_times import LayerTimes
from helmlite.compress.low_rank import LowRank
from helmlite.compress.prune import Prune
from helmlite.compress.quantize import Quantize
from helmlite.compress.separable import Separable, SplitDepthwise, links_of
from helmlite.compress.shipped import load_demo_detector
from helmlite.compress.technique import TechniqueOrderError
from helmlite.data.dataset import Dataset
from helmlite.detector.detector import Detector
from helmlite.detector.macs import conv_costs, count_macs, shape_trace
from helpers import check_float_export
from split_layers import FAMILIES, SIZE, context, detector_named, maps, pictures, smooth_data

_PLAIN = Separable(min_width=16, images=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return smooth_data(tmp_path_factory.mktemp("data"))


def pair_like(conv: nn.Conv2d, rank: int) -> nn.Sequential:
    """The pair in its place, kernels set."""
    holder = nn.Sequential(conv)
    put_chain(holder, "0", links_of(conv, rank))
    set_kernels(holder, "0", separable(conv.weight, (rank,)))
    pair = holder[0]
    assert isinstance(pair, nn.Sequential)
    return pair


@pytest.mark.parametrize("stride", [1, 2])
def test_a_separable_layer_is_found_again(stride: int) -> None:
    """A dense kernel made of one filter a channel is split without error, bias, stride and padding included."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, stride, 1)
    filters, mixing = torch.randn(4, 3, 3), torch.randn(6, 4)
    conv.weight.data = mixing[:, :, None, None] * filters[None]
    pixels = torch.randn(2, 4, 11, 12)
    with torch.no_grad():
        expected, got = conv(pixels), pair_like(conv, 1)(pixels)
    assert got.shape == expected.shape
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("path", "factor"), [("", 1.5), ("backbone.down.1.conv", 1.5), ("backbone.mix.2.blocks.0.first.conv", 1.5)]
)
def test_the_start_is_better_than_a_random_one(path: str, factor: float) -> None:
    """Against 8 random pairs of the same scale: of a random kernel, which has no structure, and of trained ones."""
    torch.manual_seed(0)
    conv = load_demo_detector().network.get_submodule(path) if path else nn.Conv2d(16, 16, 3, padding=1, bias=False)
    assert isinstance(conv, nn.Conv2d)
    pixels = torch.randn(4, conv.in_channels, 16, 16)

    def error(pair: nn.Sequential) -> float:
        with torch.no_grad():
            expected = conv(pixels)
            return float((pair(pixels) - expected).square().mean() / expected.square().mean())

    started = error(pair_like(conv, 1))
    assert started == pytest.approx(float(separable_errors(conv.weight)[1]), rel=0.1)
    randoms = []
    for _ in range(8):
        pair = pair_like(conv, 1)
        for link in pair:
            link.weight.data = torch.randn_like(link.weight) * link.weight.std()  # type: ignore[operator]
        randoms.append(error(pair))
    found = sum(randoms) / len(randoms) / started
    print(f"squared error: {started:.3f}, a random start {found:.1f} times that")
    assert found > 1.5


def test_more_filters_a_channel_lose_less() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 24, 3, padding=1)
    pixels = torch.randn(2, 8, 9, 9)
    with torch.no_grad():
        expected = conv(pixels)
        errors = [float((pair_like(conv, rank)(pixels) - expected).square().mean()) for rank in (1, 2, 4, 9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-10


def test_which_layers_are_split(data: Dataset, tmp_path: Path) -> None:
    detector = detector_named("tiny")
    lines: list[str] = []
    changed = Separable(images=8).apply(detector, context(detector, data, tmp_path, lines))
    edit = changed.edits[0]
    assert isinstance(edit, SplitDepthwise)
    dense = {
        path
        for path, module in detector.network.named_modules()
        if isinstance(module, nn.Conv2d)
        and module.groups == 1
        and module.kernel_size == (3, 3)
        and min(module.in_channels, module.out_channels) >= 32
    }
    assert set(edit.layers) == dense
    assert "below 32 channels" in lines[0] and "pointwise" in lines[0]
    first = changed.network.get_submodule(f"{next(iter(edit.layers))}.0")
    assert isinstance(first, nn.Conv2d) and first.groups == first.in_channels

    part = Separable(only=("backbone",), keep=("backbone.down",), images=8)
    some = part.apply(detector, context(detector, data, tmp_path)).edits[0]
    assert isinstance(some, SplitDepthwise)
    assert set(some.layers) == {path for path in dense if path.startswith("backbone.mix")}


def test_the_least_error_for_what_it_saves_goes_first(data: Dataset, tmp_path: Path) -> None:
    detector = detector_named("tiny")
    changed = replace(_PLAIN, macs_ratio=0.8).apply(detector, context(detector, data, tmp_path))
    assert count_macs(changed.network, SIZE) / count_macs(detector.network, SIZE) <= 0.8
    edit = changed.edits[0]
    assert isinstance(edit, SplitDepthwise)
    layers, _ = dense_convs(detector, SIZE)
    prices = {
        path: float(separable_errors(layer.conv.weight)[1]) / (layer.macs - layer.macs_of(links_of(layer.conv, 1)))
        for path, layer in layers.items()
        if layer.conv.kernel_size == (3, 3)
    }
    left = set(prices) - set(edit.layers)
    assert left
    assert max(prices[path] for path in edit.layers) <= min(prices[path] for path in left)


def test_layers_above_max_error_stay(data: Dataset, tmp_path: Path) -> None:
    detector = detector_named("tiny")
    layers, _ = dense_convs(detector, SIZE)
    easy = "backbone.down.1.conv"
    filters = torch.randn(layers[easy].conv.in_channels, 3, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layers[easy].conv.weight.copy_(layers[easy].conv.weight.sum((2, 3), keepdim=True) * filters)
    lines: list[str] = []
    changed = replace(_PLAIN, max_error=0.1).apply(detector, context(detector, data, tmp_path, lines))
    assert changed.edits == (SplitDepthwise({easy: 1}),)
    assert "above max_error" in lines[0]


def test_what_the_clock_finds_slower_stays(data: Dataset, tmp_path: Path) -> None:
    def clock(detectors: Sequence[Detector], input_size: int) -> Sequence[LayerTimes]:
        times = []
        for item in detectors:
            paths = [cost.path for cost in conv_costs(item.network, shape_trace(item.network, input_size))]
            slow = {
                path: 2.0 if item.edits and path.startswith("neck") else 1.0 / (1 + 9 * bool(item.edits))
                for path in paths
            }
            times.append(LayerTimes(slow, 1.0))
        return times

    detector = detector_named("tiny")
    lines: list[str] = []
    given = replace(context(detector, data, tmp_path, lines), layer_clock=clock)
    edit = _PLAIN.apply(detector, given).edits[0]
    assert isinstance(edit, SplitDepthwise)
    assert edit.layers
    assert not any(path.startswith("neck") for path in edit.layers)
    assert "slower as a pair" in lines[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank, min_width and images must be at least 1"),
        ({"max_error": 0.0}, "max_error must be above 0; got 0.0"),
        ({"macs_ratio": 1.0}, "macs_ratio must lie between 0 and 1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Separable(**settings)  # type: ignore[arg-type]


def test_errors_say_what_to_do(data: Dataset, tmp_path: Path) -> None:
    detector = detector_named("tiny")
    given = context(detector, data, tmp_path)
    with pytest.raises(ValueError, match="only names 'nowhere', and the network has no such module"):
        Separable(only=("nowhere",)).apply(detector, given)
    with pytest.raises(ValueError, match=r"macs_ratio 0.1 cannot be reached; \d+% of the MACs remain"):
        replace(_PLAIN, macs_ratio=0.1).apply(detector, given)
    with pytest.raises(ValueError, match="no convolution to split"):
        replace(_PLAIN, max_error=1e-6).apply(detector, given)
    changed = _PLAIN.apply(detector, given)
    with pytest.raises(TechniqueOrderError, match="put prune before separable"):
        Prune(0.5).apply(changed, given)


def check_whole(name: str, data: Dataset, folder: Path, technique: Separable) -> None:
    detector = detector_named(name)
    before = {key: item.clone() for key, item in detector.network.state_dict().items()}
    changed = technique.apply(detector, context(detector, data, folder))
    assert all(torch.equal(before[key], item) for key, item in detector.network.state_dict().items())
    edit = changed.edits[0]
    assert SplitDepthwise.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    assert all(a.shape == b.shape for a, b in zip(maps(changed), maps(detector)))
    pairs = [len(fold_batchnorm(item).edits[-1].to_json()["pairs"]) for item in (changed, detector)]
    assert pairs[0] == pairs[1]
    save_checkpoint(changed, folder / "changed", {})
    assert all(torch.equal(a, b) for a, b in zip(maps(load_checkpoint(folder / "changed")), maps(changed)))
    check_float_export(changed, pictures(1).numpy(), folder / "model.onnx")


@pytest.mark.parametrize("rank", [1, 2])
def test_everything_that_follows_on_tiny(rank: int, data: Dataset, tmp_path: Path) -> None:
    check_whole("tiny", data, tmp_path, replace(_PLAIN, rank=rank))


@pytest.mark.slow
def test_everything_that_follows_on_yolo11(data: Dataset, tmp_path: Path) -> None:
    check_whole("yolo11n", data, tmp_path, _PLAIN)


@pytest.mark.matrix
@pytest.mark.parametrize("name", FAMILIES)
def test_everything_that_follows_on_other_families(name: str, data: Dataset, tmp_path: Path) -> None:
    check_whole(name, data, tmp_path, _PLAIN)


@pytest.mark.slow
def test_low_rank_and_quantization_follow(data: Dataset, tmp_path: Path) -> None:
    """The pointwise half is split once more, and all of it runs in INT8."""
    detector = detector_named("tiny")
    given = context(detector, data, tmp_path)
    changed = _PLAIN.apply(detector, given)
    twice = LowRank(method="svd", energy=0.5, min_gain=0.0, images=8).apply(changed, given)
    assert any(path.endswith(".1") for path in twice.edits[-1].to_json()["layers"])
    save_checkpoint(twice, tmp_path / "twice", {})
    assert all(torch.equal(a, b) for a, b in zip(maps(load_checkpoint(tmp_path / "twice")), maps(twice)))
    quantized = Quantize(pictures=8).apply(twice, given)
    assert quantized.edits[-1].kind == "insert_quantizers"
