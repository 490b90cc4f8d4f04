"""Settings that name modules: what is a list of paths, and what they reach."""

from __future__ import annotations

import pytest
from torch import nn

from helmlite.compress.paths import check_path_list, check_paths, is_below

_NETWORK = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU()))


@pytest.mark.parametrize("paths", [(), ["a"], ("a", "a.b")])
def test_lists_of_paths_pass(paths: object) -> None:
    assert check_path_list("prune", "keep", paths) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("paths", ["a", None, ("",), ["a", ""], [["a"]], (1,)])
def test_anything_else_is_refused_in_one_line(paths: object) -> None:
    with pytest.raises(ValueError, match=r"^prune: keep is a list of module paths; got ") as caught:
        check_path_list("prune", "keep", paths)
    assert "\n" not in str(caught.value)


def test_an_empty_path_names_no_module() -> None:
    assert check_paths("tie", "only", _NETWORK, ("0", "1.0")) is None  # type: ignore[func-returns-value]
    for path in ("", "2"):
        with pytest.raises(ValueError, match=f"tie: only names '{path}', and the network has no such module"):
            check_paths("tie", "only", _NETWORK, (path,))


def test_below_is_by_whole_names() -> None:
    assert is_below("neck.p3.conv", ["neck.p3"])
    assert is_below("neck.p3", ["neck.p3"])
    assert not is_below("neck.p31", ["neck.p3"])
