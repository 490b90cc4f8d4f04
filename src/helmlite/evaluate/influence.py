"""Which pictures the verdict hangs on: what each of them moves, as the jackknife has it.

The loss is measured again without each picture (without each scene, where the data set names them).  What a picture
moves is the loss with it less the loss without it: above 0 the picture speaks against the candidate.  These are the
pictures to look at first where the gate is undecided, and whose labels to check before it is believed.
B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans (1982), section 3, for the jackknife.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helmlite.data.dataset import Dataset
from helmlite.data.roles import labels_of_role
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.errors import match_class
from helmlite.evaluate.gate import operating_point
from helmlite.evaluate.statistics.intervals import Floats
from helmlite.evaluate.statistics.resampling import (
    Weights,
    check_pairing,
    jackknife_weights,
    map_without_each,
    match_records,
    mean_average_precision,
    recalls_at_alarms,
)


@dataclass(frozen=True)
class Influence:
    """What one picture, or one scene, moves.

    pictures:     indices in the data set: one, or all of a scene
    names:        their file names
    loss_points:  by check (`mAP50-95`, `recall of no_helmet`), what the loss is in points because of them: above 0
                  they speak against the candidate; a check that is unknown without them has no entry
    """

    pictures: tuple[int, ...]
    names: tuple[str, ...]
    loss_points: dict[str, float]


def most_influential(
    baseline: Predictions, candidate: Predictions, dataset: Dataset, check: str = "mAP50-95", most: int = 10
) -> tuple[Influence, ...]:
    """The pictures that move the loss of `check` most, whichever way, the strongest first; none that move nothing.

    Raises ValueError where the two did not see the same pictures, and for a check that is not known here.
    """
    check_pairing(baseline, candidate)
    groups = [dataset[index].group for index in baseline.indices]
    weights = jackknife_weights(groups)
    weights = np.concatenate([np.ones((1, weights.shape[1]), dtype=np.int64), weights])
    losses = {
        "mAP50-95": _map_losses(baseline, candidate, dataset, groups),
        "recall of no_helmet": _recall_losses(baseline, candidate, dataset, weights),
    }
    known = {name: values[0] - values[1:] for name, values in losses.items() if values is not None}
    if check not in known:
        raise ValueError(f"Influence is known on {' and '.join(known)} here; got '{check}'.")
    strength = np.abs(np.nan_to_num(known[check]))
    strongest = np.argsort(-strength, kind="stable")[:most]
    return tuple(
        _influence(
            baseline, dataset, np.flatnonzero(weights[1 + unit] == 0).tolist(), {k: v[unit] for k, v in known.items()}
        )
        for unit in strongest
        if strength[unit] > 0
    )


def _influence(
    predictions: Predictions, dataset: Dataset, positions: Sequence[int], moved: dict[str, np.float64]
) -> Influence:
    pictures = tuple(predictions.indices[position] for position in positions)
    names = tuple(dataset.image_paths[picture].name for picture in pictures)
    return Influence(pictures, names, {name: float(value) for name, value in moved.items() if not np.isnan(value)})


def _map_losses(
    baseline: Predictions, candidate: Predictions, dataset: Dataset, groups: Sequence[str | None]
) -> Floats:
    """Points of mAP50-95 lost on all pictures, then without each draw in turn.  (1 + U,)"""
    itself = np.ones((1, len(groups)), dtype=np.int64)
    records = [match_records(side, dataset) for side in (baseline, candidate)]
    before, after = (
        np.concatenate([mean_average_precision(side, itself), map_without_each(side, groups)]) for side in records
    )
    return 100 * (before - after)


def _recall_losses(baseline: Predictions, candidate: Predictions, dataset: Dataset, weights: Weights) -> Floats | None:
    labels = labels_of_role(dataset.classes, "no_helmet")
    if not labels:
        return None
    matches = match_class(baseline, dataset, labels), match_class(candidate, dataset, labels)
    level = operating_point(*matches).alarms_per_100
    before, after = (recalls_at_alarms(side, level, weights) for side in matches)
    return 100 * (before - after)
