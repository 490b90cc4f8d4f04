"""What several test files need, importable as `helpers`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from helmlite.compress.channels.channel_groups import ChannelGroups, build_channel_groups
from helmlite.compress.channels.importance import group_l2
from helmlite.compress.channels.ledger import macs_ledger
from helmlite.compress.prune import Choice, choose_units, cut, smallest_steps
from helmlite.compress.rounding.insert_quantizers import FakeRounding, Quantizers
from helmlite.compress.rounding.quantization_plan import QuantPoint
from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detector.batchnorm import reestimate_batchnorm
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.families import family_of
from helmlite.export.onnx import export_onnx
from helmlite.runtime.session import open_session


def alive(detector: Detector) -> Detector:
    """Random kernels, and BatchNorm statistics that fit them: values of a trained size, and answers that vary."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in detector.network.modules():
            if isinstance(module, nn.Conv2d) and module.weight.requires_grad:
                gain = module.weight[0].numel() ** -0.5
                module.weight.copy_(torch.randn(module.weight.shape, generator=random) * gain)
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.rand(module.num_features, generator=random) + 0.5)
                module.bias.copy_(torch.randn(module.num_features, generator=random) * 0.5)
    pictures = nn.functional.interpolate(torch.rand(16, 3, 8, 8, generator=random), size=(96, 96), mode="bilinear")
    reestimate_batchnorm(family_of(detector), detector.network, [Batch(pictures, torch.zeros(0, 6))])
    return detector


def check_float_export(detector: Detector, planes: NDArray[np.float32], path: Path) -> None:
    """Writes `path` and checks what it answers."""
    export_onnx(detector, path, planes.shape[-1])
    check_float_answers(detector, planes, path, "onnxruntime")


def check_float_answers(detector: Detector, planes: NDArray[np.float32], path: Path, runtime: str) -> None:
    """Boxes and scores of the file are the network's, to 5e-4 of the largest or to what single precision can do.

    The measure is the network in double precision. Random weights have logits of thousands and the attention of YOLOv12
    amplifies what rounding leaves: there PyTorch itself, in single precision, is up to 6e-3 of a score away.
    """
    size = planes.shape[-1]
    in_single = detector.predictor(size).decode(planes)
    in_double = _in_double(detector).predictor(size).decode(planes.astype(np.float64))  # type: ignore[arg-type]
    outputs = open_session(path, runtime, 1, "f32").run_named(planes)
    for name, single, double in zip(("boxes", "scores"), in_single, in_double):
        assert outputs[name].shape == (1, *double.shape)
        rounding, largest = np.abs(single - double).max(), np.abs(double).max()
        assert rounding < 0.02 * largest  # else nothing would be shown
        assert np.abs(outputs[name][0] - double).max() < max(5e-4 * largest, 8 * rounding), name


def _in_double(detector: Detector) -> Detector:
    exact = detector.copy()
    exact.network.double()
    for module in exact.network.children():
        if isinstance(module, Quantizers):
            module.rounding = _WeightsOfSingle()
    return exact


class _WeightsOfSingle(FakeRounding):
    """The rounded weights of single precision, for arithmetic in double."""

    def weight(self, tensor: Tensor, point: QuantPoint, scale: Tensor, zero_point: Tensor) -> Tensor:
        return super().weight(tensor.float(), point, scale.float(), zero_point).double()


class Lines(list[str]):
    """A log that can be read."""

    def __call__(self, line: str) -> None:
        self.append(line)


def patchy_data(folder: Path, count: int = 8, height: int = 64) -> Dataset:
    """Pictures of large coloured patches, 64 pixels wide, with one box each, of the two classes in turn."""
    random, samples = np.random.default_rng(0), []
    for index in range(count):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), cv2.resize(random.integers(0, 255, (6, 6, 3), dtype=np.uint8), (64, height)))
        samples.append(Sample(path, np.array([[4, 4, 40, 44]], np.float32), np.array([index % 2], np.int64)))
    return dataset_of(samples, with_roles(["helmet", "no_helmet"]))


def halved(detector: Detector, input_size: int) -> tuple[ChannelGroups, Choice, Detector]:
    """Half of the multiply-accumulates by L2 norm, with the BatchNorm statistics as they are."""
    groups = build_channel_groups(family_of(detector), detector.network)
    ledger = macs_ledger(detector, input_size)
    floors = smallest_steps(groups, 0.1)
    choice = choose_units(groups, group_l2(detector, groups), ledger, ledger.left / 2, 8, floors)
    return groups, choice, cut(detector, groups, choice)


def helmlite_command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """`helmlite ...` as a user types it, in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-c", "from helmlite.cli import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
