"""Network slimming: the pull by hand, the smallest scales go, and the contract of techniques that train and cut."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helmlite.compress.channels.channel_sums import all_groups
from helmlite.compress.channels.importance import bn_scale
from helmlite.compress.penalty import Budget
from helmlite.compress.slim import ScalePull, Slim, scales_of, soft_threshold
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from trained_cuts import (
    CLASSES,
    COMMON_MISTAKES,
    SIZE,
    check_contract,
    check_mistake,
    epochs_of,
    plan_of,
    small_context,
    small_detector,
)


def test_soft_threshold_by_hand() -> None:
    found = soft_threshold(torch.tensor([0.5, -0.3, 0.1, -0.05, 0.0]), 0.125)
    assert found.tolist() == pytest.approx([0.375, -0.175, 0.0, 0.0, 0.0])


def test_soft_threshold_is_the_least_of_its_cost() -> None:
    """The proximal step: argmin over x of |x| * t + (x - v)^2 / 2."""
    grid = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    for value in (1.3, -0.7, 0.2):
        best = grid[(grid.abs() * 0.4 + (grid - value).square() / 2).argmin()]
        assert float(soft_threshold(torch.tensor(value), 0.4)) == pytest.approx(float(best), abs=1e-3)


def pull_on(detector: Detector, folder: Path, drift: float, steps: int, hold: float = 1.0) -> ScalePull:
    budget = Budget(Slim(0.7), detector, small_context(detector, folder))
    return ScalePull(budget, detector.network, plan_of(1, steps), drift, hold)


def scales_with_gradient(detector: Detector, pull: ScalePull, gradient: Callable[[Tensor], Tensor]) -> list[Tensor]:
    scales = list(scales_of(detector.network, pull._budget.units).values())
    for scale in scales:
        scale.grad = gradient(scale.detach())
    assert len(scales) > 20
    return scales


def test_the_whole_training_pulls_by_drift_mean_scales(tmp_path: Path) -> None:
    detector = new_tiny(CLASSES, SIZE, width=0.25)  # every scale is 1
    pull = pull_on(detector, tmp_path, drift=0.6, steps=100)
    scales = scales_with_gradient(detector, pull, torch.zeros_like)
    with torch.no_grad():
        for step in range(100):
            pull.after_step(detector.network, step)
    assert all(torch.allclose(scale, torch.tensor(0.4)) for scale in scales)
    assert pull.figures(100)["scale"] == pytest.approx(0.4)


def test_a_short_training_pulls_no_more_than_the_network_can_follow(tmp_path: Path) -> None:
    detector = new_tiny(CLASSES, SIZE, width=0.25)
    pull = pull_on(detector, tmp_path, drift=1.5, steps=3)
    scales = scales_with_gradient(detector, pull, torch.zeros_like)
    with torch.no_grad():
        pull.after_step(detector.network, 0)
    assert all(torch.allclose(scale, torch.tensor(0.98)) for scale in scales)


def test_a_step_by_hand(tmp_path: Path) -> None:
    """Half of the gradients 0.3 and half -0.1: their mean size is 0.2, so with hold 2 lambda is 0.4."""
    detector = new_tiny(CLASSES, SIZE, width=0.25)
    pull = pull_on(detector, tmp_path, drift=0.02, steps=1, hold=2.0)  # eta * lambda 0.02, so eta is 0.05
    scales = scales_with_gradient(detector, pull, lambda scale: torch.tensor([0.3, -0.1]).repeat(len(scale) // 2))
    with torch.no_grad():
        for scale in scales:
            scale += 0.5  # the optimizer's own step, which does not count
        pull.after_step(detector.network, 0)
    for scale in scales:
        expected = torch.tensor([1 - 0.05 * 0.3 - 0.02, 1 + 0.05 * 0.1 - 0.02]).repeat(len(scale) // 2)
        assert torch.allclose(scale, expected)


def test_what_the_loss_needs_is_held_and_the_rest_goes(tmp_path: Path) -> None:
    """A loss of c * (gamma - 1)^2 / 2 in batches that differ by 0.3 in gradient, which makes lambda about 0.3.

    A scale is held where its gradient reaches that, c = 1 at about 0.7, and goes where it cannot, c = 0.02.
    """
    detector = new_tiny(CLASSES, SIZE, width=0.25)
    pull = pull_on(detector, tmp_path, drift=1.2, steps=400)
    curves = torch.tensor([0.02, 1.0])
    noise = torch.tensor(-0.3)
    for step in range(400):
        noise = -noise
        scales = scales_with_gradient(
            detector, pull, lambda scale, noise=noise: (scale - 1) * curves.repeat(len(scale) // 2) + noise
        )
        with torch.no_grad():
            pull.after_step(detector.network, step)
    needless, needed = (torch.cat([scale.detach()[start::2] for scale in scales]) for start in (0, 1))
    assert needless.abs().max() < 0.02
    assert needed.min() > 0.6 and needed.max() < 0.8


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    detector = new_tiny(CLASSES, SIZE, width=0.25)
    pull = pull_on(detector, tmp_path, drift=0.6, steps=10)
    scales_with_gradient(detector, pull, lambda scale: torch.full_like(scale, 0.3))
    with torch.no_grad():
        pull.after_step(detector.network, 0)
    other = pull_on(new_tiny(CLASSES, SIZE, width=0.25), tmp_path, drift=0.6, steps=10)
    other.load_state_dict(pull.state_dict())
    copied = detector.copy()
    for mine, theirs in ((pull, detector), (other, copied)):
        scales_with_gradient(theirs, mine, lambda scale: torch.full_like(scale, 0.1))
        with torch.no_grad():
            mine.after_step(theirs.network, 1)
    for (name, tensor), (_, again) in zip(detector.network.named_parameters(), copied.network.named_parameters()):
        assert torch.equal(tensor, again), name


def test_the_smallest_scales_go_first_whatever_the_layer(tmp_path: Path) -> None:
    detector = new_tiny(CLASSES, SIZE, width=0.25)
    budget = Budget(Slim(0.6, min_keep=0.01), detector, small_context(detector, tmp_path, multiple=1))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for scale in scales_of(detector.network, budget.units).values():
            scale.copy_(torch.rand(len(scale), generator=random))
    pull = ScalePull(budget, detector.network, plan_of(1, 2), 0.5, 1.0)
    choice = pull.choice(detector)
    values = bn_scale(detector, budget.groups)
    free = [bundle.groups[0] for bundle in budget.groups.bundles if len(bundle.groups) == 1]
    wide = [group for group in free if len(choice[group]) > 1]  # the last one stays, however small it is
    kept = [values[group][index] for group in wide for index in choice[group]]
    gone = [values[group][index] for group in free for index in range(len(group.units)) if index not in choice[group]]
    assert len(wide) > 10 and len(gone) > 20
    assert max(gone) < min(kept)
    assert set(choice) == set(all_groups(budget.groups))


def test_training_and_cutting(tmp_path: Path) -> None:
    check_contract(Slim(0.7, epochs=2, batch_size=4, images=8), small_detector(), 0.7, tmp_path)
    lines = epochs_of(tmp_path / "run")
    assert lines[1]["scale"] < lines[0]["scale"]
    assert "kd_features" in lines[0]


def test_a_detector_without_batchnorm_is_refused(tmp_path: Path) -> None:
    detector = new_tiny(CLASSES, SIZE, width=0.25)
    for module in detector.network.modules():
        if hasattr(module, "norm"):
            module.norm = torch.nn.Identity()
    with pytest.raises(ValueError, match="slim: there is no group of channels that it could cut"):
        Slim(0.5, epochs=1).apply(detector, small_context(detector, tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *COMMON_MISTAKES,
        *(
            ({"macs_ratio": 0.5, name: value}, "drift and hold must")
            for name in ("drift", "hold")
            for value in (0.0, math.nan, math.inf)
        ),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    check_mistake(Slim, "slim", settings, message)
