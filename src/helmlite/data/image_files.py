"""What can be told about a picture file without decoding it: its size, and whether its end is missing.

Decoders fill the missing part of a truncated JPEG with grey and say nothing; such a picture would be trained on.
"""

from __future__ import annotations

import struct

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15 without DHT, JPG and DAC
_START_OF_SCAN = 0xDA
_ORIENTATION_TAG = 0x0112


def size_from_header(content: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG or PNG as it is shown (EXIF orientation applied); None where they are not told."""
    if content.startswith(_JPEG_START):
        return _jpeg_size(content)
    if content.startswith(_PNG_START) and content[12:16] == b"IHDR" and b"eXIf" not in content[:4096]:
        if len(content) < 24:  # cut off before its width and height end
            return None
        width, height = struct.unpack(">II", content[16:24])
        return width, height
    return None


def is_truncated(content: bytes) -> bool:
    """Whether a JPEG lacks its end marker or a PNG its last chunk.  Other formats are never called truncated."""
    if content.startswith(_JPEG_START):
        # inside a scan every 0xff byte is stuffed, so that this pair can only be the end
        scan = next((at for marker, at, _ in _segments(content) if marker == _START_OF_SCAN), len(content))
        return content.find(_JPEG_END, scan) < 0
    if content.startswith(_PNG_START):
        return content.rfind(b"IEND") < 0
    return False


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    turned = False
    for marker, at, length in _segments(content):
        if marker == 0xE1 and content[at : at + 6] == b"Exif\0\0":
            turned = _orientation(content[at + 6 : at + length]) >= 5  # 5 to 8 exchange width and height
        if marker in _SIZE_MARKERS and length >= 5:
            height, width = struct.unpack(">HH", content[at + 1 : at + 5])
            return (height, width) if turned else (width, height)
    return None


def _segments(content: bytes) -> list[tuple[int, int, int]]:
    """(marker, start of its payload, length of its payload) of each JPEG segment up to the first scan."""
    found: list[tuple[int, int, int]] = []
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(content):
            break
        found.append((marker, at + 4, length - 2))
        if marker == _START_OF_SCAN:
            break
        at += 2 + length
    return found


def _orientation(tiff: bytes) -> int:
    """EXIF orientation, 1 (as it is) to 8; 1 where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 14:
        return 1
    start = struct.unpack(order + "I", tiff[4:8])[0]
    count = struct.unpack(order + "H", tiff[start : start + 2])[0] if start + 2 <= len(tiff) else 0
    for at in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, _, _, value = struct.unpack(order + "HHIH", tiff[at : at + 10])
        if tag == _ORIENTATION_TAG:
            return value if 1 <= value <= 8 else 1
    return 1
