"""Does an exported file give what PyTorch gives?  Asked on pictures, in the units that matter: pixels and scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helmlite.boxes import box_iou
from helmlite.detections import Image
from helmlite.detector.detector import Detector
from helmlite.evaluate.fidelity import REPORTED_SCORE, Parity
from helmlite.runtime.decode import Selection, decode_maps, select
from helmlite.runtime.preprocess import network_input
from helmlite.runtime.session import Session, open_session

Array = NDArray[np.float32]
SAME_IOU = 0.95


def measure_parity(
    detector: Detector, path: Path, images: Sequence[Image], runtime: str = "onnxruntime", threads: int | None = None
) -> Parity:
    """Compares the file with the detector on these pictures, both in float32 arithmetic.

    path: an `.onnx` or OpenVINO `.xml` with decoded outputs or raw maps
    Raises ValueError where there is no picture, or the file cannot be opened or has other outputs.
    """
    if not images:
        raise ValueError("Parity is measured on at least one picture; got none.")
    session = open_session(path, runtime, threads, "f32")
    predictor = detector.predictor(session.input_size)
    layout = detector.architecture.layout
    box_errors, score_errors, found, matched = [], [], 0, 0
    for image in images:
        planes, _ = network_input(image, session.input_size)
        boxes, scores = predictor.decode(planes)
        their_boxes, their_scores = decoded_by(session, planes, detector)
        box_errors.append(np.abs(boxes - their_boxes))
        score_errors.append(np.abs(scores - their_scores))
        reported = [
            select(b, s, layout, Selection(min_score=REPORTED_SCORE))
            for b, s in ((boxes, scores), (their_boxes, their_scores))
        ]
        found += len(reported[0])
        overlap = box_iou(reported[0].boxes_xyxy, reported[1].boxes_xyxy)
        same_class = reported[0].labels[:, None] == reported[1].labels[None, :]
        matched += int(((overlap >= SAME_IOU) & same_class).any(1).sum()) if overlap.size else 0
    worst = max(float(item.max()) for item in box_errors)
    return Parity(
        pictures=len(images),
        box_pixels=worst,
        box_mean_pixels=float(np.mean([item.mean() for item in box_errors])),
        box_relative=worst / session.input_size,
        score=max(float(item.max()) for item in score_errors),
        score_mean=float(np.mean([item.mean() for item in score_errors])),
        boxes=found,
        matched=matched / found if found else 1.0,
    )


def decoded_by(session: Session, planes: Array, detector: Detector) -> tuple[Array, Array]:
    """Boxes (N, 4) and scores (N, C) of every cell as the artifact gives them.

    Raises ValueError where its outputs are neither `boxes` and `scores` nor the head's raw maps.
    """
    outputs = session.run_named(planes)
    if {"boxes", "scores"} <= outputs.keys():
        return outputs["boxes"][0], outputs["scores"][0]
    layout = detector.architecture.layout
    names = [f"{kind}_{stride}" for stride in layout.strides for kind in ("box", "class")]
    if not set(names) <= outputs.keys():
        raise ValueError(f"The file gives {', '.join(outputs)}; expected boxes and scores, or {', '.join(names)}.")
    return decode_maps([outputs[name] for name in names], layout)
