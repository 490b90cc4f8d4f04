"""What a killed training needs to go on: the plan that was made before its first step, and its last epoch's tensors.

    plan.json            epochs, steps, speed, precision, and what the run is made from; written once
    state.safetensors    weights, running mean, optimizer, objective after the last finished epoch, in one file
    metrics.jsonl        a line for each finished epoch, for people and plots

Each file is written beside its place and then renamed, so that a full disk or a kill leaves the one before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from helmlite.detector.detector import Detector
from helmlite.detector.ema import every_tensor
from helmlite.files import write_whole

METRICS_NAME = "metrics.jsonl"


@dataclass(frozen=True)
class EpochPlan:
    """Decided before the first step and never again.

    bf16:    whether forward passes run in BF16
    threads: of PyTorch when the plan was made; with another number the last bits of the result differ
    seconds_per_step, seconds_per_epoch: as measured before the first step
    made_from: hashes of settings, data, detector and objective, and the seed
    device:  "cpu" or "cuda"; on another one the training goes on, but its last bits differ
    """

    epochs: int
    steps_per_epoch: int
    bf16: bool
    threads: int
    seconds_per_step: float
    seconds_per_epoch: float
    made_from: Mapping[str, str]
    device: str = "cpu"


@dataclass(frozen=True)
class FitState:
    """Everything after a finished epoch.  history: one mapping of numbers for each epoch."""

    epoch: int
    step: int
    history: tuple[Mapping[str, float], ...]
    best_score: float | None
    tensors: Mapping[str, Tensor]


def write_plan(workspace: Path, plan: EpochPlan) -> None:
    """Writes plan.json."""
    write_whole(workspace / "plan.json", json.dumps(asdict(plan), indent=1).encode())


def read_plan(workspace: Path, made_from: Mapping[str, str]) -> EpochPlan | None:
    """The plan of an earlier call, or None where there was none.

    Raises ValueError where it was made from something else, and names what differs.
    """
    path = workspace / "plan.json"
    if not path.is_file():
        return None
    try:
        plan = EpochPlan(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a training plan of this version ({error}); use another folder.") from error
    other = [name for name, value in made_from.items() if plan.made_from.get(name) != value]
    if other:
        raise ValueError(
            f"{workspace} holds a training with another {' and '.join(other)}; use another folder, or remove this one."
        )
    return plan


def planned_epochs(workspace: Path) -> int:
    """How many epochs the training in this folder was planned for.  Raises OSError where none was."""
    return int(json.loads((workspace / "plan.json").read_text(encoding="utf-8"))["epochs"])


def write_state(workspace: Path, state: FitState, made_from: Mapping[str, str]) -> None:
    """Writes state.safetensors and metrics.jsonl.  Raises OSError where there is no room; the old files stay."""
    about = {
        "epoch": state.epoch,
        "step": state.step,
        "best_score": state.best_score,
        "history": state.history,
        "made_from": dict(made_from),
    }
    # A copy of each tensor in plain order: safetensors refuses tensors that share memory or lie channels last.
    plain = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.tensors.items()
    }
    write_whole(workspace / "state.safetensors", save(plain, {"fit": json.dumps(about)}))
    lines = [json.dumps(epoch) + "\n" for epoch in state.history]
    write_whole(workspace / METRICS_NAME, "".join(lines).encode())


def seconds_trained(workspace: Path) -> float:
    """What all finished epochs of a training took, those before an interruption too; 0 where nothing was trained."""
    path = workspace / METRICS_NAME
    if not path.is_file():
        return 0.0
    return float(sum(json.loads(line).get("seconds", 0.0) for line in path.read_text(encoding="utf-8").splitlines()))


def read_state(workspace: Path, made_from: Mapping[str, str]) -> FitState | None:
    """The state after the last finished epoch, or None before the first.  Raises ValueError for another run's."""
    path = workspace / "state.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("fit", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to train from the beginning.") from error
    if about.get("made_from") != dict(made_from):
        raise ValueError(f"{path} belongs to another training; use another folder, or remove this one.")
    return FitState(about["epoch"], about["step"], tuple(about["history"]), about["best_score"], tensors)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as `<number of the parameter>.<name>` -> tensor."""
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Takes up what `optimizer_tensors` gave, in each parameter's own memory order: sums then round as they would."""
    parameters = [item for group in optimizer.param_groups for item in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        like = parameters[int(index)]
        if tensor.shape == like.shape:
            tensor = torch.empty_like(like).copy_(tensor)
        states.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name starts with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def detector_sha256(detector: Detector) -> str:
    """Hash of architecture, edits and every weight."""
    about = {
        "family": detector.architecture.family,
        "description": detector.architecture.description,
        "classes": [(item.name, item.role) for item in detector.classes],
        "layout": detector.architecture.layout.to_json(),
        "edits": [(edit.kind, edit.to_json()) for edit in detector.edits],
    }
    digest = hashlib.sha256(json_sha256(about).encode())
    for name, tensor in every_tensor(detector.network):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def json_sha256(values: Mapping[str, Any]) -> str:
    """Hash of plain data."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
