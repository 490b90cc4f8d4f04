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
    except KeyboardInterrupt:
        print("helmlite: interrupted; run the same command again to go on.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("HELMLITE_TRACEBACK"):
            raise
        print(f"helmlite: {' '.join(_in_words(error).split())}", file=sys.stderr)
        sys.exit(EXIT_WRONG_INPUT)


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
