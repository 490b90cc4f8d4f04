"""Training on a new place: a few labelled pictures, what the detector itself is sure of in the others, or both.

Self-training in rounds, with the one training loop.  In each round a teacher looks at the unlabelled pictures, what it
is sure of becomes labels (pseudo_labels.py), and a student, which begins as its copy, learns them on augmented pictures
that the teacher has not seen.  The running mean of the student's weights, which is what training gives, is the next
round's teacher: the mean teacher (Tarvainen 2017, arXiv 1703.01780) of Unbiased Teacher (Liu 2021, arXiv 2102.09480,
section 3.2), renewed round by round and not step by step, so that a picture is looked at `rounds` times in all.

    loss = detection loss on labelled pictures + classes + boxes as of a stored teacher (stored_teacher.py) on all

Labelled pictures of the target, and of the source where it is given, take part in both.  Without any of them there is
no detection loss, only what the teacher is sure of; without unlabelled pictures it is plain fine-tuning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from helmlite.compress.adaptation.pseudo_labels import (
    SureEnough,
    count_sure,
    sure_thresholds,
    with_labels_as_found,
    with_pseudo_labels,
)
from helmlite.compress.adaptation.target_pictures import TargetPictures, shown_labelled
from helmlite.compress.teaching.stored_teacher import StoredTeacherObjective, StoredWeights
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset, Sample
from helmlite.data.load import merged
from helmlite.detector.augment import Augmentation
from helmlite.detector.detector import Detector
from helmlite.detector.fit import FitSettings, fit
from helmlite.detector.fit_state import EpochPlan
from helmlite.detector.objective import MakeObjective, TaskObjective
from helmlite.evaluate.accuracy import Predictions, predictions_kept
from helmlite.runtime.decode import Selection


@dataclass(frozen=True)
class TrainOnTarget:
    """How to train on a new place.

    minutes, epochs: in all, shared among the rounds; at least one of them is given
    rounds:  of self-training; without unlabelled pictures there is one, of plain fine-tuning
    rule:    what a teacher is sure enough of
    learning_rate: lower than for a detector that is to be healed, since little is known here
    unlabelled_share: of each batch, where there are labelled pictures too
    """

    minutes: float | None = None
    epochs: int | None = None
    rounds: int = 2
    rule: SureEnough = field(default_factory=SureEnough)
    learning_rate: float = 3e-4
    batch_size: int = 16
    unlabelled_share: float = 0.5
    mosaic: float = 0.5

    def __post_init__(self) -> None:
        if self.rounds < 1 or (self.epochs is not None and self.epochs < self.rounds):
            raise ValueError(
                f"Self-training needs at least 1 round and an epoch for each; got {self.rounds} rounds and "
                f"{self.epochs} epochs."
            )
        if self.minutes is None and self.epochs is None:
            raise ValueError("Training on a new place needs minutes or epochs.")
        if not 0 < self.unlabelled_share < 1 or self.batch_size * (1 - self.unlabelled_share) < 1:
            raise ValueError(
                "unlabelled_share lies between 0 and 1 and leaves a labelled picture in each batch; got "
                f"{self.unlabelled_share:g} of {self.batch_size}."
            )
        self.fit_settings(64, 0, self.rounds)  # says what else is wrong before any work is done

    def apply(self, detector: Detector, pictures: TargetPictures, context: Context) -> Detector:
        """The detector with new weights and no new edit.

        pictures: at least one of the target; those of `context` are not used, its workspace, seed and log are
        Goes on from the workspace where an earlier call with the same inputs was stopped.
        Raises ValueError where no picture can be trained on, and where a teacher is sure of nothing.
        """
        if pictures.unlabelled is None:
            labelled = shown_labelled(pictures, context.seed)
            if labelled is None:
                raise ValueError("There is no picture to train on.")
            settings = self.fit_settings(context.input_size, 0, 1)
            return self._fitted(detector, TaskObjective, labelled, settings, context.workspace / "labelled", context)
        for number in range(self.rounds):
            detector = self._round(detector, pictures, context, number)
        return detector

    def fit_settings(self, input_size: int, number: int, rounds: int, unlabelled_share: float = 0.0) -> FitSettings:
        """Of one of so many rounds.  The first ones get what does not divide.

        >>> [TrainOnTarget(epochs=7, rounds=3).fit_settings(64, number, 3).epochs for number in range(3)]
        [3, 2, 2]
        """
        epochs = None if self.epochs is None else self.epochs // rounds + int(number < self.epochs % rounds)
        return FitSettings(
            input_size=input_size,
            epochs=epochs,
            minutes=None if self.minutes is None else self.minutes / rounds,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            augmentation=Augmentation(mosaic=self.mosaic),
            unlabelled_share=unlabelled_share,
        )

    def _round(self, teacher: Detector, pictures: TargetPictures, context: Context, number: int) -> Detector:
        assert pictures.unlabelled is not None
        folder = context.workspace / f"round-{number + 1}"
        kept = folder / "pseudo-labels.json"
        predict = teacher.predictor(context.input_size, Selection(min_score=self.rule.kept_score))
        found = predictions_kept(kept, predict, pictures.unlabelled, context.log)
        thresholds = sure_thresholds(found, len(teacher.classes), self.rule)
        context.log(f"round {number + 1} of {self.rounds}: {_told(teacher, found, thresholds)}")
        if all(item is None for item in thresholds):
            raise ValueError(
                f"Self-training: the detector finds nothing in {len(found)} unlabelled pictures with a score of "
                f"{self.rule.least_score:g} or more, so that there is nothing to learn from; use labelled pictures."
            )
        taught = with_pseudo_labels(pictures.unlabelled, found, thresholds, self.rule)
        labelled = shown_labelled(pictures, context.seed + number)
        if labelled is None:
            data, task, share = _unjudged(taught), 0.0, 0.0
        else:
            data, task, share = merged([with_labels_as_found(labelled), taught]), 1.0, self.unlabelled_share
        settings = self.fit_settings(context.input_size, number, self.rounds, share)
        about = _identity(self, kept)

        def make_objective(student: Detector, network: nn.Module, plan: EpochPlan) -> StoredTeacherObjective:
            return StoredTeacherObjective(StoredWeights(task, 1.0, 1.0, 1.0), student, network, plan, about)

        return self._fitted(teacher, make_objective, data, settings, folder, context)

    def _fitted(
        self,
        detector: Detector,
        make_objective: MakeObjective,
        data: Dataset,
        settings: FitSettings,
        folder: Path,
        context: Context,
    ) -> Detector:
        settings = replace(settings, device=context.device)
        return fit(detector, make_objective, data, settings, context.seed, folder, context.log)


def _identity(settings: TrainOnTarget, pseudo_labels: Path) -> Mapping[str, Any]:
    """What a stopped round goes on for: the settings, and the very pseudo-labels, which no data set's hash knows of."""
    return {**asdict(settings), "pseudo_labels_sha256": hashlib.sha256(pseudo_labels.read_bytes()).hexdigest()}


def _unjudged(dataset: Dataset) -> Dataset:
    """Pictures that count as labelled, so that an epoch goes through all of them; the detection loss has no weight."""
    load = dataset.load

    def loaded(index: int) -> Sample:
        return replace(load(index), is_labelled=True)

    return replace(dataset, load=loaded)


def _told(teacher: Detector, found: Predictions, thresholds: tuple[float | None, ...]) -> str:
    """`in 193 pictures the teacher is sure of 402 helmet from 0.61 on, of no no_helmet`"""
    parts = [
        f"no {item.name}" if limit is None else f"{count} {item.name} from {limit:.2f} on"
        for item, limit, count in zip(teacher.classes, thresholds, count_sure(found, thresholds), strict=True)
    ]
    return f"in {len(found)} pictures the teacher is sure of {', of '.join(parts)}"
