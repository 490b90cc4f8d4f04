"""A run is checked before any work is done, and never writes over another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.compress.checkpoint import save_checkpoint
from helmlite.compress.quantize import Quantize
from helmlite.data.roles import with_roles
from helmlite.detector.tiny import new_tiny
from helmlite.job import prepare as prepare_file
from helmlite.job.prepare import CompressSettings, claim_folder, prepare, steps_for_this_machine


@pytest.fixture
def settings(tmp_path: Path) -> CompressSettings:
    for shade, split in enumerate(("train", "val", "test")):
        (tmp_path / split / "images").mkdir(parents=True)
        (tmp_path / split / "labels").mkdir()
        for index in range(2):
            cv2.imwrite(
                str(tmp_path / split / "images" / f"{index}.png"),
                np.full((64, 64, 3), 90 + 10 * shade + index, np.uint8),
            )
            (tmp_path / split / "labels" / f"{index}.txt").write_text("1 0.5 0.5 0.4 0.4\n")
    lines = [f"{split}: {split}/images" for split in ("train", "val", "test")]
    (tmp_path / "data.yaml").write_text("\n".join([*lines, "names: [helmet, no_helmet]"]))
    save_checkpoint(new_tiny(with_roles(["helmet", "no_helmet"]), input_size=64), tmp_path / "model", {})
    return CompressSettings(str(tmp_path / "model"), tmp_path / "data.yaml", tmp_path / "out", minutes=10)


def test_the_input_size_is_the_command_s_then_the_recipe_s(settings: CompressSettings) -> None:
    assert prepare(settings).input_size == 416
    assert prepare(replace(settings, input_size=320)).input_size == 320


def test_a_corrupt_picture_is_skipped_and_named(settings: CompressSettings) -> None:
    bad = settings.data.parent / "train" / "images" / "2.png"
    bad.write_bytes(b"not a picture")
    (settings.data.parent / "train" / "labels" / "2.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    prepared = prepare(settings)
    assert len(prepared.train) == 2
    assert [str(bad) in line for line in prepared.skipped] == [True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_drop": -1.0}, "cannot be negative"),
        ({"max_recall_drop": float("nan")}, "--max-recall-drop is a loss in points"),
        ({"minutes": 0.0}, "--minutes must be above 0"),
        ({"minutes": float("inf")}, "--minutes must be above 0; got inf"),
        ({"seed": -1}, "--seed must be from 0"),
        ({"input_size": 0}, "multiple of 32, from 32 to 4096; got 0"),
        ({"target": "toaster"}, "Unknown target 'toaster'. Known: x86-onnxruntime, x86-openvino"),
        ({"recipe": "magic"}, "Unknown recipe 'magic'"),
        ({"input_size": 100}, "multiple of 32"),
        ({"model": "none.pt"}, "none.pt: no such file"),
        ({"data": Path("none.yaml")}, "none.yaml: no such file"),
        ({"roles": {"cat": "no_helmet"}}, "no class is called 'cat'"),
    ],
)
def test_wrong_input_is_said_in_one_line(settings: CompressSettings, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        prepare(replace(settings, **changes))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("first", "second"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_splits_that_share_a_picture_are_refused(settings: CompressSettings, first: str, second: str) -> None:
    folder = settings.data.parent
    (folder / second / "images" / "again.png").write_bytes((folder / first / "images" / "1.png").read_bytes())
    with pytest.raises(
        ValueError, match=f"1 of the 3 pictures of {second} are also in {first}, the first is again.png"
    ):
        prepare(settings)


def test_labels_that_the_detector_has_no_class_for_are_counted(settings: CompressSettings) -> None:
    text = settings.data.read_text().replace("names: [helmet, no_helmet]", "names: [helmet, no_helmet, rider]")
    settings.data.write_text(text)
    (settings.data.parent / "val" / "labels" / "0.txt").write_text("1 0.5 0.5 0.4 0.4\n2 0.5 0.5 0.8 0.8\n")
    assert prepare(settings).left_out == {"train": 0, "val": 1, "test": 0}


def test_a_missing_split_is_named(settings: CompressSettings) -> None:
    settings.data.write_text("train: train/images\nval: val/images\nnames: [helmet, no_helmet]\n")
    with pytest.raises(ValueError, match="test is missing"):
        prepare(settings)


def test_another_run_s_folder_is_refused(settings: CompressSettings) -> None:
    prepared = prepare(settings)
    claim_folder(prepared)
    claim_folder(prepared)  # the same run goes on
    with pytest.raises(ValueError, match="holds another run \\(other seed\\)"):
        claim_folder(prepare(replace(settings, seed=1)))


def test_another_recipe_goes_on_in_the_same_folder_and_what_was_told_of_the_first_goes(
    settings: CompressSettings,
) -> None:
    """Steps are keyed by themselves and by those before, so that a changed last step reruns only itself."""
    claim_folder(prepare(settings))
    told = [
        settings.out / name
        for name in ("report.json", "report.html", "report.zh-CN.html", "gallery.json", "compressed.pt")
    ]
    step = settings.out / "steps" / "1-prune-abc"
    step.mkdir(parents=True)
    for path in told:
        path.touch()
    claim_folder(prepare(settings))
    assert all(path.exists() for path in told)
    claim_folder(prepare(replace(settings, minutes=20)))  # of the steps that train
    assert not any(path.exists() for path in told)
    assert step.is_dir()
    told[0].touch()
    claim_folder(prepare(replace(settings, minutes=20)))
    assert told[0].exists()


@pytest.mark.parametrize("content", [b"", b'{"model": ', b"[1]", b"\x80\xff"])
def test_a_damaged_run_file_is_one_line(settings: CompressSettings, content: bytes) -> None:
    prepared = prepare(settings)
    claim_folder(prepared)
    (settings.out / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json: damaged \(.*; give --out a new folder\.$") as caught:
        claim_folder(prepared)
    assert "\n" not in str(caught.value)


def test_a_disk_that_was_full_at_the_first_file_blocks_nothing(
    settings: CompressSettings, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    prepared = prepare(settings)
    with full_disk(0), pytest.raises(OSError, match=r"run\.json"):
        claim_folder(prepared)
    (settings.out / ".run.json.part").touch()  # what a kill at that point leaves besides
    assert sorted(path.name for path in settings.out.iterdir()) == [".lock", ".run.json.part"]
    claim_folder(prepared)
    assert (settings.out / "run.json").is_file()


def test_two_at_once_do_not_work_in_one_folder(settings: CompressSettings) -> None:
    claim_folder(prepare(settings))
    code = "import pathlib, sys; from helmlite.job.prepare import lock_folder; lock_folder(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(settings.out)], capture_output=True, text=True, check=False)
    assert "another helmlite is at work in this folder" in done.stderr


def test_what_a_killed_process_left_half_written_goes(settings: CompressSettings) -> None:
    prepared = prepare(settings)
    claim_folder(prepared)
    places = ["steps/.1-prune-abc-x1y2", ".bundle-x1y2", "steps/2-distill-abc.work/measuring-x1y2", "artifacts/.a-x1"]
    places += ["steps/1-prune-abc.work/round-1/.cut-x1y2", "steps/2-distill-abc.work/control.work/measuring-x1"]
    kept = ["steps/1-prune-abc", "steps/2-distill-abc.work", "artifacts/baseline", ".my-notes", ".Trash-1000"]
    for place in (*places, *kept):
        (settings.out / place).mkdir(parents=True, exist_ok=True)
    claim_folder(prepared)
    assert not any((settings.out / place).exists() for place in places)
    assert all((settings.out / place).is_dir() for place in kept)


def test_a_folder_with_other_things_is_refused(settings: CompressSettings) -> None:
    settings.out.mkdir()
    (settings.out / "diary.txt").write_text("mine")
    with pytest.raises(ValueError, match="not a helmlite run"):
        claim_folder(prepare(settings))
    assert [item.name for item in settings.out.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize("bits", [7, 8])
def test_integers_are_those_that_the_processor_adds_without_overflow(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_file, "int8_weight_bits", lambda machine: bits)
    asked = (
        Quantize(),
        Quantize(max_drop=0.01),
        Quantize(weight_bits=3, max_drop=0.01),
        Quantize(weight_bits=8, raised_bits=8, max_drop=0.01),  # stated: the user's own choice
    )
    made = steps_for_this_machine(asked)
    numbers = [(item.bits_of_weights, item.bits_of_raised) for item in made if isinstance(item, Quantize)]
    assert numbers == [(bits, 8), (bits, bits), (3, bits), (8, 8)]
