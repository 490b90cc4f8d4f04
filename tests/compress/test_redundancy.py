"""Redundancy of a layer, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from helmlite.compress.redundancy import effective_rank_share, inspect_layers, int8_signal_to_noise_db
from helmlite.data.roles import with_roles
from helmlite.detector.macs import count_macs
from helmlite.detector.tiny import new_tiny


def test_effective_rank() -> None:
    assert effective_rank_share(torch.eye(4).view(4, 4, 1, 1)) == 1.0  # four equal singular values
    assert effective_rank_share(torch.ones(4, 4, 1, 1)) == 0.25  # one of four
    two = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0])).view(4, 4, 1, 1)
    assert effective_rank_share(two) == pytest.approx(0.5)


def test_int8_noise() -> None:
    assert math.isinf(int8_signal_to_noise_db(torch.tensor([127.0, -64.0, 3.0]).view(1, 3, 1, 1)))
    # scale 1: 127 and 0.5 -> 0, noise 0.25 of 16129.25: 48.1 dB
    assert int8_signal_to_noise_db(torch.tensor([127.0, 0.5]).view(1, 2, 1, 1)) == pytest.approx(48.1, abs=0.1)


def test_every_layer_of_a_detector_is_listed() -> None:
    detector = new_tiny(with_roles(["helmet", "no_helmet"]))
    layers = inspect_layers(detector, 64, rounds=2)
    assert sum(layer.macs for layer in layers) == count_macs(detector.network, 64)  # tiny has convolutions only
    assert {layer.kind for layer in layers} >= {"dense", "depthwise", "pointwise"}
    assert all(layer.time_ms is not None and layer.time_ms > 0 for layer in layers)
    assert all(0 < layer.rank_share <= 1 for layer in layers)
    assert all(layer.size_bytes == 4 * layer.params for layer in layers)


def test_a_silent_channel_is_seen() -> None:
    detector = new_tiny(with_roles(["helmet", "no_helmet"]))
    norm = next(module for module in detector.network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    with torch.no_grad():
        norm.weight[: norm.num_features // 2] = 0
    shares = [layer.near_zero_share for layer in inspect_layers(detector, 64, rounds=0)]
    assert shares[0] == 0.5
    assert set(shares[1:]) <= {0.0, None}
