"""Where frames come from: a picture, a folder of pictures, a video file, a camera, a stream."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from helmlite.data.dataset import UnreadableImageError, read_image
from helmlite.detections import Image

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_STREAM_PREFIXES = ("rtsp://", "rtmp://", "http://", "https://", "udp://", "tcp://")
OnProblem = Callable[[str], None]  # takes one line about a frame that could not be read


@dataclass(frozen=True)
class Frame:
    """One picture to look at.

    source: file name, or the camera's index or address; index: from 0 within the source
    time_s: seconds since the start of the video or of watching; None for a single picture
    """

    image: Image = field(repr=False)
    source: str
    index: int
    time_s: float | None
    path: Path | None = None


@dataclass(frozen=True)
class Source:
    """An opened source.  `frames(on_problem)` gives its frames once.

    kind:  pictures, video or camera
    count: number of frames, where it is known; fps: of a video or camera, where it is known
    paths: the files that it reads, which nothing may overwrite
    """

    name: str
    kind: str
    count: int | None
    fps: float | None
    paths: tuple[Path, ...]
    frames: Callable[[OnProblem], Generator[Frame, None, None]] = field(repr=False)


def open_source(given: str) -> Source:
    """The source that this text names: a file or folder, a camera's index such as `0`, or a stream's address.

    Raises FileNotFoundError where there is nothing, ValueError for an empty folder, an unreadable picture or video,
    or a camera that does not answer.
    """
    if given.lower().startswith(_STREAM_PREFIXES):
        return _open_camera(given, given)
    path = Path(given)
    if given.isdigit() and not path.exists():
        return _open_camera(given, int(given))
    if not path.exists():
        raise FileNotFoundError(f"No picture, folder, video or camera at '{given}'.")
    if path.is_dir():
        return _open_pictures(given, _pictures_in(path))
    if path.suffix.lower() in PICTURE_SUFFIXES:
        read_image(path)  # the only picture: where it is unreadable there is nothing to do
        return _open_pictures(given, (path,))
    return _open_video(path)


def _pictures_in(folder: Path) -> tuple[Path, ...]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    if paths:
        return tuple(paths)
    inside = sorted({path.parent for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES})
    hint = f" There are some in {inside[0]}." if inside else f" Pictures end in {', '.join(PICTURE_SUFFIXES)}."
    raise ValueError(f"No pictures in the folder {folder}.{hint}")


def _open_pictures(name: str, paths: tuple[Path, ...]) -> Source:
    def frames(on_problem: OnProblem) -> Generator[Frame, None, None]:
        for index, path in enumerate(paths):
            try:
                image = read_image(path)
            except UnreadableImageError as error:
                on_problem(str(error))
                continue
            yield Frame(image, path.name, index, None, path)

    return Source(name, "pictures", len(paths), None, paths, frames)


def _open_video(path: Path) -> Source:
    capture = _capture(str(path))
    read, first = capture.read()
    if not read:
        capture.release()
        raise ValueError(f"{path} is neither a picture nor a video that OpenCV can read.")
    fps = capture.get(cv2.CAP_PROP_FPS)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    known_fps = fps if 0 < fps < 1000 else None
    known_count = count if count > 0 else None

    def frames(on_problem: OnProblem) -> Generator[Frame, None, None]:
        image, index = first, 0
        try:
            while True:
                yield Frame(_to_rgb(image), path.name, index, _video_time(capture, index, known_fps), path)
                read, image = capture.read()
                index += 1
                if not read:
                    break
        finally:
            capture.release()
        if known_count is not None and index < known_count - 1:  # containers often count one too many
            on_problem(f"{path}: the video ends after {index} of {known_count} frames")

    return Source(str(path), "video", known_count, known_fps, (path,), frames)


def _open_camera(name: str, address: int | str) -> Source:
    capture = _capture(address)
    read, first = capture.read()
    if not read:
        capture.release()
        raise ValueError(f"The camera or stream '{name}' does not answer.")
    fps = capture.get(cv2.CAP_PROP_FPS)

    def frames(on_problem: OnProblem) -> Generator[Frame, None, None]:
        image, index, start = first, 0, time.monotonic()
        try:
            while True:
                yield Frame(_to_rgb(image), name, index, time.monotonic() - start)
                read, image = capture.read()
                index += 1
                if not read:
                    on_problem(f"{name}: no more frames came after {index}")
                    return
        finally:
            capture.release()

    return Source(name, "camera", None, fps if 0 < fps < 1000 else None, (), frames)


def _capture(address: int | str) -> cv2.VideoCapture:
    """OpenCV's capture, without the lines that its libraries would write to the terminal."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    get_level, set_level = _log_level_functions()
    before = get_level()
    set_level(0)  # silent
    try:
        return cv2.VideoCapture(address)
    finally:
        set_level(before)


def _log_level_functions() -> tuple[Callable[[], int], Callable[[int], object]]:
    """How OpenCV's log level is read and set, which OpenCV 5 moved."""
    place = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
    return place.getLogLevel, place.setLogLevel


def _video_time(capture: cv2.VideoCapture, index: int, fps: float | None) -> float:
    """Seconds from the start of the video: the container's own time stamp, else index over frame rate."""
    stamp = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
    if stamp > 0 or index == 0:
        return max(stamp, 0.0)
    return index / fps if fps else 0.0


def _to_rgb(image: Image) -> Image:
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
