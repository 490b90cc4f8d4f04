"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """`with full_disk(bytes):` no file can grow beyond so many bytes, as on a disk that fills up."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
