"""`helmlite mine` and `mine-back`: a turn of the crank over the command line, on drawn streets and on toy pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.compress.shipped import DEMO_WEIGHTS
from helmlite.data.load import load_dataset
from helmlite.data.scenes import draw_sequence, write_scenes
from helmlite.mine.mined_set import read_mined

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, train=8, val=2, test=2, seed=3, size=(320, 240))
    return folder / "data.yaml"


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """Toy pictures: sure (score 0.9), at the threshold (0.5), below it (0.45), nothing (black), by their red."""
    folder = tmp_path / "toys"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, red in enumerate((255, 142, 128, 0)):
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[..., 2] = red
        picture[..., 1] = cv2.resize(
            random.integers(0, 255, (8, 8), dtype=np.uint8), (64, 64)
        )  # which tells them apart
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


def test_a_turn_of_the_crank_on_drawn_streets(run: Run, scenes: Path, tmp_path: Path) -> None:
    street, out, back = scenes.parent / "images/train", tmp_path / "mined", tmp_path / "back"
    models = ("--model", DEMO_WEIGHTS, "--model", f"{DEMO_WEIGHTS},input_size=192,name=small")
    code, said, err = run("mine", street, *models, "--out", out, "--count", 5, "--for", "cvat")
    assert (code, err) == (0, "")
    described = read_mined(out)
    assert described.frames == 8 and 1 <= len(described.pictures) <= 5
    assert [item.name for item in described.detectors] == ["tiny-scenes", "small"]
    assert "8 looked at" in said and f"{len(described.pictures)} pictures (" in said and "look-alikes were not" in said
    assert (out / "annotations.xml").is_file() and "upload" in said
    # the person: the first picture shows nothing, the others are right
    first, *_ = described.pictures
    (out / "labels/train" / first.picture).with_suffix(".txt").write_text("")
    words = ("mine-back", out / "data.yaml", "--mined", out, "--out", back, "--data", scenes, "--weight", 4)
    code, said, err = run(*words)
    assert (code, err) == (0, "")
    assert f"hard negative: {len(first.labels)}, " in said
    data = load_dataset(back / "data.yaml", "train")
    assert len(data) == 8 + len(described.pictures)
    by_name = {sample.image_path: sample for sample in data}
    emptied = by_name[back / "images/train" / first.picture]
    assert len(emptied.labels) == 0 and emptied.weight == (4.0 if first.labels else 1.0)
    assert len(load_dataset(back / "data.yaml", "val")) == 2
    code, said, err = run("mine", street, *models, "--out", tmp_path / "again", "--known", scenes)
    assert (code, len(err.splitlines())) == (2, 1) and " like pictures that are labelled already" in err


def test_the_classes_of_ones_own_set_are_offered(run: Run, bundle: Path, toys: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    for split in ("train", "val"):
        write_toy(own, split, toys / "0.png")
    (own / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [rider, helmet, bare]\n")
    words = ("mine", toys, "--model", bundle, "--min-score", 0.5, "--for", "cvat")
    assert run(*words, "--out", tmp_path / "few")[0] == 0
    code, said, _ = run(
        "mine-back", tmp_path / "few", "--mined", tmp_path / "few", "--out", tmp_path / "a", "--data", own
    )
    pictures = len(read_mined(tmp_path / "few").pictures)
    assert code == 0 and f"{pictures} of {pictures} pictures came back exactly as suggested" in said
    assert "Nobody was asked for rider:" in said and "--classes-of DATA" in said
    roles = ("--role", "no_helmet=bare", "--role", "two_wheeler=rider")  # of the model's classes, and of the set's
    code, said, err = run(*words, "--out", tmp_path / "all", "--classes-of", own, *roles)
    assert (code, err) == (0, "")
    labels = json.loads((tmp_path / "all/labels.json").read_text())
    assert [item["name"] for item in labels] == ["rider", "helmet", "bare"]
    assert [item.role for item in read_mined(tmp_path / "all").classes] == ["two_wheeler", "helmet", "no_helmet"]
    code, said, _ = run(
        "mine-back", tmp_path / "all", "--mined", tmp_path / "all", "--out", tmp_path / "b", "--data", own
    )
    assert code == 0 and "Nobody was asked" not in said


def write_toy(folder: Path, split: str, picture: Path) -> None:
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    (folder / f"images/{split}/x.png").write_bytes(picture.read_bytes())
    (folder / f"labels/{split}/x.txt").write_text("0 0.5 0.5 0.2 0.2\n")


def test_nothing_is_written_into_the_data_set(run: Run, bundle: Path, toys: Path, tmp_path: Path) -> None:
    own, mined = tmp_path / "own", tmp_path / "mined"
    write_toy(own, "train", toys / "0.png")
    (own / "data.yaml").write_text("train: images\nnames: [helmet, bare]\n")
    words = ("mine", toys, "--model", bundle)
    assert run(*words, "--out", mined)[0] == 0
    for place in ("images/new", "labels/new", "images"):
        for line in (
            ("mine-back", mined, "--mined", mined, "--data", own / "data.yaml"),
            (*words, "--known", own / "data.yaml"),
            (*words, "--classes-of", own),
        ):
            code, _, err = run(*line, "--out", own / place)
            assert code == 2 and len(err.splitlines()) == 1
            assert "which this command reads" in err or "not empty" in err
    assert sorted(item.name for item in own.rglob("*")) == [
        "data.yaml",
        "images",
        "labels",
        *["train"] * 2,
        "x.png",
        "x.txt",
    ]
    assert run(*words, "--known", own, "--out", own / "mined")[0] == 0  # beside them it may lie


@pytest.mark.slow
def test_finetune_trains_on_what_came_back(run: Run, scenes: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "mined", tmp_path / "back"
    street = scenes.parent / "images/train"
    assert run("mine", street, "--model", DEMO_WEIGHTS, "--out", out, "--count", 3)[0] == 0
    described = read_mined(out)
    for item in described.pictures:
        (out / "labels/train" / item.picture).with_suffix(".txt").write_text("1 0.5 0.5 0.2 0.3\n")
    assert run("mine-back", out, "--mined", out, "--out", back, "--data", scenes)[0] == 0
    words = ("finetune", DEMO_WEIGHTS, "--data", back / "data.yaml", "--epochs", 1, "--input-size", 64)
    code, said, err = run(*words, "--out", tmp_path / "tuned")
    assert (code, err) == (0, "")
    assert f"trained on {8 + len(described.pictures)} pictures" in said


def test_mining_a_drawn_video(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "street.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (320, 240))
    for frame in draw_sequence(5, 12, (320, 240)):
        video.write(cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
    video.release()
    code, said, err = run(
        "mine", path, "--model", DEMO_WEIGHTS, "--out", tmp_path / "mined", "--gap", 0.2, "--limit", 10,
        "--for", "label-studio",
    )  # fmt: skip
    assert (code, err) == (0, "")
    described = read_mined(tmp_path / "mined")
    assert described.frames == 10 and "flicker was not looked for" not in said
    assert all(item.group == "street" and item.time_s is not None for item in described.pictures)
    tasks = json.loads((tmp_path / "mined/tasks.json").read_text())
    assert [task["data"]["picture"] for task in tasks] == [item.picture for item in described.pictures]


def test_thresholds_are_the_bundles_own_or_given(run: Run, bundle: Path, toys: Path, tmp_path: Path) -> None:
    assert run("mine", toys, "--model", bundle, "--out", tmp_path / "a")[0] == 0
    described = read_mined(tmp_path / "a")
    assert described.detectors[0].thresholds == {"helmet": 0.5, "bare": 0.4}
    assert [item.picture for item in described.pictures] == ["1.png", "2.png"]
    assert [len(item.labels) for item in described.pictures] == [1, 0]  # 0.501 and 0.452
    assert run("mine", toys, "--model", bundle, "--out", tmp_path / "b", "--min-score", 0.9)[0] == 0
    stricter = read_mined(tmp_path / "b").pictures  # 0.9 is at the threshold now, 0.501 far below it: 0.278
    assert [item.picture for item in stricter] == ["0.png", "1.png", "2.png"]
    assert [round(item.score, 1) for item in stricter] == [1.0, 0.1, 0.0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mine", "{toys}", "--model", "{bundle}", "--out", "{used}"), "the folder is not empty; give --out a new"),
        (("mine", "{toys}", "--model", "{bundle}", "--out", "{toys}/new"), "lies in"),
        (("mine", "{toys}", "--model", "{bundle}", "--out", "{new}", "--for", "paint"), "Unknown tool 'paint'"),
        (("mine", "{nowhere}", "--model", "{bundle}", "--out", "{new}"), "No picture, folder, video or camera at"),
        (("mine", "{toys}", "--model", "{nowhere}", "--out", "{new}"), "no such file, folder or public model"),
        (("mine", "{toys}", *["--model", "{bundle}"] * 3, "--out", "{new}"), "mine asks one or two detectors; got 3"),
        (("mine", "{toys}", *["--model", "{bundle}"] * 2, "--out", "{new}"), "cannot be told apart"),
        (("mine", "{toys}", "--model", "{bundle}", "--out", "{new}", "--gap", "0"), "above 0; got 0"),
        (("mine", "{toys}", "--model", "{bundle}", "--out", "{new}", "--role", "helmet=x"), "no class is called 'x'"),
        (("mine", "{toys}", "--model", "{bundle}", "--out", "{new}", "--known", "{nowhere}"), "no such file or folder"),
        (("mine", "{toys}", "--model", "{bundle}", "--out", "{new}", "--classes-of", "{nowhere}"), "no such file or"),
        (("mine-back", "{toys}", "--mined", "{toys}", "--out", "{new}"), "no mined.json in it"),
        (("mine-back", "{nowhere}", "--mined", "{mined}", "--out", "{new}"), "nowhere: no such file or folder"),
        (("mine-back", "{used}", "--mined", "{mined}", "--out", "{new}"), "holds labels of none of the 2 mined"),
        (("mine-back", "{mined}", "--mined", "{mined}", "--out", "{mined}/new"), "lies in"),
        (("mine-back", "{mined}", "--mined", "{mined}", "--out", "{new}", "--weight", "-1"), "above 0 and at most"),
        (("mine-back", "{mined}", "--mined", "{mined}", "--out", "{new}", "--data", "{nowhere}"), "no such file"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    run: Run, bundle: Path, toys: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    places = {name: str(tmp_path / name) for name in ("nowhere", "used", "new", "mined")}
    places |= {"toys": str(toys), "bundle": str(bundle)}
    (tmp_path / "used").mkdir()
    (tmp_path / "used/mine.md").write_text("keep")
    if words[0] == "mine-back":
        assert run("mine", toys, "--model", bundle, "--out", places["mined"])[0] == 0
    code, _, err = run(*(word.format(**places) for word in words))
    assert code == 2
    assert len(err.strip().splitlines()) == 1 and message in err
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".*"))
