"""A bundle as one small file for download (`.hlz`), restored bit for bit.

Runtimes want their weights as plain arrays, so a codebook (compress/cluster.py), a mask or few bits make a file no
smaller that they load.  They make the download smaller:

    constants with at most 256 distinct numbers    the numbers, and one byte of index for each
    constants with many zeros                      a bit for each, and what is not zero
    other constants                                byte plane by byte plane: exponents repeat, mantissas do not
    constants that were there already              a reference: two runtimes' files hold the same weights
    everything else                                as it is

Alike parts of all files form one stream, and each stream is coded by what makes a sample of it smallest: Huffman codes
alone (of zlib; what Deep Compression uses, Han 2016, arXiv 1510.00149, section 4), LZMA, or not at all.  Standard
library and numpy only: a roadside box unpacks this.

    "HLZ1" | SHA-256 of all that follows | length of the header, 4 bytes | header, JSON under LZMA | streams
"""

from __future__ import annotations

import hashlib
import json
import lzma
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helmlite.files import claim_file, write_whole
from helmlite.runtime.bundle import Bundle, read_bundle
from helmlite.runtime.constants import Constant, onnx_constants, openvino_constants
from helmlite.runtime.manifest import MANIFEST_NAME, BundleError

_MAGIC = b"HLZ1"
_LARGE = 512  # bytes: a smaller constant is not worth an entry in the header
_CODEBOOK = 256  # distinct numbers
_SPARSE = 1 / 16  # share of zeros that pays for a bit for each number
_SAMPLE = 1 << 18  # bytes of a stream that decide how it is coded
_SLOW = 1.02  # LZMA takes some twenty times longer than Huffman codes, and has to earn it
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6}]


@dataclass(frozen=True)
class Packed:
    """What packing did, in bytes of the bundle's files and of the packed file."""

    plain_bytes: int
    packed_bytes: int


def pack_bundle(bundle: Bundle, out: Path) -> Packed:
    """Writes the bundle's files and its manifest as one packed file.

    Raises BundleError where a file was altered, ValueError where `out` lies in the bundle or holds something else than
    a packed bundle, OSError where it cannot be written.
    """
    claim_file(out, "the packed bundle", _is_packed, (bundle.folder,))
    read_bundle(bundle.folder)
    contents = _contents(bundle.folder, (*bundle.manifest.files, MANIFEST_NAME))
    packed = packed_form(contents)
    write_whole(out, packed)
    return Packed(sum(map(len, contents.values())), len(packed))


def unpack_bundle(path: Path, folder: Path) -> Bundle:
    """Restores a packed bundle in a new folder; the folder appears when everything is in it.

    Raises BundleError where the file is none of ours, cut short or altered, ValueError where `folder` holds something,
    OSError where it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty; unpack into a new folder.")
    contents = restored(path.read_bytes(), str(path))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary) / "bundle"
        for relative, content in contents.items():
            (made / relative).parent.mkdir(parents=True, exist_ok=True)
            write_whole(made / relative, content)
        read_bundle(made)
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    return read_bundle(folder, verify=False)


def download_size(model: Bundle | Iterable[Path], runtime: str | None = None) -> int:
    """Bytes of the packed form: of a bundle, or of these model files.

    runtime: of a bundle, counts only what this runtime loads, and not the manifest
    An OpenVINO `.bin` is understood only together with its `.xml`.  Raises OSError for a missing file.
    """
    if isinstance(model, Bundle):
        names = model.manifest.runtime_files[runtime] if runtime else (*model.manifest.files, MANIFEST_NAME)
        return len(packed_form(_contents(model.folder, names)))
    return len(packed_form({path.as_posix(): path.read_bytes() for path in model}))


def packed_form(contents: Mapping[str, bytes]) -> bytes:
    """These files (relative path with / -> content) as one packed file."""
    streams: dict[str, list[bytes]] = defaultdict(list)
    seen: dict[bytes, int] = {}
    files = []
    for name, content in contents.items():
        places = []
        rest = 0
        for constant in _large_constants(name, content, contents):
            streams["rest"].append(content[rest : constant.start])
            rest = constant.start + constant.size
            places.append([constant.start, *_put(streams, seen, content[constant.start : rest], constant.width)])
        streams["rest"].append(content[rest:])
        digest = hashlib.sha256(content).hexdigest()
        files.append({"path": name, "size": len(content), "sha256": digest, "constants": places})
    coded = {name: _coded(b"".join(parts)) for name, parts in streams.items()}
    sizes = {name: [method, len(data), plain] for name, (method, data, plain) in coded.items()}
    header = _lzma(json.dumps({"files": files, "streams": sizes}, separators=(",", ":")).encode())
    body = len(header).to_bytes(4, "big") + header + b"".join(data for _, data, _ in coded.values())
    return _MAGIC + hashlib.sha256(body).digest() + body


def restored(packed: bytes, source: str) -> dict[str, bytes]:
    """The files of a packed form.  source: how errors call it.  Raises BundleError where it is not whole."""
    if packed[:3] != _MAGIC[:3]:
        raise BundleError(f"{source} is not a packed bundle.")
    if packed[:4] != _MAGIC:
        raise BundleError(f"{source} was packed by a newer helmlite. Upgrade with: pip install -U helmlite")
    body = packed[36:]
    if hashlib.sha256(body).digest() != packed[4:36]:
        raise BundleError(f"{source} is cut short or altered. Download it again.")
    try:
        start = 4 + int.from_bytes(body[:4], "big")
        header = json.loads(_unlzma(body[4:start]))
        reader = _Reader(body[start:], header["streams"])
        pieces: list[bytes] = []
        return {file["path"]: _checked(file, _file(file, reader, pieces), source) for file in header["files"]}
    except BundleError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise BundleError(f"{source} was not packed by helmlite ({type(error).__name__}: {error}).") from error


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(3) == _MAGIC[:3]


def _checked(file: Mapping[str, Any], content: bytes, source: str) -> bytes:
    path = PurePosixPath(file["path"])
    if path.is_absolute() or ".." in path.parts or "\\" in file["path"]:
        raise BundleError(f"{source} names a file outside its folder: '{path}'.")
    if hashlib.sha256(content).hexdigest() != file["sha256"]:
        raise BundleError(f"{source}: {path} was not restored as it was. Pack the bundle again.")
    return content


def _contents(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def _large_constants(name: str, content: bytes, contents: Mapping[str, bytes]) -> list[Constant]:
    if name.endswith(".onnx"):
        found = onnx_constants(content)
    elif name.endswith(".bin"):
        found = openvino_constants(contents.get(f"{name.removesuffix('.bin')}.xml", b""), len(content))
    else:
        found = []
    return [constant for constant in found if constant.size >= _LARGE]


def _put(streams: dict[str, list[bytes]], seen: dict[bytes, int], content: bytes, width: int) -> list[Any]:
    """Adds one constant to the streams; gives its entry [kind, size, width, detail] for the header."""
    digest = hashlib.sha256(content).digest()
    if digest in seen:
        return ["again", len(content), width, seen[digest]]
    seen[digest] = len(seen)
    numbers = np.frombuffer(content, f"<u{width}")
    if width == 1:
        streams["bytes"].append(content)
        return ["bytes", len(content), width, 0]
    if (values := _few(numbers)) is not None:
        streams[f"values{width}"].append(values.tobytes())
        streams["index"].append(np.searchsorted(values, numbers).astype(np.uint8).tobytes())
        return ["index", len(content), width, len(values)]
    alive = numbers != 0
    if alive.mean() <= 1 - _SPARSE:
        streams["alive"].append(np.packbits(alive).tobytes())
        _put_planes(streams, numbers[alive], width)
        return ["sparse", len(content), width, int(alive.sum())]
    _put_planes(streams, numbers, width)
    return ["planes", len(content), width, 0]


def _put_planes(streams: dict[str, list[bytes]], numbers: NDArray[Any], width: int) -> None:
    for place, plane in enumerate(numbers.view(np.uint8).reshape(-1, width).T):
        streams[f"plane{width}.{place}"].append(plane.tobytes())


def _few(numbers: NDArray[Any]) -> NDArray[Any] | None:
    """The distinct numbers, ascending, where a codebook of them pays; else None."""
    if np.unique(numbers[: 4 * _CODEBOOK]).size > _CODEBOOK:  # most constants are seen through at once
        return None
    values = np.unique(numbers)
    return values if values.size <= min(_CODEBOOK, numbers.size // 2) else None


class _Reader:
    """Streams read from their beginning on, each at its own pace."""

    def __init__(self, body: bytes, sizes: Mapping[str, list[Any]]) -> None:
        self._streams: dict[str, bytes] = {}
        self._places: dict[str, int] = defaultdict(int)
        start = 0
        for name, (method, packed, plain) in sizes.items():
            self._streams[name] = _DECODERS[method](body[start : start + packed])
            start += packed
            if len(self._streams[name]) != plain:
                raise ValueError(f"stream '{name}' has another length")

    def take(self, name: str, size: int) -> bytes:
        start = self._places[name]
        self._places[name] = start + size
        return self._streams[name][start : start + size]

    def planes(self, count: int, width: int) -> NDArray[Any]:
        planes = [np.frombuffer(self.take(f"plane{width}.{place}", count), np.uint8) for place in range(width)]
        return np.ascontiguousarray(np.stack(planes, axis=1)).view(f"<u{width}").reshape(-1)


def _file(file: Mapping[str, Any], reader: _Reader, pieces: list[bytes]) -> bytes:
    """One file's content.  pieces: the constants so far, which grow by its own"""
    parts = []
    end = 0
    for start, kind, size, width, detail in file["constants"]:
        parts.append(reader.take("rest", start - end))
        end = start + size
        parts.append(pieces[detail] if kind == "again" else _constant(reader, kind, size, width, detail))
        if kind != "again":
            pieces.append(parts[-1])
    parts.append(reader.take("rest", file["size"] - end))
    return b"".join(parts)


def _constant(reader: _Reader, kind: str, size: int, width: int, detail: int) -> bytes:
    count = size // width
    if kind == "bytes":
        return reader.take("bytes", size)
    if kind == "index":
        values = np.frombuffer(reader.take(f"values{width}", detail * width), f"<u{width}")
        return values[np.frombuffer(reader.take("index", count), np.uint8)].tobytes()
    if kind == "sparse":
        alive = np.unpackbits(np.frombuffer(reader.take("alive", -(-count // 8)), np.uint8), count=count).astype(bool)
        numbers = np.zeros(count, f"<u{width}")
        numbers[alive] = reader.planes(detail, width)
        return numbers.tobytes()
    return reader.planes(count, width).tobytes()


def _coded(content: bytes) -> tuple[str, bytes, int]:
    """(method, what it makes of `content`, bytes of `content`), by what makes a sample from the middle smallest."""
    middle = max((len(content) - _SAMPLE) // 2, 0)
    sample = content[middle : middle + _SAMPLE]
    sizes = {name: len(coder(sample)) for name, coder in _CODERS.items()}
    method = min(sizes, key=sizes.__getitem__)
    if sizes["huffman"] <= _SLOW * sizes[method]:
        method = "huffman"
    return method, _CODERS[method](content), len(content)


def _huffman(content: bytes) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(content) + coder.flush()


def _unhuffman(data: bytes) -> bytes:
    return zlib.decompress(data, -zlib.MAX_WBITS)


def _lzma(content: bytes) -> bytes:
    return lzma.compress(content, lzma.FORMAT_RAW, filters=_FILTERS)


def _unlzma(data: bytes) -> bytes:
    return lzma.decompress(data, lzma.FORMAT_RAW, filters=_FILTERS)


def _as_it_is(content: bytes) -> bytes:
    return content


_CODERS: Mapping[str, Callable[[bytes], bytes]] = {"stored": _as_it_is, "huffman": _huffman, "lzma": _lzma}
_DECODERS: Mapping[str, Callable[[bytes], bytes]] = {"stored": _as_it_is, "huffman": _unhuffman, "lzma": _unlzma}
