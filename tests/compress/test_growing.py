"""Growing regularization: the factor's schedule by hand, what decays and what does not, and the contract."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helmlite.compress.growing import Growing, GrowingDecay, growing_factors
from helmlite.compress.penalty import Budget, rates
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


def test_the_factor_grows_in_equal_steps_to_its_ceiling() -> None:
    assert growing_factors([1.0] * 8, 2, 0.5, 4.0) == [2, 2, 4, 4, 4, 4, 4, 4]
    assert growing_factors([1.0] * 8, 3, 0.75, 3.0) == [1, 1, 2, 2, 3, 3, 3, 3]  # every 2 of 6 steps by delta 1
    assert growing_factors([1.0] * 5, 100, 1.0, 10.0) == pytest.approx([2, 4, 6, 8, 10])  # at most once a step
    assert growing_factors([1.0], 50, 0.75, 10.0) == [10]


def test_a_short_training_has_a_higher_ceiling() -> None:
    """All steps together leave a thousandth: the sum of lambda * rate is ln 1000."""
    every_rate = rates(plan_of(1, 10))
    factors = growing_factors(every_rate, 5, 0.5, 0.01)
    assert sum(f * r for f, r in zip(factors, every_rate)) == pytest.approx(math.log(1000))
    assert growing_factors([1.0] * 1000, 50, 0.75, 0.2)[-1] == 0.2  # and a long one the ceiling that was asked for


def decay_on(detector: Detector, folder: Path, steps: int, **settings: Any) -> tuple[GrowingDecay, Budget]:
    technique = Growing(0.6, **settings)
    budget = Budget(technique, detector, small_context(detector, folder))
    units = budget.units
    first = units.chosen(budget.choose_evenly(units.relative(units.norms(units.tensors(detector.network)))))
    return GrowingDecay(technique, budget, None if technique.variant == 2 else first, plan_of(1, steps)), budget


def test_picked_units_decay_and_the_others_stay(tmp_path: Path) -> None:
    detector = small_detector()
    decay, budget = decay_on(detector, tmp_path, steps=4, ceiling=0.5)
    assert decay.kept is not None
    before = {name: item.detach().clone() for name, item in budget.units.tensors(detector.network).items()}
    with torch.no_grad():
        for step in range(3):
            decay.after_step(detector.network, step)
    left = math.exp(-sum(decay.factors[step] * rates(plan_of(1, 4))[step] for step in range(3)))
    assert 0 < left < 0.9
    changed = 0
    for name, item in budget.units.tensors(detector.network).items():
        stays = budget.units.mask(name, decay.kept).expand_as(item)
        assert torch.equal(item[stays], before[name][stays])
        assert torch.allclose(item[~stays], before[name][~stays] * left, rtol=1e-5)
        changed += int((~stays).sum())
    assert changed > 100
    assert torch.equal(budget.units.chosen(decay.choice(detector)), decay.kept)


def test_the_second_variant_decays_all_and_picks_after_a_fifth(tmp_path: Path) -> None:
    detector = small_detector()
    decay, budget = decay_on(detector, tmp_path, steps=10, variant=2)
    before = {name: item.detach().clone() for name, item in budget.units.tensors(detector.network).items()}
    with torch.no_grad():
        decay.after_step(detector.network, 0)
        decay.after_step(detector.network, 1)
        assert decay.kept is None
        assert decay.state_dict() == {}
        decay.after_step(detector.network, 2)
        assert decay.kept is not None
        left = math.exp(-sum(decay.factors[step] * rates(plan_of(1, 10))[step] for step in range(3)))
        name = "backbone.stem.conv.weight"
        weight = budget.units.tensors(detector.network)[name]
        assert torch.allclose(weight, before[name] * left, rtol=1e-5)  # everybody's, while none was picked
        middle = weight.detach().clone()
        decay.after_step(detector.network, 3)
    stays = budget.units.mask(name, decay.kept).expand_as(weight)
    assert torch.equal(weight[stays], middle[stays])
    assert not torch.equal(weight[~stays], middle[~stays])


@pytest.mark.parametrize("settings", [{}, {"variant": 2, "teacher": "none"}], ids=["greg1", "greg2"])
def test_training_and_cutting(settings: dict[str, Any], tmp_path: Path) -> None:
    technique = Growing(0.6, epochs=2, batch_size=4, images=8, **settings)
    check_contract(technique, small_detector(), 0.6, tmp_path)
    factors = [line["factor"] for line in epochs_of(tmp_path / "run")]
    assert factors[1] > factors[0] > 0


def test_every_bundle_keeps_the_same_share_unless_there_is_one_threshold_for_all(tmp_path: Path) -> None:
    detector = small_detector()
    budget = Budget(Growing(0.5, epochs=1), detector, small_context(detector, tmp_path, multiple=1))
    scores = budget.units.relative(budget.units.norms(budget.units.tensors(detector.network)))
    spread = {}
    for ranking in ("uniform", "global"):
        choice = budget.choose_by(ranking, scores)
        shares = [len(choice[group]) / len(group.units) for group in budget.units.groups]
        spread[ranking] = max(shares) - min(shares)
        kept_scores = [scores[group][list(choice[group])].min() for group in budget.units.groups]
        gone = [np.delete(scores[group], list(choice[group])) for group in budget.units.groups]
        assert all(lost.max(initial=0.0) <= least for lost, least in zip(gone, kept_scores))  # the best of each stay
    assert spread["uniform"] < 0.15  # of one or two steps of small bundles
    assert spread["global"] > 2 * spread["uniform"]


def test_picking_by_taylor_picks_others(tmp_path: Path) -> None:
    detector = small_detector()
    edits = [
        Growing(0.6, epochs=1, batch_size=4, images=8, teacher="none", importance=importance)
        .apply(detector, small_context(detector, tmp_path, importance))
        .edits
        for importance in ("l2", "taylor")
    ]
    assert edits[0] != edits[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *COMMON_MISTAKES,
        ({"macs_ratio": 0.5, "variant": 3}, "variant must be 1 or 2; got 3"),
        ({"macs_ratio": 0.5, "importance": "luck"}, "unknown importance 'luck'"),
        ({"macs_ratio": 0.5, "ranking": "sensitivity"}, "unknown ranking 'sensitivity'; known are uniform, global"),
        ({"macs_ratio": 0.5, "variant": 2, "importance": "taylor"}, "variant 2 picks by norm"),
        ({"macs_ratio": 0.5, "raises": 0}, "raises at least 1"),
        ({"macs_ratio": 0.5, "growth": 1.5}, "growth in"),
        ({"macs_ratio": 0.5, "growth": math.nan}, "growth in"),
        ({"macs_ratio": 0.5, "ceiling": math.nan}, "ceiling must be above 0 and finite.*got nan, 50 and 0.75"),
        ({"macs_ratio": 0.5, "ceiling": math.inf}, "ceiling must be above 0 and finite"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    check_mistake(Growing, "growing", settings, message)
