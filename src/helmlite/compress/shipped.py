"""The weights that ship with helmlite: `tiny`, trained on drawn scenes, for the demo and for first steps."""

from __future__ import annotations

from pathlib import Path

from helmlite.compress.checkpoint import load_checkpoint
from helmlite.detector.detector import Detector

DEMO_WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "tiny-scenes"


def load_demo_detector() -> Detector:
    """`tiny` with its shipped weights (320 pixels, classes `helmet` and `no_helmet`).

    It has seen drawn streets only: it is the demo's subject and no detector for real pictures.
    Raises ValueError where the package's files are incomplete.
    """
    return load_checkpoint(DEMO_WEIGHTS)
