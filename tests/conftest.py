"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[1]


def _shared_folder() -> Path:
    return Path(os.environ.get("HELMLITE_SHARED", _REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real pictures and weights; the test is skipped where it is missing."""
    folder = _shared_folder()
    if not (folder / "data" / "README.md").is_file():
        pytest.skip(f"real pictures are missing: no {folder}/data (set HELMLITE_SHARED)")
    return folder
