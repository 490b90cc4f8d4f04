"""Network slimming: the pull by hand, the smallest scales go, and the contract of techniques that train and cut."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from helmlite.compress.channels.channel_sums import all_groups
from helmlite.compress.channels.importance import bn_scale
from helmlite.compress.penalty import Budget, rates
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


def pull_on(detector: Detector, folder: Path, drift: float, steps: int) -> ScalePull:
    budget = Budget(Slim(0.7), detector, small_context(detector, folder))
    return ScalePull(budget, detector.network, plan_of(1, steps), drift, learning_rate=1e-3)


def test_the_whole_training_pulls_by_drift_mean_scales(tmp_path: Path) -> None:
    detector = new_tiny(CLASSES, SIZE, width=0.25)  # every scale is 1
    pull = pull_on(detector, tmp_path, drift=0.001, steps=10)
    assert pull.strength == pytest.approx(0.001 / (1e-3 * sum(rates(plan_of(1, 10)))))
    with torch.no_grad():
        for step in range(10):
            pull.after_step(detector.network, step)
    scales = scales_of(detector.network, pull._budget.units)
    assert len(scales) > 20
    assert all(torch.allclose(scale, torch.tensor(0.999)) for scale in scales.values())
    assert pull.figures(10)["scale"] == pytest.approx(0.999)


def test_a_short_training_pulls_no_more_than_the_loss_can_win_back(tmp_path: Path) -> None:
    detector = new_tiny(CLASSES, SIZE, width=0.25)
    pull = pull_on(detector, tmp_path, drift=0.5, steps=10)
    assert pull.strength == 0.5  # planned would be about 80 learning rates a step
    with torch.no_grad():
        pull.after_step(detector.network, 0)
    scale = next(iter(scales_of(detector.network, pull._budget.units).values()))
    assert scale.tolist() == pytest.approx([1 - 0.5 * 1e-3] * len(scale))


def test_the_smallest_scales_go_first_whatever_the_layer(tmp_path: Path) -> None:
    detector = new_tiny(CLASSES, SIZE, width=0.25)
    budget = Budget(Slim(0.6, min_keep=0.01), detector, small_context(detector, tmp_path, multiple=1))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for scale in scales_of(detector.network, budget.units).values():
            scale.copy_(torch.rand(len(scale), generator=random))
    pull = ScalePull(budget, detector.network, plan_of(1, 2), 0.5, 1e-3)
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
    [*COMMON_MISTAKES, *(({"macs_ratio": 0.5, "drift": drift}, "drift must") for drift in (0.0, math.nan, math.inf))],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    check_mistake(Slim, "slim", settings, message)
