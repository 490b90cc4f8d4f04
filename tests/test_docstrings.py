"""Examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np

import helmlite


def test_every_example_gives_what_it_says() -> None:
    attempted, failed = 0, []
    for module in pkgutil.walk_packages(helmlite.__path__, "helmlite."):
        if module.name.endswith("__main__"):
            continue
        imported = importlib.import_module(module.name)
        with np.printoptions(precision=8, linewidth=75, formatter=None):  # Ultralytics sets its own for good
            found = doctest.testmod(imported, optionflags=doctest.NORMALIZE_WHITESPACE)
        attempted += found.attempted
        if found.failed:
            failed.append(module.name)
    assert not failed
    assert attempted > 20
