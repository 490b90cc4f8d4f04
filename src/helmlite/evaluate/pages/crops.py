"""Crops of listed boxes, heads or false alarms, as each detector sees them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from helmlite.data.dataset import Dataset, UnreadableImageError
from helmlite.detections import Detections, Image
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.diagnosis.error_kinds import check_thresholds

CROP_SIZE = 240  # side of a crop in the page, pixels
_CONTEXT = 2.6  # the crop's side, in sides of the head
_SMALLEST_WINDOW = 48  # pixels of the picture, so that a tiny head keeps its surroundings
_JPEG_QUALITY = 82
_TRUTH, _NO_HELMET, _OTHER = (255, 255, 255), (240, 72, 62), (64, 170, 255)  # RGB


@dataclass(frozen=True)
class ListedBox:
    """A place to cut out: a missed head, a false alarm, a label to look at.

    picture:  index in the data set
    box_xyxy: pixels of the picture
    says:     goes below the crop
    """

    picture: int
    box_xyxy: tuple[float, float, float, float]
    says: str


@dataclass(frozen=True)
class ListedCrop:
    """One listed box, cut out of its picture.

    number:     its place in the list, from 0
    picture:    file name
    box_pixels: the longer side of the box in the picture
    says:       as listed
    jpegs:      one for each detector, base64: its detections above its thresholds drawn
    """

    number: int
    picture: str
    box_pixels: int
    says: str
    jpegs: tuple[str, ...]


def cut_listed(
    listed: Sequence[ListedBox],
    sides: Sequence[Predictions],
    thresholds: Sequence[Sequence[float]],
    dataset: Dataset,
    no_helmet_labels: Sequence[int],
    limit: int = 24,
) -> tuple[ListedCrop, ...]:
    """Crops of at most `limit` of these boxes, in their order.  Pictures are read one after another.

    sides:      what each detector found in the data set
    thresholds: for each detector a score for each class; a detection is drawn from it on

    Every labelled box is white and dashed, detections of the no_helmet class are red, all others blue.  A picture
    that cannot be read any more leaves its crop out.
    Raises ValueError where detectors and thresholds do not fit, or a box lies in a picture that was not evaluated.
    """
    if len(sides) != len(thresholds):
        raise ValueError(f"{len(thresholds)} lists of thresholds do not fit {len(sides)} detectors.")
    for by_class in thresholds:
        check_thresholds(by_class, dataset)
    limits = [np.asarray(by_class, dtype=np.float64) for by_class in thresholds]
    crops: list[ListedCrop] = []
    for number, item in enumerate(listed):
        if len(crops) == limit:
            break
        found = [_seen(side, item.picture) for side in sides]
        shown = [side[side.scores >= least[side.labels]] for side, least in zip(found, limits, strict=True)]
        sample = dataset[item.picture]
        box = np.array(item.box_xyxy, dtype=np.float32)
        try:
            image = sample.read_image()
        except UnreadableImageError:  # it was readable when it was evaluated, so it went since
            continue
        jpegs = tuple(_draw(image, box, sample.boxes_xyxy, side, no_helmet_labels) for side in shown)
        crops.append(ListedCrop(number, sample.image_path.name, _longest(box), item.says, jpegs))
    return tuple(crops)


def _draw(
    image: Image,
    box_xyxy: NDArray[np.float32],
    labelled_xyxy: NDArray[np.float32],
    detections: Detections,
    no_helmet_labels: Sequence[int],
) -> str:
    """The crop around a box with labelled boxes, (G, 4), and detections drawn, as a base64 JPEG."""
    drawn, corner, scale = cut_window(image, box_xyxy)
    for labelled in labelled_xyxy:
        _dashed(drawn, (labelled.reshape(2, 2) - corner) * scale)
    for detection, score, label in zip(detections.boxes_xyxy, detections.scores, detections.labels):
        colour = _NO_HELMET if label in no_helmet_labels else _OTHER
        _labelled_box(drawn, (detection.reshape(2, 2) - corner) * scale, float(score), colour)
    return _jpeg(drawn)


def _longest(box: NDArray[np.float32]) -> int:
    return round(float(max(box[2] - box[0], box[3] - box[1])))


def cut_window(image: Image, box_xyxy: NDArray[np.float32]) -> tuple[Image, NDArray[np.float64], float]:
    """A square around a box, scaled to CROP_SIZE: the picture, its left top corner in `image`, pixels per pixel.

    The square is moved into the picture; where the picture is smaller than the square, the rest stays grey.
    """
    height, width = image.shape[:2]
    longest = float(max(box_xyxy[2] - box_xyxy[0], box_xyxy[3] - box_xyxy[1]))
    side = round(max(longest * _CONTEXT, _SMALLEST_WINDOW))
    centre = np.array([box_xyxy[0] + box_xyxy[2], box_xyxy[1] + box_xyxy[3]], dtype=np.float64) / 2
    corner = np.round(centre - side / 2)
    corner = np.maximum(np.minimum(corner, np.array([width, height]) - side), 0)
    left, top = int(corner[0]), int(corner[1])
    square = np.full((side, side, 3), 128, dtype=np.uint8)
    part = image[top : top + side, left : left + side]
    square[: part.shape[0], : part.shape[1]] = part
    shrinks = side > CROP_SIZE
    scaled = cv2.resize(square, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(scaled, dtype=np.uint8), corner, CROP_SIZE / side


def _seen(predictions: Predictions, picture: int) -> Detections:
    if picture not in predictions.indices:
        raise ValueError(f"Picture {picture} was not evaluated, so it is not known what is found in it.")
    return predictions.detections[predictions.indices.index(picture)]


def _dashed(image: Image, corners: NDArray[np.float64]) -> None:
    """A dashed white rectangle on a dark line, to be seen on any ground."""
    (left, top), (right, bottom) = corners
    lines = [((left, top), (right, top)), ((left, bottom), (right, bottom))]
    lines += [((left, top), (left, bottom)), ((right, top), (right, bottom))]
    for start, end in lines:
        length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
        for at in np.arange(0.0, length, 10.0):
            steps = np.array([[at], [min(at + 5.0, length)]]) / max(length, 1.0)
            first, last = np.round(np.array(start) + steps * (np.array(end) - np.array(start))).astype(int).tolist()
            cv2.line(image, first, last, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.line(image, first, last, _TRUTH, 1, cv2.LINE_AA)


def _labelled_box(image: Image, corners: NDArray[np.float64], score: float, colour: tuple[int, int, int]) -> None:
    first, last = np.round(corners).astype(int).tolist()
    if last[0] < 0 or last[1] < 0 or first[0] >= image.shape[1] or first[1] >= image.shape[0]:
        return
    cv2.rectangle(image, first, last, colour, 2, cv2.LINE_AA)
    text = f"{score:.2f}"
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
    left = min(max(first[0], 0), image.shape[1] - width - 6)
    bottom = first[1] if first[1] > height + 8 else min(last[1] + height + 8, image.shape[0])
    cv2.rectangle(image, (left, bottom - height - 7), (left + width + 6, bottom), colour, cv2.FILLED)
    place = (left + 3, bottom - 4)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)


def _jpeg(image: Image) -> str:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return base64.b64encode(encoded.tobytes()).decode("ascii")
