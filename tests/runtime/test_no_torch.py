from __future__ import annotations

import subprocess
import sys

import pytest

import helmlite.runtime

_PROGRAM = """
import importlib, pkgutil, sys
import helmlite.runtime
for module in pkgutil.iter_modules(helmlite.runtime.__path__):
    importlib.import_module("helmlite.runtime." + module.name)
import helmlite.cli.edge, helmlite.cli.edge_print
print(",".join(name for name in sys.argv[1:] if name in sys.modules))
"""
_HEAVY = ("torch", "torchvision", "ultralytics", "onnx", "openvino", "nncf", "matplotlib", "yaml")


def test_the_edge_side_imports_nothing_that_the_base_install_lacks() -> None:
    run = subprocess.run([sys.executable, "-c", _PROGRAM, *_HEAVY], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_the_check_would_see_an_import() -> None:
    program = "import json\n" + _PROGRAM
    run = subprocess.run([sys.executable, "-c", program, "json"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "json"


@pytest.mark.parametrize("name", ["session", "bundle", "bench", "draw", "sources", "doctor", "machine"])
def test_every_module_of_the_design_is_there(name: str) -> None:
    import pkgutil

    assert name in {module.name for module in pkgutil.iter_modules(helmlite.runtime.__path__)}
