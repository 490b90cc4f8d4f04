"""Where training computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helmlite.detector.detector import Batch
from helmlite.detector.device import device_of, has_bf16, training_device


def test_auto_is_the_gpu_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert training_device("auto").type == expected
    assert training_device("cpu").type == "cpu"


def test_an_unknown_device_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'tpu'; known are auto, cpu, cuda"):
        training_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_said_before_any_work() -> None:
    with pytest.raises(ValueError, match="finds no NVIDIA GPU here"):
        training_device("cuda")


def test_a_network_is_where_its_weights_are() -> None:
    assert device_of(nn.ReLU()).type == "cpu"
    assert device_of(nn.Conv2d(1, 1, 1, device="meta")).type == "meta"


def test_a_batch_moves_as_a_whole() -> None:
    moved = Batch(torch.zeros(1, 3, 8, 8), torch.zeros(0, 6)).to(torch.device("meta"))
    assert moved.images.device.type == moved.targets.device.type == "meta"


def test_bf16_is_read_off_the_processor() -> None:
    assert isinstance(has_bf16(torch.device("cpu")), bool)
