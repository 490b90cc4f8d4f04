"""`helmlite adapt` from the outside: exit codes, what is printed, and one line for wrong input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from helmlite.compress.checkpoint import is_checkpoint, save_checkpoint
from helmlite.compress.shipped import load_demo_detector
from helmlite.data.scenes import write_scenes

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A detector, a place of drawn streets, and pictures of nothing."""
    save_checkpoint(load_demo_detector(), tmp_path / "model", {})
    write_scenes(tmp_path / "scenes", train=3, val=4, test=0, seed=5, size=(320, 240))
    (tmp_path / "grey").mkdir()
    cv2.imwrite(str(tmp_path / "grey" / "a.png"), np.full((120, 160, 3), 90, np.uint8))
    return tmp_path


def test_it_says_what_it_did_and_what_that_is_worth(run: Run, place: Path) -> None:
    words = ("adapt", place / "model", "--data", place / "scenes" / "data.yaml", "--input-size", 160, "--device", "cpu")
    code, shown, error = run(*words, "--out", place / "new")
    assert code == 0, error
    assert "norms: 3 unlabelled, at 160 px." in shown and shown.endswith(f"undecided: {place / 'new'}\n")
    assert is_checkpoint(place / "new")
    code, shown, error = run(*words, "--out", place / "dead", "--unlabelled", place / "grey", "--prior", 0)
    assert code == 3, error
    assert f"worse than before: not written to {place / 'dead'}; it is kept in {place / 'dead.work' / 'worse'}" in shown
    assert not (place / "dead").exists()


def test_it_refuses_in_one_line(run: Run, place: Path) -> None:
    data = place / "scenes" / "data.yaml"
    cases = (
        ((place / "model",), "adapt needs pictures of the new place"),
        (("gone.pt", "--data", data), "gone.pt: no such file"),
        ((place / "model", "--data", data, "--labelled", 9, "--epochs", 1), "has 3 readable pictures"),
        ((place / "model", "--data", data, "--way", "magic"), "Unknown way 'magic'"),
        ((place / "model", "--data", data, "--way", "self-training"), "trains: give --minutes or --epochs"),
        ((place / "model", "--data", data, "--role", "hat"), "--role wants ROLE=CLASS"),
        ((place / "model", "--data", data, "--role", "no_helmet=cat"), "no class is called 'cat'"),
        ((place / "model", "--data", data, "--device", "abacus"), "Unknown device 'abacus'"),
    )
    for words, message in cases:
        code, _, error = run("adapt", *words, "--out", place / "out")
        lines = [line for line in error.splitlines() if line.strip()]
        assert (code, len(lines)) == (2, 1), (words, error)
        assert message in lines[0]
    assert not (place / "out").exists()
