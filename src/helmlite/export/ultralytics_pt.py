"""A `.pt` that opens in stock Ultralytics for `predict`, `val` and `export`, without helmlite.

It holds plain Ultralytics and PyTorch classes, pickled as Ultralytics does it: the one pickle that helmlite writes, and
only when asked to.  Pruned widths need nothing special, since Ultralytics keeps the pickled layers as they are.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from helmlite.detector.detector import Detector
from helmlite.detector.ultralytics import as_ultralytics_model
from helmlite.files import write_whole

# Edits after which stock Ultralytics cannot use the layers: without their BatchNorm, or with a convolution that is a
# chain of several, which its `fuse()` takes for one
_OURS = frozenset(
    {
        "insert_quantizers", "fold_batchnorm", "merge_parallel_convs", "cluster_weights", "round_weights",
        "factorize", "split_depthwise",
    }
)  # fmt: skip


def foreign_edit(detector: Detector) -> str:
    """The first edit that a `.pt` for stock Ultralytics cannot hold; "" where there is none."""
    return next((edit.kind for edit in detector.edits if edit.kind in _OURS), "")


def save_ultralytics_pt(detector: Detector, path: Path, input_size: int | None = None) -> None:
    """Writes the detector at `path`; the file is there complete, or not at all.

    input_size: side of the square input that stock Ultralytics will take unless told, pixels; None: the detector's own
    Raises ValueError for a detector of another family, and for one whose edits stock Ultralytics cannot hold.
    """
    if detector.architecture.family != "ultralytics":
        raise ValueError(f"Only Ultralytics detectors have a .pt; this one is '{detector.architecture.family}'.")
    foreign = foreign_edit(detector)
    if foreign:
        raise ValueError(
            f"A .pt holds float networks with their BatchNorm and whole convolutions; this one has been through "
            f"{foreign}. Write it from the checkpoint before that step."
        )
    import ultralytics

    model = as_ultralytics_model(detector)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    content = {
        "epoch": -1,
        "model": model,
        "ema": None,
        "optimizer": None,
        "train_args": {"imgsz": input_size or detector.architecture.input_size, "task": "detect"},
        "version": ultralytics.__version__,
        "license": detector.architecture.notes.get("checkpoint_licence", "AGPL-3.0 (https://ultralytics.com/license)"),
    }
    pickled = io.BytesIO()
    torch.save(content, pickled)
    write_whole(path, pickled.getvalue())
