"""Trains the weights of `tiny` that ship with helmlite, on drawn scenes only, and measures them on others.

    python benchmarks/train_tiny.py --work runs/train-tiny --out src/helmlite/weights/tiny-scenes

About twenty minutes on one core with BF16.  A run that was stopped goes on when it is started again with the same
arguments.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from helmlite import __version__
from helmlite.compress.checkpoint import save_checkpoint
from helmlite.data.roles import with_roles
from helmlite.data.scenes import SCENE_CLASSES, write_scenes
from helmlite.data.yolo import load_yolo
from helmlite.detector.augment import Augmentation
from helmlite.detector.detector import Detector
from helmlite.detector.fit import FitSettings, finetune
from helmlite.detector.tiny import new_tiny
from helmlite.evaluate.accuracy import evaluate

_TRAIN, _TEST = 1600, 400
_INPUT_SIZE = 320


def main() -> None:
    """Draw, train, measure, save."""
    options = _options()
    torch.set_num_threads(1)
    scenes = options.work / "scenes"
    if not (scenes / "data.yaml").is_file():
        print(f"Drawing {_TRAIN} + {_TEST} scenes into {scenes}")
        write_scenes(scenes, _TRAIN, 0, _TEST, options.seed)
    settings = FitSettings(
        input_size=_INPUT_SIZE,
        epochs=options.epochs,
        learning_rate=2e-3,
        augmentation=Augmentation(mosaic=0.3, scale=0.3, rotate=2.0),
    )
    start = new_tiny(with_roles(SCENE_CLASSES), _INPUT_SIZE, seed=options.seed)
    trained = finetune(
        start, load_yolo(scenes / "data.yaml", "train"), settings, options.seed, options.work / "fit", _say
    )
    measured = _measure(trained, scenes)
    print(measured)
    save_checkpoint(trained, options.out, _provenance(options.seed, settings, measured))


def _say(line: str) -> None:
    print(line, flush=True)


def _measure(detector: Detector, scenes: Path) -> dict[str, Any]:
    accuracy = evaluate(detector.predictor(_INPUT_SIZE), load_yolo(scenes / "data.yaml", "test"))
    return {
        "split": f"{accuracy.images} drawn scenes, none of them trained on",
        "map": accuracy.map,
        "map50": accuracy.map50,
        "per_class": {
            item.name: {"map": item.ap, "map50": item.ap50, "boxes": item.boxes} for item in accuracy.per_class
        },
    }


def _provenance(seed: int, settings: FitSettings, measured: dict[str, Any]) -> dict[str, Any]:
    return {
        "made_by": "benchmarks/train_tiny.py",
        "data": f"{_TRAIN} scenes drawn by helmlite.data.scenes",
        "seed": seed,
        "settings": asdict(settings),
        "versions": {"helmlite": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "licence": "Apache-2.0",
        "accuracy": measured,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=Path("runs/train-tiny"), help="folder for scenes and training state"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("src/helmlite/weights/tiny-scenes"), help="checkpoint to write"
    )
    parser.add_argument("--epochs", type=int, default=22)
    parser.add_argument("--seed", type=int, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    main()
