from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.data.dataset import UnreadableImageError, image_size, read_image
from helmlite.data.image_files import is_truncated, size_from_header


def encoded(suffix: str, width: int = 37, height: int = 21) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


def turned(jpeg: bytes, orientation: int, order: str) -> bytes:
    """The JPEG with an EXIF block that says this orientation."""
    mark = b"II" if order == "<" else b"MM"
    tiff = mark + struct.pack(order + "HIH", 42, 8, 1) + struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    payload = b"Exif\0\0" + tiff + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_header_tells_width_and_height(suffix: str) -> None:
    assert size_from_header(encoded(suffix)) == (37, 21)


@pytest.mark.parametrize(("orientation", "expected"), [(1, (37, 21)), (3, (37, 21)), (6, (21, 37)), (8, (21, 37))])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_turns_the_size_as_the_decoder_turns_the_picture(
    tmp_path: Path, orientation: int, expected: tuple[int, int], order: str
) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned(encoded(".jpg"), orientation, order))
    height, width = read_image(path).shape[:2]
    assert image_size(path) == (width, height) == expected


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".tiff"])
def test_other_formats_are_decoded_for_their_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"头盔{suffix}"
    path.write_bytes(encoded(suffix))
    assert image_size(path) == (37, 21)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_cut_file_is_truncated_and_a_whole_one_is_not(tmp_path: Path, suffix: str) -> None:
    whole = encoded(suffix)
    assert not is_truncated(whole)
    assert not is_truncated(whole + b"\0\0trailing bytes")
    assert is_truncated(whole[: len(whole) // 2])
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[:-40])
    with pytest.raises(UnreadableImageError, match=f"cut{suffix}: the picture is cut off"):
        read_image(path)


def test_a_thumbnail_with_an_end_of_its_own_does_not_make_a_cut_file_whole() -> None:
    whole = encoded(".jpg")
    thumbnail = b"Exif\0\0" + encoded(".jpg", 8, 8)
    with_thumbnail = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + whole[2:]
    assert not is_truncated(with_thumbnail)
    assert is_truncated(with_thumbnail[:-30])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a picture",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe0\x00\x01",
        b"\x89PNG\r\n\x1a\n",
        encoded(".png")[:16],
        encoded(".png")[:20],
        encoded(".png")[:23],
    ],
)
def test_nonsense_has_no_size_and_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    assert size_from_header(content) is None
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r"broken\.jpg: (not a readable picture|the picture is cut off)"):
        image_size(path)


def test_a_header_that_claims_more_than_can_be_decoded(tmp_path: Path) -> None:
    png = encoded(".png")
    header = b"IHDR" + struct.pack(">II", 60000, 60000) + png[24:29]
    path = tmp_path / "huge.png"
    path.write_bytes(png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:])
    expected = rf"huge\.png: damaged, or too large to decode \({len(png)} bytes, 60000 x 60000 pixels by its header\)"
    with pytest.raises(UnreadableImageError, match=expected):
        read_image(path)


def test_a_picture_for_which_there_is_no_memory_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    path = tmp_path / "a.bmp"
    path.write_bytes(encoded(".bmp"))
    monkeypatch.setattr(cv2, "imdecode", full)
    with pytest.raises(UnreadableImageError, match=r"a\.bmp: damaged, or too large to decode \(\d+ bytes\)"):
        read_image(path)


@pytest.mark.parametrize("name", ["a\0.jpg", "\ud800.jpg"])
def test_a_name_that_no_file_can_have_is_unreadable(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableImageError, match="no file can have this name"):
        read_image(tmp_path / name)


def test_a_missing_picture_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"gone\.jpg: No such file"):
        image_size(tmp_path / "gone.jpg")
