from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helmlite.data.dataset import Sample, dataset_of
from helmlite.data.load import load_dataset
from helmlite.data.preview import ascii_name, colour_of, contact_sheet
from helmlite.data.roles import Class, with_roles

WritePicture = Callable[..., object]


def count_of(sheet: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((sheet == np.array(colour)).all(axis=2).sum())


def test_boxes_are_drawn_in_the_colour_of_their_role(yolo_set: Path) -> None:
    classes = with_roles(["helmet", "未戴头盔"])
    dataset = load_dataset(yolo_set, "train")
    sheet = contact_sheet(dataset, count=6, columns=3, cell_px=200)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    bare = contact_sheet(dataset.with_classes(classes, {1: 1}), count=6, columns=3, cell_px=200)
    green, red = colour_of(classes, 0), colour_of(classes, 1)
    # six boxes of 20 x 20 px on the sheet, one line each, and the legend's square of 15 x 15
    assert count_of(sheet, green) == count_of(sheet, red) == 15 * 15 + 6 * 4 * 22
    assert count_of(bare, green) == 15 * 15


def test_the_grid_has_the_asked_shape_and_the_seed_chooses(yolo_set: Path) -> None:
    dataset = load_dataset(yolo_set, "train")
    # pictures of 100 x 50: a cell of 200 + 6 px, rows of 100 + 18 + 6, a legend of 30
    assert contact_sheet(dataset, count=5, columns=3, cell_px=200).shape == (30 + 2 * 124, 3 * 206, 3)
    assert contact_sheet(dataset, count=99, columns=6, cell_px=200).shape == (30 + 124, 6 * 206, 3)
    one = [contact_sheet(dataset, count=1, cell_px=200, seed=seed) for seed in (0, 0, 1, 2, 3)]
    np.testing.assert_array_equal(one[0], one[1])
    assert any(not np.array_equal(one[0], other) for other in one[2:])


def test_a_picture_that_cannot_be_read_is_a_cell_that_says_so(yolo_set: Path) -> None:
    (yolo_set.parent / "images/val/val_0.jpg").write_bytes(b"broken")
    (yolo_set.parent / "labels/val/val_1.txt").write_text("garbage\n")
    sheet = contact_sheet(load_dataset(yolo_set, "val"), cell_px=200)
    assert sheet.shape == (30 + 124, 2 * 206, 3)


def test_boxes_far_outside_and_many_unicode_classes_do_not_break_it(
    tmp_path: Path, write_picture: WritePicture
) -> None:
    path = tmp_path / "电动车一.png"
    write_picture(path, 30, 400)
    boxes = np.array([[-1e9, -5, 1e9, 5], [3, 3, 3, 3]], np.float32)
    names = [f"类别{number}" for number in range(40)]
    dataset = dataset_of([Sample(path, boxes, np.array([0, 39]))], with_roles(names))
    sheet = contact_sheet(dataset, cell_px=64)
    assert sheet.shape[0] > 30 * 10  # the legend takes many lines


def test_names_are_written_in_ascii() -> None:
    assert ascii_name(Class("未戴头盔", "no_helmet"), 1) == "1 no_helmet"
    assert ascii_name(Class("车牌"), 2) == "2 class"
    assert ascii_name(Class("helmet", "helmet"), 0) == "0 helmet"
    assert ascii_name(Class("Hard hat", "helmet"), 0) == "0 Hard hat (helmet)"


@pytest.mark.parametrize(("count", "columns", "cell_px"), [(0, 6, 200), (5, 0, 200), (5, 6, 3)])
def test_impossible_sheets_are_refused(yolo_set: Path, count: int, columns: int, cell_px: int) -> None:
    with pytest.raises(ValueError, match="A preview needs pictures"):
        contact_sheet(load_dataset(yolo_set, "val"), count, columns, cell_px)
