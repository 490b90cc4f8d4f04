"""A detector as an ONNX file that is not ours: written by stock Ultralytics' own exporter from the `.pt` that it opens.

    python benchmarks/foreign_onnx.py helmet-yolo12m --input-size 416 --out foreign.onnx
    helmlite compare helmet-yolo12m,input_size=416,runtime=openvino RUN/artifacts/nncf,name=NNCF RUN/bundle \
        foreign.onnx,layout=ultralytics,classes=helmet+no_helmet,runtime=openvino --data DATA.yaml --time --out versus
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from helmlite.compress.load import load_detector
from helmlite.export.ultralytics_pt import save_ultralytics_pt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector")
    parser.add_argument("--input-size", type=int, default=640)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    from ultralytics import YOLO

    detector = load_detector(given.detector)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stock.pt"
        save_ultralytics_pt(detector, path, given.input_size)
        written = YOLO(str(path)).export(format="onnx", imgsz=given.input_size, simplify=False)
        shutil.copyfile(written, given.out)
    print(f"{given.out}: {'+'.join(item.name for item in detector.classes)}, by stock Ultralytics")
    return 0


if __name__ == "__main__":
    sys.exit(main())
