"""Checkpoints: what was altered, damaged or made elsewhere is noticed, and nothing is loaded silently wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helmlite.compress.checkpoint import load_checkpoint, read_provenance, save_checkpoint
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny

Change = Callable[[Any], Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(_tiny(), tmp_path / "model", {"technique": "none"})
    return tmp_path / "model"


def _tiny() -> Detector:
    return new_tiny(with_roles(["helmet", "no_helmet"]), input_size=64)


def _change(path: Path, change: Change) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize("name", ["edits.json", "weights.safetensors", "provenance.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"missing {name}"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stated: {"format": 1}, "was altered"),
        (lambda stated: stated | {"format": 99}, "checkpoint format 99, this helmlite reads 1"),
        (lambda stated: stated | {"classes": "cat"}, "was altered"),
        (lambda stated: stated | {"golden": []}, "was altered"),
        (lambda stated: stated | {"golden": [float("nan")] * len(stated["golden"])}, "answers differently"),
        (lambda stated: stated | {"golden": [2 * item for item in stated["golden"]]}, "answers differently"),
    ],
)
def test_an_altered_description_is_refused(folder: Path, change: Change, message: str) -> None:
    _change(folder / "architecture.json", change)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize("content", [b"", b'{"format": 1, ', b"5", b"\x80\xff"])
@pytest.mark.parametrize("name", ["architecture.json", "edits.json"])
def test_a_damaged_file_is_named_in_one_line(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: damaged \(.*\); copy the checkpoint again, or .*") as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_a_description_or_provenance_of_another_kind_is_named(folder: Path) -> None:
    for name in ("architecture.json", "provenance.json"):
        (folder / name).write_text("[1]")
    with pytest.raises(ValueError, match=r"architecture\.json: damaged \(it does not hold an object\)"):
        load_checkpoint(folder)
    with pytest.raises(ValueError, match=r"provenance\.json: damaged \(it does not hold an object\)"):
        read_provenance(folder)


def test_an_unknown_edit_is_named(folder: Path) -> None:
    _change(folder / "edits.json", lambda edits: [{"kind": "fold_in_half"}])
    with pytest.raises(ValueError, match="unknown edit 'fold_in_half'"):
        load_checkpoint(folder)


def test_cut_or_foreign_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="the weights cannot be read"):
        load_checkpoint(folder)
    other = new_tiny(with_roles(["helmet", "no_helmet"]), input_size=64, width=0.5)
    save_checkpoint(other, tmp_path / "other", {})
    weights.write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    with pytest.raises(ValueError, match="do not fit the architecture"):
        load_checkpoint(folder)


def test_a_shared_tensor_is_stored_once_and_shared_again(tmp_path: Path) -> None:
    detector = _tiny()
    norms = [item for item in detector.network.modules() if isinstance(item, torch.nn.BatchNorm2d)]
    first, second = next((a, b) for a in norms for b in norms if a is not b and a.num_features == b.num_features)
    second.weight = first.weight
    save_checkpoint(detector, tmp_path / "tied", {})
    save_checkpoint(_tiny(), tmp_path / "plain", {})
    stored = [len(load_file(tmp_path / name / "weights.safetensors")) for name in ("tied", "plain")]
    assert stored[0] == stored[1] - 1
    loaded = load_checkpoint(tmp_path / "tied").network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in detector.network.state_dict().items())
