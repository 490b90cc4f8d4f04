"""Equalizing channels: the scales by hand, the same answers, and pairs that must be left."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.activation import ReplaceActivation
from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.equalize import Equalize, equalizable_pairs, equalize_pair, pair_scales
from helmlite.compress.order import check_order
from helmlite.compress.technique import Context, TechniqueOrderError
from helmlite.data.dataset import dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helmlite.detector.trace import trace
from helmlite.export.onnx import export_onnx
from helmlite.runtime.session import open_session
from helpers import alive

_CLASSES = with_roles(["helmet", "no_helmet"])


def context(detector: Detector, log: list[str] | None = None) -> Context:
    lines = [] if log is None else log
    return Context(dataset_of([], _CLASSES), detector, 64, 0, Path("unused"), log=lines.append)


def conv(weight: list[list[float]], bias: list[float] | None = None, groups: int = 1) -> nn.Conv2d:
    values = torch.tensor(weight)[:, :, None, None]
    made = nn.Conv2d(values.shape[1] * groups, values.shape[0], 1, bias=bias is not None, groups=groups)
    with torch.no_grad():
        made.weight.copy_(values)
        if made.bias is not None:
            made.bias.copy_(torch.tensor(bias))
    return made


def test_scales_by_hand() -> None:
    first, second = conv([[8.0, -1.0], [0.5, 0.1]], [4.0, 1.0]), conv([[0.5, 2.0], [-0.25, 1.0]])
    # r1 = 8, 0.5; r2 = 0.5, 2: both become 2 and 1
    assert pair_scales(first, second).tolist() == pytest.approx([4.0, 0.5])
    equalize_pair(first, second)
    assert first.weight.flatten().tolist() == pytest.approx([2.0, -0.25, 1.0, 0.2])
    assert first.bias is not None
    assert first.bias.tolist() == pytest.approx([1.0, 2.0])
    assert second.weight.flatten().tolist() == pytest.approx([2.0, 1.0, -1.0, 0.5])


def test_a_channel_without_weights_on_one_side_is_left() -> None:
    first, second = conv([[0.0], [3.0]]), conv([[1.0, 0.0]])
    assert pair_scales(first, second).tolist() == [1.0, 1.0]


class Chain(nn.Module):
    """Pointwise, depthwise, grouped and pointwise again, with `act` between."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.c, self.last, self.act = nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 2, 1), act
        self.pool = nn.MaxPool2d(2)
        with torch.no_grad():
            self.a.weight.mul_(torch.logspace(-1, 1, 8).view(8, 1, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.pool(self.act(self.a(images)))
        return (self.last(self.act(self.c(self.act(self.b(x))))),)


def test_depthwise_and_grouped_convolutions_between() -> None:
    network = Chain(nn.ReLU()).eval()
    pairs, curved = equalizable_pairs(network, trace(network, 32))
    assert pairs == (("a", "b"), ("b", "c"), ("c", "last"))
    assert not curved
    images = torch.rand(1, 3, 32, 32) - 0.5
    with torch.no_grad():
        (expected,) = network(images)
        for _ in range(50):
            for first, second in pairs:
                equalize_pair(network.get_submodule(first), network.get_submodule(second))  # type: ignore[arg-type]
        (got,) = network(images)
    assert (got - expected).abs().max() < 1e-5 * expected.abs().max()
    a, b = (item.weight.flatten(1).abs().amax(1) for item in (network.a, network.b))
    c = network.c.weight.view(2, 4, 4).abs().amax(1).flatten()  # by input channel
    assert a.tolist() == pytest.approx(b.tolist(), rel=1e-3)
    assert b.tolist() == pytest.approx(c.tolist(), rel=1e-3)


@pytest.mark.parametrize("act", [nn.SiLU(), nn.Hardswish(), nn.ReLU6()])
def test_a_curved_activation_keeps_a_pair_apart(act: nn.Module) -> None:
    network = Chain(act).eval()
    pairs, curved = equalizable_pairs(network, trace(network, 32))
    assert pairs == ()
    assert sum(curved.values()) == 3


class Branches(nn.Module):
    """Nothing here may be rescaled: two readers, a sum, a concatenation, a convolution that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.twice, self.last = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.a(images).relu()
        joined = torch.cat([self.b(x).relu() + x, self.c(x).relu()], 1)
        return (self.last(self.twice(self.twice(joined).relu()).relu()),)


def test_what_has_several_readers_or_meets_others_is_left() -> None:
    network = Branches().eval()
    assert equalizable_pairs(network, trace(network, 32))[0] == ()


@pytest.fixture(scope="module")
def relu() -> Detector:
    detector = alive(new_tiny(_CLASSES, 64))
    return ReplaceActivation("relu").apply(detector, context(detector))


def answers(detector: Detector, images: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        found: tuple[Tensor, ...] = detector.network(images)
    return found


def spread(detector: Detector) -> float:
    """How far the largest channel of a weight stands out, summed over the weights."""
    ranges = [
        m.weight.detach().flatten(1).abs().amax(1) for m in detector.network.modules() if isinstance(m, nn.Conv2d)
    ]
    return sum(float((item.amax() / item.clamp(min=1e-6).mean()).log()) for item in ranges)


def test_a_detector_answers_as_before_and_its_weights_are_more_alike(relu: Detector, tmp_path: Path) -> None:
    log: list[str] = []
    equalized = Equalize().apply(relu, context(relu, log))
    assert [edit.kind for edit in equalized.edits] == ["replace_activation", "fold_batchnorm"]
    assert [edit.kind for edit in relu.edits] == ["replace_activation"]
    assert "pairs of convolutions" in log[0]
    images = torch.rand(2, 3, 64, 64)
    expected, got = answers(relu, images), answers(equalized, images)
    assert all((a - b).abs().mean() < 1e-5 * a.abs().mean() for a, b in zip(expected, got))
    exact = replace(relu, network=copy.deepcopy(relu.network).double())
    precisely = answers(Equalize().apply(exact, context(exact)), images.double())
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(answers(exact, images.double()), precisely))
    assert spread(equalized) < spread(fold_batchnorm(relu))
    save_checkpoint(equalized, tmp_path / "equalized", {})
    again = answers(load_checkpoint(tmp_path / "equalized"), images)
    assert all(torch.equal(a, b) for a, b in zip(got, again))
    export_onnx(equalized, tmp_path / "model.onnx", 64, output="maps")
    found = open_session(tmp_path / "model.onnx", "onnxruntime", 1).run_named(images[:1].numpy())
    for ours, theirs in zip(answers(equalized, images[:1]), found.values()):
        assert (ours - torch.from_numpy(theirs)).abs().max() < 1e-4 * ours.abs().max()


def test_silu_is_refused_and_the_way_out_is_named() -> None:
    detector = alive(new_tiny(_CLASSES, 64))
    with pytest.raises(ValueError, match=r"equalize: no pair .* \(here it is silu\); replace the activation by relu"):
        Equalize().apply(detector, context(detector))


def test_settings_and_order() -> None:
    with pytest.raises(ValueError, match="equalize: rounds must be at least 1; got 0"):
        Equalize(rounds=0)
    check_order(["prune", "activation", "equalize", "quantize"])
    for wrong in (["equalize", "prune"], ["equalize", "activation"], ["quantize", "equalize"]):
        with pytest.raises(TechniqueOrderError):
            check_order(wrong)


@pytest.mark.slow
def test_a_yolo_answers_as_before() -> None:
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    detector = alive(new_ultralytics("yolo11n", _CLASSES))
    changed = ReplaceActivation("relu").apply(detector, context(detector))
    images = torch.rand(1, 3, 64, 64)
    for expected, got in zip(answers(changed, images), answers(Equalize().apply(changed, context(changed)), images)):
        assert (expected - got).abs().max() < 1e-4 * expected.abs().max()
