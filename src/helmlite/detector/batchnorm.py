"""Re-estimation of BatchNorm statistics after a structural change."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from helmlite.detector.detector import Batch, Family
from helmlite.detector.device import device_of


def reestimate_batchnorm(family: Family, network: nn.Module, batches: Iterable[Batch]) -> None:
    """Replaces every BatchNorm's running mean and variance by those of these batches, in place.

    Every branch is run, those too that only training uses (one-to-many of v10 and 26): their loss is looked at next.

    A pruned network's activations have other means and variances than those it was trained with; measuring them
    again is free of labels and often wins back most of a one-shot cut (Li 2020, EagleEye, arXiv 2007.02491).
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    was_training = network.training
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    with torch.no_grad():
        for batch in batches:
            family.training_maps(network, batch.images.to(device_of(network)))
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    network.train(was_training)
