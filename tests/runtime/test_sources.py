from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.dataset import UnreadableImageError
from helmlite.runtime.sources import Frame, open_source


def write_picture(path: Path, colour: tuple[int, int, int] = (255, 0, 0), size: tuple[int, int] = (40, 60)) -> Path:
    """A picture of one colour (RGB)."""
    picture = np.full((*size, 3), colour[::-1], dtype=np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
    return path


def write_video(path: Path, frames: int = 12, fps: float = 10.0) -> Path:
    """A video that brightens from frame to frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    assert writer.isOpened()
    for index in range(frames):
        writer.write(np.full((48, 64, 3), 20 * index, dtype=np.uint8))
    writer.release()
    return path


def frames_of(given: str | Path) -> tuple[list[Frame], list[str]]:
    problems: list[str] = []
    return list(open_source(str(given)).frames(problems.append)), problems


def test_one_picture(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "电动车.png")
    source = open_source(str(path))
    assert (source.kind, source.count, source.fps, source.paths) == ("pictures", 1, None, (path,))
    frames, problems = frames_of(path)
    assert problems == []
    assert (frames[0].source, frames[0].index, frames[0].time_s) == ("电动车.png", 0, None)
    assert tuple(frames[0].image[0, 0]) == (255, 0, 0)  # RGB


def test_a_folder_in_order_with_a_corrupt_picture_named(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG"):
        write_picture(tmp_path / name)
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("not looked at")
    frames, problems = frames_of(tmp_path)
    assert [(frame.source, frame.index) for frame in frames] == [("a.PNG", 0), ("b.jpg", 1)]
    assert len(problems) == 1
    assert "c.jpg" in problems[0]


def test_a_video_with_its_times(tmp_path: Path) -> None:
    path = write_video(tmp_path / "ride.mp4")
    source = open_source(str(path))
    assert (source.kind, source.count, source.fps) == ("video", 12, 10.0)
    frames, problems = frames_of(path)
    assert problems == []
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(12) / 10, atol=1e-3)
    assert frames[0].image.mean() < frames[5].image.mean() < frames[11].image.mean()
    assert {frame.source for frame in frames} == {"ride.mp4"}


def test_a_video_cut_short_is_said(tmp_path: Path) -> None:
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    generator = np.random.default_rng(0)
    for _ in range(12):
        writer.write(generator.integers(0, 256, (48, 64, 3)).astype(np.uint8))
    writer.release()
    cut = tmp_path / "cut.avi"
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    frames, problems = frames_of(cut)
    assert 0 < len(frames) < 12
    assert problems == [f"{cut}: the video ends after {len(frames)} of 12 frames"]


def test_missing_empty_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No picture, folder, video or camera at 'nothing'"):
        open_source("nothing")
    with pytest.raises(ValueError, match=r"No pictures in the folder .*Pictures end in \.jpg"):
        open_source(str(tmp_path))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"x" * 1000)
    with pytest.raises(ValueError, match="neither a picture nor a video"):
        open_source(str(broken))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(ValueError, match="neither a picture nor a video"):
        open_source(str(empty))
    corrupt = tmp_path / "one.jpg"
    corrupt.write_bytes(b"x")
    with pytest.raises(UnreadableImageError, match=r"one\.jpg"):
        open_source(str(corrupt))


def test_pictures_in_a_folder_below_are_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_picture(tmp_path / "images" / "a.jpg")
    with pytest.raises(ValueError, match=f"There are some in {tmp_path / 'images'}"):
        open_source(str(tmp_path))


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="camera or stream '97' does not answer"):
        open_source("97")


def test_a_stream_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"camera or stream 'http://127\.0\.0\.1:9/none' does not answer"):
        open_source("http://127.0.0.1:9/none")


def test_a_file_called_like_a_number_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").mkdir()
    write_picture(tmp_path / "0" / "a.png")
    assert open_source("0").kind == "pictures"


class FakeCapture:
    """A camera with three frames."""

    def __init__(self, address: object) -> None:
        self.left = 3
        self.is_released = False

    def read(self) -> tuple[bool, np.ndarray | None]:
        if self.left == 0:
            return False, None
        self.left -= 1
        return True, np.full((4, 6, 3), (255, 0, 0), dtype=np.uint8)  # BGR blue

    def get(self, key: int) -> float:
        return 30.0

    def release(self) -> None:
        self.is_released = True


def test_a_camera_gives_frames_with_times_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    source = open_source("0")
    assert (source.kind, source.count, source.fps, source.paths) == ("camera", None, 30.0, ())
    frames, problems = frames_of("rtsp://camera/stream")
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert tuple(frames[0].image[0, 0]) == (0, 0, 255)
    times = [frame.time_s for frame in frames]
    assert all(time is not None and time >= 0 for time in times)
    assert times == sorted(times)
    assert problems == ["rtsp://camera/stream: no more frames came after 3"]
