"""What training minimizes.  The loop is the same for every objective (fit.py); this file has the plainest one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from helmlite.detector.detector import Batch, Detector, Family, TrainingMaps
from helmlite.detector.families import family_of
from helmlite.detector.fit_state import EpochPlan


class Objective(Protocol):
    """What training minimizes."""

    def identity(self) -> Mapping[str, Any]:
        """What is trained for, as plain data: a stopped training goes on only for the same."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """Parameters that only training needs and that are learned with the network's (adapters), if any."""
        ...

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        """A scalar in float32 (mean over the batch's pictures) and its named parts."""
        ...

    def after_step(self, network: nn.Module, step: int) -> None:
        """Told after each optimizer step."""
        ...

    def epoch_ended(self) -> None:
        """Told after each epoch."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that `load_state_dict` needs to go on after a finished epoch."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


# Builds the objective for the network that is being trained (a copy of the detector's) and the plan that was made.
MakeObjective = Callable[[Detector, nn.Module, EpochPlan], Objective]


class TaskObjective:
    """The family's own detection loss and nothing else."""

    def __init__(self, detector: Detector, network: nn.Module, plan: EpochPlan) -> None:
        self._family = family_of(detector)
        self._task = self._family.task_loss(detector.architecture, network, plan.epochs)
        self._bf16 = plan.bf16
        self._epochs_ended = 0

    def identity(self) -> Mapping[str, Any]:
        return {"objective": "task"}

    def parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def maps_and_loss(self, network: nn.Module, batch: Batch) -> tuple[TrainingMaps, Tensor, dict[str, float]]:
        """The network's maps in float32, their loss and its parts: for objectives that add to it."""
        maps = float_maps(self._family, network, batch.images, self._bf16)
        if batch.is_labelled is None:
            loss, parts = self._task(maps, batch)
        else:  # a mean over the labelled pictures
            loss, parts = self._task(*labelled_part(maps, batch, batch.is_labelled))
        return maps, loss, parts

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        _, loss, parts = self.maps_and_loss(network, batch)
        return loss, parts

    def after_step(self, network: nn.Module, step: int) -> None:
        """The loss has no state of its own within an epoch."""

    def epoch_ended(self) -> None:
        self._task.epoch_ended()
        self._epochs_ended += 1

    def state_dict(self) -> dict[str, Tensor]:
        return {"epochs_ended": torch.tensor(self._epochs_ended)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        while self._epochs_ended < int(state["epochs_ended"]):
            self.epoch_ended()


def labelled_part(maps: TrainingMaps, batch: Batch, is_labelled: Tensor) -> tuple[TrainingMaps, Batch]:
    """Maps and labels of the labelled pictures only, as if the batch held no others.  is_labelled: (B,) bool

    Raises ValueError where no picture of the batch is labelled.
    """
    if not bool(is_labelled.any()):
        raise ValueError("A batch holds no labelled picture; raise batch_size, or lower unlabelled_share.")
    place = is_labelled.long().cumsum(0) - 1  # of each labelled picture among them
    targets = batch.targets.clone()
    targets[:, 0] = place[targets[:, 0].long()].to(targets)
    groups = (tuple(item[is_labelled] for item in group) for group in (maps.maps, maps.extra, maps.features))
    return TrainingMaps(*groups), Batch(batch.images[is_labelled], targets)


def float_maps(family: Family, network: nn.Module, images: Tensor, bf16: bool) -> TrainingMaps:
    """What the network gives in training, computed in BF16 or not, as float32: losses need the digits."""
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
        found = family.training_maps(network, images)
    return TrainingMaps(
        tuple(item.float() for item in found.maps),
        tuple(item.float() for item in found.extra),
        tuple(item.float() for item in found.features),
    )
