"""BatchNorm folding: one convolution by hand, every family by comparison, and what must be left alone."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.edits.fold_batchnorm import FoldBatchNorm, fold_batchnorm, foldable_pairs, folded_conv
from helmlite.data.roles import with_roles
from helmlite.detector.families import family_of
from helmlite.detector.tiny import new_tiny
from helmlite.detector.trace import trace
from helpers import alive

_CLASSES = with_roles(["helmet", "no_helmet"])


def worst_relative(first: tuple[torch.Tensor, ...], second: tuple[torch.Tensor, ...]) -> float:
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(first, second))


def test_one_convolution_by_hand() -> None:
    conv, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    with torch.no_grad():
        conv.weight.fill_(2.0)
        conv.bias.fill_(1.0)
        norm.running_mean.fill_(3.0)
        norm.running_var.fill_(4.0)
        norm.weight.fill_(6.0)
        norm.bias.fill_(5.0)
    folded = folded_conv(conv, norm)  # scale 6 / sqrt(4) = 3
    assert folded.weight.item() == pytest.approx(6.0)  # 3 * 2
    assert folded.bias.item() == pytest.approx(-1.0)  # 3 * (1 - 3) + 5


def test_without_bias_and_without_scale() -> None:
    conv, norm = nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2, eps=0.0, affine=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 4.0]).view(2, 1, 1, 1))
        norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
        norm.running_var.copy_(torch.tensor([1.0, 16.0]))
    folded = folded_conv(conv, norm)
    assert folded.weight.flatten().tolist() == pytest.approx([1.0, 1.0])
    assert folded.bias.tolist() == pytest.approx([-1.0, -0.5])


def test_same_answers_and_an_untouched_input() -> None:
    detector = alive(new_tiny(_CLASSES, 64))
    before = {name: tensor.clone() for name, tensor in detector.network.state_dict().items()}
    folded = fold_batchnorm(detector)
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        assert worst_relative(detector.network(images), folded.network(images)) < 1e-4
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.network.modules())
    assert detector.edits == ()
    after = detector.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_nothing_left_to_fold_gives_the_detector_itself() -> None:
    folded = fold_batchnorm(new_tiny(_CLASSES, 64))
    assert fold_batchnorm(folded) is folded


def test_edit_survives_json_and_a_checkpoint(tmp_path) -> None:  # type: ignore[no-untyped-def]
    folded = fold_batchnorm(alive(new_tiny(_CLASSES, 64)))
    edit = folded.edits[0]
    assert isinstance(edit, FoldBatchNorm)
    assert FoldBatchNorm.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    save_checkpoint(folded, tmp_path / "folded", {})
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, got = folded.network(images), load_checkpoint(tmp_path / "folded").network(images)
    assert all(torch.equal(a, b) for a, b in zip(expected, got))


def test_redo_on_a_fresh_network_builds_the_shapes() -> None:
    detector = alive(new_tiny(_CLASSES, 64))
    folded = fold_batchnorm(detector)
    fresh = family_of(detector).build(detector.architecture)
    folded.edits[0].redo(fresh)
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {
        k: v.shape for k, v in folded.network.state_dict().items()
    }


class _Branching(nn.Module):
    """`shared` is read by its BatchNorm and by a sum; `twice` runs two times; `plain` may be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.shared_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.twice, self.twice_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.plain, self.plain_norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.last = nn.Conv2d(3, 3, 1)
        self.after_activation = nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        shared = self.shared(images)
        x = self.shared_norm(shared) + shared
        x = self.twice_norm(self.twice(self.twice_norm(self.twice(x))))
        x = self.plain_norm(self.plain(x))
        x = self.after_activation(torch.relu(x))
        return (self.last(x),)


def test_only_what_the_graph_allows_is_folded() -> None:
    network = _Branching().eval()
    assert foldable_pairs(network, trace(network, 32)) == (("plain", "plain_norm"),)


class _Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def test_a_parametrized_convolution_becomes_plain_and_the_original_stays_parametrized() -> None:
    detector = alive(new_tiny(_CLASSES, 64))
    path = foldable_pairs(detector.network, trace(detector.network, 64))[0][0]
    parametrize.register_parametrization(detector.network.get_submodule(path), "weight", _Doubled())
    folded = fold_batchnorm(detector)
    assert type(folded.network.get_submodule(path)) is nn.Conv2d
    assert parametrize.is_parametrized(detector.network.get_submodule(path))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert worst_relative(detector.network(images), folded.network(images)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n"])
def test_every_family(name: str) -> None:
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    detector = alive(new_ultralytics(name, _CLASSES))
    detector.network.double()  # so that what is compared is the folding and not a deep network's rounding
    folded = fold_batchnorm(detector)
    norms = {op.module for op in trace(folded.network, 64).ops if op.kind == "batch_norm"}
    assert norms == set()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        expected, got = detector.network(images), folded.network(images)
    assert worst_relative(expected, got) < 1e-9
