"""How often pictures are to be trained on: what a table of weights says, and what it may not say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.convert import convert_dataset
from helmlite.data.load import load_dataset, match_classes
from helmlite.data.roles import with_roles
from helmlite.data.weights import read_weights, write_weights

NAMES = ("a", "b", "c")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures with one box each, in train and again in val, and a data.yaml that names a table of weights."""
    for folder in ("train", "val"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        (tmp_path / "labels" / folder).mkdir(parents=True)
        for number, name in enumerate(NAMES):
            picture = np.full((40, 60, 3), 40 * number, np.uint8)
            cv2.imwrite(str(tmp_path / "images" / folder / f"{name}.png"), picture)
            (tmp_path / "labels" / folder / f"{name}.txt").write_text(f"{number % 2} 0.5 0.5 0.5 0.5\n")
    lines = "train: images/train\nval: images/val\nweights: weights.csv\nnames: [helmet, no_helmet]\n"
    (tmp_path / "data.yaml").write_text(lines)
    return tmp_path / "data.yaml"


def table(data: Path, *rows: str, name: str = "weights.csv") -> None:
    (data.parent / name).write_text("\n".join(["picture,weight", *rows]) + "\n")


def weights(data: Path, split: str = "train") -> list[float]:
    return [sample.weight for sample in load_dataset(data, split)]


def test_a_picture_has_the_weight_that_the_table_says_and_1_where_it_is_not_named(data: Path) -> None:
    table(data, "images/train/b.png,3", f"{data.parent / 'images/train/c.png'},0.5")
    assert weights(data) == [1, 3, 0.5]
    assert weights(data, "val") == [1, 1, 1]


def test_weights_survive_renumbering_and_parts_of_the_data_set(data: Path) -> None:
    table(data, "images/train/b.png,3")
    turned = match_classes(load_dataset(data, "train"), with_roles(["no_helmet", "helmet"]))
    assert [sample.weight for sample in turned.subset([1, 0])] == [3, 1]


def test_several_tables_count_from_their_own_folders(data: Path) -> None:
    table(data, "images/train/a.png,2")
    (data.parent / "more").mkdir()
    table(data, "../images/train/c.png,4", name="more/w.csv")
    data.write_text(data.read_text().replace("weights: weights.csv", "weights: [weights.csv, more/w.csv]"))
    assert weights(data) == [2, 1, 4]


def test_weights_change_the_hash_and_their_absence_does_not(data: Path) -> None:
    without = Path(data.parent / "plain.yaml")
    without.write_text(data.read_text().replace("weights: weights.csv\n", ""))
    table(data, "images/train/a.png,1")
    assert load_dataset(data, "train").sha256() == load_dataset(without, "train").sha256()
    table(data, "images/train/a.png,2")
    assert load_dataset(data, "train").sha256() != load_dataset(without, "train").sha256()
    assert load_dataset(data, "val").sha256() == load_dataset(without, "val").sha256()


def test_an_empty_table_and_tables_of_ones_are_no_weights(data: Path) -> None:
    paths = [data.parent / "images" / "train" / f"{name}.png" for name in NAMES]
    table(data)
    assert read_weights([data.parent / "weights.csv"], paths) == ()
    write_weights(data.parent / "weights.csv", {"images/train/a.png": 1.0})
    assert read_weights([data.parent / "weights.csv"], paths) == ()
    write_weights(data.parent / "weights.csv", {"images/train/a.png": 2.5})
    assert read_weights([data.parent / "weights.csv"], paths) == (2.5, 1.0, 1.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("images/train/z.png,2",), "weights.csv:2: 'images/train/z.png' is no picture of the split 'train'."),
        (("images/val/a.png,2",), "weights.csv:2: 'images/val/a.png' is no picture of the split 'train'."),
        (("images/train/a.png,1", "images/train/a.png,2"), "weights.csv:3: .* has a weight already .weights.csv:2."),
        (("images/train/a.png,-1",), "weights.csv:2: a weight is a number from 0 to 1000; got '-1'."),
        (("images/train/a.png,inf",), "got 'inf'"),
        (("images/train/a.png,nan",), "got 'nan'"),
        (("images/train/a.png,1001",), "got '1001'"),
        (("images/train/a.png,many",), "got 'many'"),
        (("images/train/a.png",), "got 'None'"),
        (tuple(f"images/train/{name}.png,0" for name in NAMES), "every picture has the weight 0"),
    ],
)
def test_what_is_no_weight_is_one_clear_line(data: Path, rows: tuple[str, ...], message: str) -> None:
    table(data, *rows)
    with pytest.raises(ValueError, match=message):
        load_dataset(data, "train")
    assert len(load_dataset(data, "val")) == 3


def test_a_table_that_is_missing_or_has_other_columns(data: Path) -> None:
    with pytest.raises(ValueError, match=r"weights.csv: no such file; data.yaml names it as 'weights'"):
        load_dataset(data, "train")
    (data.parent / "weights.csv").write_text("file,times\na.png,2\n")
    with pytest.raises(ValueError, match="weights need the columns picture and weight; got"):
        load_dataset(data, "train")


def test_yolo_keeps_weights_and_other_formats_say_that_they_cannot(data: Path, tmp_path: Path) -> None:
    table(data, "images/train/b.png,3")
    assert convert_dataset(data, "yolo", tmp_path / "new").skipped == ()
    assert weights(tmp_path / "new" / "data.yaml") == [1, 3, 1]
    assert convert_dataset(data, "coco", tmp_path / "coco").skipped == (
        "weights of 1 pictures: coco has no place for them",
    )
