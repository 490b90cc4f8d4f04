"""The layer list of an Ultralytics checkpoint is data, never code; its modules are what it says, or are adopted."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from helmlite.compress.checkpoint import load_checkpoint, save_checkpoint
from helmlite.data.roles import with_roles
from helmlite.detector.untrusted import UntrustedCheckpointError

pytest.importorskip("ultralytics")
from helmlite.detector.ultralytics import YoloNetwork, as_ultralytics_model, load_ultralytics, new_ultralytics
from helmlite.detector.ultralytics_layers import check_layer_list

_CLASSES = with_roles(["helmet", "no_helmet"])
_STOCK = """yolov5nu yolov8n yolov8n-p2 yolov8n-p6 yolov9t yolov9c yolov9e yolov10n yolov10b yolo11n yolo11x yolo12n
yolo12x yolo26n yolo26x""".split()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return as_ultralytics_model(new_ultralytics("yolo11n", _CLASSES))


def _saved(model: nn.Module, path: Path, **more: Any) -> Path:
    torch.save({"model": model, "ema": None, **more}, path)
    return path


def _code_that_writes(path: Path) -> str:
    return f"__import__('pathlib').Path({str(path)!r}).write_text('code ran') and torch.nn.SiLU()"


def test_an_activation_that_is_code_is_refused_and_not_run(tmp_path: Path, model: nn.Module) -> None:
    hostile: Any = copy.deepcopy(model)
    hostile.yaml["activation"] = _code_that_writes(tmp_path / "ran")
    with pytest.raises(UntrustedCheckpointError, match="__import__"):
        load_ultralytics(_saved(hostile, tmp_path / "hostile.pt"))
    assert not (tmp_path / "ran").exists()


def test_an_activation_that_is_code_in_a_checkpoint_folder_is_not_run_either(tmp_path: Path) -> None:
    save_checkpoint(new_ultralytics("yolov8n", _CLASSES), tmp_path / "folder", {})
    file = tmp_path / "folder" / "architecture.json"
    architecture = json.loads(file.read_text())
    architecture["description"]["yaml"]["activation"] = _code_that_writes(tmp_path / "ran")
    file.write_text(json.dumps(architecture))
    with pytest.raises(ValueError, match="activation"):
        load_checkpoint(tmp_path / "folder")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("layer", ["os.system", "TorchVision", "LOGGER", "nn.Module", "torchvision.ops.nms", 7])
def test_a_layer_that_nobody_listed_is_refused_by_name(tmp_path: Path, model: nn.Module, layer: object) -> None:
    hostile: Any = copy.deepcopy(model)
    hostile.yaml["backbone"][3][2] = layer
    with pytest.raises(UntrustedCheckpointError, match=str(layer)):
        load_ultralytics(_saved(hostile, tmp_path / "hostile.pt"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([-1, 1, "Conv", ["exit()"]], r"argument 'exit\(\)'"),
        ([-1, 1, "Conv", [1e12, 3]], "argument 1000000000000"),
        ([-1, 10**9, "Conv", [16, 3]], "repeated 1000000000 times"),
        ([40, 1, "Conv", [16, 3]], "reads from 40"),
        ([-1, 1, "Conv"], "not \\[from"),
        ("Conv", "not \\[from"),
        ([-1, 1, "Conv", []], "no network can be built"),
        ([-1, 1, "Conv", ["if", 3]], "no network can be built"),
        ([-1, 1, "Conv", ["(1..2)"]], r"argument '\(1\.\.2\)'"),
    ],
)
def test_a_broken_layer_list_is_answered_in_one_line(
    tmp_path: Path, model: nn.Module, line: object, message: str
) -> None:
    broken: Any = copy.deepcopy(model)
    broken.yaml["backbone"][3] = line
    with pytest.raises(ValueError, match=message) as caught:
        load_ultralytics(_saved(broken, tmp_path / "broken.pt"))
    assert "\n" not in str(caught.value)
    assert "broken.pt" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": None}, "no 'backbone'"),
        ({"head": []}, "no 'head'"),
        ({"scale": "q"}, "no scale 'q'"),
        ({"scale": [1]}, r"no scale '\[1\]'"),
        ({"channels": 10**9}, "pictures of 1000000000 channels"),
        ({"ch": "__import__"}, "pictures of __import__ channels"),
        ({"scales": {"n": [1.0]}}, "scale 'n'"),
    ],
)
def test_a_layer_list_without_its_parts_is_refused(
    tmp_path: Path, model: nn.Module, change: dict[str, Any], message: str
) -> None:
    broken: Any = copy.deepcopy(model)
    broken.yaml.update(change)
    with pytest.raises(ValueError, match=message):
        load_ultralytics(_saved(broken, tmp_path / "broken.pt"))


def test_a_list_that_cannot_be_built_leaves_nothing_behind(tmp_path: Path, model: nn.Module) -> None:
    """Ultralytics keeps the activation of a list in its own class while it builds."""
    broken: Any = copy.deepcopy(model)
    broken.yaml["activation"] = "nn.ReLU()"
    broken.yaml["backbone"][3] = [-1, 1, "Conv", []]
    with pytest.raises(ValueError, match="no network can be built"):
        load_ultralytics(_saved(broken, tmp_path / "broken.pt"))
    kinds = {type(module).__name__ for module in new_ultralytics("yolov8n", _CLASSES).network.modules()}
    assert "SiLU" in kinds and "ReLU" not in kinds


def test_a_pruned_checkpoint_is_told_where_to_be_opened(tmp_path: Path, model: nn.Module) -> None:
    pruned: Any = copy.deepcopy(model)
    conv = pruned.model[1].conv
    pruned.model[1].conv = nn.Conv2d(conv.in_channels, conv.out_channels - 8, 3, 2, 1, bias=False)
    with pytest.raises(ValueError, match="A pruned model is opened from its helmlite checkpoint folder instead"):
        load_ultralytics(_saved(pruned, tmp_path / "pruned.pt"))


@pytest.mark.parametrize("names", [{}, [], None, 3])
def test_a_checkpoint_without_classes_is_refused(tmp_path: Path, model: nn.Module, names: object) -> None:
    broken: Any = copy.deepcopy(model)
    broken.names = names
    with pytest.raises(ValueError, match="names no classes"):
        load_ultralytics(_saved(broken, tmp_path / "broken.pt"))


@pytest.mark.parametrize(("size", "taken"), [(320, 320), (500, 512), ([416, 416], 416)])
def test_the_size_of_training_is_rounded_as_ultralytics_rounds_it(
    tmp_path: Path, model: nn.Module, size: object, taken: int
) -> None:
    path = _saved(model, tmp_path / "model.pt", train_args={"imgsz": size})
    assert load_ultralytics(path).architecture.input_size == taken


@pytest.mark.parametrize("size", [[640, 480], "large", None, 0])
def test_a_size_that_is_no_square_is_refused(tmp_path: Path, model: nn.Module, size: object) -> None:
    with pytest.raises(ValueError, match="trained at"):
        load_ultralytics(_saved(model, tmp_path / "model.pt", train_args={"imgsz": size}))


@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.LeakyReLU(0.2), nn.Hardswish(), nn.GELU(approximate="tanh"), nn.SiLU()]
)
@pytest.mark.parametrize("listed", [None, "nn.ReLU()", "nn.LeakyReLU(0.1)", "nn.GELU()"])
def test_other_activations_and_epsilons_than_the_list_says_are_taken_over(
    tmp_path: Path, model: nn.Module, activation: nn.Module, listed: str | None
) -> None:
    changed: Any = copy.deepcopy(model)
    changed.yaml["activation"] = listed
    for module in list(changed.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.SiLU):
                setattr(module, name, activation)
    changed.model[3].bn.eps = 0.05
    loaded = load_ultralytics(_saved(changed, tmp_path / "changed.pt"))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = YoloNetwork(changed.model).eval()(images)
        for ours, theirs in zip(loaded.network(images), expected, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-6)
    save_checkpoint(loaded, tmp_path / "folder", {})  # and it survives being saved and copied
    again = load_checkpoint(tmp_path / "folder").network(images)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again, loaded.network(images), strict=True))


def test_any_other_change_of_a_module_is_refused_by_name(tmp_path: Path, model: nn.Module) -> None:
    changed: Any = copy.deepcopy(model)
    changed.model[1].conv.stride = (1, 1)
    with pytest.raises(ValueError, match=r"stride of 'model\.1\.conv' is"):
        load_ultralytics(_saved(changed, tmp_path / "changed.pt"))
    other: Any = copy.deepcopy(model)
    other.model[1].act = nn.Dropout(0.1)
    with pytest.raises(ValueError, match=r"'model.1.act' is a Dropout .* and a SiLU"):
        load_ultralytics(_saved(other, tmp_path / "other.pt"))


@pytest.mark.parametrize("name", _STOCK)
def test_ultralytics_own_layer_lists_are_all_known(name: str) -> None:
    from ultralytics.nn.tasks import yaml_model_load

    check_layer_list(dict(yaml_model_load(f"{name}.yaml")), name)


@pytest.mark.parametrize(
    "activation", ["nn.ReLU()", "torch.nn.LeakyReLU(0.1)", "nn.SiLU(inplace=True)", "nn.Hardswish()"]
)
def test_plain_activations_are_known(activation: str) -> None:
    check_layer_list(
        {"activation": activation, "backbone": [[-1, 1, "Conv", [8, 3]]], "head": [[-1, 1, "Conv", [8]]]}, "x"
    )


@pytest.mark.parametrize(
    "activation",
    [
        "nn.LeakyReLU(0.1.2)",
        "nn.ReLU(" + "1" * 5000 + "!",
        "nn.ReLU(*[1])",
        "nn.ReLU(**{})",
        "(nn.ReLU)",
        "nn.ReLU",
        "nn.ReLU().__class__",
        "nn.ReLU(exit())",
        "nn.Linear(3, 3)",
        "os.nn.ReLU()",
        3,
    ],
)
def test_anything_else_than_a_plain_activation_is_refused(activation: object) -> None:
    lines = [[-1, 1, "Conv", [8, 3]]]
    with pytest.raises(UntrustedCheckpointError, match="activation"):
        check_layer_list({"activation": activation, "backbone": lines, "head": lines}, "x")
