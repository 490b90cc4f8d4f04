"""Replacing SiLU: everywhere, in part, and where many layers share one instance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from helmlite.compress.activation import ReplaceActivation, SwapActivations, silu_paths
from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.compress.technique import Context
from helmlite.data.dataset import dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Detector
from helmlite.detector.tiny import new_tiny
from helmlite.detector.trace import trace

_CLASSES = with_roles(["helmet", "no_helmet"])


def context(detector: Detector) -> Context:
    return Context(dataset_of([], _CLASSES), detector, 64, 0, Path("unused"), log=lambda line: None)


def kinds(detector: Detector) -> set[str]:
    return {op.kind for op in trace(detector.network, 64).ops}


@pytest.mark.parametrize(("to", "kind"), [("relu", "relu"), ("relu6", "hardtanh"), ("hardswish", "hardswish")])
def test_every_silu_is_replaced_and_the_input_is_not(to: str, kind: str) -> None:
    detector = new_tiny(_CLASSES, 64)
    changed = ReplaceActivation(to).apply(detector, context(detector))
    assert "silu" not in kinds(changed)
    assert kind in kinds(changed)
    assert "silu" in kinds(detector)
    assert detector.edits == ()
    assert not any(getattr(module, "inplace", False) for module in changed.network.modules())


def test_only_below_the_given_path() -> None:
    detector = new_tiny(_CLASSES, 64)
    changed = ReplaceActivation("relu", only=("backbone",)).apply(detector, context(detector))
    left = silu_paths(changed.network)
    assert left
    assert not any(path.startswith("backbone.") for path in left)
    assert set(left) | set(changed.edits[0].to_json()["paths"]) == set(silu_paths(detector.network))


class _Shared(nn.Module):
    """Two layers with one activation between them, as Ultralytics has it."""

    def __init__(self) -> None:
        super().__init__()
        act = nn.SiLU()
        self.first, self.second = nn.Sequential(nn.Identity(), act), nn.Sequential(nn.Identity(), act)


def test_a_shared_instance_is_replaced_path_by_path() -> None:
    network = _Shared()
    assert silu_paths(network) == ("first.1", "second.1")
    SwapActivations(("second.1",), "relu").redo(network)
    assert isinstance(network.first[1], nn.SiLU)
    assert isinstance(network.second[1], nn.ReLU)


def test_edit_survives_json_and_a_checkpoint(tmp_path: Path) -> None:
    detector = new_tiny(_CLASSES, 64)
    changed = ReplaceActivation("hardswish").apply(detector, context(detector))
    edit = changed.edits[0]
    assert SwapActivations.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    save_checkpoint(changed, tmp_path / "changed", {})
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, got = changed.network(images), load_checkpoint(tmp_path / "changed").network(images)
    assert all(torch.equal(a, b) for a, b in zip(expected, got))


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="unknown replacement 'gelu'; known are relu, relu6, hardswish"):
        ReplaceActivation("gelu")
    detector = new_tiny(_CLASSES, 64)
    for only in (("nowhere",), ("backbone", "nowhere")):
        with pytest.raises(ValueError, match="only names 'nowhere', and the network has no such module"):
            ReplaceActivation(only=only).apply(detector, context(detector))
    with pytest.raises(ValueError, match=r"no SiLU below backbone\.stem\.conv to replace"):
        ReplaceActivation(only=("backbone.stem.conv",)).apply(detector, context(detector))
    changed = ReplaceActivation().apply(detector, context(detector))
    with pytest.raises(ValueError, match="no SiLU to replace"):
        ReplaceActivation().apply(changed, context(changed))


@pytest.mark.slow
def test_every_layer_of_a_yolo() -> None:
    pytest.importorskip("ultralytics")
    from helmlite.detector.ultralytics import new_ultralytics

    detector = new_ultralytics("yolo11n", _CLASSES)
    count = sum(op.kind == "silu" for op in trace(detector.network, 64).ops)
    changed = ReplaceActivation("relu").apply(detector, context(detector))
    found = [op.kind for op in trace(changed.network, 64).ops]
    assert (found.count("silu"), found.count("relu")) == (0, count)
