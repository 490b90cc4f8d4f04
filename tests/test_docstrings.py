"""Examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import helmlite


def test_every_example_gives_what_it_says() -> None:
    attempted, failed = 0, []
    for module in pkgutil.walk_packages(helmlite.__path__, "helmlite."):
        if module.name.endswith("__main__"):
            continue
        found = doctest.testmod(importlib.import_module(module.name), optionflags=doctest.NORMALIZE_WHITESPACE)
        attempted += found.attempted
        if found.failed:
            failed.append(module.name)
    assert not failed
    assert attempted > 20
