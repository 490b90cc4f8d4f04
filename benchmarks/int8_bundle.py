"""Any checkpoint as an INT8 bundle at an input size, quantized after training on the data's own `train` pictures.

    python benchmarks/int8_bundle.py CHECKPOINT --data DATA.yaml --input-size 352 --out BUNDLE

For `side_by_side.py`: the comparison needs bundles of detectors that were not compressed by a whole run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from common import data_options

from helmlite.compress.load import load_detector
from helmlite.compress.quantize import Quantize
from helmlite.compress.technique import Context
from helmlite.data.load import load_dataset, match_classes
from helmlite.export.pack import write_bundle


def main() -> int:
    parser = data_options(__doc__)
    parser.set_defaults(split="train")
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    detector = load_detector(arguments.checkpoint)
    pictures = match_classes(load_dataset(arguments.data, arguments.split), detector.classes)
    with tempfile.TemporaryDirectory() as folder:
        context = Context(pictures, detector, arguments.input_size, arguments.seed, Path(folder))
        quantized = Quantize().apply(detector, context)
    write_bundle(arguments.out, quantized, arguments.input_size, precision="int8", target="x86-openvino")
    print(f"{arguments.out}: INT8 at {arguments.input_size}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
