"""A `.pt` that helmlite wrote, validated by stock Ultralytics without helmlite, and the same pictures by helmlite.

    python benchmarks/stock_val.py compressed.pt CHECKPOINT --data DATA.yaml --split test --input-size 416

Prints mAP by Ultralytics' own formula, then its boxes scored by helmlite's evaluator (COCO), then helmlite's own boxes
from the checkpoint that the `.pt` was written from.  Exits 1 where the last two differ by more than 0.1
points of mAP50-95.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from common import commit, data_options

from helmlite.compress.load import load_detector
from helmlite.data.load import load_dataset, match_classes
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import Predictions, evaluate, measure_accuracy

_LARGEST_DIFFERENCE = 0.1  # points of mAP50-95
_STOCK = """
import sys
from ultralytics import YOLO
model, data, split, size, out = sys.argv[1:]
found = YOLO(model).val(data=data, split=split, imgsz=int(size), batch=1, rect=False, workers=0, save_json=True,
                        plots=False, verbose=False, project=out, name="val")
assert "helmlite" not in sys.modules
print("STOCK", found.box.map, found.box.map50)
"""


def main() -> int:
    arguments = _arguments()
    detector = load_detector(arguments.checkpoint)
    dataset = load_dataset(arguments.data, arguments.split)
    pictures = match_classes(dataset, detector.classes)
    with tempfile.TemporaryDirectory() as out:
        words = [arguments.pt, str(arguments.data.resolve()), arguments.split, str(arguments.input_size), out]
        done = subprocess.run([sys.executable, "-c", _STOCK, *words], capture_output=True, text=True, check=False)
        stock = [line for line in done.stdout.splitlines() if line.startswith("STOCK")]
        if not stock:
            print(done.stderr[-500:], file=sys.stderr)
            return 2
        rows = json.loads(next(Path(out).rglob("predictions.json")).read_text())
    by_picture = defaultdict(list)
    for row in rows:
        by_picture[row["file_name"]].append(row)
    found = tuple(_detections(by_picture[path.name]) for path in pictures.image_paths)
    theirs = measure_accuracy(Predictions(found, tuple(range(len(found)))), pictures)
    ours = evaluate(detector.predictor(arguments.input_size), pictures)
    formula = [100 * float(value) for value in stock[0].split()[1:]]
    print(f"{arguments.split}, {len(pictures)} pictures, data {dataset.sha256()[:12]}, commit {commit()}")
    print(f"stock Ultralytics, its own formula:   mAP50-95 {formula[0]:.2f}  mAP50 {formula[1]:.2f}")
    for name, item in (("stock Ultralytics' boxes, COCO:", theirs), ("helmlite's boxes, COCO:", ours)):
        print(f"{name:37} mAP50-95 {100 * (item.map or 0):.2f}  mAP50 {100 * (item.map50 or 0):.2f}")
    return 0 if abs((theirs.map or 0) - (ours.map or 0)) * 100 <= _LARGEST_DIFFERENCE else 1


def _detections(rows: list[dict[str, object]]) -> Detections:
    """Boxes of one picture as Ultralytics writes them: x, y, width, height, categories from 1."""
    rows = sorted(rows, key=lambda row: -float(str(row["score"])))
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array([row["score"] for row in rows], dtype=np.float32)
    labels = np.array([int(str(row["category_id"])) - 1 for row in rows], dtype=np.int64)
    return Detections(boxes, scores, labels)


def _arguments() -> argparse.Namespace:
    parser = data_options(__doc__)
    parser.add_argument("pt")
    parser.add_argument("checkpoint")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
