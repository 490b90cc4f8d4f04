"""Targets: what a device's runtime likes, from TOML files."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import resources

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Target:
    """A kind of device.

    runtime:          "openvino" or "onnxruntime"
    channel_multiple: channel counts that its kernels like are multiples of this
    precisions:       what may be chosen there, measured and gated
    """

    name: str
    runtime: str
    channel_multiple: int
    precisions: tuple[str, ...]


def target_names() -> tuple[str, ...]:
    """Names of the targets that come with helmlite."""
    folder = resources.files("helmlite") / "targets"
    return tuple(sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")))


def load_target(name: str) -> Target:
    """The target of this name.  Raises ValueError, naming the known ones."""
    if name not in target_names():
        raise ValueError(f"Unknown target '{name}'. Known: {', '.join(target_names())}.")
    stated = tomllib.loads((resources.files("helmlite") / "targets" / f"{name}.toml").read_text(encoding="utf-8"))
    return Target(stated["name"], stated["runtime"], int(stated["channel_multiple"]), tuple(stated["precisions"]))
