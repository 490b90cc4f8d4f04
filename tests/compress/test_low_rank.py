"""Low-rank factorization: chains of the right geometry, the choice of layers and ranks, and what follows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.kernels.conv_chain import dense_convs, put_chain, set_kernels
from helmlite.compress.kernels.decompositions import DECOMPOSITIONS
from helmlite.compress.layer_sensitivity import maps_error
from helmlite.compress.layer_times import LayerTimes
from helmlite.compress.low_rank import Factorize, LowRank, links_of
from helmlite.compress.quantize import Quantize
from helmlite.compress.rounding.insert_quantizers import quantizers_of
from helmlite.compress.technique import TechniqueOrderError
from helmlite.data.dataset import Dataset
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.families import family_of
from helmlite.detector.macs import conv_costs, count_macs, count_parameters, shape_trace
from helpers import check_float_export
from split_layers import FAMILIES, SIZE, context, detector_named, maps, pictures, smooth_data

_EASY = LowRank(energy=0.6, min_gain=0.0, images=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return smooth_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("method", ["spatial", "tucker", "cp"])
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": (1, 5), "stride": (2, 1), "padding": (0, 2)},
        {"kernel_size": (5, 3), "stride": (1, 2), "padding": (2, 0)},
    ],
)
def test_a_chain_of_full_rank_is_the_layer(method: str, settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, **settings)  # type: ignore[arg-type]
    ranks = tuple(len(item) for item in DECOMPOSITIONS[method].spectra(conv.weight))
    check_chain(conv, method, ranks)


@pytest.mark.parametrize("settings", [{}, {"stride": 2}, {"stride": 2, "padding": 1, "bias": False}])
def test_a_pointwise_chain_of_full_rank_is_the_layer(settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    check_chain(nn.Conv2d(4, 6, 1, **settings), "svd", (4,))  # type: ignore[arg-type]


def check_chain(conv: nn.Conv2d, method: str, ranks: tuple[int, ...]) -> None:
    holder = nn.Sequential(conv)
    put_chain(holder, "0", links_of(conv, method, ranks))
    set_kernels(holder, "0", DECOMPOSITIONS[method].kernels(conv.weight, ranks))
    pixels = torch.randn(2, 4, 11, 12)
    with torch.no_grad():
        expected, got = conv(pixels), holder(pixels)
    assert got.shape == expected.shape
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-4
    assert all(type(item) is nn.Conv2d for item in holder[0])
    assert [item.bias is not None for item in holder[0]] == [False] * (len(holder[0]) - 1) + [conv.bias is not None]


@pytest.mark.slow
def test_costs_are_those_of_the_network(data: Dataset, tmp_path: Path) -> None:
    """What was foretold of every chain, strides included, is what the changed network is counted to cost."""
    detector = detector_named("tiny")
    layers, _ = dense_convs(detector, SIZE)
    changed = replace(_EASY, energy=0.3).apply(detector, context(detector, data, tmp_path))
    edit = changed.edits[0]
    assert isinstance(edit, Factorize)
    macs: dict[str, int] = {}
    for cost in conv_costs(changed.network, shape_trace(changed.network, SIZE)):
        macs[cost.path] = macs.get(cost.path, 0) + cost.macs
    assert {method for method, _ in edit.layers.values()} > {"svd"}
    for path, (method, ranks) in edit.layers.items():
        links = links_of(layers[path].conv, method, ranks)
        assert layers[path].macs_of(links) == sum(macs[f"{path}.{index}"] for index in range(len(links)))
        assert layers[path].macs_of(links) < layers[path].macs
        assert sum(link.weights for link in links) < layers[path].weights
    assert count_macs(changed.network, SIZE) < count_macs(detector.network, SIZE)
    assert count_parameters(changed.network) < count_parameters(detector.network)


def test_what_is_left_and_why(data: Dataset, tmp_path: Path) -> None:
    detector = detector_named("tiny")
    detector.network.get_submodule("backbone.mix.1.enter.conv").weight.requires_grad_(False)
    lines: list[str] = []
    keep = ("backbone.down.0", "heads")
    changed = replace(_EASY, keep=keep).apply(detector, context(detector, data, tmp_path, lines))
    edit = changed.edits[0]
    assert isinstance(edit, Factorize)
    assert "backbone.stem.conv" not in edit.layers
    assert "backbone.mix.1.enter.conv" not in edit.layers
    assert not any(path.startswith(keep) for path in edit.layers)
    depthwise = sum(isinstance(m, nn.Conv2d) and m.groups > 1 for m in detector.network.modules())
    (line,) = lines
    assert f"low_rank: {len(edit.layers)} convolutions split" in line
    assert "kept" in line and "1 frozen" in line and "1 thin" in line
    in_heads = sum(isinstance(m, nn.Conv2d) and m.groups > 1 for m in detector.network.get_submodule("heads").modules())
    assert f"{depthwise - in_heads} depthwise or grouped" in line


@pytest.mark.parametrize("multiple", [4, 16])
def test_ranks_are_what_the_target_likes(multiple: int, data: Dataset, tmp_path: Path) -> None:
    detector = detector_named("tiny")
    given = replace(context(detector, data, tmp_path), channel_multiple=multiple)
    edit = _EASY.apply(detector, given).edits[0]
    assert isinstance(edit, Factorize)
    assert edit.layers
    assert all(rank % multiple == 0 for _, ranks in edit.layers.values() for rank in ranks)


@pytest.mark.parametrize("method", ["svd", "spatial", "tucker", "cp"])
def test_energy_is_kept_layer_by_layer(method: str, data: Dataset, tmp_path: Path) -> None:
    """The output of each split layer for white noise loses no more than the share that was allowed."""
    detector = detector_named("tiny")
    changed = replace(_EASY, method=method).apply(detector, context(detector, data, tmp_path))
    edit = changed.edits[0]
    assert isinstance(edit, Factorize)
    assert {found for found, _ in edit.layers.values()} == {method}
    noise = torch.Generator().manual_seed(0)
    for path in edit.layers:
        conv, chain = detector.network.get_submodule(path), changed.network.get_submodule(path)
        pixels = torch.randn(4, conv.in_channels, 24, 24, generator=noise)  # type: ignore[call-overload]
        with torch.no_grad():
            expected, got = conv(pixels), chain(pixels)
        assert float((got - expected).square().sum() / expected.square().sum()) < 0.4 * 1.05


@pytest.mark.slow
def test_a_budget_is_met_where_it_hurts_least(data: Dataset, tmp_path: Path) -> None:
    """Both budgets are met, the larger error belongs to the smaller one, and asking again reads what was measured."""
    detector = detector_named("tiny")
    given = context(detector, data, tmp_path)
    expected = maps(detector)
    errors = []
    for ratio in (0.9, 0.7):
        technique = LowRank(ranks="budget", macs_ratio=ratio, images=8)
        changed = technique.apply(detector, given)
        found = count_macs(changed.network, SIZE) / count_macs(detector.network, SIZE)
        assert ratio - 0.1 < found <= ratio
        errors.append(maps_error(maps(changed), expected))
    assert 0 < errors[0] < errors[1]
    files = sorted(tmp_path.glob("sensitivity-*.json"))
    assert len(files) == 1
    weights = json.loads(files[0].read_text())
    files[0].write_text(json.dumps(dict.fromkeys(weights, 1.0)))
    again = LowRank(ranks="budget", macs_ratio=0.7, images=8).apply(detector, given)
    assert again.edits != changed.edits


def test_a_budget_out_of_reach_says_so(data: Dataset, tmp_path: Path) -> None:
    detector = detector_named("tiny")
    with pytest.raises(ValueError, match=r"macs_ratio 0.05 cannot be reached; \d+% of the MACs remain"):
        LowRank(ranks="budget", macs_ratio=0.05).apply(detector, context(detector, data, tmp_path))


@pytest.mark.parametrize("ranks", ["energy", pytest.param("budget", marks=pytest.mark.slow)])
def test_what_the_clock_finds_slower_stays(ranks: str, data: Dataset, tmp_path: Path) -> None:
    """A made-up target on which every chain in the neck takes twice as long, and every other half as long."""

    def clock(detectors: Sequence[Detector], input_size: int) -> Sequence[LayerTimes]:
        times = []
        for item in detectors:
            paths = [cost.path for cost in conv_costs(item.network, shape_trace(item.network, input_size))]
            is_split = bool(item.edits)
            slow = {path: 2.0 if path.startswith("neck") else 0.1 for path in paths}
            times.append(LayerTimes(slow if is_split else dict.fromkeys(paths, 1.0), 1.0))
        return times

    detector = detector_named("tiny")
    lines: list[str] = []
    given = replace(context(detector, data, tmp_path, lines), layer_clock=clock)
    technique = _EASY if ranks == "energy" else LowRank(ranks="budget", macs_ratio=0.75, images=8)
    edit = technique.apply(detector, given).edits[0]
    assert isinstance(edit, Factorize)
    assert edit.layers
    assert not any(path.startswith("neck") for path in edit.layers)
    assert "slower as a chain" in lines[0]


@pytest.mark.slow
def test_no_chain_stays_that_the_clock_has_not_timed(data: Dataset, tmp_path: Path) -> None:
    """A target on which the chains of every second convolution are slow, so that each round brings in new slow ones."""
    detector = detector_named("tiny")
    whole = [cost.path for cost in conv_costs(detector.network, shape_trace(detector.network, SIZE))]
    slow = set(whole[::2])

    def clock(detectors: Sequence[Detector], input_size: int) -> Sequence[LayerTimes]:
        times = []
        for item in detectors:
            paths = [cost.path for cost in conv_costs(item.network, shape_trace(item.network, input_size))]
            of_chain = {path: 2.0 if path.rpartition(".")[0] in slow else 0.1 for path in paths}
            times.append(LayerTimes(of_chain if item.edits else dict.fromkeys(paths, 1.0), 1.0))
        return times

    lines: list[str] = []
    given = replace(context(detector, data, tmp_path, lines), layer_clock=clock)
    edit = LowRank(ranks="budget", macs_ratio=0.7, images=8).apply(detector, given).edits[0]
    assert isinstance(edit, Factorize)
    assert edit.layers
    assert not slow & set(edit.layers)
    assert "0.7 was asked for; the chains" in lines[-1]


def test_nothing_to_gain_is_an_error(data: Dataset, tmp_path: Path) -> None:
    detector = detector_named("tiny")
    with pytest.raises(ValueError, match=r"no convolution gets cheaper \(.*no cheaper"):
        LowRank(energy=0.999).apply(detector, context(detector, data, tmp_path))
    with pytest.raises(ValueError, match="keep names 'nowhere', and the network has no such module"):
        LowRank(keep=("nowhere",)).apply(detector, context(detector, data, tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "qr"}, "unknown method 'qr'; known are auto, svd, spatial, tucker, cp"),
        ({"ranks": "luck"}, "ranks is one of energy, vbmf, budget; got 'luck'"),
        ({"energy": 1.0}, "energy must lie between 0 and 1"),
        ({"ranks": "budget"}, "needs macs_ratio"),
        ({"macs_ratio": 0.5}, "nothing else takes it"),
        ({"ranks": "budget", "macs_ratio": 1.5}, "macs_ratio must lie between 0 and 1"),
        ({"ranks": "vbmf", "method": "cp"}, "take energy or budget"),
        ({"min_gain": 1.0}, r"min_gain must lie in \[0, 1\)"),
        ({"images": 0}, "images be at least 1"),
        ({"keep": ("",)}, "low_rank: keep is a list of module paths"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LowRank(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["svd", "spatial", "tucker", "cp"])
def test_edits_survive_json_and_a_checkpoint(method: str, data: Dataset, tmp_path: Path) -> None:
    detector = detector_named("tiny")
    before = {name: item.clone() for name, item in detector.network.state_dict().items()}
    changed = replace(_EASY, method=method).apply(detector, context(detector, data, tmp_path))
    assert all(torch.equal(before[name], item) for name, item in detector.network.state_dict().items())
    assert detector.edits == ()
    edit = changed.edits[0]
    assert Factorize.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    save_checkpoint(changed, tmp_path / "changed", {})
    again = load_checkpoint(tmp_path / "changed")
    assert all(torch.equal(a, b) for a, b in zip(maps(again), maps(changed)))
    twice = replace(changed, network=changed.copy().network)
    assert all(torch.equal(a, b) for a, b in zip(maps(twice), maps(changed)))


def check_whole(name: str, data: Dataset, folder: Path) -> Detector:
    """Splits, folds, exports and trains one step; gives the split detector."""
    detector = detector_named(name)
    changed = _EASY.apply(detector, context(detector, data, folder))
    assert all(a.shape == b.shape for a, b in zip(maps(changed), maps(detector)))
    pairs = lambda item: len(fold_batchnorm(item).edits[-1].to_json()["pairs"])  # noqa: E731
    assert pairs(changed) == pairs(detector)
    folded = merge_parallel_convs(fold_batchnorm(changed))
    for a, b in zip(maps(folded), maps(changed)):
        assert float((a - b).abs().max() / b.abs().max()) < 1e-4
    assert [edit.kind for edit in merge_parallel_convs(fold_batchnorm(detector)).edits] == [
        edit.kind for edit in folded.edits if edit.kind != "factorize"
    ]
    check_float_export(changed, pictures(1).numpy(), folder / "model.onnx")
    save_checkpoint(changed, folder / "changed", {})
    assert all(torch.equal(a, b) for a, b in zip(maps(load_checkpoint(folder / "changed")), maps(changed)))
    check_gradients(changed)
    return changed


def check_gradients(detector: Detector) -> None:
    network = detector.copy().network.train()
    loss_of = family_of(detector).task_loss(detector.architecture, network, epochs=1)
    batch = Batch(torch.rand(2, 3, SIZE, SIZE), torch.tensor([[0, 0, 0.5, 0.5, 0.4, 0.4], [1, 1, 0.5, 0.5, 0.3, 0.3]]))
    loss, _ = loss_of(family_of(detector).training_maps(network, batch.images), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [
        link.weight.grad
        for path in detector.edits[0].to_json()["layers"]
        for link in network.get_submodule(path).children()
    ]
    assert all(isinstance(item, Tensor) and bool(torch.isfinite(item).all()) for item in gradients)
    is_moved = [bool(item.abs().max() > 0) for item in gradients if isinstance(item, Tensor)]
    assert sum(is_moved) > 0.8 * len(is_moved)  # a box branch whose scale has no object learns nothing from this batch


@pytest.mark.slow
def test_everything_that_follows_on_tiny(data: Dataset, tmp_path: Path) -> None:
    check_whole("tiny", data, tmp_path)


@pytest.mark.slow
def test_everything_that_follows_on_yolo11(data: Dataset, tmp_path: Path) -> None:
    changed = check_whole("yolo11n", data, tmp_path)
    edit = changed.edits[0]
    assert isinstance(edit, Factorize)
    assert not any(".dfl" in path for path in edit.layers)
    assert any(path.endswith((".qkv.conv", ".proj.conv")) for path in edit.layers)


@pytest.mark.matrix
@pytest.mark.parametrize("name", FAMILIES)
def test_everything_that_follows_on_other_families(name: str, data: Dataset, tmp_path: Path) -> None:
    changed = check_whole(name, data, tmp_path)
    edit = changed.edits[0]
    assert isinstance(edit, Factorize)
    if name in ("yolov10n", "yolo26n"):  # the branch that only training uses stays
        assert any(".one2one_cv" in path for path in edit.layers)
        assert not any(path.startswith(("model.23.cv", "model.24.cv")) for path in edit.layers)


@pytest.mark.matrix
def test_merged_branches_can_be_split(data: Dataset, tmp_path: Path) -> None:
    """YOLOv9's RepConv is left as it is; folded and merged first, its one convolution is split like any other."""
    detector = detector_named("yolov9t")
    lines: list[str] = []
    plain = _EASY.apply(detector, context(detector, data, tmp_path, lines)).edits[-1]
    merged = merge_parallel_convs(fold_batchnorm(detector))
    after = _EASY.apply(merged, context(detector, data, tmp_path)).edits[-1]
    assert isinstance(plain, Factorize) and isinstance(after, Factorize)
    assert "parallel" in lines[0]
    blocks = [block["block"] for block in merged.edits[-1].to_json()["blocks"]]
    assert not any(path.startswith(tuple(blocks)) for path in plain.layers)
    assert any(path.startswith(tuple(blocks)) for path in after.layers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "yolo11n"])
def test_quantization_follows(name: str, data: Dataset, tmp_path: Path) -> None:
    detector = detector_named(name)
    given = context(detector, data, tmp_path)
    changed = _EASY.apply(detector, given)
    quantized = Quantize(pictures=8).apply(changed, given)
    layers = changed.edits[-1].to_json()["layers"]
    links = {
        f"{path}.{index}" for path in layers for index, _ in enumerate(changed.network.get_submodule(path).children())
    }
    assert links <= set(quantizers_of(quantized.network).plan.weights())
    save_checkpoint(quantized, tmp_path / "quantized", {})
    assert all(torch.equal(a, b) for a, b in zip(maps(load_checkpoint(tmp_path / "quantized")), maps(quantized)))
    assert maps_error(maps(quantized), maps(changed)) > 0
    with pytest.raises(TechniqueOrderError, match="put low_rank before quantize"):
        _EASY.apply(quantized, given)
