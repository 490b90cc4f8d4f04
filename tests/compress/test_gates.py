"""Gates: probabilities and prices by hand, closed gates equal cut channels, and the contract."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.channels.cut_channels import cut
from helmlite.compress.gates import (
    ExpectedMacs,
    GatedObjective,
    Gates,
    augmented_lagrangian,
    drawn_gates,
    evaluation_gates,
    gate_places,
    gated,
    open_probability,
    with_gates,
)
from helmlite.compress.penalty import Budget
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.detector.macs import conv_costs, count_macs, shape_trace
from helmlite.detector.objective import TaskObjective
from trained_cuts import (
    COMMON_MISTAKES,
    SIZE,
    check_contract,
    check_mistake,
    epochs_of,
    plan_of,
    small_context,
    small_detector,
)


def test_the_probability_that_a_gate_is_open() -> None:
    """log alpha 0: sigmoid(2/3 * ln 11) = 11^(2/3) / (1 + 11^(2/3)); and as often gates are open when drawn."""
    assert float(open_probability(torch.tensor(0.0))) == pytest.approx(11 ** (2 / 3) / (1 + 11 ** (2 / 3)))
    noise = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    for value in (-3.0, -1.0, 0.0, 2.0):
        drawn = drawn_gates(torch.full_like(noise, value), noise)
        share = float((drawn > 0).float().mean())
        assert share == pytest.approx(float(open_probability(torch.tensor(value))), abs=0.005)


def test_gates_at_evaluation_and_drawn_by_hand() -> None:
    # sigmoid(0) * 1.2 - 0.1 = 0.5; sigmoid(3) * 1.2 - 0.1 = 1.04; sigmoid(-3) * 1.2 - 0.1 = -0.04
    assert evaluation_gates(torch.tensor([0.0, 3.0, -3.0])).tolist() == pytest.approx([0.5, 1, 0])
    # u 0.6: ln 1.5 = 0.40547, / (2/3) = 0.60820, sigmoid 0.64753, * 1.2 - 0.1 = 0.67704
    drawn = drawn_gates(torch.zeros(4), torch.tensor([0.5, 0.6, 0.999, 0.0]))
    assert drawn.tolist() == pytest.approx([0.5, 0.67704, 1, 0], abs=1e-4)


def test_the_price_by_hand() -> None:
    assert float(augmented_lagrangian(torch.tensor(0.1), 2.0, 100.0)) == pytest.approx(0.2 + 0.5)
    gap = torch.tensor(0.0, requires_grad=True)
    augmented_lagrangian(gap, 2.0, 100.0).backward()
    assert gap.grad is not None and float(gap.grad) == 2.0


def parts_of(detector: Detector, folder: Path, multiple: int = 2) -> tuple[Budget, ExpectedMacs]:
    budget = Budget(Gates(0.6), detector, small_context(detector, folder, multiple=multiple))
    graph = shape_trace(detector.network, SIZE)
    return budget, ExpectedMacs(detector.network, budget.units, graph, budget.macs)


@pytest.mark.parametrize("name", ["tiny", pytest.param("yolo12n", marks=pytest.mark.slow)])
def test_all_gates_open_cost_what_the_network_costs(name: str, tmp_path: Path) -> None:
    detector = small_detector(name)
    budget, expected = parts_of(detector, tmp_path, 8 if name != "tiny" else 2)
    is_open = torch.ones(budget.units.count, dtype=torch.float64)
    assert float(expected(is_open)) == pytest.approx(1.0)
    graph = shape_trace(detector.network, SIZE)
    convs = sum(cost.macs for cost in conv_costs(detector.network, graph))
    rest = count_macs(detector.network, SIZE) - convs
    assert (float(expected(is_open)) - expected._rest) * budget.macs == pytest.approx(convs)
    assert expected._rest * budget.macs == pytest.approx(rest)
    assert (rest > 0) == (name == "yolo12n")  # attention


def test_gates_that_are_certain_cost_what_the_cut_network_costs(tmp_path: Path) -> None:
    detector = small_detector()
    budget, expected = parts_of(detector, tmp_path)
    choice = budget.choose(budget.units.by_group(torch.rand(budget.units.count)))
    share = float(expected(budget.units.chosen(choice).double()))
    assert share == pytest.approx(count_macs(cut(detector, budget.groups, choice).network, SIZE) / budget.macs)
    assert share < 0.6


def test_the_slope_of_the_price_against_finite_differences(tmp_path: Path) -> None:
    detector = small_detector()
    budget, expected = parts_of(detector, tmp_path)
    random = torch.Generator().manual_seed(0)
    log_alpha = torch.randn(budget.units.count, generator=random, dtype=torch.float64).requires_grad_()

    def price(values: Tensor) -> Tensor:
        return augmented_lagrangian(expected(open_probability(values)) - 0.5, 3.0, 100.0)

    price(log_alpha).backward()
    assert log_alpha.grad is not None
    for unit in (0, 7, budget.units.count - 1):
        step = torch.zeros_like(log_alpha)
        step[unit] = 1e-4
        with torch.no_grad():
            slope = float(price(log_alpha + step) - price(log_alpha - step)) / 2e-4
        assert float(log_alpha.grad[unit]) == pytest.approx(slope, rel=1e-4)
        assert slope > 0


def all_maps(detector: Detector, network: nn.Module) -> tuple[Tensor, ...]:
    images = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = family_of(detector).training_maps(network.eval(), images)
    return (*maps.maps, *maps.extra)


def without_one_norm(name: str) -> Detector:
    """A convolution of `tiny` that no BatchNorm follows, with a bias."""
    detector = small_detector("tiny")
    unit = detector.network.get_submodule("backbone.mix.0.enter")
    unit.norm = nn.Identity()
    unit.conv.bias = nn.Parameter(torch.linspace(-1, 1, unit.conv.out_channels))  # type: ignore[union-attr]
    return detector


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (small_detector, "tiny"),
        (without_one_norm, "tiny"),
        pytest.param(small_detector, "yolo12n", marks=pytest.mark.slow),
        *(
            pytest.param(small_detector, name, marks=pytest.mark.matrix)
            for name in ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo26n")
        ),
    ],
)
def test_closed_gates_equal_cut_channels(make: Callable[[str], Detector], name: str, tmp_path: Path) -> None:
    detector = make(name)
    budget, _ = parts_of(detector, tmp_path, 2 if name == "tiny" else 8)
    random = torch.Generator().manual_seed(2)
    choice = budget.choose(budget.units.by_group(torch.rand(budget.units.count, generator=random)))
    gates = budget.units.chosen(choice).double() * (0.5 + 0.5 * torch.rand(budget.units.count, generator=random))
    places = gate_places(detector, budget.units)
    assert ("backbone.mix.0.enter.conv" in places) == (make is without_one_norm)
    baked = with_gates(detector, places, gates)
    with gated(detector.network, places, gates):
        expected = all_maps(detector, detector.network)
    found = all_maps(detector, baked)
    lighter = cut(Detector(detector.architecture, baked), budget.groups, choice)
    shorter = all_maps(detector, lighter.network)
    plain = all_maps(detector, detector.network)  # the gates are gone again
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max())) for a, b in zip(found, expected))
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max())) for a, b in zip(shorter, expected))
    assert not all(torch.allclose(a, b, rtol=1e-2) for a, b in zip(plain, expected))


def objective_on(detector: Detector, folder: Path, steps: int, **settings: Any) -> GatedObjective:
    technique = Gates(0.6, **settings)
    budget = Budget(technique, detector, small_context(detector, folder))
    graph = shape_trace(detector.network, SIZE)
    expected = ExpectedMacs(detector.network, budget.units, graph, budget.macs)
    plan = plan_of(1, steps)
    base = TaskObjective(detector, detector.network, plan)
    places = gate_places(detector, budget.units)
    return GatedObjective(technique, base, budget, places, expected, detector.network, plan, {})


def test_the_target_falls_in_the_first_half(tmp_path: Path) -> None:
    objective = objective_on(small_detector(), tmp_path, steps=8)
    assert [objective._target(step) for step in range(6)] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.6, 0.6])


def test_training_begins_with_open_gates_and_the_multiplier_follows_the_gap(tmp_path: Path) -> None:
    detector = small_detector()
    objective = objective_on(detector, tmp_path, steps=2, strength=10.0)
    log_alpha = objective.log_alpha.detach()
    assert torch.equal(evaluation_gates(log_alpha), torch.ones_like(log_alpha))
    assert float(open_probability(log_alpha).min()) > 0.98
    settled, _ = objective.finished(detector)
    before = detector.network.state_dict()
    assert all(torch.equal(before[name], item) for name, item in settled.network.state_dict().items())
    share = float(objective._expected(open_probability(log_alpha)))
    objective.after_step(detector.network, 0)  # the target is 0.6 at once
    assert objective._multiplier == pytest.approx(10 * (share - 0.6))
    objective.after_step(detector.network, 1)
    assert objective._multiplier == pytest.approx(20 * (share - 0.6))


def test_log_alpha_travels_as_far_as_asked_whatever_the_number_of_steps(tmp_path: Path) -> None:
    """Adam moves a parameter by the learning rate; all rates together make `travel`."""
    for steps in (4, 40):
        objective = objective_on(small_detector(), tmp_path, steps=steps, travel=8.0)
        (moved,) = objective.parameters()
        total = 1e-3 * sum(0.02 + 0.98 * (1 + math.cos(math.pi * k / (steps - 1))) / 2 for k in range(steps))
        with torch.no_grad():
            moved.sub_(total)
        assert objective.log_alpha.tolist() == pytest.approx([2.5 - 8] * len(moved), rel=1e-4)
        objective.log_alpha.sum().backward()
        assert moved.grad is not None and torch.equal(moved.grad, torch.ones_like(moved))


def test_training_and_cutting(tmp_path: Path) -> None:
    check_contract(Gates(0.6, epochs=2, batch_size=4, images=8), small_detector(), 0.6, tmp_path)
    lines = epochs_of(tmp_path / "run")
    assert all(0.1 < line["expected_macs"] < 0.95 for line in lines)
    assert lines[0]["price"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *COMMON_MISTAKES,
        ({"macs_ratio": 0.5, "strength": 0.0}, "strength and travel must"),
        ({"macs_ratio": 0.5, "travel": -1.0}, "strength and travel must"),
        ({"macs_ratio": 0.5, "strength": math.nan}, "got nan and 10"),
        ({"macs_ratio": 0.5, "travel": math.nan}, "got 100 and nan"),
        ({"macs_ratio": 0.5, "travel": math.inf}, "above 0 and finite"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    check_mistake(Gates, "gates", settings, message)
