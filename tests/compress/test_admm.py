"""ADMM: projection, pull and dual by hand, the residual of a short training, and the contract."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from helmlite.compress.admm import Admm, Splitting, projected, residual
from helmlite.compress.channels.channel_groups import Bundle, ChannelGroup, ChannelGroups, Member
from helmlite.compress.channels.unit_tensors import UnitTensors
from helmlite.compress.penalty import Budget
from helmlite.detector.detector import Detector
from trained_cuts import (
    COMMON_MISTAKES,
    check_contract,
    check_mistake,
    epochs_of,
    plan_of,
    small_context,
    small_detector,
)


def three_layers() -> tuple[UnitTensors, nn.Module]:
    """Two channels between two convolutions: one group of two units, with weights that are easy to add up."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    values = {
        "0.weight": [[[[3.0]]], [[[1.0]]]], "0.bias": [0.0, 2.0], "1.weight": [2.0, 0.5], "1.bias": [0.0, 0.5],
        "2.weight": [[[[4.0]], [[0.5]]]], "2.bias": [7.0],
    }  # fmt: skip
    network.load_state_dict({name: torch.tensor(item) for name, item in values.items()}, strict=False)
    units = tuple((Member("0", "out", i), Member("1", "norm", i), Member("2", "in", i)) for i in range(2))
    return UnitTensors(ChannelGroups((Bundle((ChannelGroup(units, 1),), 2),), {}, {}), network), network


def test_norms_and_projection_by_hand() -> None:
    units, network = three_layers()
    tensors = units.tensors(network)
    assert set(tensors) == {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight"}  # the last bias is nobody's
    norms = units.norms(tensors)
    assert norms.tolist() == pytest.approx([math.sqrt(9 + 4 + 16), math.sqrt(1 + 4 + 0.25 + 0.25 + 0.25)])
    nearest = projected(units, tensors, torch.tensor([True, False]))
    assert {name: item.flatten().tolist() for name, item in nearest.items()} == {
        "0.weight": [3, 0], "0.bias": [0, 0], "1.weight": [2, 0], "1.bias": [0, 0], "2.weight": [4, 0],
    }  # fmt: skip
    assert residual(tensors, nearest) == pytest.approx(math.sqrt(5.75 / (29 + 5.75)))


def test_an_element_stays_only_where_row_and_column_stay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False), nn.Conv2d(2, 1, 1))
    first = tuple((Member("0", "out", i), Member("1", "in", i)) for i in range(2))
    second = tuple((Member("1", "out", i), Member("2", "in", i)) for i in range(2))
    bundles = tuple(Bundle((ChannelGroup(item, 1),), 2) for item in (first, second))
    units = UnitTensors(ChannelGroups(bundles, {}, {}), network)
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]])[..., None, None])
    found = projected(units, units.tensors(network), torch.tensor([True, False, True, False]))
    assert found["1.weight"].flatten().tolist() == [1, 0, 0, 0]
    only = units.norms({"1.weight": network[1].weight})
    assert only.square().tolist() == pytest.approx([1 + 9, 4 + 16, 1 + 4, 9 + 16])  # columns, then rows


def test_blocks_of_a_grouped_convolution_read_their_own_inputs() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.Conv2d(4, 2, 1, groups=2, bias=False))
    units_of = tuple((Member("0", "out", i), Member("1", "in", i, i // 2)) for i in range(4))
    units = UnitTensors(ChannelGroups((Bundle((ChannelGroup(units_of, 1),), 4),), {}, {}), network)
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]])[..., None, None])  # reads 0 1 and 2 3
    only = units.norms({"1.weight": network[1].weight})
    assert only.tolist() == pytest.approx([1, 2, 3, 4])
    found = projected(units, units.tensors(network), torch.tensor([True, False, False, True]))
    assert found["1.weight"].flatten().tolist() == [1, 0, 0, 4]


def test_a_choice_and_its_flags_are_the_same() -> None:
    units, _ = three_layers()
    flags = torch.tensor([False, True])
    assert torch.equal(units.chosen(units.choice(flags)), flags)
    assert list(units.choice(flags).values()) == [(1,)]


def splitting(detector: Detector, folder: Path, steps: int, **settings: Any) -> tuple[Splitting, Budget]:
    budget = Budget(Admm(0.6), detector, small_context(detector, folder))
    first = budget.units.chosen(
        budget.choose_evenly(budget.units.relative(budget.units.norms(budget.units.tensors(detector.network))))
    )
    return Splitting(Admm(0.6, **settings), budget, first, detector.network, plan_of(1, steps)), budget


def test_the_pull_and_the_dual_by_hand(tmp_path: Path) -> None:
    detector = small_detector()
    split, budget = splitting(detector, tmp_path, steps=2, updates=1, rho=0.5)
    weights = budget.units.tensors(detector.network)
    name = next(name for name, item in weights.items() if not torch.equal(item, split.target[name]))
    weight = weights[name]
    before, target = weight.detach().clone(), split.target[name].clone()
    with torch.no_grad():
        split.after_step(detector.network, 0)  # U is 0; rate 1: exp(-0.5) of the way is left
    assert torch.allclose(weight - target, (before - target) * math.exp(-0.5), atol=1e-6)
    with torch.no_grad():
        split.after_step(detector.network, 1)  # the last step: Z and U are renewed
    assert torch.equal(split.dual[name], weight.detach() - split.target[name])  # U was 0
    assert torch.equal(split.target[name], weight.detach() * budget.units.mask(name, split.kept))
    again = split.dual[name].clone()
    with torch.no_grad():
        split.after_step(detector.network, 1)
    assert torch.allclose(split.target[name] + split.dual[name], weight.detach() + again)  # Z + U = W + U before
    assert len(split.residuals) == 3 and split.residuals[0] > split.residuals[1] > 0


def test_units_settle_where_nothing_holds_them(tmp_path: Path) -> None:
    """Without any training the first choice is the last, W meets Z, and what stays keeps its weights.

    With a pull that begins at a tenth of its strength (as it once did) units change places at every update.
    """
    detector = small_detector()
    split, budget = splitting(detector, tmp_path, steps=320)
    before = {name: item.detach().clone() for name, item in budget.units.tensors(detector.network).items()}
    first, choices = split.kept.clone(), []
    with torch.no_grad():
        for step in range(320):
            split.after_step(detector.network, step)
            choices.append(split.kept.clone())
    assert all(torch.equal(kept, first) for kept in choices)
    assert split.residuals[1] < 0.25 * split.residuals[0] and split.residuals[-1] < 0.02
    for name, item in budget.units.tensors(detector.network).items():
        stays = budget.units.mask(name, first).bool().expand_as(item)
        assert torch.equal(item[stays], before[name][stays])


def test_strength_is_planned_from_the_steps(tmp_path: Path) -> None:
    detector = small_detector()
    first, budget = splitting(detector, tmp_path, steps=100, updates=20)
    assert (first.interval, first.rho) == (5, pytest.approx(2 / 5))
    for steps, expected in ((4000, (400, 0.02)), (3, (1, 2.0))):
        other = Splitting(Admm(0.6), budget, first.kept, detector.network, plan_of(1, steps))
        assert (other.interval, other.rho) == expected


def test_training_and_cutting(tmp_path: Path) -> None:
    technique = Admm(0.6, epochs=3, batch_size=4, images=8, updates=3)
    check_contract(technique, small_detector(), 0.6, tmp_path)
    residuals = [line["residual"] for line in epochs_of(tmp_path / "run")]
    assert residuals[-1] < 0.5 * residuals[0]  # W has come to Z


def test_what_is_cut_is_what_the_last_projection_set_to_zero(tmp_path: Path) -> None:
    detector = small_detector()
    split, budget = splitting(detector, tmp_path, steps=1, updates=1)
    with torch.no_grad():
        split.after_step(detector.network, 0)
    zero = budget.units.norms(split.target) == 0
    assert 0 < int(zero.sum()) < len(zero)
    assert torch.equal(budget.units.chosen(split.choice(detector)), ~zero)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *COMMON_MISTAKES,
        ({"macs_ratio": 0.5, "updates": 0}, "updates must"),
        ({"macs_ratio": 0.5, "rho": 0.0}, "rho must"),
        ({"macs_ratio": 0.5, "rho": math.nan}, "rho must"),
        ({"macs_ratio": 0.5, "rho": math.inf}, "rho must be above 0 and finite"),
        ({"macs_ratio": 0.5, "ranking": "best"}, "unknown ranking 'best'; known are uniform, global"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    check_mistake(Admm, "admm", settings, message)
