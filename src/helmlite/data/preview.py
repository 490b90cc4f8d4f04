"""A contact sheet: some pictures of a data set with their boxes, one look at which shows what the labels are worth."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from helmlite.data.dataset import Dataset, Sample
from helmlite.data.roles import Class
from helmlite.detections import Image

Colour = tuple[int, int, int]  # RGB

_OF_ROLE: dict[str, Colour] = {
    "helmet": (60, 200, 90),
    "no_helmet": (235, 50, 45),
    "rider": (70, 140, 255),
    "two_wheeler": (245, 190, 40),
    "plate": (215, 80, 225),
    "person": (60, 215, 225),
}
_OF_NO_ROLE: tuple[Colour, ...] = ((240, 240, 240), (160, 160, 255), (255, 160, 120), (170, 220, 150))
_BACKGROUND, _TEXT = (24, 24, 27), (225, 225, 225)
_CAPTION_PX, _GAP_PX, _LEGEND_PX = 18, 6, 30
_THICK_FROM_PX = 24  # side of a box, on the sheet
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def contact_sheet(dataset: Dataset, count: int = 24, columns: int = 6, cell_px: int = 260, seed: int = 0) -> Image:
    """Some pictures, drawn at random by `seed`, in a grid under a legend.  (H, W, 3) RGB

    Boxes have the colour of their class's role.  A picture that cannot be read is a cell that says so.
    Raises ValueError for an empty data set, or a count, width or cell that is not positive.
    """
    if not len(dataset) or min(count, columns) < 1 or cell_px < 32:
        raise ValueError(
            f"A preview needs pictures, a count and columns of at least 1 and cells of at least 32 px; "
            f"got {len(dataset)} pictures, count {count}, {columns} columns, {cell_px} px."
        )
    chosen = sorted(np.random.default_rng(seed).permutation(len(dataset))[:count].tolist())
    columns = min(columns, len(chosen))
    rows = []
    for start in range(0, len(chosen), columns):
        pictures = [_picture(dataset, index, cell_px) for index in chosen[start : start + columns]]
        height = max(picture.shape[0] for picture in pictures)  # no row is higher than its pictures
        cells = [
            _cell(picture, _caption(dataset, index, cell_px), height, cell_px)
            for picture, index in zip(pictures, chosen[start:])
        ]
        cells += [np.full_like(cells[0], _BACKGROUND)] * (columns - len(cells))
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate([_legend(dataset.classes, rows[0].shape[1]), *rows])


def colour_of(classes: Sequence[Class], label: int) -> Colour:
    """The colour in which boxes of this class are drawn."""
    role = classes[label].role
    return _OF_ROLE[role] if role else _OF_NO_ROLE[label % len(_OF_NO_ROLE)]


def ascii_name(item: Class, number: int) -> str:
    """What can be written of a class with OpenCV's letters: its name, else its role, always its number.

    >>> ascii_name(Class("未戴头盔", "no_helmet"), 1), ascii_name(Class("head", "no_helmet"), 1)
    ('1 no_helmet', '1 head (no_helmet)')
    """
    if not item.name.isascii():
        return f"{number} {item.role or 'class'}"
    return f"{number} {item.name}" + (f" ({item.role})" if item.role not in (None, item.name) else "")


def _picture(dataset: Dataset, index: int, cell_px: int) -> Image:
    """The picture as it is shown, or a plate that says that it cannot be."""
    try:
        return _drawn(dataset[index], dataset.classes, cell_px)
    except ValueError:  # of which UnreadableImageError is one
        plate: Image = np.full((cell_px // 2, cell_px, 3), _BACKGROUND, np.uint8)
        cv2.putText(plate, "not readable", (12, cell_px // 4), _FONT, 0.6, _OF_ROLE["no_helmet"], 1, cv2.LINE_AA)
        return plate


def _caption(dataset: Dataset, index: int, cell_px: int) -> str:
    """Position in the split and the end of the name, in OpenCV's letters."""
    stem = "".join(letter if letter.isascii() else "?" for letter in dataset.image_paths[index].stem)
    room = max(cell_px // 8 - 5, 8)
    return f"{index} {stem if len(stem) <= room else '..' + stem[-room + 2 :]}"


def _cell(picture: Image, caption: str, height: int, width: int) -> Image:
    """The picture in the middle of its place, the caption below."""
    cell: Image = np.full((height + _CAPTION_PX + _GAP_PX, width + _GAP_PX, 3), _BACKGROUND, np.uint8)
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    cv2.putText(cell, caption, (2, height + _CAPTION_PX - 5), _FONT, 0.38, _TEXT, 1, cv2.LINE_AA)
    return cell


def _drawn(sample: Sample, classes: Sequence[Class], cell_px: int) -> Image:
    """The picture shrunk into the cell, with its boxes."""
    image = sample.read_image()
    scale = cell_px / max(image.shape[:2])
    size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    small: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    limit = np.array([*size, *size], np.float32) * 4  # a box far outside must not overflow OpenCV's numbers
    for label, box in zip(sample.labels.tolist(), np.clip(sample.boxes_xyxy * scale, -limit, limit)):
        left, top, right, bottom = (round(float(value)) for value in box)
        line_px = 2 if min(right - left, bottom - top) >= _THICK_FROM_PX else 1
        # a dark line outside shows on any ground, and the head itself stays free
        cv2.rectangle(small, (left - 2, top - 2), (right + 2, bottom + 2), (0, 0, 0), 1)
        cv2.rectangle(small, (left - 1, top - 1), (right + 1, bottom + 1), colour_of(classes, label), line_px)
    return small


def _legend(classes: Sequence[Class], width: int) -> Image:
    """One line, or several where the classes need them."""
    places, left, line = [], 8, 0
    for number, item in enumerate(classes):
        text = ascii_name(item, number)
        needed = 24 + int(cv2.getTextSize(text, _FONT, 0.5, 1)[0][0]) + 24
        if left > 8 and left + needed > width:
            left, line = 8, line + 1
        places.append((left, line, text, colour_of(classes, number)))
        left += needed
    legend: Image = np.full((_LEGEND_PX * (line + 1), width, 3), _BACKGROUND, np.uint8)
    for left, line, text, colour in places:
        top = line * _LEGEND_PX + 8
        cv2.rectangle(legend, (left, top), (left + 14, top + 14), colour, -1)
        cv2.putText(legend, text, (left + 22, top + 12), _FONT, 0.5, _TEXT, 1, cv2.LINE_AA)
    return legend
