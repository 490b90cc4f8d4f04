"""A bundle: a folder with a compressed detector's files and the manifest that describes and seals them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from helmlite.runtime.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    BundleError,
    BundleFile,
    Manifest,
    Preprocessing,
    StayedFloat,
    Thresholds,
    describe_file,
    read_manifest,
    write_manifest,
)

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "Bundle",
    "BundleError",
    "BundleFile",
    "Manifest",
    "Preprocessing",
    "StayedFloat",
    "Thresholds",
    "describe_file",
    "read_bundle",
    "read_manifest",
    "write_manifest",
]


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk: its folder and what its manifest says."""

    folder: Path
    manifest: Manifest

    def model_path(self, runtime: str | None = None) -> Path:
        """The file that this runtime (by default the preferred one) opens.  Raises ValueError where it has none."""
        wanted = runtime or self.manifest.runtime
        paths = self.manifest.runtime_files.get(wanted)
        if not paths:
            offered = ", ".join(self.manifest.runtime_files)
            raise ValueError(f"{self.folder} holds nothing for {wanted}; it holds files for {offered}.")
        return self.folder / paths[0]


def read_bundle(folder: Path, verify: bool = True) -> Bundle:
    """The bundle in this folder, with every file's hash checked unless `verify` is False.

    Raises BundleError (one line) where the folder is no bundle, a file is missing, cut short or altered, or the
    format is newer than this helmlite.
    """
    manifest = read_manifest(folder)
    if manifest.preprocessing != Preprocessing():
        raise BundleError(f"{folder} wants a preprocessing that this helmlite does not know: {manifest.preprocessing}.")
    for relative, expected in manifest.files.items():
        _check_file(folder / relative, expected, verify)
    return Bundle(folder, manifest)


def _check_file(path: Path, expected: BundleFile, verify: bool) -> None:
    again = "Copy the bundle again."
    if not path.is_file():
        raise BundleError(f"{path} is missing from the bundle. {again}")
    size = path.stat().st_size
    if size < expected.size_bytes:
        raise BundleError(f"{path} is cut short: {size} of {expected.size_bytes} bytes. {again}")
    if size > expected.size_bytes or (verify and describe_file(path) != expected):
        raise BundleError(f"{path} was altered: its content is not the one that the manifest seals. {again}")
