"""A contact sheet: some pictures of a data set with their boxes, one look at which shows what the labels are worth."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from helmlite.data.dataset import Dataset, Sample, UnreadableImageError
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
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:count]
    cells = [_cell(dataset, int(index), cell_px) for index in sorted(chosen)]
    columns = min(columns, len(cells))
    blank = np.full_like(cells[0], _BACKGROUND)
    cells += [blank] * (-len(cells) % columns)
    rows = [np.concatenate(cells[start : start + columns], axis=1) for start in range(0, len(cells), columns)]
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


def _cell(dataset: Dataset, index: int, cell_px: int) -> Image:
    cell: Image = np.full((cell_px + _CAPTION_PX + _GAP_PX, cell_px + _GAP_PX, 3), _BACKGROUND, np.uint8)
    path = dataset.image_paths[index]
    try:
        sample = dataset[index]
        picture = _drawn(sample, dataset.classes, cell_px)
    except (UnreadableImageError, ValueError):
        cv2.putText(cell, "not readable", (12, cell_px // 2), _FONT, 0.6, _OF_ROLE["no_helmet"], 1, cv2.LINE_AA)
    else:
        top, left = (cell_px - picture.shape[0]) // 2, (cell_px - picture.shape[1]) // 2
        cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    stem = "".join(letter if letter.isascii() else "?" for letter in path.stem)
    room = cell_px // 8 - 5
    caption = f"{index} {stem if len(stem) <= room else '..' + stem[-room + 2 :]}"
    cv2.putText(cell, caption, (2, cell_px + _CAPTION_PX - 5), _FONT, 0.38, _TEXT, 1, cv2.LINE_AA)
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
        cv2.rectangle(small, (left, top), (right, bottom), (0, 0, 0), 3)  # a dark edge shows on any ground
        cv2.rectangle(small, (left, top), (right, bottom), colour_of(classes, label), 1 if cell_px < 200 else 2)
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
