"""Where annotated frames and JSON lines go.  Nothing that was there before and is not ours is ever written over."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import cv2

from helmlite.data.roles import Class
from helmlite.detections import Detections, Image
from helmlite.files import NOT_UTF8
from helmlite.runtime.sources import Frame, Source

MARKER = ".helmlite-detections"  # in every folder that `helmlite detect` made
_SAME_SUFFIX = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_UNKNOWN_FPS = 25.0


class PictureFolder:
    """Writes each annotated picture under its own name into a folder."""

    def __init__(self, folder: Path, source: Source) -> None:
        self._folder = _own_folder(folder)
        _refuse_to_overwrite([self._target(path.name) for path in source.paths], source)

    def write(self, frame: Frame, image: Image) -> None:
        """Raises OSError where the picture cannot be written."""
        target = self._target(frame.source)
        done, encoded = cv2.imencode(target.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if not done:
            raise OSError(f"OpenCV cannot encode {target.name}.")
        target.write_bytes(encoded.tobytes())  # cv2.imwrite fails on non-ASCII paths on some systems

    def close(self) -> None:
        """Nothing is kept open."""

    def abandon(self) -> None:
        """Every picture that was written is whole."""

    def _target(self, name: str) -> Path:
        suffix = Path(name).suffix.lower()
        return self._folder / (name if suffix in _SAME_SUFFIX else name + ".png")


class VideoFile:
    """Writes annotated frames as an mp4 into a folder; the file has its name only once it is whole."""

    def __init__(self, folder: Path, source: Source) -> None:
        stem = Path(source.name).stem if source.kind == "video" else "camera-" + re.sub(r"\W+", "-", source.name)
        self._path = _own_folder(folder) / f"{stem}.mp4"
        _refuse_to_overwrite([self._path], source)
        self._unfinished = self._path.with_name(f"{stem}.part.mp4")
        self._fps = source.fps or _UNKNOWN_FPS
        self._writer: cv2.VideoWriter | None = None
        self._frames, self._size = 0, (0, 0)

    def write(self, frame: Frame, image: Image) -> None:
        """Raises OSError where OpenCV cannot write the video."""
        height, width = size = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2  # encoders want even sizes
        if self._writer is not None and size != self._size:
            raise OSError(
                f"Frame {frame.index} of {frame.source} is {width} x {height} pixels, those before are "
                f"{self._size[1]} x {self._size[0]}; a video holds frames of one size."
            )
        if self._writer is None:
            self._size = size
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._unfinished), code, self._fps, (width, height))
            if not self._writer.isOpened():
                raise OSError(f"OpenCV cannot write the video {self._path}.")
        self._frames += 1
        self._writer.write(cv2.cvtColor(image[:height, :width], cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finishes the file.  Raises OSError where not all of it could be written."""
        if self._writer is None:
            return
        self._writer.release()
        held = cv2.VideoCapture(str(self._unfinished))
        readable = round(held.get(cv2.CAP_PROP_FRAME_COUNT))
        held.release()
        if readable < self._frames:  # OpenCV says nothing where a frame cannot be written
            self._unfinished.unlink(missing_ok=True)
            said = f"only {max(readable, 0)} of {self._frames} frames could be written; the disk may be full"
            raise OSError(errno.ENOSPC, said, str(self._path))
        self._unfinished.replace(self._path)

    def abandon(self) -> None:
        """After an error: what was written is no whole video, and goes."""
        if self._writer is not None:
            self._writer.release()
            self._unfinished.unlink(missing_ok=True)


Output = PictureFolder | VideoFile


def open_output(folder: Path, source: Source) -> Output:
    """Where annotated frames of this source go.

    Raises ValueError where the folder holds other things or a file of the source would be written over.
    """
    return PictureFolder(folder, source) if source.kind == "pictures" else VideoFile(folder, source)


@dataclass
class JsonLines:
    """One JSON object a frame, written as it comes, so that another program can follow the file."""

    path: Path
    stream: TextIO = field(repr=False)

    @staticmethod
    def open(path: Path, source: Source) -> JsonLines:
        """Raises ValueError where the file is one of the source's own, or holds anything but such lines."""
        _refuse_to_overwrite([path], source)
        if path.is_file() and not _holds_our_lines(path):
            raise ValueError(f"{path} exists and holds other things; give --json a new file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        return JsonLines(path, path.open("w", encoding="utf-8", errors=NOT_UTF8))

    def write(self, values: dict[str, Any]) -> None:
        self.stream.write(json.dumps(values, ensure_ascii=False) + "\n")
        self.stream.flush()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()


def detections_to_json(found: Detections, classes: Sequence[Class]) -> list[dict[str, Any]]:
    """Class name, role (null where it has none), score and box in pixels of the picture, best score first."""
    return [
        {
            "class": classes[label].name,
            "role": classes[label].role,
            "score": round(score, 4),
            "box_xyxy": [round(value, 2) for value in box],
        }
        for box, score, label in zip(
            found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]


def _holds_our_lines(path: Path) -> bool:
    """Whether a file is empty or begins with an object that `JsonLines` wrote."""
    if path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        first = file.readline(1_000_000)
    try:
        return {"source", "frame", "detections"} <= json.loads(first).keys()
    except (ValueError, AttributeError):
        return False


def _own_folder(folder: Path) -> Path:
    """The folder, made and marked as ours.  Raises ValueError where it holds things that we did not write."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out wants a folder; {folder} is a file.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise ValueError(f"{folder} holds other things; give --out a new or empty folder.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    return folder


def _refuse_to_overwrite(targets: Sequence[Path], source: Source) -> None:
    originals = {path.resolve() for path in source.paths}
    for target in targets:
        if target.resolve() in originals:
            raise ValueError(f"{target} belongs to the source and would be written over; choose another place.")
