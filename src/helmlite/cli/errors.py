"""What a user sees of an error: one line and exit code 2.  A traceback is a defect (HELMLITE_TRACEBACK=1 shows it)."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_WRONG_INPUT = 2
EXIT_GATE_FAILED = 3
EXIT_GATE_UNDECIDED = 4
EXIT_INTERRUPTED = 130

_EXTRA_OF = {
    "torch": "compress",
    "torchvision": "compress",
    "onnx": "compress",
    "onnxscript": "compress",
    "safetensors": "compress",
    "matplotlib": "compress",
    "openvino": "openvino",
    "ultralytics": "ultralytics",
}


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns the errors that bad input causes into one line on stderr and exit code 2."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("HELMLITE_TRACEBACK"):
            raise
        print(f"helmlite: {' '.join(_in_words(error).split())}", file=sys.stderr)
        sys.exit(EXIT_WRONG_INPUT)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError" or os.environ.get("HELMLITE_TRACEBACK"):
            raise
        said = "the GPU's memory is full. Free it, lower the recipe's batch_size, or give --device cpu."
        print(f"helmlite: {said} The same command goes on where it stopped.", file=sys.stderr)
        sys.exit(EXIT_WRONG_INPUT)


@contextmanager
def going_on_later() -> Iterator[None]:
    """Ctrl-C in a command that can be taken up again: says so, and ends with the exit code of an interruption."""
    try:
        yield
    except KeyboardInterrupt:
        print("helmlite: interrupted; give the same command again to go on.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = error.filename2 or error.filename
        said = f"{place}: {error.strerror}" if place else error.strerror
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return f"{said}. Make room and give the same command again." if full else said
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package in _EXTRA_OF:
            return f'this command needs {package}: pip install "helmlite[{_EXTRA_OF[package]}]"'
    return str(error)
