"""The loss of the `tiny` family: which cells answer for which object, and how wrong their answers are.

Assignment (TOOD, Feng 2021, arXiv 2108.07755, section 3.2).  A cell's claim on an object is

    t = s^a * u^b        s: its score for the object's class, u: IoU of its box with the object's, a = 0.5, b = 6

Among the cells whose centre lies inside an object, the ten with the highest claim are its own; a cell that two
objects want goes to the one that it overlaps better.  The score that it should give is its claim, scaled so that an
object's best cell is asked for the best IoU that the object has.

Boxes are judged by complete IoU (CIoU, Zheng 2020, arXiv 1911.08287), scores by binary cross-entropy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from helmlite.detector.detector import Batch, TrainingMaps

_EPS = 1e-7
_TINIEST = 1e-30  # below every claim that matters


@dataclass(frozen=True)
class LossWeights:
    """How much a wrong box counts beside a wrong score."""

    box: float = 5.0
    score: float = 1.0


@dataclass(frozen=True)
class Cells:
    """All cells of all scales, row by row.  centres_xy: (A, 2) network pixels; strides: (A,) pixels."""

    centres_xy: Tensor
    strides: Tensor


@dataclass(frozen=True)
class Objects:
    """The labelled objects of a batch, padded to the most crowded picture.

    boxes_xyxy: (B, G, 4) network pixels; labels: (B, G); real: (B, G), False where a place is empty
    """

    boxes_xyxy: Tensor
    labels: Tensor
    real: Tensor


@dataclass(frozen=True)
class Assignment:
    """What each cell should answer.

    object_index: (B, A), its object's place in `Objects`, meaningless where `taken` is False
    taken:        (B, A), whether it answers for an object at all
    quality:      (B, A), the score that it should give to its object's class, 0 where it has none
    """

    object_index: Tensor
    taken: Tensor
    quality: Tensor


class TinyLoss:
    """The task loss of one detector.  strides: of its scales, as their maps come."""

    def __init__(self, strides: Sequence[int], weights: LossWeights | None = None) -> None:
        self._strides = tuple(strides)
        self._weights = weights or LossWeights()

    def epoch_ended(self) -> None:
        """Nothing to do: the loss is the same in every epoch."""

    def __call__(self, maps: TrainingMaps, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """A scalar to minimize and its parts `box` and `score`.  Pictures without objects only ask for silence."""
        boxes, logits, cells = flat_predictions(maps.maps, self._strides)
        size = batch.images.shape[-1]
        objects = padded_objects(batch.targets.to(boxes.device), len(batch.images), size)
        assigned = assign(boxes.detach(), logits.detach().sigmoid(), cells, objects)
        total_quality = assigned.quality.sum().clamp(min=1.0)

        labels = objects.labels.gather(1, assigned.object_index)  # (B, A)
        wanted = torch.zeros_like(logits).scatter_(2, labels[..., None], assigned.quality[..., None])
        score_loss = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / total_quality

        index = assigned.object_index[..., None].expand(-1, -1, 4)
        targets = objects.boxes_xyxy.gather(1, index)[assigned.taken]  # (P, 4)
        overlap = complete_iou(boxes[assigned.taken], targets)
        box_loss = ((1 - overlap) * assigned.quality[assigned.taken]).sum() / total_quality

        loss = self._weights.box * box_loss + self._weights.score * score_loss
        return loss, {"box": float(box_loss.detach()), "score": float(score_loss.detach())}


def flat_predictions(maps: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor, Cells]:
    """Boxes (B, A, 4) xyxy in network pixels, class logits (B, A, C) and the A cells of all scales."""
    boxes, logits, centres, pixels = [], [], [], []
    for index, stride in enumerate(strides):
        distances, scores = maps[2 * index].float(), maps[2 * index + 1].float()
        height, width = scores.shape[2:]
        rows, columns = torch.arange(height, device=scores.device), torch.arange(width, device=scores.device)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centre = (torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride  # (h*w, 2)
        reach = distances.flatten(2).transpose(1, 2) * stride  # (B, h*w, 4)
        boxes.append(torch.cat([centre - reach[..., :2], centre + reach[..., 2:]], -1))
        logits.append(scores.flatten(2).transpose(1, 2))
        centres.append(centre)
        pixels.append(torch.full((height * width,), float(stride), device=scores.device))
    return torch.cat(boxes, 1), torch.cat(logits, 1), Cells(torch.cat(centres), torch.cat(pixels))


def padded_objects(targets: Tensor, pictures: int, size: int) -> Objects:
    """Objects of each picture from a batch's targets (M, 6); at least one, empty, place for each picture."""
    picture = targets[:, 0].long()
    counts = torch.bincount(picture, minlength=pictures)
    places = max(int(counts.max()), 1)
    boxes = targets.new_zeros(pictures, places, 4)
    labels = torch.zeros(pictures, places, dtype=torch.long, device=targets.device)
    real = torch.zeros(pictures, places, dtype=torch.bool, device=targets.device)
    if len(targets):
        order = torch.argsort(picture, stable=True)
        picture, rows = picture[order], targets[order]
        place = torch.arange(len(rows), device=targets.device) - (counts.cumsum(0) - counts)[picture]
        centre, half = rows[:, 2:4] * size, rows[:, 4:6] * (size / 2)
        boxes[picture, place] = torch.cat([centre - half, centre + half], 1)
        labels[picture, place] = rows[:, 1].long()
        real[picture, place] = True
    return Objects(boxes, labels, real)


def assign(
    boxes_xyxy: Tensor,
    scores: Tensor,
    cells: Cells,
    objects: Objects,
    cells_per_object: int = 10,
    score_power: float = 0.5,
    iou_power: float = 6.0,
) -> Assignment:
    """Which cells answer for which objects, and how sure they should be.

    boxes_xyxy: (B, A, 4) and scores: (B, A, C) as the network gives them now, without gradient
    """
    inside = _centres_inside(cells, objects)  # (B, G, A)
    overlap = plain_iou(objects.boxes_xyxy[:, :, None], boxes_xyxy[:, None]) * inside
    chances = scores.transpose(1, 2)  # (B, C, A)
    of_class = chances.gather(1, objects.labels[..., None].expand(-1, -1, chances.shape[2]))  # (B, G, A)
    claim = of_class.pow(score_power) * overlap.pow(iou_power)

    count = min(cells_per_object, claim.shape[2])
    best = (claim + inside * _TINIEST).topk(count, dim=2).indices  # the small extra ranks cells inside above all others
    chosen = torch.zeros_like(inside).scatter_(2, best, True) & inside  # (B, G, A)

    object_index = torch.where(chosen, overlap, -1.0).argmax(1)  # (B, A): a contested cell goes where it fits best
    taken = chosen.any(1)
    chosen &= functional.one_hot(object_index, chosen.shape[1]).transpose(1, 2).bool()

    claim, overlap = claim * chosen, overlap * chosen
    scale = overlap.amax(2, keepdim=True) / claim.amax(2, keepdim=True).clamp(min=_TINIEST)
    return Assignment(object_index, taken, (claim * scale).amax(1))


def complete_iou(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    """IoU less what centres lie apart and shapes differ; in (-2, 1], and 1 for equal boxes.  (..., 4) -> (...).

    CIoU = IoU - d^2 / c^2 - a v      d: distance of the centres, c: diagonal of the box around both,
    v = 4 / pi^2 (atan(w2 / h2) - atan(w1 / h1))^2,   a = v / (1 - IoU + v)
    """
    iou = plain_iou(first_xyxy, second_xyxy)
    around = torch.maximum(first_xyxy[..., 2:], second_xyxy[..., 2:]) - torch.minimum(
        first_xyxy[..., :2], second_xyxy[..., :2]
    )
    apart = (first_xyxy[..., :2] + first_xyxy[..., 2:] - second_xyxy[..., :2] - second_xyxy[..., 2:]) / 2
    distance = apart.square().sum(-1) / (around.square().sum(-1) + _EPS)
    size_1, size_2 = _sizes(first_xyxy), _sizes(second_xyxy)
    angle = torch.atan(size_1[..., 0] / size_1[..., 1]) - torch.atan(size_2[..., 0] / size_2[..., 1])
    shape = 4 / math.pi**2 * angle.square()
    with torch.no_grad():
        share = shape / (1 - iou + shape + _EPS)
    return iou - distance - share * shape


def plain_iou(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    """Intersection over union of boxes in pairs, broadcast.  (..., 4), (..., 4) -> (...), in [0, 1]."""
    top_left = torch.maximum(first_xyxy[..., :2], second_xyxy[..., :2])
    bottom_right = torch.minimum(first_xyxy[..., 2:], second_xyxy[..., 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(-1)
    union = _sizes(first_xyxy).prod(-1) + _sizes(second_xyxy).prod(-1) - intersection
    return intersection / (union + _EPS)


def _sizes(boxes_xyxy: Tensor) -> Tensor:
    """Width and height, above 0 even where a network answers with sides that have changed places."""
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=_EPS)


def _centres_inside(cells: Cells, objects: Objects) -> Tensor:
    """(B, G, A): whether a cell's centre lies inside an object.

    On the finest scale an object is taken to be at least one cell wide and high, so that each has a cell.
    """
    centre = (objects.boxes_xyxy[..., :2] + objects.boxes_xyxy[..., 2:]) / 2  # (B, G, 2)
    half = (objects.boxes_xyxy[..., 2:] - objects.boxes_xyxy[..., :2]) / 2
    finest = cells.strides.min()
    reach = torch.where((cells.strides == finest)[:, None], finest / 2, 0.0)  # (A, 1)
    away = (cells.centres_xy - centre[:, :, None]).abs()  # (B, G, A, 2)
    return (away <= torch.maximum(half[:, :, None], reach)).all(-1) & objects.real[..., None]
