"""COCO accuracy of any image -> Detections callable on a labelled data set.

The numbers are COCO's own (101 recall points, IoU 0.50:0.05:0.95, at most 100 detections a picture, sizes by area
in pixels of the original picture), computed by hotcoco, which a test holds equal to pycocotools.  Accuracies are in
[0, 1]; None means unknown: a class of which nothing is labelled has no average precision, not a bad one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_areas
from helmlite.data.dataset import Dataset
from helmlite.data.load import class_mapping
from helmlite.data.roles import with_roles
from helmlite.detections import Detections, Predictor
from helmlite.files import write_whole

Progress = Callable[[int, int], None]  # pictures done, pictures in all

SIZES = ("small", "medium", "large")
SMALL_AREA, MEDIUM_AREA = 32.0**2, 96.0**2  # COCO's limits, square pixels of the original picture
_HIGHEST_AREA = 1e5**2
IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10))
MAX_DETECTIONS = 100

SizeOf = Callable[[NDArray[Any]], NDArray[Any]]  # boxes (N, 4) xyxy -> (N,)
Evaluation = Any  # hotcoco.COCOeval, which has no type of its own before it is imported


@dataclass(frozen=True)
class SizeRanges:
    """Ranges of sizes in which COCO counts boxes apart: what is outside is ignored, neither for nor against.

    limits:  (low, high) of each range, both included
    size_of: what the limits are of; None for COCO's own, the area in square pixels
    """

    limits: tuple[tuple[float, float], ...]
    size_of: SizeOf | None = None


COCO_RANGES = SizeRanges(
    ((0.0, _HIGHEST_AREA), (0.0, SMALL_AREA), (SMALL_AREA, MEDIUM_AREA), (MEDIUM_AREA, _HIGHEST_AREA))
)


@dataclass(frozen=True)
class SkippedPicture:
    """A picture that could not be read, and what was wrong with it."""

    path: str
    reason: str


@dataclass(frozen=True)
class Predictions:
    """What a detector found in each readable picture of a data set.

    detections: one value for each readable picture, in the data set's order
    indices:    index of each of those pictures in the data set
    skipped:    the pictures that could not be read
    """

    detections: tuple[Detections, ...]
    indices: tuple[int, ...]
    skipped: tuple[SkippedPicture, ...] = ()

    def __post_init__(self) -> None:
        if len(self.detections) != len(self.indices):
            raise ValueError(f"{len(self.detections)} detections do not fit {len(self.indices)} pictures.")

    def __len__(self) -> int:
        return len(self.detections)


@dataclass(frozen=True)
class StoredPredictions:
    """A file of predictions.

    names:   file name of each picture
    classes: what the labels count in; None in files that do not say
    sha256:  of the pictures that could be read, as `Dataset.sha256` gives it; None in files of earlier versions
    """

    predictions: Predictions
    names: tuple[str, ...]
    classes: tuple[str, ...] | None
    sha256: str | None = None

    def is_of(self, dataset: Dataset) -> bool:
        """Whether these are of the data set as it is now: its pictures, labels and classes, and no other picture.

        A picture that could not be read must still be unreadable.  False where the file does not say.
        """
        indices = self.predictions.indices
        if len(indices) + len(self.predictions.skipped) != len(dataset) or any(i >= len(dataset) for i in indices):
            return False
        others = set(range(len(dataset))) - set(indices)
        return self.sha256 == _sha256(self.predictions, dataset) and not any(is_readable(dataset, i) for i in others)

    def is_beside(self, other: StoredPredictions) -> bool:
        """Whether these are of the same pictures, labels and classes as `other`."""
        return self.sha256 == other.sha256 and self.predictions.indices == other.predictions.indices


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy on one class.  ap, ap50: None where no box of it is labelled; images: pictures that show it."""

    name: str
    role: str | None
    ap: float | None
    ap50: float | None
    images: int
    boxes: int


@dataclass(frozen=True)
class Accuracy:
    """COCO accuracy over a data set.

    map: mAP50-95;  by_size: AP50-95 of small, medium and large boxes;  images, boxes: evaluated
    """

    map: float | None
    map50: float | None
    map75: float | None
    by_size: dict[str, float | None]
    per_class: tuple[ClassAccuracy, ...]
    images: int
    boxes: int
    skipped: tuple[SkippedPicture, ...] = ()


def predict_all(predict: Predictor, dataset: Dataset, progress: Progress | None = None) -> Predictions:
    """What `predict` finds in every picture.  Unreadable pictures are left out and named in the result.

    Raises ValueError for a data set without pictures, or of which no picture can be read.
    """
    if not len(dataset):
        raise ValueError(f"The {dataset.split} split of {dataset.source or 'the data set'} has no pictures.")
    detections, indices, skipped = [], [], []
    for index in range(len(dataset)):
        try:
            image = dataset[index].read_image()
        except ValueError as error:  # the picture, or its labels: either way nothing can be measured on it
            skipped.append(SkippedPicture(str(dataset.image_paths[index]), str(error)))
        else:
            detections.append(predict(image))
            indices.append(index)
        if progress is not None:
            progress(index + 1, len(dataset))
    if not indices:
        raise ValueError(f"None of the {len(dataset)} pictures can be read; the first: {skipped[0].reason}")
    return Predictions(tuple(detections), tuple(indices), tuple(skipped))


def is_readable(dataset: Dataset, index: int) -> bool:
    """Whether this picture can be looked at: its file and its labels."""
    try:
        dataset[index].read_image()
    except ValueError:
        return False
    return True


def measure_accuracy(predictions: Predictions, dataset: Dataset) -> Accuracy:
    """COCO accuracy of these predictions.  Pictures that were skipped count neither for nor against.

    Raises ValueError where a detection carries a label that the data set has no class for.
    """
    evaluation = coco_evaluation(predictions, dataset)
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])[..., -1]  # (IoU, recall, class, size); -1: unknown
    labels = [dataset[index].labels for index in predictions.indices]
    per_class = tuple(
        ClassAccuracy(
            item.name,
            item.role,
            _mean(precision[:, :, label, 0]),
            _mean(precision[0, :, label, 0]),
            sum(int(label in present) for present in labels),
            sum(int((present == label).sum()) for present in labels),
        )
        for label, item in enumerate(dataset.classes)
    )
    return Accuracy(
        map=_mean(precision[..., 0]),
        map50=_mean(precision[0, ..., 0]),
        map75=_mean(precision[5, ..., 0]),
        by_size={size: _mean(precision[..., 1 + number]) for number, size in enumerate(SIZES)},
        per_class=per_class,
        images=len(predictions),
        boxes=sum(len(present) for present in labels),
        skipped=predictions.skipped,
    )


def evaluate(predict: Predictor, dataset: Dataset, progress: Progress | None = None) -> Accuracy:
    """`predict_all`, then `measure_accuracy`."""
    return measure_accuracy(predict_all(predict, dataset, progress), dataset)


def coco_evaluation(predictions: Predictions, dataset: Dataset, ranges: SizeRanges = COCO_RANGES) -> Evaluation:
    """hotcoco's evaluation, matched and not yet accumulated.  Picture ids are positions + 1, class ids label + 1.

    Raises ValueError where a detection carries a label that the data set has no class for.
    """
    from hotcoco import COCO, COCOeval

    class_count = len(dataset.classes)
    for index, item in zip(predictions.indices, predictions.detections, strict=True):
        if len(item) and not 0 <= int(item.labels.min()) <= int(item.labels.max()) < class_count:
            raise ValueError(
                f"{dataset.image_paths[index].name}: a detection has label {int(item.labels.max())}, but the data "
                f"set has {class_count} classes. Match the classes of detector and data set first."
            )
    truth = COCO(coco_truth(predictions, dataset, ranges))
    results = truth.load_res(coco_results(predictions))
    if ranges.size_of is not None:  # COCO calls it an area, whatever the ranges are of
        found = (item.boxes_xyxy for item in predictions.detections)
        boxes = np.concatenate([np.zeros((0, 4)), *found], dtype=np.float64)
        results.update_anns(ids=results.get_ann_ids(), area=ranges.size_of(boxes))
    evaluation = COCOeval(truth, results, "bbox")
    params = evaluation.params
    params.area_rng = [list(limits) for limits in ranges.limits]
    params.max_dets = [1, 10, MAX_DETECTIONS]
    evaluation.evaluate()
    return evaluation


def coco_truth(predictions: Predictions, dataset: Dataset, ranges: SizeRanges = COCO_RANGES) -> dict[str, Any]:
    """The labels of the evaluated pictures as a COCO dictionary, with what the ranges are of for their `area`."""
    size_of: SizeOf = box_areas if ranges.size_of is None else ranges.size_of
    annotations: list[dict[str, Any]] = []
    for position, index in enumerate(predictions.indices):
        sample = dataset[index]
        boxes = sample.boxes_xyxy.astype(np.float64)
        for box, area, label in zip(boxes, size_of(boxes), sample.labels):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": position + 1,
                    "category_id": int(label) + 1,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": float(area),
                    "iscrowd": 0,
                }
            )
    return {
        "images": [{"id": position + 1} for position in range(len(predictions))],
        "categories": [{"id": label + 1, "name": item.name} for label, item in enumerate(dataset.classes)],
        "annotations": annotations,
    }


def coco_results(predictions: Predictions) -> NDArray[np.float64]:
    """The detections as COCO's (N, 7) rows: picture id, left, top, width, height, score, class id."""
    found = predictions.detections
    pictures = np.repeat(np.arange(len(found)) + 1.0, [len(item) for item in found])
    boxes = np.concatenate([np.zeros((0, 4)), *(item.boxes_xyxy for item in found)], dtype=np.float64)
    scores = np.concatenate([np.zeros(0), *(item.scores for item in found)], dtype=np.float64)
    labels = np.concatenate([np.zeros(0), *(item.labels for item in found)], dtype=np.float64)
    return np.column_stack([pictures, boxes[:, :2], boxes[:, 2:] - boxes[:, :2], scores, labels + 1])


def predictions_kept(
    path: Path, predict: Predictor, dataset: Dataset, log: Callable[[str], None] = print
) -> Predictions:
    """What was found in these very pictures before and kept at `path`, else what is found now, which is kept there.

    log: told where what was kept is damaged, or is of other pictures, labels or classes, and is therefore made again
    """
    if path.is_file():
        try:
            stored = read_predictions(path)
        except ValueError:
            log(f"{path}: damaged, and made again")
        else:
            if stored.is_of(dataset):
                return stored.predictions
            log(f"{path}: not of these very pictures, labels and classes, and made again")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = predict_all(predict, dataset)
    save_predictions(found, dataset, path)
    return found


def save_predictions(predictions: Predictions, dataset: Dataset, path: Path) -> None:
    """Writes predictions as JSON that gives them back bit by bit.

    The file names each picture, so that it cannot be read against another data set by mistake, the classes that its
    labels count in, and the hash of pictures, labels and classes.
    """
    pictures = [
        {
            "index": index,
            "name": dataset.image_paths[index].name,
            "boxes_xyxy": found.boxes_xyxy.tolist(),  # a float32 survives the way through a decimal double exactly
            "scores": found.scores.tolist(),
            "labels": found.labels.tolist(),
        }
        for index, found in zip(predictions.indices, predictions.detections, strict=True)
    ]
    skipped = [{"path": item.path, "reason": item.reason} for item in predictions.skipped]
    classes = [item.name for item in dataset.classes]
    values = {"format": 1, "classes": classes, "sha256": _sha256(predictions, dataset)}
    write_whole(path, json.dumps({**values, "pictures": pictures, "skipped": skipped}, ensure_ascii=False))


def load_predictions(path: Path, dataset: Dataset) -> Predictions:
    """Predictions as `save_predictions` wrote them, whatever became of the labels since.

    Raises ValueError where the file is not such a file, names other pictures than the data set's, or counts in classes
    that have other numbers there.
    """
    stored = read_predictions(path)
    for index, name in zip(stored.predictions.indices, stored.names, strict=True):
        if not 0 <= index < len(dataset) or dataset.image_paths[index].name != name:
            raise ValueError(f"{path} holds predictions for '{name}' as picture {index}, which this data set has not.")
    classes = stored.classes or ()
    if classes != tuple(item.name for item in dataset.classes):
        for label, other in class_mapping(with_roles(classes), dataset.classes).items():
            if label != other:
                raise ValueError(
                    f"{path} counts '{classes[label]}' as class {label}, which is class {other} of this data set."
                )
    return stored.predictions


def read_predictions(path: Path) -> StoredPredictions:
    """A file of `save_predictions` whatever the data set.  Raises ValueError where it is not such a file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        pictures: Sequence[dict[str, Any]] = values["pictures"]
        detections = tuple(
            Detections(
                np.array(item["boxes_xyxy"], dtype=np.float32).reshape(-1, 4),
                np.array(item["scores"], dtype=np.float32),
                np.array(item["labels"], dtype=np.int64),
            )
            for item in pictures
        )
        skipped = tuple(SkippedPicture(item["path"], item["reason"]) for item in values["skipped"])
        names = tuple(str(item["name"]) for item in pictures)
        indices = tuple(int(item["index"]) for item in pictures)
        classes = None if values.get("classes") is None else tuple(str(item) for item in values["classes"])
        sha256 = None if values.get("sha256") is None else str(values["sha256"])
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} does not hold predictions written by helmlite ({error}).") from error
    return StoredPredictions(Predictions(detections, indices, skipped), names, classes, sha256)


def _sha256(predictions: Predictions, dataset: Dataset) -> str:
    """Of the pictures that were looked at, with their labels and the classes."""
    return dataset.subset(list(predictions.indices)).sha256()


def _mean(precision: NDArray[np.float64]) -> float | None:
    """COCO's mean over everything that is known, or None where nothing is."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None
