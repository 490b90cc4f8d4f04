"""What every benchmark says and asks for: the commit that it ran at, the data set, the split."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path


def commit() -> str:
    """Short hash of the project's commit, or nothing outside a clone."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def data_options(description: str | None, size_option: str | None = "--input-size") -> argparse.ArgumentParser:
    """A parser that asks for --data, --split and an input size (unless None); the caller adds positional arguments."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    if size_option:
        parser.add_argument(size_option, type=int, default=640)
    return parser
