"""A teacher of which only the detections are there: too slow to ask again, on another machine, or closed.

    helmlite eval big.pt --data data.yaml --split train --predictions teacher/train.json
    helmlite compress ... with   teacher = "stored:teacher"   in the recipe's distill step

Training pictures are mosaics that no teacher has ever seen, so its maps cannot be stored.  Its boxes can: they go
through the same mosaic, zoom, turn and mirror as the labels and come out as soft pseudo-labels (for detectors: Sohn
2020, arXiv 2005.04757).  They are no targets of the detection loss, which knows no half objects, but become what a
teacher's maps would have said at the student's own cells, and the same losses are taken from there:

    cells      TOOD's claim t = s^0.5 u^6 (Feng 2021, arXiv 2108.07755) of the student's cells on each box: ten of them,
               one where a head gives each object once
    classes    score of the box * t / largest t of the box at its cells, 0 elsewhere     -> class_loss
    boxes      the box as distances from each of its cells, weighted by the same         -> box_overlap_loss

Features cannot be taught.  A teacher's box that lies on a label is taught beside it: labels say that there is a head,
the teacher says how sure one can be of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from helmlite.compress.teaching.distill_losses import box_overlap_loss, class_loss, expected_distances, flat_maps
from helmlite.compress.teaching.teacher import class_order
from helmlite.compress.teaching.unlabelled import SPLIT
from helmlite.data.dataset import Dataset, Sample
from helmlite.data.roles import Class, with_roles
from helmlite.detections import Detections, no_detections
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.fit_state import EpochPlan
from helmlite.detector.objective import TaskObjective
from helmlite.detector.tiny_loss import assign, flat_predictions, padded_objects
from helmlite.evaluate.accuracy import StoredPredictions, predict_all, read_predictions, save_predictions
from helmlite.runtime.decode import Selection

PREFIX = "stored:"
_CELLS = 10  # that answer for one box
_NOTHING = 1e-5  # a teacher's probability where it has no box


@dataclass(frozen=True)
class StoredWeights:
    """Weights of the three losses, and the temperature of the classes."""

    task: float
    classes: float
    boxes: float
    class_temperature: float


def store_teacher(detector: Detector, dataset: Dataset, input_size: int, folder: Path, min_score: float = 0.01) -> Path:
    """Writes what `detector` finds in every picture as `folder/<split>.json`; gives that path."""
    folder.mkdir(parents=True, exist_ok=True)
    found = predict_all(detector.predictor(input_size, Selection(min_score=min_score)), dataset)
    path = folder / f"{dataset.split}.json"
    save_predictions(found, replace(dataset, classes=detector.classes), path)
    return path


def is_stored(teacher: str) -> bool:
    """Whether a teacher's name means stored predictions."""
    return teacher.startswith(PREFIX)


def stored_file(teacher: str, split: str) -> Path:
    """The predictions for a split: `stored:FOLDER` has `<split>.json`; `stored:FILE.json` is the training pictures'.

    Raises ValueError where there is no such file.
    """
    place = Path(teacher.removeprefix(PREFIX))
    path = place if place.suffix == ".json" else place / f"{split}.json"
    if not path.is_file():
        way = f"`helmlite eval TEACHER --data DATA --split {split} --predictions {path}`"
        if split == SPLIT:
            way = "store_teacher(detector, unlabelled_pictures(FOLDER, classes), input_size, folder) in Python"
        raise ValueError(f"distill: {path}: no such file. Write it with {way}.")
    return path


def with_found(dataset: Dataset, path: Path, min_score: float) -> Dataset:
    """The data set with what a teacher found in each picture (`Sample.found`), in the data set's classes.

    Pictures are known by their place and file name, or by their name alone where it is the only one.
    Raises ValueError where the file is none of ours, lacks pictures, or lacks a class.
    """
    stored = read_predictions(path)
    places = _places(stored, dataset, path)
    label_of = _label_of(stored, dataset.classes, path)
    found = [
        no_detections() if place is None else _known(stored.predictions.detections[place], label_of, min_score, path)
        for place in places
    ]
    load = dataset.load

    def with_teacher(index: int) -> Sample:
        return replace(load(index), found=found[index])

    return replace(dataset, load=with_teacher)


def _places(stored: StoredPredictions, dataset: Dataset, path: Path) -> list[int | None]:
    """For each picture of the data set where the file has it; None where the teacher could not read it either."""
    names = [item.name for item in dataset.image_paths]
    by_index = {(index, name): place for place, (index, name) in enumerate(_pictures(stored))}
    in_order = [by_index.get(picture) for picture in enumerate(names)]
    if None in in_order and len(set(names)) == len(names) and len(set(stored.names)) == len(stored.names):
        by_name = {name: place for place, name in enumerate(stored.names)}
        in_order = [by_name.get(name) for name in names]
    unread = {Path(item.path).name for item in stored.predictions.skipped}
    missing = [name for name, place in zip(names, in_order) if place is None and name not in unread]
    if missing:
        raise ValueError(
            f"distill: {path} has no predictions for {len(missing)} of the {len(names)} pictures, among them "
            f"'{missing[0]}'; let the teacher see the {dataset.split} split again."
        )
    return in_order


def _pictures(stored: StoredPredictions) -> list[tuple[int, str]]:
    return list(zip(stored.predictions.indices, stored.names, strict=True))


def _label_of(stored: StoredPredictions, classes: Sequence[Class], path: Path) -> Mapping[int, int]:
    """The teacher's labels -> the student's; a file that names no classes counts as the student does."""
    if stored.classes is None:
        highest = max((int(item.labels.max()) for item in stored.predictions.detections if len(item)), default=-1)
        if highest >= len(classes):
            raise ValueError(
                f"distill: {path} has label {highest}, but the detector knows {len(classes)} classes only."
            )
        return {label: label for label in range(len(classes))}
    roles = {item.name: item.role for item in classes if item.role is not None}
    given = {name: role for name, role in roles.items() if name in stored.classes}
    order = class_order(classes, with_roles(list(stored.classes), given))
    return {theirs: ours for ours, theirs in enumerate(order)}


def _known(found: Detections, label_of: Mapping[int, int], min_score: float, path: Path) -> Detections:
    """The detections that count, numbered as the student's classes."""
    if len(found) and not (np.isfinite(found.boxes_xyxy).all() and 0 <= found.scores.min() <= found.scores.max() <= 1):
        raise ValueError(f"distill: {path}: boxes must be numbers and scores lie between 0 and 1.")
    kept = found.above(min_score)
    kept = kept[np.array([int(label) in label_of for label in kept.labels], dtype=bool)]
    return Detections(
        kept.boxes_xyxy, kept.scores, np.array([label_of[int(label)] for label in kept.labels], dtype=np.int64)
    )


class StoredTeacherObjective:
    """The detection loss, and the losses of a teacher that is known by its boxes (`Batch.found`)."""

    def __init__(
        self,
        weights: StoredWeights,
        student: Detector,
        network: nn.Module,
        plan: EpochPlan,
        identity: Mapping[str, Any],
    ) -> None:
        self._weights = weights
        self._task = TaskObjective(student, network, plan)
        self._layout = student.architecture.layout
        self._identity = identity

    def identity(self) -> Mapping[str, Any]:
        return {"objective": "distill stored", **self._identity}

    def parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        maps, task, parts = self._task.maps_and_loss(network, batch)
        assert batch.found is not None
        branches = [(maps.maps, _CELLS if self._layout.needs_nms else 1)]
        branches += [(maps.extra, _CELLS)] if maps.extra else []
        pairs = [self._branch_losses(found, cells, batch, batch.found) for found, cells in branches]
        classes, boxes = (torch.stack(values).mean() for values in zip(*pairs))
        weights = self._weights
        total = weights.task * task + weights.classes * classes + weights.boxes * boxes
        return total, {**parts, "kd_classes": float(classes.detach()), "kd_boxes": float(boxes.detach())}

    def after_step(self, network: nn.Module, step: int) -> None:
        self._task.after_step(network, step)

    def epoch_ended(self) -> None:
        self._task.epoch_ended()

    def state_dict(self) -> dict[str, Tensor]:
        return self._task.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._task.load_state_dict(state)

    def _branch_losses(self, maps: Sequence[Tensor], cells: int, batch: Batch, found: Tensor) -> tuple[Tensor, Tensor]:
        boxes, logits = flat_maps(maps)
        distances = expected_distances(boxes, self._layout.reg_max)  # (B, 4, N)
        with torch.no_grad():
            wanted, sure = stored_targets(maps, self._layout.reg_max, self._layout.strides, found, batch, cells)
        teacher_logits = sure.clamp(_NOTHING, 1 - _NOTHING).logit()
        classes = class_loss(logits, teacher_logits, self._weights.class_temperature)
        return classes, box_overlap_loss(distances, wanted, sure.amax(dim=1))


def stored_targets(
    maps: Sequence[Tensor], bins: int, strides: Sequence[int], found: Tensor, batch: Batch, cells_per_box: int
) -> tuple[Tensor, Tensor]:
    """What the stored boxes ask of each of the student's cells.

    maps: the student's raw maps; found: (K, 7) as in `Batch`
    -> distances (B, 4, N) of the box that a cell answers for, in strides, 0 where none; class probabilities (B, C, N)
    """
    decoded = list(maps)
    for index, box_map in enumerate(maps[0::2]):
        batch_size, _, height, width = box_map.shape
        decoded[2 * index] = expected_distances(box_map.flatten(2), bins).view(batch_size, 4, height, width)
    boxes, logits, cells = flat_predictions(decoded, strides)  # (B, N, 4), (B, N, C)
    objects = padded_objects(found[:, :6], len(batch.images), batch.images.shape[-1])
    assigned = assign(boxes, logits.sigmoid(), cells, objects, cells_per_box)

    best = torch.zeros_like(objects.real, dtype=boxes.dtype)
    best.scatter_reduce_(1, assigned.object_index, assigned.quality, "amax")
    best_of_own = best.gather(1, assigned.object_index)  # (B, N)
    share = torch.where(best_of_own > 0, assigned.quality / best_of_own.clamp(min=1e-30), 1.0)
    scores = _padded_scores(found, objects.real).gather(1, assigned.object_index)
    sure = share * scores * assigned.taken  # (B, N)

    labels = objects.labels.gather(1, assigned.object_index)
    probabilities = torch.zeros_like(logits).scatter_(2, labels[..., None], sure[..., None])
    corners = objects.boxes_xyxy.gather(1, assigned.object_index[..., None].expand(-1, -1, 4))
    reach = torch.cat([cells.centres_xy - corners[..., :2], corners[..., 2:] - cells.centres_xy], dim=2)
    distances = reach / cells.strides[:, None] * assigned.taken[..., None]
    return distances.transpose(1, 2), probabilities.transpose(1, 2)


def _padded_scores(found: Tensor, real: Tensor) -> Tensor:
    """Scores of the boxes of each picture, where `padded_objects` puts them.  (B, G)"""
    scores = torch.zeros_like(real, dtype=found.dtype)
    for picture in range(len(real)):
        own = found[found[:, 0] == picture, 6]
        scores[picture, : len(own)] = own
    return scores
