"""How much a unit of channels matters: one function for each criterion.  unit -> score, higher is kept.

group L2      sum of squares over everything that goes with the unit: its filters, the weights that read it, its
              BatchNorm scales (DepGraph, Fang 2023, arXiv 2301.12900, section 3.4), divided by the group's mean so
              that groups compare.
Taylor        (sum over the unit's BatchNorms of gamma * dL/dgamma + beta * dL/dbeta)^2, the first-order estimate of
              what the loss loses with the unit (Molchanov 2019, arXiv 1906.10771, section 3.2, gates after
              BatchNorm), averaged over batches of labelled pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from helmlite.compress.channel_groups import ChannelGroup, ChannelGroups, Member
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.families import family_of

_CPU = torch.device("cpu")

Scores = dict[ChannelGroup, NDArray[np.float64]]  # for each group one score a unit


def group_l2(detector: Detector, groups: ChannelGroups) -> Scores:
    """Group L2 norm of every unit, 1 on average within each group."""
    squares = {path: _channel_squares(module) for path, module in detector.network.named_modules()}
    parameters = {path: item.detach().double().flatten().square() for path, item in detector.network.named_parameters()}

    def square(member: Member) -> float:
        if member.role == "parameter":
            return float(parameters[member.path][member.index])
        return float(squares[member.path][member.role][member.index])

    return {
        group: _mean_one(np.sqrt([sum(square(member) for member in unit) for unit in group.units]))
        for group in _all_groups(groups)
    }


def taylor(detector: Detector, groups: ChannelGroups, batches: Iterable[Batch], device: torch.device = _CPU) -> Scores:
    """First-order loss estimate of every unit, in squared loss units: comparable between groups."""
    family = family_of(detector)
    network = detector.copy().network.eval().to(device)
    loss_of = family.task_loss(detector.architecture, network, epochs=1)
    totals: Scores = {group: np.zeros(len(group.units)) for group in _all_groups(groups)}
    count = 0
    for batch in (item.to(device) for item in batches):
        network.zero_grad(set_to_none=True)
        loss, _ = loss_of(family.training_maps(network, batch.images), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        slopes = _slopes(network)
        for group, total in totals.items():
            total += [sum(_slope(slopes, member) for member in unit) ** 2 for unit in group.units]
        count += 1
    return {group: total / max(count, 1) for group, total in totals.items()}


IMPORTANCES: Mapping[str, Callable[..., Scores]] = {"l2": group_l2, "taylor": taylor}


def _all_groups(groups: ChannelGroups) -> list[ChannelGroup]:
    return [group for bundle in groups.bundles for group in bundle.groups]


def _mean_one(values: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = float(values.mean())
    return values / mean if mean > 0 else values


def _channel_squares(module: nn.Module) -> dict[str, Tensor]:
    """Squared weights that belong to each output, input or norm channel of a module."""
    if isinstance(module, nn.Conv2d):
        squares = module.weight.detach().double().square()
        outputs = squares.sum(dim=(1, 2, 3))
        blocks = squares.view(module.groups, -1, *squares.shape[1:]).sum(dim=(1, 3, 4))  # (groups, in / groups)
        return {"out": outputs, "in": blocks.flatten()}
    if isinstance(module, nn.BatchNorm2d):
        return {"norm": module.weight.detach().double().square()}
    return {}


def _slopes(network: nn.Module) -> dict[str, Tensor]:
    """weight * gradient, summed for each channel: of BatchNorms, and of convolutions that no BatchNorm follows."""
    slopes = {}
    for path, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight.grad is not None and module.bias.grad is not None:
            slopes[path] = (module.weight * module.weight.grad + module.bias * module.bias.grad).detach().double()
        elif isinstance(module, nn.Conv2d) and module.bias is not None and module.weight.grad is not None:
            assert module.bias.grad is not None
            product = (module.weight * module.weight.grad).sum(dim=(1, 2, 3)) + module.bias * module.bias.grad
            slopes[path] = product.detach().double()
    return {path: item.cpu().numpy() for path, item in slopes.items()}  # type: ignore[misc]


def _slope(slopes: Mapping[str, Tensor], member: Member) -> float:
    known = slopes.get(member.path) if member.role in ("norm", "out") else None
    return 0.0 if known is None else float(known[member.index])
