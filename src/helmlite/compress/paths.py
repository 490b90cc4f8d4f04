"""Settings that name modules of a network by their paths, as `keep = ["model.22"]` does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn


def check_paths(name: str, setting: str, network: nn.Module, paths: Sequence[str]) -> None:
    """Raises ValueError where the setting of a technique names a module that the network does not have."""
    known = {path for path, _ in network.named_modules()}
    for path in paths:
        if path not in known:
            raise ValueError(f"{name}: {setting} names '{path}', and the network has no such module.")


def is_below(path: str, tops: Iterable[str]) -> bool:
    """Whether a path is one of these, or lies below one."""
    return any(path == top or path.startswith(f"{top}.") for top in tops)
