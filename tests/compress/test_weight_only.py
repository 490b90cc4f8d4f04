"""Weights as integers, values in float: steps worked by hand, and training that stays on the grid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.checkpoint import EDITS, load_checkpoint, save_checkpoint
from helmlite.compress.distill import Distill
from helmlite.compress.quantize import Quantize
from helmlite.compress.rounding.insert_quantizers import in_lines, quantizers_of, rounded_weight
from helmlite.compress.rounding.quantization_plan import QuantizationPlan, QuantPoint, weight_point
from helmlite.compress.technique import Context, TechniqueOrderError
from helmlite.compress.weight_only import RoundWeights, WeightOnly, nearest_point, weights_above_error_db
from helmlite.data.dataset import Dataset
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.fit_state import METRICS_NAME
from helmlite.detector.tiny import new_tiny
from helmlite.runtime.preprocess import network_input
from helpers import alive, patchy_data

_CLASSES = with_roles(["helmet", "no_helmet"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return patchy_data(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return alive(new_tiny(_CLASSES, 64, width=0.5))


def context(
    data: Dataset, detector: Detector, folder: Path = Path("unused"), log: Callable[[str], None] = lambda line: None
) -> Context:
    return Context(data, detector, 64, 0, folder, log=log)


def answers(network: nn.Module) -> tuple[Tensor, ...]:
    images = nn.functional.interpolate(
        torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(5)), size=(64, 64), mode="bilinear"
    )
    with torch.no_grad():
        found: tuple[Tensor, ...] = network(images)
    return found


def rounded(weight: Tensor, point: QuantPoint) -> Tensor:
    zeros = torch.zeros(len(point.scales), dtype=torch.int32)
    return rounded_weight(weight, point, torch.tensor(point.scales), zeros)


def test_groups_of_inputs_have_steps_of_their_own_by_hand() -> None:
    # one output, four inputs in two groups: 0.7 / 7 = 0.1 and 7 / 7 = 1; with one step for all, 0.7 and -0.2 round to 1
    # and 0
    weight = torch.tensor([0.7, -0.2, 7.0, 3.0]).view(1, 4, 1, 1)
    grouped, whole = nearest_point(weight, 4, 2), nearest_point(weight, 4, 0)
    assert grouped.scales == pytest.approx((0.1, 1.0))
    assert (grouped.group, whole.group) == (2, 0)
    assert rounded(weight, grouped).flatten().tolist() == pytest.approx([0.7, -0.2, 7.0, 3.0])
    assert whole.scales == pytest.approx((1.0,))
    assert rounded(weight, whole).flatten().tolist() == pytest.approx([1.0, 0.0, 7.0, 3.0])


def test_a_group_holds_whole_kernels_of_its_inputs() -> None:
    weight = torch.arange(2 * 4 * 9, dtype=torch.float32).view(2, 4, 3, 3)
    point = nearest_point(weight, 4, 2)
    lines = in_lines(weight, point)
    assert lines.shape == (4, 18)
    assert torch.equal(lines[1], weight[0, 2:].flatten())
    assert torch.equal(lines[2], weight[1, :2].flatten())


def test_the_step_of_least_error_clips_what_is_rare() -> None:
    # A hundred weights of 1 and one of 10: the error 100 (s - 1)^2 + (10 - 7 s)^2 is least at s = 340 / 298 = 1.141,
    # and of the steps that are tried, shares of 10 / 7, the nearest is 0.8 * 10 / 7
    weight = torch.ones(1, 101)
    weight[0, 0] = 10.0
    assert nearest_point(weight, 4).scales == pytest.approx((8 / 7,))


def test_a_group_is_taken_down_to_a_divisor() -> None:
    assert nearest_point(torch.rand(2, 48, 1, 1), 4, 32).group == 24
    assert nearest_point(torch.rand(2, 3, 3, 3), 4, 32).group == 0  # fewer inputs than that: one scale an output
    assert len(nearest_point(torch.rand(8, 1, 3, 3), 4, 32).scales) == 8  # depthwise
    assert nearest_point(torch.zeros(2, 4), 4).scales == pytest.approx((1 / 7, 1 / 7))  # nothing to lose


class OneLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        return self.linear(values)


def test_the_signal_to_noise_ratio_by_hand() -> None:
    network = OneLinear()
    RoundWeights(QuantizationPlan({weight_point("linear"): QuantPoint(4, (1.0,), (0,), 0, True)})).redo(network)
    with torch.no_grad():
        network.linear.weight.copy_(torch.tensor([[3.0, 1.1]]))  # 9 + 1.21 over 0.01
    assert weights_above_error_db(network) == pytest.approx(10 * np.log10(10.21 / 0.01), rel=1e-4)
    assert network(torch.tensor([[1.0, 1.0]])).item() == pytest.approx(4.0)


@pytest.mark.parametrize(("bits", "group_size", "least_db"), [(8, 0, 38.0), (4, 32, 15.0), (4, 0, 13.0)])
def test_a_detector_with_rounded_weights(
    detector: Detector, data: Dataset, tmp_path: Path, bits: int, group_size: int, least_db: float
) -> None:
    before = {name: item.clone() for name, item in detector.network.state_dict().items()}
    said: list[str] = []
    changed = WeightOnly(bits, group_size).apply(detector, context(data, detector, log=said.append))
    assert [edit.kind for edit in changed.edits] == ["fold_batchnorm", "round_weights"]
    assert all(torch.equal(before[name], item) for name, item in detector.network.state_dict().items())
    assert f"INT{bits}" in said[-1]
    assert "the file gets smaller, and nothing runs faster" in said[-1]
    assert weights_above_error_db(changed.network) > least_db
    plan = quantizers_of(changed.network).plan
    assert plan.edges() == {}
    assert len(plan.points) == sum(isinstance(module, nn.Conv2d) for module in changed.network.modules())
    assert not torch.equal(answers(changed.network)[0], answers(detector.network)[0])

    edit = changed.edits[-1]
    assert EDITS[edit.kind](json.loads(json.dumps(edit.to_json()))) == edit
    save_checkpoint(changed, tmp_path / "rounded", {})
    again = load_checkpoint(tmp_path / "rounded")
    assert again.edits == changed.edits
    assert all(torch.equal(a, b) for a, b in zip(answers(changed.network), answers(again.network)))


def test_groups_come_closer_than_whole_channels(detector: Detector, data: Dataset) -> None:
    grouped, whole = (WeightOnly(4, size).apply(detector, context(data, detector)) for size in (8, 0))
    assert weights_above_error_db(grouped.network) > weights_above_error_db(whole.network) + 1


def test_the_means_are_put_right_where_there_are_pictures(detector: Detector, data: Dataset) -> None:
    """Of the first layer, which no other layer's error reaches."""
    expected, *found = (
        _means_of_stem(network, data)
        for network in (
            detector.network,
            *(WeightOnly(4, pictures=count).apply(detector, context(data, detector)).network for count in (0, 8)),
        )
    )
    before, after = (float((item - expected).abs().sum()) for item in found)
    print(f"channel means are {before:.4f} off, {after:.4f} with corrected biases")
    assert after < 0.2 * before


def test_without_pictures_biases_cannot_be_corrected(detector: Detector, data: Dataset) -> None:
    with pytest.raises(ValueError, match="weight_only: there are no calibration pictures"):
        WeightOnly(4).apply(detector, context(data.subset([]), detector))
    WeightOnly(4, pictures=0).apply(detector, context(data.subset([]), detector))


def _means_of_stem(network: nn.Module, data: Dataset) -> Tensor:
    stem = network.get_submodule("backbone.stem")
    seen: list[Tensor] = []
    before_activation = stem.get_submodule("act").register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    planes = torch.cat([torch.from_numpy(network_input(sample.read_image(), 64)[0]) for sample in data])
    with torch.no_grad():
        network(planes)
    before_activation.remove()
    return seen[0].mean((0, 2, 3))


def test_what_is_kept_stays_float(detector: Detector, data: Dataset) -> None:
    changed = WeightOnly(4, keep=("backbone.stem", "heads.0")).apply(detector, context(data, detector))
    paths = quantizers_of(changed.network).plan.weights()
    assert paths
    assert not any(path.startswith(("backbone.stem.", "heads.0.")) for path in paths)
    everything = tuple(path for path, module in detector.network.named_modules() if isinstance(module, nn.Conv2d))
    with pytest.raises(ValueError, match="no layer is left to round"):
        WeightOnly(keep=everything).apply(detector, context(data, detector))
    with pytest.raises(ValueError, match="no such module"):
        WeightOnly(keep=("steam",)).apply(detector, context(data, detector))


@pytest.mark.parametrize("wrong", [{"pictures": -1}, {"bits": 2}, {"bits": 16}, {"group_size": -1}, {"keep": ("",)}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^weight_only: .*; got|^weight_only: .* or more; got"):
        WeightOnly(**wrong)


def test_wrong_order_is_explained(detector: Detector, data: Dataset) -> None:
    changed = WeightOnly().apply(detector, context(data, detector))
    with pytest.raises(TechniqueOrderError, match="weight_only cannot follow weight_only"):
        WeightOnly().apply(changed, context(data, detector))
    with pytest.raises(TechniqueOrderError, match="quantize cannot follow weight_only"):
        Quantize().apply(changed, context(data, detector))


@pytest.mark.slow
def test_training_keeps_rounded_weights_on_their_grid(detector: Detector, data: Dataset, tmp_path: Path) -> None:
    changed = WeightOnly(4).apply(detector, context(data, detector))
    distill = Distill(epochs=1, batch_size=4, teacher="none", mosaic=0.0)
    trained = distill.apply(changed, context(data, detector, tmp_path / "work"))
    assert trained.edits == changed.edits
    first_epoch = json.loads((tmp_path / "work" / METRICS_NAME).read_text().splitlines()[0])
    assert first_epoch["learning_rate"] <= 1e-4  # as after `quantize`
    quantizers = quantizers_of(trained.network)
    moved = 0
    for path, point in quantizers.plan.weights().items():
        weight, before = (item.network.get_submodule(path).weight.detach() for item in (trained, changed))
        moved += int((weight != before).any())
        scale, zero_point = quantizers.tensors(weight_point(path))
        seen = rounded_weight(weight, point, scale, zero_point)
        steps = in_lines(seen, point).flatten(1) / scale[:, None]
        assert torch.allclose(steps, steps.round(), atol=1e-3)
        assert steps.abs().max() <= 7 + 1e-3
    assert moved > len(quantizers.plan.points) / 2  # the weights themselves are free (straight-through)
