"""Importance that is read off the weights: no picture is looked at.  Higher is kept.

l1_filter, l2_filter  norm of the filters that make the unit's channels (Li 2017, arXiv 1608.08710, for L1).
l1, l2                the same over everything that goes with the unit: its filters, the weights that read it, its
                      BatchNorm scales (DepGraph, Fang 2023, arXiv 2301.12900, section 3.4).
bn_scale              mean |gamma| of its BatchNorms, one yardstick for all layers (Network Slimming, Liu 2017, arXiv
                      1708.06519).  It says most after a training that makes scales sparse.
fpgm                  sum of the distances of its filters to all others of the group: who is near the geometric median
                      can be stood in for by the others (He 2019, arXiv 1811.00250).
lamp                  s_u / (sum of s_v over the units of the group that are not smaller), s the squared group norm: 1
                      for the largest of each group, so that no layer is emptied (Lee 2021, arXiv 2010.07611).
random                the control that every criterion must beat.

Norms and distances are divided by their group's mean, so that groups compare.  The papers of bn_scale and lamp cut
below one threshold on the score, for all layers; under `prune`'s global ranking the score is a loss that is held
against the multiply-accumulates that go with it, as for every other importance (`slim` has the paper's threshold).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from helmlite.compress.channels.channel_groups import ChannelGroup, ChannelGroups, Member
from helmlite.compress.channels.channel_sums import Scores, UnitSums, all_groups, channel_sums, mean_one
from helmlite.detector.detector import Detector


def group_l2(detector: Detector, groups: ChannelGroups) -> Scores:
    """Group L2 norm of every unit, 1 on average within each group."""
    return mean_one({group: np.sqrt(sums) for group, sums in _group_squares(detector, groups).items()})


def group_l1(detector: Detector, groups: ChannelGroups) -> Scores:
    """Group L1 norm of every unit, 1 on average within each group."""
    return mean_one(UnitSums(groups)(channel_sums(detector.network, _weights(detector, torch.abs))))


def filter_l2(detector: Detector, groups: ChannelGroups) -> Scores:
    """L2 norm of every unit's own filters, 1 on average within each group."""
    sums = UnitSums(groups, roles=("out",))(channel_sums(detector.network, _weights(detector, torch.square)))
    return mean_one({group: np.sqrt(found) for group, found in sums.items()})


def filter_l1(detector: Detector, groups: ChannelGroups) -> Scores:
    """L1 norm of every unit's own filters, 1 on average within each group."""
    return mean_one(UnitSums(groups, roles=("out",))(channel_sums(detector.network, _weights(detector, torch.abs))))


def bn_scale(detector: Detector, groups: ChannelGroups) -> Scores:
    """Mean |gamma| of every unit's BatchNorm channels.  Raises ValueError for channels that pass no BatchNorm."""
    sums = UnitSums(groups, roles=("norm",))(channel_sums(detector.network, _weights(detector, torch.abs)))
    return {group: found / _norm_channels(group) for group, found in sums.items()}


def fpgm(detector: Detector, groups: ChannelGroups) -> Scores:
    """Sum of the distances between every unit's filters and those of its group, 1 on average within each group."""
    convs = {path: item.detach().double() for path, item in detector.network.named_parameters() if item.ndim == 4}
    found: Scores = {}
    for group in all_groups(groups):
        filters = torch.stack([_filters_of(unit, convs) for unit in group.units])
        found[group] = torch.cdist(filters, filters).sum(dim=1).numpy()
    return mean_one(found)


def lamp(detector: Detector, groups: ChannelGroups) -> Scores:
    """LAMP score of every unit in (0, 1]: made for a choice over all groups at once."""
    return {group: lamp_scores(squares) for group, squares in _group_squares(detector, groups).items()}


def lamp_scores(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared norms -> LAMP scores.

    >>> lamp_scores(np.array([4.0, 1.0, 3.0]))  # 4 / 4, 1 / (1 + 3 + 4), 3 / (3 + 4)
    array([1.        , 0.125     , 0.42857143])
    """
    order = np.argsort(squares, kind="stable")
    not_smaller = np.cumsum(squares[order][::-1])[::-1]
    scores = np.zeros_like(squares)
    scores[order] = np.divide(squares[order], not_smaller, out=np.zeros_like(squares), where=not_smaller > 0)
    return scores


def random_scores(groups: ChannelGroups, seed: int) -> Scores:
    """A number in [0, 1) for every unit, the same for the same seed."""
    random = np.random.default_rng(seed)
    return {group: random.random(len(group.units)) for group in all_groups(groups)}


FROM_WEIGHTS: Mapping[str, Callable[[Detector, ChannelGroups], Scores]] = {
    "l1_filter": filter_l1,
    "l2_filter": filter_l2,
    "l1": group_l1,
    "l2": group_l2,
    "bn_scale": bn_scale,
    "fpgm": fpgm,
    "lamp": lamp,
}


def _group_squares(detector: Detector, groups: ChannelGroups) -> Scores:
    return UnitSums(groups)(channel_sums(detector.network, _weights(detector, torch.square)))


def _weights(detector: Detector, worth: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """What each weight is worth.  Shifts (biases, beta) are left out: they say where a channel is, not how much."""
    return {
        path: worth(item.detach().double())
        for path, item in detector.network.named_parameters()
        if not path.endswith(".bias")
    }


def _norm_channels(group: ChannelGroup) -> int:
    count = sum(member.role == "norm" for member in group.units[0])
    if not count:
        raise ValueError(f"prune: importance 'bn_scale' needs a BatchNorm behind '{group.name}'; choose 'l2'.")
    return count


def _filters_of(unit: tuple[Member, ...], convs: Mapping[str, Tensor]) -> Tensor:
    """The kernels that make a unit's channels, end to end, in the order of the members."""
    return torch.cat(
        [convs[f"{member.path}.weight"][member.index].flatten() for member in unit if member.role == "out"]
    )
