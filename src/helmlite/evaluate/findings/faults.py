"""All families of faults at once: what is wrong with a candidate that its baseline does right.

Everything is asked of the same pictures, each detector at thresholds chosen for it, and a fault is named only where
chance does not explain it (chance.py, and the head of each family's file).  What could not be looked for is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helmlite.data.dataset import Dataset
from helmlite.detections import Predictor
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.findings.blind import SHARE_OF_LOWER, BlindHeights, find_blind_heights
from helmlite.evaluate.findings.chance import Unsaid, draws_of
from helmlite.evaluate.findings.colours import SwappedColours, find_swapped_colours, predict_swapped, probed_indices
from helmlite.evaluate.findings.dead import DeadClass, find_dead_classes
from helmlite.evaluate.findings.moved import MovedBoxes, find_moved_boxes, moved_back
from helmlite.evaluate.findings.pairs import heads_of, side_of
from helmlite.evaluate.findings.scores import ShiftedScores, find_shifted_scores
from helmlite.evaluate.statistics.resampling import check_pairing

Fault = DeadClass | BlindHeights | MovedBoxes | SwappedColours | ShiftedScores


@dataclass(frozen=True)
class Faults:
    """What is wrong with one candidate.

    is_colour_probed: whether it was asked again with red and blue swapped
    unsaid:           what could not be looked for, since there is too little of it
    """

    dead: tuple[DeadClass, ...] = ()
    blind: BlindHeights | None = None
    moved: MovedBoxes | None = None
    colours: SwappedColours | None = None
    scores: tuple[ShiftedScores, ...] = ()
    is_colour_probed: bool = False
    unsaid: tuple[Unsaid, ...] = ()

    def found(self) -> tuple[Fault, ...]:
        """Every fault, what explains most first."""
        single = [item for item in (self.colours, self.moved, self.blind) if item is not None]
        return (*self.dead, *single, *self.scores)


def find_faults(
    baseline: Predictions,
    candidate: Predictions,
    dataset: Dataset,
    thresholds: tuple[Sequence[float], Sequence[float]],
    seed: int = 0,
    predict: Predictor | None = None,
) -> Faults:
    """The faults of `candidate` from the predictions of both on the same pictures.

    thresholds: of baseline and candidate, one for each class, chosen for each of them by one rule
    predict:    the candidate itself, which then looks at up to 40 pictures with red and blue swapped; None where it
                cannot be asked, or need not be, since it lost nothing
    Raises ValueError where the two did not see the same pictures.
    """
    check_pairing(baseline, candidate)
    before, after = side_of(baseline, dataset, thresholds[0]), side_of(candidate, dataset, thresholds[1])
    draws = draws_of(baseline, dataset, seed)
    dead, unsaid = find_dead_classes(before, after, dataset, draws)
    gone = {item.name for item in dead}
    alive = [label for label, item in enumerate(dataset.classes) if item.name not in gone]
    moved, more = find_moved_boxes(before, after, dataset, draws)
    unsaid += more
    in_place = after if moved is None else side_of(moved_back(candidate, moved), dataset, thresholds[1])
    blind, more = find_blind_heights(heads_of(before, in_place, dataset, alive, SHARE_OF_LOWER), draws)
    unsaid += more
    scores, more = find_shifted_scores(before, after, dataset, draws)
    unsaid += [item for item in more if item.class_name not in gone]
    colours = None
    if predict is not None:
        swapped = predict_swapped(predict, dataset, probed_indices(before))
        colours, more = find_swapped_colours(before, after, swapped, dataset, seed)
        unsaid += more
    return Faults(tuple(dead), blind, moved, colours, tuple(scores), predict is not None, tuple(unsaid))
