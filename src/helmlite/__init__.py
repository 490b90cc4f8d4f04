"""helmlite makes a trained helmet detector small and fast, proves what it cost, and runs it at the roadside."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "compare_models", "cross_domain_models", "load_detector", "open_model"]
_FROM = {
    "compare_models": "helmlite.models.compared",
    "cross_domain_models": "helmlite.models.matrix",
    "load_detector": "helmlite.compress.load",
    "open_model": "helmlite.models.opened",
}


def __getattr__(name: str) -> Any:
    """The names above, imported when asked for: the edge runtime has no PyTorch."""
    if name in _FROM:
        return getattr(import_module(_FROM[name]), name)
    raise AttributeError(f"module 'helmlite' has no attribute '{name}'")
