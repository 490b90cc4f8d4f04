"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

_Json = TypeVar("_Json", dict, list)  # type: ignore[type-arg]

NOT_UTF8 = "backslashreplace"  # of a file name's bytes: in JSON it is the very escape that is read back as it was
_IN_WORDS = {dict: "an object", list: "a list"}
_PICTURE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8")  # PNG, JPEG


def write_whole(path: Path, content: bytes | str) -> None:
    """Writes a file beside its place and renames it when all of it is on the disk; text becomes UTF-8.

    A full disk, a kill or a power cut leaves what was at `path` before.  A link stays one: the file that it points to
    is written.  A device or a pipe stays one too, and is written directly.
    Raises OSError, which names the file, where it cannot be written.
    """
    encoded = content.encode(errors=NOT_UTF8) if isinstance(content, str) else content
    place = Path(os.path.realpath(path))
    try:
        if place.exists() and not place.is_file():
            place.write_bytes(encoded)
        else:
            _replace(place, encoded)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _replace(place: Path, content: bytes) -> None:
    part = place.with_name(f".{place.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, place)
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


def check_new_folder(out: Path, option: str = "--out") -> None:
    """Raises ValueError where no new folder could take the name `out`: something else is there (an empty folder may
    be, or a link to one), it is a mounted disk or the working folder, or nothing can be written where it would lie.

    option: how the user names it
    """
    place = Path(os.path.realpath(out))
    if place.is_dir() and any(place.iterdir()):
        raise ValueError(f"{out}: the folder is not empty; give {option} a new folder.")
    if place.exists() and not place.is_dir():
        raise ValueError(f"{out}: a file; give {option} a new folder.")
    if place == Path.cwd():
        raise ValueError(f"{out}: the folder that you are in; give {option} a new folder.")
    if os.path.ismount(place):
        raise ValueError(f"{out}: a disk is mounted there; give {option} a new folder in it.")
    above = next(folder for folder in place.parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{out} cannot be made: part of its path is a file.")
    if not _can_write_to(above):
        raise ValueError(f"{out} cannot be made: nothing can be written to {above}.")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out`, which is new or empty (`check_new_folder`): it takes its name when all is written, and
    goes away when anything fails before.  Where `out` is a link, the folder that it points to is made.

    Raises OSError where it cannot take the name, for instance since `out` is in use by now; then it stays, and the
    error says where.
    """
    place = Path(os.path.realpath(out))
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    try:
        partial.chmod(place.parent.stat().st_mode & 0o777)  # mkdtemp makes it private
        if place.exists():
            place.rmdir()  # empty, as was checked
        os.replace(partial, place)
    except OSError as error:
        told = f"{error.strerror}; all is written, and lies in {partial}: rename that folder"
        raise OSError(error.errno, told, str(out)) from error


def claim_file(
    path: Path | None, option: str, is_ours: Callable[[Path], bool], inputs: Iterable[str | Path] = ()
) -> None:
    """Makes the folder of a file that is to be written, before the work whose result it holds.  None is no path.

    option:  how the user names it, as in `--json`
    is_ours: whether a file that is there already is an older result of this kind, which may go
    inputs:  files and folders that the command reads: nothing is written over or into them

    Raises ValueError where something else would be written over, ValueError or OSError where the file could not be
    written.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of a file.")
    keep_out_of(inputs, path, option, "file")
    place = Path(os.path.realpath(path))
    if place.is_file() and place.stat().st_size and not is_ours(place):
        raise ValueError(f"{path} exists and holds other things; give {option} a new file.")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{path} cannot be written: part of its path is a file.") from error
    is_device = place.exists() and not place.is_file()  # written directly, so that its folder does not matter
    if not (os.access(place, os.W_OK) if is_device else _can_write_to(place.parent)):
        raise ValueError(f"{path}: {'it' if is_device else 'its folder'} cannot be written to.")


def check_can_write_to(folder: Path, option: str = "--out") -> None:
    """Raises ValueError where no file could be written to the folder, or where it would lie if it is still to be made.

    option: how the user names it
    """
    place = Path(os.path.realpath(folder))
    above = next(item for item in (place, *place.parents) if item.exists())
    if not above.is_dir():
        raise ValueError(f"{folder} cannot be made: part of its path is a file; give {option} another folder.")
    if not _can_write_to(above):
        raise ValueError(f"{folder}: nothing can be written to {above}; give {option} another folder.")


def _can_write_to(folder: Path) -> bool:
    """Tried, since the rights of a folder say nothing about a disk that is read-only or no disk at all."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def keep_out_of(inputs: Iterable[str | Path], path: Path, option: str, kind: str = "folder") -> None:
    """Raises ValueError where the file or folder `path`, given as `option`, is one of `inputs` or would lie in one."""
    place = Path(os.path.realpath(path))
    for item in inputs:
        known = Path(os.path.realpath(item))
        if place == known:
            raise ValueError(f"{path} is read by this command and would be written over; give {option} a new {kind}.")
        if known in place.parents:
            raise ValueError(f"{path} lies in {item}, which this command reads; give {option} a {kind} outside of it.")


def holds_json(*keys: str) -> Callable[[Path], bool]:
    """For `claim_file`: whether a file holds a JSON object with these keys, or a list that begins with one."""

    def holds(path: Path) -> bool:
        try:
            values = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return False
        first = values[0] if isinstance(values, list) and values else values
        return isinstance(first, dict) and first.keys() >= set(keys)

    return holds


def holds_picture(path: Path) -> bool:
    """For `claim_file`: whether a file is a PNG or a JPEG."""
    with path.open("rb") as file:
        return file.read(8).startswith(_PICTURE_STARTS)


def read_json(path: Path, kind: type[_Json], advice: str = "remove it and give the command again") -> _Json:
    """What a JSON file holds that helmlite wrote: an object where `kind` is dict, a list where it is list.

    Raises ValueError, which ends in `advice`, where it is damaged, OSError where it cannot be read.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged (it is not JSON: {error}); {advice}.") from error
    if not isinstance(values, kind):
        raise ValueError(f"{path}: damaged (it does not hold {_IN_WORDS[kind]}); {advice}.")
    return values
