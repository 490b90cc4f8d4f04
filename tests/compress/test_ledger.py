"""What channels cost, by hand, and pruning that goes by a clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.channels.channel_groups import build_channel_groups
from helmlite.compress.channels.cut_channels import cut
from helmlite.compress.channels.importance import group_l2
from helmlite.compress.channels.ledger import Ledger, latency_ledger, loss_of_step, macs_ledger
from helmlite.compress.channels.ranking import kept_units
from helmlite.compress.layer_times import LayerTimes, measured_once
from helmlite.compress.prune import Prune, choose_units, smallest_steps
from helmlite.compress.technique import Context
from helmlite.data.load import load_dataset
from helmlite.data.roles import with_roles
from helmlite.data.scenes import write_scenes
from helmlite.detector.detector import Detector
from helmlite.detector.families import family_of
from helmlite.detector.macs import ConvCost, conv_costs, count_macs, shape_trace
from helmlite.detector.tiny import new_tiny

_CLASSES = with_roles(["helmet", "no_helmet"])
_SIZE = 64


def test_cost_and_saving_by_hand() -> None:
    """3x3, 4 -> 8 channels on 10 positions at 2 each, a depthwise of 8 at 1 each, 5 beside them: 5760 + 720 + 5."""
    costs = (ConvCost("a", 10, 9, 4, 8, 1), ConvCost("d", 10, 9, 8, 8, 8))
    ledger = Ledger(costs, 5.0, {"a": 2.0, "d": 1.0}, "ms")
    assert ledger.left == 2 * 10 * 9 * 4 * 8 + 10 * 9 * 8 + 5
    loss = {"a": (2, 1), "d": (2, 2), "norm": (2, 0)}
    assert ledger.saving(loss) == 2 * 10 * 9 * (4 * 8 - 3 * 6) + 10 * 9 * 2
    ledger.remove(loss)
    assert ledger.left == 2 * 10 * 9 * 3 * 6 + 10 * 9 * 6 + 5


def test_what_bundles_cost_together_is_what_the_ledger_says() -> None:
    """Two bundles that meet in convolutions: the saving of one depends on the other, as in the ledger itself."""
    detector = new_tiny(_CLASSES, _SIZE)
    groups = build_channel_groups(family_of(detector), detector.network)
    ledger = macs_ledger(detector, _SIZE)
    costs = ledger.for_bundles(groups.bundles)
    kept = [max(1, bundle.steps * (3 + index % 5) // 8) for index, bundle in enumerate(groups.bundles)]
    change = costs.change(kept, 4, [1, kept[4], 9])
    for bundle, steps in zip(groups.bundles, kept):
        gone = bundle.steps - steps
        ledger.remove({path: (gone * out, gone * into) for path, (out, into) in loss_of_step(bundle).items()})
    assert costs.total(kept) == pytest.approx(ledger.left, rel=1e-9)
    assert change[0] == pytest.approx(costs.total([*kept[:4], 1, *kept[5:]]) - ledger.left, rel=1e-9)
    assert change[1] == 0
    assert change[2] == pytest.approx(costs.total([*kept[:4], 9, *kept[5:]]) - ledger.left, rel=1e-9)
    choice = kept_units(groups, group_l2(detector, groups), kept)
    assert count_macs(cut(detector, groups, choice).network, _SIZE) == pytest.approx(ledger.left, rel=1e-9)


def test_a_latency_ledger_begins_at_what_was_measured() -> None:
    detector = new_tiny(_CLASSES, _SIZE)
    paths = [cost.path for cost in conv_costs(detector.network, shape_trace(detector.network, _SIZE))]
    times = LayerTimes({path: 0.5 for path in paths}, 3.0)
    ledger = latency_ledger(detector, _SIZE, times)
    assert ledger.left == pytest.approx(3.0 + 0.5 * len(set(paths)))
    assert ledger.saving({paths[0]: (1, 0)}) == pytest.approx(
        0.5 / detector.network.get_submodule(paths[0]).out_channels  # type: ignore[operator]
    )
    assert macs_ledger(detector, _SIZE).left == count_macs(detector.network, _SIZE)
    with pytest.raises(ValueError, match="no measured time of the convolution"):
        latency_ledger(detector, _SIZE, LayerTimes({}, 1.0))


class _Clock:
    """A make-believe device on which one convolution takes far longer for its size than all others."""

    def __init__(self, slow: str) -> None:
        self.slow = slow
        self.asked = 0

    def __call__(self, detectors: Sequence[Detector], input_size: int) -> list[LayerTimes]:
        self.asked += 1
        return [self._of(item, input_size) for item in detectors]

    def _of(self, detector: Detector, input_size: int) -> LayerTimes:
        costs = conv_costs(detector.network, shape_trace(detector.network, input_size))
        times = {cost.path: self.ms(cost) for cost in costs}
        return LayerTimes(times, 0.01)

    def ms(self, cost: ConvCost) -> float:
        return cost.macs * (1e-4 if cost.path == self.slow else 1e-7)


class _StubbornClock(_Clock):
    """A device on which half of the channels take not half of the time: width counts with its square root."""

    def ms(self, cost: ConvCost) -> float:
        return float(super().ms(cost) / cost.macs**0.5)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("scenes")
    data = load_dataset(write_scenes(folder / "scenes", train=4, val=1, test=1, seed=0), "train")
    return Context(data, new_tiny(_CLASSES, _SIZE), _SIZE, 0, folder / "work", log=lambda line: None)


def _widest(detector: Detector) -> str:
    costs = conv_costs(detector.network, shape_trace(detector.network, _SIZE))
    return max((item for item in costs if item.groups == 1), key=lambda item: item.out_channels * item.in_channels).path


def test_channels_go_where_the_clock_says_that_time_is(context: Context, tmp_path: Path) -> None:
    detector = context.original
    slow = _widest(detector)
    lines: list[str] = []
    clock = _Clock(slow)
    here = dataclasses.replace(context, workspace=tmp_path / "work", layer_clock=clock, log=lines.append)
    by_time = Prune(latency_ratio=0.6, importance="taylor", rounds=2, images=4).apply(detector, here)  # has a price
    reached = clock([by_time], _SIZE)[0].total / clock([detector], _SIZE)[0].total
    assert 0.4 < reached <= 0.6
    assert lines[-1] == f"prune: {reached:.1%} of the time left, as measured in float"

    ratio = count_macs(by_time.network, _SIZE) / count_macs(detector.network, _SIZE)
    by_macs = Prune(macs_ratio=ratio, importance="taylor", rounds=2, images=4).apply(detector, here)
    assert _weights(by_time, slow) < 0.9 * _weights(by_macs, slow)


def test_what_the_ledger_foretold_is_checked_and_corrected(context: Context, tmp_path: Path) -> None:
    clock = _StubbornClock("none")
    lines: list[str] = []
    here = dataclasses.replace(context, workspace=tmp_path / "work", layer_clock=clock, log=lines.append)
    lighter = Prune(latency_ratio=0.85, importance="l2", rounds=1, images=4).apply(context.original, here)
    measured = [line for line in lines if "of the time left" in line]
    assert len(measured) >= 2  # the first cut was not enough
    reached = clock([lighter], _SIZE)[0].total / clock([context.original], _SIZE)[0].total
    assert measured[-1] == f"prune: {reached:.1%} of the time left, as measured in float"
    assert reached < float(measured[0].split()[1].rstrip("%")) / 100


def test_what_saves_nothing_goes_last() -> None:
    """A bundle whose layers take no time stays whole, though it matters least."""
    detector = new_tiny(_CLASSES, _SIZE)
    groups = build_channel_groups(family_of(detector), detector.network)
    idle = max(groups.bundles, key=lambda bundle: bundle.channels)
    paths = {member.path for group in idle.groups for unit in group.units for member in unit}
    costs = conv_costs(detector.network, shape_trace(detector.network, _SIZE))
    ledger = latency_ledger(
        detector, _SIZE, LayerTimes({cost.path: float(cost.path not in paths) for cost in costs}, 0.0)
    )
    scores = group_l2(detector, groups)
    scores.update({group: 0 * scores[group] for group in idle.groups})
    choice = choose_units(groups, scores, ledger, 0.8 * ledger.left, 8, smallest_steps(groups, 0.1))
    assert all(len(choice[group]) == len(group.units) for group in idle.groups)
    assert any(len(kept) < len(group.units) for group, kept in choice.items())


def test_a_run_that_goes_on_takes_the_times_of_its_first_beginning(context: Context, tmp_path: Path) -> None:
    technique = Prune(latency_ratio=0.7, importance="l2", rounds=2, images=4)
    first_clock, other_clock = _Clock(_widest(context.original)), _Clock("none")
    here = dataclasses.replace(context, workspace=tmp_path / "work", layer_clock=first_clock)
    first = technique.apply(context.original, here)
    again = technique.apply(context.original, dataclasses.replace(here, layer_clock=other_clock))
    assert (first_clock.asked, other_clock.asked) == (3, 0)  # before each round and at the end
    assert _same(first.network.state_dict(), again.network.state_dict())


def test_a_latency_needs_a_clock(context: Context) -> None:
    with pytest.raises(ValueError, match="latency_ratio needs Context"):
        Prune(latency_ratio=0.5).apply(context.original, context)


def test_times_are_kept_as_they_were_measured(tmp_path: Path) -> None:
    times = LayerTimes({"a": 0.1 + 0.2, "b": 1 / 3}, 2e-17)
    first, other = new_tiny(_CLASSES, 64), new_tiny(with_roles(["helmet"]), 64)
    measured_once(lambda detectors, size: [times], [first], 64, tmp_path / "new")
    assert measured_once(lambda detectors, size: [], [first], 64, tmp_path / "new") == (times,)
    assert measured_once(lambda detectors, size: [], [first], 96, tmp_path / "new") == ()
    assert measured_once(lambda detectors, size: [], [other], 64, tmp_path / "new") == ()


def _weights(detector: Detector, path: str) -> int:
    conv = detector.network.get_submodule(path)
    assert isinstance(conv, nn.Conv2d)
    return conv.weight.numel()


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
