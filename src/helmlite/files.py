"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes a file beside its place and renames it when all of it is on the disk; text becomes UTF-8.

    A full disk, a kill or a power cut leaves what was at `path` before.
    Raises OSError, which names the file, where it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def put_in_place(made: Path, folder: Path, before: Path) -> None:
    """Renames the folder `made` to `folder`; what was there goes to `before` and is then removed.

    Where the second rename fails it comes back; only a kill between the two, microseconds apart, leaves the place
    empty, with both folders beside it.  All three lie on one disk.
    """
    if folder.exists():
        folder.rename(before)
    try:
        made.rename(folder)
    except BaseException:
        if before.exists() and not folder.exists():
            before.rename(folder)
        raise
    if before.exists():
        shutil.rmtree(before)


def make_parents(*paths: Path | None) -> None:
    """Makes the folders of files that are to be written, before the work whose results they hold.  None is no path.

    Raises ValueError or OSError where such a file could not be written.
    """
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise ValueError(f"{path} is a folder; give the name of a file.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ValueError(f"{path} cannot be written: part of its path is a file.") from error
        if not os.access(path.parent, os.W_OK):
            raise ValueError(f"{path}: its folder cannot be written to.")
