"""The four real sets: what is read equals the tables of their SOURCE.md, whichever format it is read from."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from helmlite.data.dataset import image_size, read_image
from helmlite.data.load import load_dataset, splits_of
from helmlite.data.voc import load_voc, voc_splits

SETS = ("bikes_helmets", "india_traffic", "thai_cctv", "hardhat")


def table_of(folder: Path) -> dict[str, tuple[int, int, int]]:
    """split -> pictures, helmet, no_helmet as SOURCE.md states them."""
    text = (folder / "SOURCE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (train|val|test) \| (\d+) \| (\d+) \| (\d+) \|", text, flags=re.MULTILINE)
    return {split: (int(pictures), int(helmet), int(bare)) for split, pictures, helmet, bare in rows}


@pytest.mark.parametrize("name", SETS)
def test_yolo_and_voc_give_the_counts_that_the_source_states_and_the_same_boxes(shared: Path, name: str) -> None:
    folder = shared / "data" / name
    table = table_of(folder)
    assert set(table) == set(splits_of(folder / "data.yaml")) == set(voc_splits(folder)) == {"train", "val", "test"}
    for split, expected in table.items():
        yolo, voc = load_dataset(folder / "data.yaml", split), load_voc(folder, split)
        for dataset in (yolo, voc):
            names = [item.name for item in dataset.classes]
            count = Counter(names[label] for sample in dataset for label in sample.labels)
            assert (len(dataset), count["helmet"], count["no_helmet"]) == expected
        by_stem = {sample.image_path.stem: sample for sample in voc}
        for sample in yolo:
            other = by_stem[sample.image_path.stem]
            assert sample.image_path.name == other.image_path.name
            np.testing.assert_array_equal(sample.labels, other.labels)
            np.testing.assert_allclose(sample.boxes_xyxy, other.boxes_xyxy, atol=0.51)


@pytest.mark.parametrize("name", SETS)
def test_the_size_from_the_header_is_that_of_the_decoded_picture(shared: Path, name: str) -> None:
    dataset = load_dataset(shared / "data" / name, "val")
    for path in dataset.image_paths:
        height, width = read_image(path).shape[:2]
        assert image_size(path) == (width, height)


def test_groups_come_from_meta_csv(shared: Path) -> None:
    groups = {sample.group for sample in load_dataset(shared / "data" / "thai_cctv", "test")}
    assert None not in groups and len(groups) > 1
