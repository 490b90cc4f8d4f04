"""How much a unit of channels matters, by the name of the criterion.  unit -> score, higher is kept.

importance_weights.py    l1_filter, l2_filter, l1, l2, bn_scale, fpgm, lamp: from the weights alone
importance_gradient.py   taylor, obd: from gradients on labelled pictures
random                   the control
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from helmlite.compress.channels.channel_groups import ChannelGroups
from helmlite.compress.channels.channel_sums import Scores
from helmlite.compress.channels.importance_gradient import FROM_GRADIENTS, obd, taylor
from helmlite.compress.channels.importance_weights import (
    FROM_WEIGHTS,
    bn_scale,
    filter_l1,
    filter_l2,
    fpgm,
    group_l1,
    group_l2,
    lamp,
    random_scores,
)
from helmlite.detector.detector import Batch, Detector

__all__ = [
    "IMPORTANCES", "Scores", "bn_scale", "filter_l1", "filter_l2", "fpgm", "group_l1", "group_l2", "lamp", "obd",
    "random_scores", "scores_named", "taylor",
]  # fmt: skip

IMPORTANCES: tuple[str, ...] = (*FROM_WEIGHTS, *FROM_GRADIENTS, "random")

_CPU = torch.device("cpu")


def scores_named(
    importance: str,
    detector: Detector,
    groups: ChannelGroups,
    batches: Iterable[Batch] = (),
    seed: int = 0,
    device: torch.device = _CPU,
) -> Scores:
    """A score for every unit of `detector`'s channel groups, by the criterion's name.

    batches: labelled pictures, read by "taylor" and "obd" only; seed: of "random"; device: where gradients compute
    Raises ValueError for an unknown name, and where a criterion that needs labels is given none.
    """
    if importance in FROM_WEIGHTS:
        return FROM_WEIGHTS[importance](detector, groups)
    if importance == "random":
        return random_scores(groups, seed)
    if importance not in FROM_GRADIENTS:
        raise ValueError(f"prune: unknown importance '{importance}'; known are {', '.join(IMPORTANCES)}.")
    return FROM_GRADIENTS[importance](detector, groups, batches, device)
