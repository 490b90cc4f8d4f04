"""The training loop: it learns, it goes on after a kill bit by bit, and it refuses what does not belong together."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.augment import Augmentation
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.ema import RunningMean, every_tensor
from helmlite.detector.fit import FitSettings, finetune, fit, rate_factor
from helmlite.detector.fit_state import EpochPlan, detector_sha256
from helmlite.detector.objective import TaskObjective
from helmlite.detector.tiny import new_tiny

CLASSES = with_roles(["helmet", "no_helmet"])
SETTINGS = FitSettings(64, epochs=3, batch_size=4, bf16=False)


def drawn_dataset(folder: Path, count: int = 8) -> Dataset:
    """Bright (helmet) and dark (no_helmet) discs on grey, one for each picture."""
    folder.mkdir(exist_ok=True)
    samples = []
    for index in range(count):
        random = np.random.default_rng(index)
        image = np.full((64, 64, 3), 120, dtype=np.uint8)
        x, y = (int(value) for value in random.integers(16, 48, size=2))
        cv2.circle(image, (x, y), 10, (250, 250, 250) if index % 2 == 0 else (10, 10, 10), -1)
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), image)
        box = np.array([[x - 10, y - 10, x + 11, y + 11]], dtype=np.float32)
        samples.append(Sample(path, box, np.array([index % 2], dtype=np.int64)))
    return dataset_of(samples, CLASSES)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return drawn_dataset(tmp_path / "pictures")


@pytest.fixture(scope="module")
def detector() -> Detector:
    return new_tiny(CLASSES, input_size=64, width=0.25, seed=0)


def silent(line: str) -> None:
    """Lines for the user that a test does not look at."""


def weights(detector: Detector) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in every_tensor(detector.network)}


def are_equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class StoppedError(Exception):
    """Stands in for a power cut."""


class Counting(TaskObjective):
    """The task loss that notes its calls, and may stop the training or spoil the loss at a step."""

    stop_at: int | None = None
    spoil_at: int | None = None

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        if step == self.stop_at:
            raise StoppedError
        loss, parts = super().loss(network, batch, step)
        return (loss * float("nan") if step == self.spoil_at else loss), parts


def objective_with(**attributes: int):
    def make(detector: Detector, network: nn.Module, plan: EpochPlan) -> Counting:
        made = Counting(detector, network, plan)
        for name, value in attributes.items():
            setattr(made, name, value)
        return made

    return make


def test_the_loss_falls_and_the_input_stays_untouched(data, detector, tmp_path):
    before = weights(detector)
    settings = replace(SETTINGS, epochs=12, batch_size=2, augmentation=Augmentation(mosaic=0), learning_rate=1e-2)
    said: list[str] = []
    trained = finetune(detector, data, settings, seed=0, workspace=tmp_path / "run", log=said.append)
    assert are_equal(weights(detector), before)
    assert not are_equal(weights(trained), before)
    assert trained.architecture == detector.architecture
    assert trained.edits == detector.edits
    assert not trained.network.training
    assert all(item.is_contiguous() for item in trained.network.parameters())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    assert {"loss", "box", "score", "learning_rate", "seconds"} <= lines[0].keys()
    assert lines[-1]["loss"] < 0.85 * lines[0]["loss"]
    assert sum("of 12:" in line for line in said) == 12


def test_a_stopped_training_goes_on_bitwise(data, detector, tmp_path):
    whole = finetune(detector, data, SETTINGS, 7, tmp_path / "whole", silent)
    with pytest.raises(StoppedError):
        fit(detector, objective_with(stop_at=3), data, SETTINGS, 7, tmp_path / "cut", silent)  # in the second epoch
    said: list[str] = []
    resumed = finetune(detector, data, SETTINGS, 7, tmp_path / "cut", said.append)
    assert any("goes on after epoch 1 of 3" in line for line in said)
    assert are_equal(weights(whole), weights(resumed))


def test_a_finished_training_is_not_done_again(data, detector, tmp_path):
    first = finetune(detector, data, SETTINGS, 0, tmp_path / "run", silent)
    again = fit(detector, objective_with(stop_at=0), data, SETTINGS, 0, tmp_path / "run", silent)
    assert are_equal(weights(first), weights(again))


def test_other_seeds_give_other_weights(data, detector, tmp_path):
    first = finetune(detector, data, SETTINGS, 0, tmp_path / "a", silent)
    second = finetune(detector, data, SETTINGS, 1, tmp_path / "b", silent)
    assert not are_equal(weights(first), weights(second))


def test_sgd_trains_and_resumes_bitwise(data, detector, tmp_path):
    settings = replace(SETTINGS, optimizer="sgd", learning_rate=1e-2, epochs=2)
    whole = finetune(detector, data, settings, 0, tmp_path / "whole", silent)
    with pytest.raises(StoppedError):
        fit(detector, objective_with(stop_at=2), data, settings, 0, tmp_path / "cut", silent)
    assert are_equal(weights(whole), weights(finetune(detector, data, settings, 0, tmp_path / "cut", silent)))


_KILLED = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_fit import SETTINGS, CLASSES, drawn_dataset, weights
from dataclasses import replace
from helmlite.detector.fit import finetune
from helmlite.detector.tiny import new_tiny
torch.set_num_threads({threads})
data = drawn_dataset(Path({pictures!r}), 12)
settings = replace(SETTINGS, epochs=5, bf16=None)
out = finetune(new_tiny(CLASSES, 64, 0.25, 0), data, settings, 3, Path(sys.argv[1]))
from safetensors.torch import save_file
save_file(weights(out), sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_kill_9_and_the_same_call_again_give_equal_bits(tmp_path, threads):
    script = tmp_path / "train.py"
    tests = str(Path(__file__).parent)
    script.write_text(_KILLED.format(tests=tests, threads=threads, pictures=str(tmp_path / "pictures")))

    def command(name: str) -> list[str]:
        return [sys.executable, str(script), str(tmp_path / name), str(tmp_path / f"{name}.safetensors")]

    subprocess.run(command("whole"), check=True, capture_output=True)
    killed = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while killed.poll() is None and not (metrics.is_file() and len(metrics.read_text().splitlines()) >= 2):
        time.sleep(0.005)
    time.sleep(0.02)  # into the next epoch
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed.safetensors").exists()
    subprocess.run(command("killed"), check=True, capture_output=True)
    first, second = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("whole", "killed"))
    assert first == second


def test_minutes_are_planned_from_measured_speed_and_the_plan_is_kept(data, detector, tmp_path):
    settings = replace(SETTINGS, epochs=None, minutes=1.0)  # enough for the ten steps on a busy machine too
    before = weights(detector)
    began = time.monotonic()
    with pytest.raises(StoppedError):
        fit(detector, objective_with(stop_at=10), data, settings, 0, tmp_path / "run", silent)
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["epochs"] >= 1
    assert plan["steps_per_epoch"] == 2
    assert plan["seconds_per_step"] > 0
    left = 60 - (time.monotonic() - began)
    assert plan["epochs"] * plan["seconds_per_epoch"] <= 60
    assert plan["epochs"] == 1 or plan["epochs"] * plan["seconds_per_epoch"] > 0.4 * left
    assert are_equal(weights(detector), before)  # measuring trains a copy
    plan["epochs"] = 6  # whatever the plan says is done
    (tmp_path / "run" / "plan.json").write_text(json.dumps(plan))
    said: list[str] = []
    finetune(detector, data, settings, 0, tmp_path / "run", said.append)
    assert said[-1].startswith("epoch 6 of 6")
    assert [item.name for item in (tmp_path / "run").iterdir() if item.name.startswith("measuring")] == []


def test_measuring_speed_changes_nothing_of_the_result(data, detector, tmp_path):
    plain = finetune(detector, data, SETTINGS, 0, tmp_path / "a", silent)
    timed_settings = replace(SETTINGS, minutes=60.0)  # more than three epochs need: the shorter limit counts
    timed = finetune(detector, data, timed_settings, 0, tmp_path / "b", silent)
    assert are_equal(weights(plain), weights(timed))


def test_a_deadline_in_the_past_still_gives_one_epoch(data, detector, tmp_path):
    said: list[str] = []
    finetune(detector, data, SETTINGS, 0, tmp_path / "run", said.append, deadline=time.monotonic())
    assert said[-1].startswith("epoch 1 of 1:")


@pytest.mark.parametrize("changed", ["settings", "data set", "detector", "objective", "seed"])
def test_a_workspace_of_another_training_is_refused_in_one_line(data, detector, tmp_path, changed):
    finetune(detector, data, replace(SETTINGS, epochs=1), 0, tmp_path / "run", silent)
    other: dict[str, Any] = {
        "detector": new_tiny(CLASSES, 64, 0.25, seed=1) if changed == "detector" else detector,
        "make_objective": Renamed if changed == "objective" else TaskObjective,
        "dataset": data.subset([0, 1, 2]) if changed == "data set" else data,
        "settings": replace(SETTINGS, epochs=2 if changed == "settings" else 1),
        "seed": 1 if changed == "seed" else 0,
    }
    before = (tmp_path / "run" / "state.safetensors").read_bytes()
    with pytest.raises(ValueError, match=f"holds a training with another {changed};") as caught:
        fit(**other, workspace=tmp_path / "run", log=silent)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before


class Renamed(TaskObjective):
    """The same loss under another name."""

    def identity(self) -> Mapping[str, Any]:
        return {"objective": "another"}


def test_a_damaged_state_is_named(data, detector, tmp_path):
    finetune(detector, data, replace(SETTINGS, epochs=1), 0, tmp_path / "run", silent)
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"state\.safetensors is damaged"):
        finetune(detector, data, replace(SETTINGS, epochs=1), 0, tmp_path / "run", silent)


def test_a_loss_that_is_no_number_stops_and_names_the_step(data, detector, tmp_path):
    with pytest.raises(ValueError, match=r"not a number at step 3 \(epoch 2") as caught:
        fit(detector, objective_with(spoil_at=3), data, SETTINGS, 0, tmp_path / "run", silent)
    assert "Lower learning_rate" in str(caught.value)


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_fit import SETTINGS, CLASSES, drawn_dataset
from helmlite.detector import fit_state
from helmlite.detector.fit import finetune
from helmlite.detector.tiny import new_tiny
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
data = drawn_dataset(Path({pictures!r}))
write, calls = fit_state.write_whole, []

def replace_until_full(path, content):
    calls.append(path.name)
    if calls.count("state.safetensors") == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    write(path, content)

fit_state.write_whole = replace_until_full
try:
    finetune(new_tiny(CLASSES, 64, 0.25, 0), data, SETTINGS, 0, Path(sys.argv[1]))
except OSError as error:
    print("OSError:", error)
"""


def test_a_full_disk_leaves_the_older_state_and_the_run_goes_on_from_it(data, detector, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(_FULL_DISK.format(tests=str(Path(__file__).parent), pictures=str(tmp_path / "pictures")))
    run = tmp_path / "run"
    said = subprocess.run([sys.executable, str(script), str(run)], check=True, capture_output=True, text=True).stdout
    assert "OSError:" in said
    assert "state.safetensors" in said
    assert "epoch 1 of 3" in said
    assert "epoch 2 of 3" not in said
    assert not list(run.glob("*.part"))
    lines: list[str] = []
    resumed = finetune(detector, data, SETTINGS, 0, run, lines.append)
    assert any("goes on after epoch 1 of 3" in line for line in lines)
    assert are_equal(weights(resumed), weights(finetune(detector, data, SETTINGS, 0, tmp_path / "whole", silent)))


def test_the_best_evaluated_epoch_is_kept_across_a_stop(data, detector, tmp_path):
    settings = replace(SETTINGS, epochs=4, evaluate_every=1)
    seen: list[dict[str, Tensor]] = []
    scores = [0.1, 0.9, 0.5, 0.4]

    def evaluate(current: Detector) -> float:
        seen.append(weights(current))
        return scores[len(seen) - 1]

    with pytest.raises(StoppedError):
        fit(detector, objective_with(stop_at=6), data, settings, 0, tmp_path / "run", silent, evaluate=evaluate)
    best = fit(detector, TaskObjective, data, settings, 0, tmp_path / "run", silent, evaluate=evaluate)
    assert len(seen) == 4
    assert are_equal(weights(best), seen[1])


def test_frozen_norms_keep_their_statistics(data, detector, tmp_path):
    trained = finetune(detector, data, replace(SETTINGS, epochs=1, freeze_norms=True), 0, tmp_path / "a", silent)
    before, after = weights(detector), weights(trained)
    statistics = [name for name in before if "running_" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    moving = weights(finetune(detector, data, replace(SETTINGS, epochs=1), 0, tmp_path / "b", silent))
    assert not any(torch.equal(before[name], moving[name]) for name in statistics)


class WithParameter(TaskObjective):
    """Learns one number of its own, towards 3."""

    def __init__(self, detector: Detector, network: nn.Module, plan: EpochPlan) -> None:
        super().__init__(detector, network, plan)
        self.number = nn.Parameter(torch.zeros(()))
        self.steps: list[int] = []

    def parameters(self) -> Iterable[nn.Parameter]:
        return [self.number]

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        loss, parts = super().loss(network, batch, step)
        return loss + (self.number - 3) ** 2, parts

    def after_step(self, network: nn.Module, step: int) -> None:
        self.steps.append(step)

    def state_dict(self) -> dict[str, Tensor]:
        return {**super().state_dict(), "number": self.number.detach()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        with torch.no_grad():
            self.number.copy_(state["number"])


def test_an_objectives_own_parameters_are_learned_and_restored(data, detector, tmp_path):
    made: list[WithParameter] = []

    def make(detector: Detector, network: nn.Module, plan: EpochPlan) -> WithParameter:
        made.append(WithParameter(detector, network, plan))
        return made[-1]

    settings = replace(SETTINGS, learning_rate=0.05)
    fit(detector, make, data, settings, 0, tmp_path / "run", silent)
    trained = float(made[-1].number.detach())
    assert 0 < trained < 3
    assert made[-1].steps == list(range(6))
    fit(detector, make, data, settings, 0, tmp_path / "run", silent)  # nothing left to do
    assert float(made[-1].number.detach()) == trained


def test_layers_that_draw_random_numbers_resume_bitwise_too(data, detector, tmp_path):
    with_dropout = detector.copy()
    with_dropout.network.heads[0].score.append(nn.Dropout(0.5))
    whole = finetune(with_dropout, data, SETTINGS, 0, tmp_path / "whole", silent)
    with pytest.raises(StoppedError):
        fit(with_dropout, objective_with(stop_at=3), data, SETTINGS, 0, tmp_path / "cut", silent)
    torch.rand(5)  # whatever happens between two processes
    assert are_equal(weights(whole), weights(finetune(with_dropout, data, SETTINGS, 0, tmp_path / "cut", silent)))


def test_training_leaves_the_global_random_state_alone(data, detector, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    finetune(detector, data, replace(SETTINGS, epochs=1), 0, tmp_path / "run", silent)
    assert torch.equal(torch.rand(3), expected)


def test_learning_rate_warms_up_and_falls_along_a_cosine():
    assert [round(rate_factor(step, 6, 2, 0.0), 3) for step in range(6)] == [0.5, 1.0, 1.0, 0.75, 0.25, 0.0]
    assert rate_factor(5, 6, 2, 0.1) == pytest.approx(0.1)
    assert rate_factor(0, 1, 0, 0.1) == 1.0


def test_running_mean_by_hand():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    mean = RunningMean(network, decay=0.25)
    nn.init.constant_(network.weight, 10.0)
    mean.update(network, step=0)  # decay min(0.25, 1 / 10) = 0.1: 0.1 * 0 + 0.9 * 10
    assert mean.network.weight.item() == pytest.approx(9.0)
    nn.init.constant_(network.weight, 1.0)
    mean.update(network, step=8)  # decay min(0.25, 9 / 18) = 0.25: 0.25 * 9 + 0.75 * 1
    assert mean.network.weight.item() == pytest.approx(3.0)
    tied = nn.Sequential(network, network)
    shared = RunningMean(tied, decay=0.5)
    nn.init.constant_(network.weight, 3.0)
    shared.update(tied, step=8)  # once, though it has two names: 1 + 0.5 * (3 - 1)
    assert shared.network[0].weight.item() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "at least 1 epoch"),
        ({"epochs": None, "minutes": -1.0}, "some minutes"),
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"input_size": 100}, "multiple of 32"),
        ({"optimizer": "lion"}, "adamw, sgd"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"warmup_epochs": -1.0}, "negative"),
        ({"learning_rate": math.nan}, "finite learning_rate > 0"),
        ({"learning_rate": math.inf}, "finite learning_rate > 0"),
        ({"weight_decay": math.nan}, "got nan, 1, 5, 0"),
        ({"warmup_epochs": math.nan}, "got 0.0005, nan, 5, 0"),
        ({"warmup_epochs": math.inf}, "must be finite"),
        ({"final_lr_ratio": math.nan}, "final_lr_ratio in"),
        ({"clip_gradient": math.nan}, "clip_gradient > 0"),
        ({"minutes": math.nan}, "some minutes"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **wrong)


def test_training_without_an_end_and_without_anything_to_train_is_refused(data, detector, tmp_path):
    with pytest.raises(ValueError, match="nothing says when to stop"):
        finetune(detector, data, replace(SETTINGS, epochs=None), 0, tmp_path / "run", silent)
    frozen = detector.copy()
    frozen.network.requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        finetune(frozen, data, SETTINGS, 0, tmp_path / "run", silent)
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        finetune(detector, data, SETTINGS, -1, tmp_path / "run", silent)
    with pytest.raises(ValueError, match="evaluate_every is 0"):
        fit(detector, TaskObjective, data, SETTINGS, 0, tmp_path / "run", silent, evaluate=lambda _: 0.0)
    assert not (tmp_path / "run").exists()


def test_detector_hash_follows_weights_and_classes(detector):
    assert detector_sha256(detector) == detector_sha256(detector.copy())
    changed = detector.copy()
    with torch.no_grad():
        next(changed.network.parameters()).view(-1)[0] += 1e-3
    assert detector_sha256(changed) != detector_sha256(detector)
    renamed = replace(detector, architecture=replace(detector.architecture, classes=with_roles(["a", "b"])))
    assert detector_sha256(renamed) != detector_sha256(detector)
