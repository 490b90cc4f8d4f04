"""Commands for a bundle's download form: pack, unpack.  Neither needs PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    app.command()(pack)
    app.command()(unpack)


def pack(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    out: Annotated[Path, typer.Argument(help="The packed file to write, as in yard.hlz.")],
) -> None:
    """Pack a bundle into one small file for download; unpacked it is the same, bit for bit."""
    from helmlite.runtime.bundle import read_bundle
    from helmlite.runtime.packing import pack_bundle

    packed = pack_bundle(read_bundle(bundle), out)
    ratio = packed.plain_bytes / packed.packed_bytes
    print(f"{out}: {packed.packed_bytes / 1e6:.2f} MB for {packed.plain_bytes / 1e6:.2f} MB, {ratio:.1f} times smaller")


def unpack(
    packed: Annotated[Path, typer.Argument(help="A packed bundle (.hlz).")],
    folder: Annotated[Path, typer.Argument(help="A new folder for the bundle.")],
) -> None:
    """Restore a packed bundle, every file checked."""
    from helmlite.runtime.packing import unpack_bundle

    bundle = unpack_bundle(packed, folder)
    print(f"{folder}: {bundle.manifest.name}, {len(bundle.manifest.files)} files as they were packed")
