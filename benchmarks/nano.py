"""A natively small detector from random weights, with the pictures, augmentation and minutes of a compressed one.

    python benchmarks/nano.py yolo11n --data DATA.yaml --input-size 416 --minutes 35 --out nano
    python benchmarks/nano.py yolo11n --data DATA.yaml --input-size 416 --minutes 35 --teacher ft --out taught
    python benchmarks/int8_bundle.py nano --data DATA.yaml --input-size 416 --out nano-int8
    python benchmarks/side_by_side.py helmet-yolo12m@640 RUN/bundle nano-int8 --data DATA.yaml --split test

For "why not train a nano?".  The training is that of the recipes' step `distill`, with a teacher or without, and goes
on where it was stopped.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from common import commit, data_options

from helmlite.compress.checkpoint import save_checkpoint
from helmlite.compress.distill import Distill
from helmlite.compress.technique import Context
from helmlite.data.load import load_dataset
from helmlite.detector.ultralytics import new_ultralytics


def main() -> int:
    parser = data_options(__doc__)
    parser.set_defaults(split="train", input_size=416)
    parser.add_argument("layers", help="one of Ultralytics' own layer lists, for instance yolo11n")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", default="none")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pictures = load_dataset(arguments.data, arguments.split)
    detector = new_ultralytics(arguments.layers, pictures.classes, arguments.seed, arguments.input_size)
    training = Distill(minutes=arguments.minutes, epochs=arguments.epochs, teacher=arguments.teacher)
    work = arguments.out.with_name(f"{arguments.out.name}.work")
    trained = training.apply(detector, Context(pictures, detector, arguments.input_size, arguments.seed, work))
    made = {"layers": arguments.layers, "commit": commit(), "data_sha256": pictures.sha256(), "seed": arguments.seed}
    save_checkpoint(trained, arguments.out, {**made, "training": asdict(training)})
    print(f"{arguments.out}: {arguments.layers}, {', '.join(f'{key} {value}' for key, value in made.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
