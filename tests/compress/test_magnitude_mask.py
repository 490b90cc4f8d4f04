"""Magnitude masks, and what the loop of the usual article gets wrong (docs/pruning-by-magnitude.md)."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from helmlite.compress.kernels.magnitude_mask import magnitude_masks, masked, sparsity
from helmlite.data.roles import with_roles
from helmlite.detector.macs import count_macs
from helmlite.detector.tiny import new_tiny


def _prune_by_magnitude(model: nn.Module, pruning_rate: float) -> None:
    """The article's loop, as it stands in the documentation."""
    for _, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.grad is not None:
            threshold = np.percentile(np.abs(parameter.data.numpy()), pruning_rate * 100)
            parameter.data[torch.abs(parameter.data) < threshold] = 0


def _after_a_backward_pass() -> nn.Module:
    network = new_tiny(with_roles(["helmet", "no_helmet"]), input_size=64).network
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sum(item.sum() for item in network(images)).backward()
    return network


def test_by_hand() -> None:
    """Half of 1, -2, 3, -4: the median is 2.5, so 3 and -4 stay."""
    conv = nn.Conv2d(1, 4, 1)
    conv.weight.data = torch.tensor([1.0, -2.0, 3.0, -4.0]).view(4, 1, 1, 1)
    masks = magnitude_masks(conv, 0.5)
    assert masks[""].flatten().tolist() == [False, False, True, True]


def test_the_mask_is_the_loop_s_on_every_convolution() -> None:
    network = _after_a_backward_pass()
    masks = magnitude_masks(network, 0.5)
    _prune_by_magnitude(network, 0.5)
    assert len(masks) > 20
    for path, mask in masks.items():
        assert torch.equal(mask, network.get_submodule(path).weight != 0), path


def test_the_loop_does_nothing_without_gradients() -> None:
    network = new_tiny(with_roles(["helmet", "no_helmet"]), input_size=64).network
    before = {name: item.clone() for name, item in network.named_parameters()}
    _prune_by_magnitude(network, 0.5)
    assert all(torch.equal(before[name], item) for name, item in network.named_parameters())


def test_the_loop_silences_batchnorm_and_ours_does_not() -> None:
    looped, ours = _after_a_backward_pass(), _after_a_backward_pass()
    for network in (looped, ours):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    _prune_by_magnitude(looped, 0.5)
    masked(ours, magnitude_masks(ours, 0.5))

    def silent(network: nn.Module) -> int:
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        return sum(int((norm.weight == 0).sum()) for norm in norms)

    assert silent(looped) > 100
    assert silent(ours) == 0


def test_zeros_change_neither_size_nor_operations() -> None:
    network = new_tiny(with_roles(["helmet", "no_helmet"]), input_size=64).network
    sizes, macs = [], []
    for _ in range(2):
        buffer = io.BytesIO()
        torch.save(network.state_dict(), buffer)
        sizes.append(buffer.tell())
        macs.append(count_macs(network, 64))
        masked(network, magnitude_masks(network, 0.5))
    assert sparsity(network) == pytest.approx(0.5, abs=0.01)
    assert sizes[0] == sizes[1]
    assert macs[0] == macs[1]


@pytest.mark.parametrize("rate", [-0.1, 1.0, 50])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match="share in"):
        magnitude_masks(nn.Conv2d(1, 1, 1), rate)
