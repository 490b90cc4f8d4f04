"""helmlite makes a trained helmet detector small and fast, proves what it cost, and runs it at the roadside."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_detector"]


def __getattr__(name: str) -> Any:
    """`helmlite.load_detector`, imported when asked for: the edge runtime has no PyTorch."""
    if name == "load_detector":
        from helmlite.compress.load import load_detector

        return load_detector
    raise AttributeError(f"module 'helmlite' has no attribute '{name}'")
