"""The families of detectors, by the name that an architecture carries."""

from __future__ import annotations

from helmlite.detector.detector import Detector, Family

FAMILY_NAMES = ("tiny", "ultralytics")


def family_named(name: str) -> Family:
    """The family's own knowledge.  Raises ValueError for an unknown name, ImportError where an extra is missing."""
    if name == "tiny":
        from helmlite.detector.tiny import TinyFamily

        return TinyFamily()
    if name == "ultralytics":
        from helmlite.detector.ultralytics import UltralyticsFamily

        return UltralyticsFamily()
    raise ValueError(f"Unknown detector family '{name}'. The families are {', '.join(FAMILY_NAMES)}.")


def family_of(detector: Detector) -> Family:
    """The family that this detector belongs to."""
    return family_named(detector.architecture.family)
