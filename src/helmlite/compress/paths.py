"""Settings that name modules of a network by their paths, as `keep = ["model.22"]` does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn


def check_path_list(name: str, setting: str, paths: object) -> None:
    """Raises ValueError where the setting of a technique is no list of paths, whatever the network."""
    if not isinstance(paths, (tuple, list)) or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f"{name}: {setting} is a list of module paths; got {paths!r}.")


def check_paths(name: str, setting: str, network: nn.Module, paths: Sequence[str]) -> None:
    """Raises ValueError where the setting of a technique names a module that the network does not have."""
    known = {path for path, _ in network.named_modules() if path}  # "" is the network itself
    for path in paths:
        if path not in known:
            raise ValueError(f"{name}: {setting} names '{path}', and the network has no such module.")


def is_below(path: str, tops: Iterable[str]) -> bool:
    """Whether a path is one of these, or lies below one."""
    return any(path == top or path.startswith(f"{top}.") for top in tops)
