"""Leaving out a detection scale that the data hardly uses: its head branch, and the neck layers that only it read.

Which scale a labelled box belongs to goes by its size in the network's input.  A scale of stride s stands for boxes
of side 4 s, as RetinaNet's anchors have it (Lin 2017, arXiv 1708.02002, section 4), and a box of area w h goes to the
scale that is nearest in octaves:

    stride 8 up to 4 sqrt(8 * 16) = 45 pixels of sqrt(w h),   16 up to 4 sqrt(16 * 32) = 91,   32 above

The maps of the other scales stay as they are, bit by bit.  Boxes of the size that went are left to the next scale,
which training teaches it (`distill`; a teacher answers at the scales that are left).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from helmlite.boxes import box_areas
from helmlite.compress.order import check_follows
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset, UnreadableImageError
from helmlite.data.image_files import size_from_header
from helmlite.detector.detector import Detector
from helmlite.detector.macs import count_macs

_SIDE_IN_CELLS = 4.0  # of the box that a scale stands for


@dataclass(frozen=True)
class DropScale:
    """Leaves out one of the head's scales.

    stride:    of the scale that goes, in pixels; None: the one that the fewest labelled boxes belong to
    max_share: share of the labelled boxes that may belong to it at most, in [0, 1]
    """

    name: ClassVar[str] = "drop_scale"
    stride: int | None = None
    max_share: float = 0.02

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"drop_scale: stride is a number of pixels, such as 32; got {self.stride}.")
        if not 0 <= self.max_share <= 1:
            raise ValueError(f"drop_scale: max_share must lie in [0, 1]; got {self.max_share}.")

    def stand_in(self) -> DropScale:
        """The same whatever a few pictures show."""
        return replace(self, max_share=1.0)

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with one scale less.

        Raises ValueError where it has no such scale or no other, where no box is labelled, and where more boxes than
        `max_share` belong to it; TechniqueOrderError after quantization, masks and tied layers.
        """
        check_follows(self.name, detector)
        strides = detector.architecture.layout.strides
        if self.stride is not None and self.stride not in strides:
            raise ValueError(
                f"drop_scale: the detector has no scale of stride {self.stride}; it has {_listed(strides)}."
            )
        if len(strides) == 1:
            raise ValueError(f"drop_scale: the detector has one scale left, of stride {strides[0]}; it needs that one.")
        shares = scale_shares(context.data, strides, context.input_size)
        told = ", ".join(f"{share:.1%} stride {stride}" for stride, share in shares.items())
        chosen = min(strides, key=lambda stride: shares[stride]) if self.stride is None else self.stride
        if shares[chosen] > self.max_share:
            raise ValueError(
                f"drop_scale: the data needs stride {chosen}: of the boxes {told}; at most {self.max_share:.1%} may "
                "belong to what is left out. Leave this step out, or raise max_share."
            )
        dropped = without_scale(detector, chosen)
        left = count_macs(dropped.network, context.input_size) / count_macs(detector.network, context.input_size)
        context.log(
            f"drop_scale: stride {chosen} goes (boxes by size: {told}); {left:.1%} of the multiply-accumulates left"
        )
        return dropped


@runtime_checkable
class WithScales(Protocol):
    """A network that can do without one of its head's scales."""

    def drop_scale(self, position: int) -> None:
        """Leaves out, in place, this scale (0: the finest) and all layers that nothing reads any more."""
        ...


@dataclass(frozen=True)
class DropScaleAt:
    """The head's scale at this position goes.  The architecture's layout already says so where this is redone."""

    kind: ClassVar[str] = "drop_scale"
    position: int

    def redo(self, network: nn.Module) -> None:
        """Leaves it out in place.  Raises ValueError for a network that cannot."""
        if not isinstance(network, WithScales):
            raise ValueError(f"A {type(network).__name__} cannot do without one of its scales.")
        network.drop_scale(self.position)

    def to_json(self) -> dict[str, Any]:
        return {"position": self.position}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> DropScaleAt:
        return DropScaleAt(int(values["position"]))


def without_scale(detector: Detector, stride: int) -> Detector:
    """The detector without the scale of this stride, which it has beside others."""
    layout = detector.architecture.layout
    edit = DropScaleAt(layout.strides.index(stride))
    changed = detector.copy()
    edit.redo(changed.network)
    left = replace(layout, strides=tuple(item for item in layout.strides if item != stride))
    return replace(detector.edited(edit, changed.network), architecture=replace(detector.architecture, layout=left))


def with_scales_of(student: Detector, teacher: Detector) -> Detector:
    """The teacher without the scales that the student has not; itself where there are none."""
    ours = student.architecture.layout.strides
    if not set(ours) <= set(teacher.architecture.layout.strides):
        return teacher  # whoever compares the heads says so
    for stride in teacher.architecture.layout.strides:
        if stride not in ours:
            teacher = without_scale(teacher, stride)
    return teacher


def scale_shares(data: Dataset, strides: Sequence[int], input_size: int) -> dict[int, float]:
    """For each stride the share of the labelled boxes that belong to it.

    Raises ValueError where no box is labelled.  Pictures that cannot be read do not count.
    """
    sides = np.concatenate([np.zeros(0), *(_sides(data, index, input_size) for index in range(len(data)))])
    if not len(sides):
        raise ValueError("drop_scale: the data has no labelled box, so nothing says which scale it needs.")
    nearest = scale_of(sides, strides)
    return {stride: float((nearest == position).mean()) for position, stride in enumerate(strides)}


def scale_of(sides: NDArray[np.float64], strides: Sequence[int]) -> NDArray[np.int64]:
    """Position of the stride that each box belongs to.  sides: (N,) sqrt(w h) in network pixels

    >>> scale_of(np.array([10.0, 45.0, 46.0, 90.0, 91.0]), (8, 16, 32)).tolist()
    [0, 0, 1, 1, 2]
    """
    sizes = np.log2(np.maximum(sides, 1e-6))[:, None]
    centres = np.array([math.log2(_SIDE_IN_CELLS * stride) for stride in strides])
    return np.abs(sizes - centres).argmin(axis=1)


def _sides(data: Dataset, index: int, input_size: int) -> NDArray[np.float64]:
    """sqrt(w h) of a picture's boxes in pixels of the network's input."""
    try:
        sample = data[index]
        if not len(sample.boxes_xyxy):
            return np.zeros(0)
        size = size_from_header(sample.image_path.read_bytes())
        width, height = size if size is not None else sample.read_image().shape[1::-1]
    except (UnreadableImageError, OSError):
        return np.zeros(0)
    return np.sqrt(box_areas(sample.boxes_xyxy.astype(np.float64))) * (input_size / max(width, height))


def _listed(strides: Sequence[int]) -> str:
    return ", ".join(str(stride) for stride in strides)
