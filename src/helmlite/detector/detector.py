"""A detector is a value: an architecture, weights, and the structural edits made to it so far."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from helmlite.data.roles import Class
from helmlite.detections import Detections, Image
from helmlite.detector.device import device_of
from helmlite.runtime.decode import HeadLayout, Selection, decode_maps, place, select
from helmlite.runtime.preprocess import network_input

Log = Callable[[str], None]  # takes one line for the user


class Edit(Protocol):
    """One structural change as plain data, resolved: it names modules and indices and needs no graph to be redone.

    `kind` names it in edits.json; `to_json` gives plain lists, numbers, strings and mappings.
    """

    kind: ClassVar[str]

    def redo(self, network: nn.Module) -> None:
        """Make the change on a freshly built network, in place.  Weights are loaded afterwards."""
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Architecture:
    """Everything that is needed to build a detector's network again, as plain data.

    family:      key of `detector.families.FAMILIES`
    description: what that family builds from (for Ultralytics: the layer list of its yaml)
    classes:     in the order of the class maps' channels
    layout:      how the raw maps are read
    input_size:  side of the square input it was trained for, pixels
    library:     name and version of the code that the layers come from
    notes:       what a reader should know: licence, training data, origin
    """

    family: str
    description: Mapping[str, Any]
    classes: tuple[Class, ...]
    layout: HeadLayout
    input_size: int
    library: str
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Detector:
    """An architecture, a network with its weights, and every structural change so far, oldest first.

    network: images (B, 3, H, W) RGB in [0, 1] -> raw maps, for each scale (B, 4 * reg_max, h, w) boxes and
             (B, C, h, w) class logits, flat: (box_8, class_8, box_16, class_16, ...)
    """

    architecture: Architecture
    network: nn.Module
    edits: tuple[Edit, ...] = ()

    @property
    def classes(self) -> tuple[Class, ...]:
        return self.architecture.classes

    def copy(self) -> Detector:
        """The same detector with a network of its own: nothing done to the copy is seen here."""
        return replace(self, network=copy.deepcopy(self.network))

    def edited(self, edit: Edit, network: nn.Module) -> Detector:
        """This detector after one more edit, which `network` has already been through."""
        return replace(self, network=network, edits=(*self.edits, edit))

    def with_classes(self, classes: tuple[Class, ...]) -> Detector:
        """The same detector, its classes named or understood otherwise.  classes: as many as it has, in its order."""
        return replace(self, architecture=replace(self.architecture, classes=classes))

    def trained_for(self, input_size: int) -> Detector:
        """The same detector, its own input size stated anew.  input_size: side of the square, pixels"""
        return replace(self, architecture=replace(self.architecture, input_size=input_size))

    def has_edit(self, kind: str) -> bool:
        """Whether an edit of this kind was made."""
        return any(edit.kind == kind for edit in self.edits)

    def predictor(self, input_size: int, selection: Selection | None = None) -> DetectorPredictor:
        """A callable image -> Detections, as evaluation wants it."""
        return DetectorPredictor(self, input_size, selection or Selection())


@dataclass(frozen=True)
class DetectorPredictor:
    """Runs a detector on single pictures in PyTorch, with the preprocessing and decoding of every other runtime."""

    detector: Detector
    input_size: int
    selection: Selection

    def __call__(self, image: Image) -> Detections:
        planes, placement = network_input(image, self.input_size)
        boxes, scores = self.decode(planes)
        layout = self.detector.architecture.layout
        return place(select(boxes, scores, layout, self.selection), placement)

    def decode(self, planes: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(1, 3, S, S) -> every cell's box (N, 4) in network pixels and scores (N, C)."""
        network = self.detector.network
        was_training = network.training
        network.eval()
        with torch.inference_mode():
            maps = network(torch.from_numpy(planes).to(device_of(network)))
        network.train(was_training)
        return decode_maps([item.float().cpu().numpy() for item in maps], self.detector.architecture.layout)


@dataclass(frozen=True)
class Batch:
    """Pictures and labels of one training step.

    images:  (B, 3, S, S) float32 RGB in [0, 1]
    targets: (M, 6) float32: index of the picture in the batch, class, centre x, centre y, width, height in [0, 1]
    is_labelled: (B,) bool, False for pictures without labels; None where all have them
    found:   (K, 7) float32: what a stored teacher found, as in `targets` and then its score; None without one
    """

    images: Tensor
    targets: Tensor
    is_labelled: Tensor | None = None
    found: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch in another device's memory."""
        return Batch(
            self.images.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            None if self.is_labelled is None else self.is_labelled.to(device, non_blocking=True),
            None if self.found is None else self.found.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class TrainingMaps:
    """What a network gives in training.

    maps:     the raw maps of the head branch that ships, as `network(images)` gives them
    extra:    the raw maps of the branch that only training uses (one-to-many of v10 and 26), or ()
    features: outputs of the neck, one for each scale (B, C, h, w), for feature distillation
    """

    maps: tuple[Tensor, ...]
    extra: tuple[Tensor, ...]
    features: tuple[Tensor, ...]


class TaskLoss(Protocol):
    """The family's own detection loss with its own assigner."""

    def epoch_ended(self) -> None:
        """Told after each epoch, for losses with a schedule."""
        ...

    def __call__(self, maps: TrainingMaps, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """A scalar to minimize (mean over the batch's pictures) and its named parts."""
        ...


class Family(Protocol):
    """What a kind of detector knows about itself; one implementation in each family's file."""

    def build(self, architecture: Architecture) -> nn.Module:
        """A fresh network with random weights, before any edit."""
        ...

    def task_loss(self, architecture: Architecture, network: nn.Module, epochs: int) -> TaskLoss: ...

    def training_maps(self, network: nn.Module, images: Tensor) -> TrainingMaps: ...

    def channel_ties(self, network: nn.Module) -> Sequence[ChannelTie]:
        """Channel counts that the family's code needs to be equal though no tensor operation says so."""
        ...

    def attributes_after(
        self, network: nn.Module, widths: Mapping[str, int], splits: Mapping[str, tuple[int, ...]]
    ) -> dict[tuple[str, str], int | list[int]]:
        """Numbers that modules keep as plain attributes ((module path, attribute) -> value) once channels are cut.

        widths: output channels of each convolution by path; splits: sizes of the parts of the channel split that
        the module at each path makes.
        """
        ...


@dataclass(frozen=True)
class ChannelTie:
    """The input channels of one convolution must stay as many as the input channels of another.

    Where the family's forward code takes one width for the other though no tensor operation says so.
    """

    first_conv: str
    second_conv: str
