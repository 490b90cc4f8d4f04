"""Examples in docstrings are true, and a package's own docstring leads to every file in it."""

from __future__ import annotations

import doctest
import fnmatch
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

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


@pytest.mark.parametrize("name", ["data", "runtime", "evaluate", "mine", "detector", "export", "job"])
def test_a_package_says_where_everything_is(name: str) -> None:
    package = importlib.import_module(f"helmlite.{name}")
    named = re.findall(r"[\w*]+\.py", package.__doc__ or "")
    files = {path.name for path in Path(package.__path__[0]).glob("*.py")} - {"__init__.py"}
    assert not [pattern for pattern in named if not fnmatch.filter(files, pattern)]
    assert files == {file for pattern in named for file in fnmatch.filter(files, pattern)}
