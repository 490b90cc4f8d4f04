"""Pictures with what was found drawn into them, alone or two detectors side by side.

OpenCV 5 brings a font for every language; older versions know ASCII only, and there a class with another name is
written as its role (`written_name`, which `can_write` explains to the user).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from helmlite.data.roles import Class
from helmlite.detections import Detections, Image
from helmlite.runtime.agreement import Agreement, compare

Colour = tuple[int, int, int]  # RGB

_ROLE_COLOURS: dict[str, Colour] = {
    "helmet": (40, 170, 75),
    "no_helmet": (225, 45, 45),
    "rider": (45, 110, 225),
    "two_wheeler": (150, 90, 215),
    "plate": (20, 150, 165),
    "person": (110, 115, 125),
}
_OTHER_COLOURS: tuple[Colour, ...] = ((200, 120, 20), (190, 60, 150), (90, 130, 30), (60, 90, 160))
_ONE_SIDE: Colour = (255, 200, 0)
_OTHER_CLASS: Colour = (255, 0, 220)
_BAR: Colour = (28, 30, 34)
_WHITE: Colour = (255, 255, 255)
_BLACK: Colour = (0, 0, 0)
_UNICODE_FONT = hasattr(cv2, "FontFace")  # OpenCV 5


@dataclass(frozen=True)
class Panel:
    """One detector's view of a picture.  latency_ms: of this picture, from the picture to the boxes."""

    title: str
    found: Detections
    classes: tuple[Class, ...]
    latency_ms: float


def can_write(text: str) -> bool:
    """Whether the installed OpenCV can draw this text as it is."""
    return _UNICODE_FONT or text.isascii()


def written_name(classes: Sequence[Class], label: int) -> str:
    """How a class is called in pictures: its name, or its role where OpenCV cannot draw the name."""
    item = classes[label]
    if can_write(item.name):
        return item.name
    return item.role or f"class {label}"


def class_colour(classes: Sequence[Class], label: int) -> Colour:
    """RGB: green for helmets, red for bare heads, and one of its own for every other class."""
    role = classes[label].role
    return _ROLE_COLOURS[role] if role else _OTHER_COLOURS[label % len(_OTHER_COLOURS)]


def annotate(image: Image, found: Detections, classes: Sequence[Class], show_scores: bool = False) -> Image:
    """A copy of the picture with a box and the class's name for each detection.  (H, W, 3) RGB uint8."""
    canvas = image.copy()
    for box, score, label in _worst_first(found):
        _draw_box(canvas, box, _caption(classes, label, score, show_scores), class_colour(classes, label))
    return canvas


def side_by_side(image: Image, left: Panel, right: Panel, show_scores: bool = False) -> tuple[Image, Agreement]:
    """Both detectors' views of one picture, with their names and speed, and where they disagree.

    A second frame, dashed, marks what only one of them found (yellow) or what they call differently (magenta).
    """
    agreement = compare(left.found, right.found, left.classes, right.classes)
    scale = _viewing_scale(image)
    panels = []
    for panel, only, others in (
        (left, agreement.only_left, [pair[0] for pair in agreement.other_class]),
        (right, agreement.only_right, [pair[1] for pair in agreement.other_class]),
    ):
        view = _resized(image, scale)
        boxes = (panel.found.boxes_xyxy * np.float32(scale)).astype(np.float32)
        found = Detections(boxes, panel.found.scores, panel.found.labels)
        for index in only:
            _draw_dashed(view, boxes[index], _ONE_SIDE)
        for index in others:
            _draw_dashed(view, boxes[index], _OTHER_CLASS)
        view = annotate(view, found, panel.classes, show_scores)  # on top, so that captions stay whole
        panels.append(np.vstack([_bar(view.shape[1], _title(panel, view.shape[1])), view]))
    gap = np.full((panels[0].shape[0], 4, 3), _BAR, dtype=np.uint8)
    both = np.hstack([panels[0], gap, panels[1]])
    return np.vstack([both, _legend(both.shape[1], agreement)]), agreement


def _worst_first(found: Detections) -> list[tuple[np.ndarray, float, int]]:
    """So that the best detection lies on top."""
    rows = list(zip(found.boxes_xyxy, found.scores.tolist(), found.labels.tolist(), strict=True))
    return rows[::-1]


def _caption(classes: Sequence[Class], label: int, score: float, show_scores: bool) -> str:
    name = written_name(classes, label)
    return f"{name} {score:.2f}" if show_scores else name


def _draw_box(canvas: Image, box: np.ndarray, caption: str, colour: Colour) -> None:
    """A frame with its caption above it, or inside where there is no room above."""
    left, top, right, bottom = (round(float(value)) for value in box)
    thickness = _line_width(canvas)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, thickness, cv2.LINE_AA)
    size = _text_size(canvas)
    width, height = _measure(caption, size)
    box_height = height + size // 3
    label_left = int(np.clip(left - thickness // 2, 0, max(canvas.shape[1] - width - 4, 0)))
    label_top = top - box_height if top >= box_height else top
    corner = (label_left + width + 4, label_top + box_height)
    cv2.rectangle(canvas, (label_left, label_top), corner, colour, cv2.FILLED)
    _write(canvas, caption, label_left + 2, label_top + box_height - size // 4, size, _WHITE)


def _draw_dashed(canvas: Image, box: np.ndarray, colour: Colour) -> None:
    """A dashed frame around a box, a little outside of it, black beneath so that it shows on every ground."""
    width = _line_width(canvas)
    margin = 2 * width
    left, top, right, bottom = (round(float(value)) for value in box)
    left, top, right, bottom = left - margin, top - margin, right + margin, bottom + margin
    dash = 6 * width
    for shade, extra in ((_BLACK, 2), (colour, 0)):
        for start in range(left, right, 2 * dash):
            end = min(start + dash, right)
            cv2.line(canvas, (start, top), (end, top), shade, width + extra)
            cv2.line(canvas, (start, bottom), (end, bottom), shade, width + extra)
        for start in range(top, bottom, 2 * dash):
            end = min(start + dash, bottom)
            cv2.line(canvas, (left, start), (left, end), shade, width + extra)
            cv2.line(canvas, (right, start), (right, end), shade, width + extra)


def _title(panel: Panel, width: int) -> str:
    name = panel.title if can_write(panel.title) else "detector"
    speed = f"{panel.latency_ms:.1f} ms"
    room = max(width // 9 - len(speed) - 3, 4)
    return f"{name if len(name) <= room else name[: room - 2] + '..'}   {speed}"


def _bar(width: int, text: str) -> Image:
    bar = np.full((32, width, 3), _BAR, dtype=np.uint8)
    _write(bar, text, 8, 22, 18, _WHITE)
    return bar


def _legend(width: int, agreement: Agreement) -> Image:
    """The strip below both panels: how often they agree, and what the dashed frames mean."""
    strip = np.full((32, width, 3), _BAR, dtype=np.uint8)
    one_sided = f"only left {len(agreement.only_left)}, only right {len(agreement.only_right)}"
    position = 8
    for text, colour in (
        (f"agree {len(agreement.same)}", _WHITE),
        (one_sided, _ONE_SIDE),
        (f"other class {len(agreement.other_class)}", _OTHER_CLASS),
    ):
        _write(strip, text, position, 22, 17, colour)
        position += _measure(text, 17)[0] + 26
    return strip


def _viewing_scale(image: Image) -> float:
    """So that a panel is between 480 and 960 pixels wide and its captions can be read."""
    return float(np.clip(image.shape[1], 480, 960) / image.shape[1])


def _resized(image: Image, scale: float) -> Image:
    if scale == 1:
        return image.copy()
    size = (round(image.shape[1] * scale), max(round(image.shape[0] * scale), 1))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _line_width(canvas: Image) -> int:
    return max(2, round(min(canvas.shape[:2]) / 300)) if min(canvas.shape[:2]) >= 200 else 1


def _text_size(canvas: Image) -> int:
    """Height of a line of text in pixels."""
    return int(np.clip(min(canvas.shape[:2]) / 40, 13, 40))


def _measure(text: str, size: int) -> tuple[int, int]:
    """Width and height of a line of text in pixels."""
    if _UNICODE_FONT:
        left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace("sans"), size, 500)
        return int(left + width), size
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size / 28, 1)
    return int(width), size


def _write(canvas: Image, text: str, x: int, baseline: int, size: int, colour: Colour) -> None:
    if _UNICODE_FONT:
        cv2.putText(canvas, text, (x, baseline), colour, cv2.FontFace("sans"), size, 500)
    else:
        cv2.putText(canvas, text, (x, baseline), cv2.FONT_HERSHEY_SIMPLEX, size / 28, colour, 1, cv2.LINE_AA)
