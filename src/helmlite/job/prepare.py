"""Everything that a compression run needs, read and checked before any work is done."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import helmlite
from helmlite.compress.distill import Distill
from helmlite.compress.load import load_detector
from helmlite.compress.quantize import Quantize
from helmlite.compress.recipe import Recipe, load_recipe
from helmlite.compress.teaching.unlabelled import file_sha256, unlabelled_pictures
from helmlite.compress.technique import Technique
from helmlite.data.dataset import Dataset
from helmlite.data.load import check_labelled, count_boxes, load_dataset, match_classes, readable, splits_of
from helmlite.data.roles import check_given_roles, with_given_roles
from helmlite.detector.detector import Detector
from helmlite.detector.device import training_device
from helmlite.detector.fit_state import detector_sha256
from helmlite.evaluate.report_files import REPORT_NAMES
from helmlite.evaluate.thresholds import BEST_F1, ThresholdRule
from helmlite.files import read_json, write_whole
from helmlite.job.check_steps import check_steps
from helmlite.job.target import Target, load_target
from helmlite.runtime.machine import int8_weight_bits, read_machine
from helmlite.runtime.preprocess import check_input_size

RUN_FILE = "run.json"
_LOCK_FILE = ".lock"
_TOLD = (*REPORT_NAMES, "compressed.pt")  # made from the steps of one recipe, and not keyed by it
_LOCKED: dict[Path, TextIO] = {}
_NO_STOCK_PT = ("quantize", "weight_only", "cluster", "equalize", "low_rank", "separable")


@dataclass(frozen=True)
class CompressSettings:
    """What the user asks for.

    model:    path or public name;  data: where the data set is;  out: the run's folder
    input_size: side of the square input, pixels; None takes the recipe's, else the detector's own
    max_drop, max_recall_drop: margins of the gate, points
    minutes:  how long to train; None takes the recipe's own
    roles:    class name -> role, where the usual names do not tell
    notes:    what the report must say beside the figures
    device:   where to train: "auto" (a GPU where there is one), "cpu" or "cuda"
    stock_pt: whether a `.pt` for stock Ultralytics is wanted as well
    unlabelled: folder of pictures without labels, on which teachers teach too
    thresholds: how the bundle's thresholds are chosen on val, and those of the pictures' table
    robustness: whether baseline and result are also looked at in bad conditions
    """

    model: str
    data: Path
    out: Path
    recipe: str = "balanced"
    target: str = "x86-openvino"
    input_size: int | None = None
    max_drop: float = 1.0
    max_recall_drop: float = 2.0
    minutes: float | None = None
    seed: int = 0
    roles: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    device: str = "auto"
    stock_pt: bool = False
    unlabelled: Path | None = None
    thresholds: ThresholdRule = BEST_F1
    robustness: bool = False


@dataclass(frozen=True)
class Prepared:
    """A run that can begin.

    train, val, test: labels numbered as the detector's classes
    skipped: pictures that cannot be read, and why;  left_out: labelled boxes by split whose class the detector lacks
    hashes:  of each split as it lies on disk
    """

    settings: CompressSettings
    detector: Detector
    recipe: Recipe
    target: Target
    input_size: int
    train: Dataset
    val: Dataset
    test: Dataset
    skipped: tuple[str, ...]
    left_out: Mapping[str, int]
    hashes: Mapping[str, str]


def prepare(settings: CompressSettings) -> Prepared:
    """Reads model, data, recipe and target.  Raises ValueError, in one line, for whatever is wrong with them."""
    check_numbers(settings)
    training_device(settings.device)
    target = load_target(settings.target)
    recipe = load_recipe(settings.recipe, settings.minutes)
    if settings.unlabelled is not None:
        recipe = _with_unlabelled(recipe, settings.unlabelled)
    detector = load_detector(settings.model)
    if settings.stock_pt:
        _check_stock_pt(recipe, detector)
    missing = sorted({"train", "val", "test"} - set(splits_of(settings.data)))
    if missing:
        raise ValueError(f"{settings.data}: compress needs the splits train, val and test; {missing[0]} is missing.")
    loaded = {split: load_dataset(settings.data, split) for split in ("train", "val", "test")}
    check_given_roles(settings.roles, loaded["train"].classes, detector.classes)
    detector = detector.with_classes(with_given_roles(detector.classes, settings.roles))
    check_steps(recipe, detector)
    splits: dict[str, Dataset] = {}
    skipped: list[str] = []
    hashes: dict[str, str] = {}
    left_out: dict[str, int] = {}
    for split, found in loaded.items():
        pictures, problems = readable(found)
        pictures = replace(pictures, classes=with_given_roles(pictures.classes, settings.roles))
        hashes[split] = pictures.sha256()
        splits[split] = match_classes(pictures, detector.classes)
        skipped += problems
        left_out[split] = count_boxes(pictures) - count_boxes(splits[split])
        if split != "test":
            check_labelled(splits[split], "to train on" if split == "train" else "to judge by")
    sizes = (settings.input_size, recipe.input_size, detector.architecture.input_size)
    size = check_input_size(next(item for item in sizes if item is not None))
    _check_apart(recipe, splits)
    return Prepared(
        settings, detector, recipe, target, size, **splits, skipped=tuple(skipped), left_out=left_out, hashes=hashes
    )


def check_numbers(settings: CompressSettings) -> None:
    """Raises ValueError for a number among the settings that cannot be."""
    for option, points in (("--max-drop", settings.max_drop), ("--max-recall-drop", settings.max_recall_drop)):
        if not 0 <= points < math.inf:
            raise ValueError(f"{option} is a loss in points and cannot be negative; got {points:g}.")
    if settings.minutes is not None and not 0 < settings.minutes < math.inf:
        raise ValueError(f"--minutes must be above 0; got {settings.minutes:g}.")
    if not 0 <= settings.seed < 2**32:
        raise ValueError(f"--seed must be from 0 to 4294967295; got {settings.seed}.")


def _with_unlabelled(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe whose steps with a teacher also use this folder.  Raises ValueError where it serves none."""
    taught = [isinstance(step, Distill) and step.teacher != "none" for step in recipe.steps]
    if not any(taught):
        raise ValueError(
            f"--unlabelled: {recipe.name} has no distill step with a teacher, and only a teacher can use pictures "
            "without labels."
        )
    steps = [
        replace(step, unlabelled=str(folder)) if isinstance(step, Distill) and is_taught else step
        for step, is_taught in zip(recipe.steps, taught)
    ]
    return replace(recipe, steps=tuple(steps))


def _check_apart(recipe: Recipe, splits: Mapping[str, Dataset]) -> None:
    """Raises ValueError where pictures that are to judge the result would be trained on, with labels or without.

    The very same files only; `helmlite data check` also finds pictures that merely look alike.
    """
    hashes = {split: {file_sha256(path): path for path in splits[split].image_paths} for split in splits}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        common = [path for digest, path in hashes[second].items() if digest in hashes[first]]
        if common:
            raise ValueError(
                f"{len(common)} of the {len(hashes[second])} pictures of {second} are also in {first}, the first is "
                f"{common[0].name}; no figure on them would hold. `helmlite data split` makes splits that are apart."
            )
    folders = {step.unlabelled for step in recipe.steps if isinstance(step, Distill) and step.unlabelled is not None}
    if not folders:
        return
    judging = hashes["val"].keys() | hashes["test"].keys()
    for folder in sorted(folders):
        paths = unlabelled_pictures(folder, ()).image_paths
        known = [path for path in paths if file_sha256(path) in judging]
        if known:
            raise ValueError(
                f"{folder}: {len(known)} of its {len(paths)} pictures are also in the val or test split, which must "
                f"not be trained on; remove them, the first is {known[0].name}."
            )


def _check_stock_pt(recipe: Recipe, detector: Detector) -> None:
    if detector.architecture.family != "ultralytics":
        family = detector.architecture.family
        raise ValueError(f"--export ultralytics-pt: only Ultralytics detectors have a .pt; this one is '{family}'.")
    first = recipe.steps[0].name
    if first in _NO_STOCK_PT:
        raise ValueError(
            f"--export ultralytics-pt needs a step before {first}: a .pt holds float networks and whole convolutions."
        )


def steps_for_this_machine(steps: Sequence[Technique]) -> tuple[Technique, ...]:
    """The recipe's steps with what the target's processor decides: integers that its kernels add without overflow.

    This machine stands for the target, which is measured here.
    """
    bits = int8_weight_bits(read_machine())
    return tuple(_within(step, bits) if isinstance(step, Quantize) and bits < 8 else step for step in steps)


def _within(step: Quantize, bits: int) -> Quantize:
    """The step with `bits` wherever it leaves them to the processor."""
    return replace(
        step,
        weight_bits=bits if step.weight_bits is None else step.weight_bits,
        raised_bits=bits if step.raised_bits is None and step.max_drop is not None else step.raised_bits,
    )


def claim_folder(prepared: Prepared) -> None:
    """Makes the run's folder, or takes up the one of an earlier run with the same inputs.

    With another recipe the steps that both begin with stay (they are keyed); what was told of the former one's goes.
    Raises ValueError where the folder holds something else: nothing of it is touched.
    """
    out, stated = prepared.settings.out, _fingerprint(prepared)
    path, recipe = out / RUN_FILE, _plain(prepared.recipe.to_json())
    if path.is_file():
        known = read_json(path, dict, "what the folder holds cannot be told without it; give --out a new folder")
        different = sorted(name for name in stated if known.get(name) != stated[name])
        if different:
            raise ValueError(f"{out}: holds another run (other {different[0]}); give --out a new folder.")
        lock_folder(out)
        _remove_leftovers(out)
        if known.get("recipe") == recipe:
            return
        for name in _TOLD:
            (out / name).unlink(missing_ok=True)
    else:
        if out.exists() and not (out.is_dir() and could_not_begin(out, RUN_FILE)):
            raise ValueError(f"{out}: exists and is not a helmlite run; give --out a new folder.")
        lock_folder(out)
    write_whole(path, json.dumps({**stated, "recipe": recipe}, ensure_ascii=False, indent=1))


def could_not_begin(folder: Path, first_file: str) -> bool:
    """Whether a folder holds nothing but what a job leaves that was stopped before its first file was whole."""
    return {_LOCK_FILE, f".{first_file}.part"}.issuperset(item.name for item in folder.iterdir())


def _remove_leftovers(out: Path) -> None:
    """What a killed process was writing: it never got its name, and nobody reads it."""
    found = [*out.glob(".bundle-*"), *(out / "artifacts").glob(".*-*")]
    for folder, names, _ in os.walk(out / "steps"):
        found += [Path(folder) / name for name in names if name.startswith((".", "measuring-"))]
    for leftover in found:
        if leftover.is_dir():
            shutil.rmtree(leftover)


def lock_folder(folder: Path) -> None:
    """Makes the folder and keeps it for this process while it lives.

    Raises ValueError where another one works in it, OSError where it cannot be made.
    """
    if folder.resolve() in _LOCKED:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / _LOCK_FILE).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ValueError(f"{folder}: another helmlite is at work in this folder.") from error
    _LOCKED[folder.resolve()] = file  # closed, and so given back, when the process ends


def _fingerprint(prepared: Prepared) -> dict[str, Any]:
    """What every step and artifact is made from; the recipe is not in it, since each step is keyed by those before."""
    settings = prepared.settings
    stated = {
        "model": detector_sha256(prepared.detector),
        "training pictures": prepared.hashes["train"],
        "target": settings.target,
        "input_size": prepared.input_size,
        "seed": settings.seed,
        "helmlite": helmlite.__version__,
    }
    return _plain(stated)


def _plain(stated: dict[str, Any]) -> dict[str, Any]:
    """As it is read back: tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(stated))
    return plain
