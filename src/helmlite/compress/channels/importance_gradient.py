"""Importance that asks the loss: gradients on labelled pictures.  Higher is kept.

taylor  (sum over the unit's BatchNorms of gamma * dL/dgamma + beta * dL/dbeta)^2, the first-order estimate of what
        the loss loses with the unit (Molchanov 2019, arXiv 1906.10771, section 3.2, gates after BatchNorm), averaged
        over batches.
obd     1/2 * sum of h_w * w^2 over all weights that go with the unit: Optimal Brain Damage (LeCun 1989, "Optimal
        Brain Damage", NIPS 2, eq. 5) with the empirical Fisher, the mean of the squared gradient of single pictures,
        in place of the Hessian's diagonal h.  At the end of a training both agree where the model fits its labels;
        half-way they do not.

Both are in units of the loss (taylor: squared), so groups compare as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from helmlite.compress.channels.channel_groups import ChannelGroups
from helmlite.compress.channels.channel_sums import Scores, UnitSums, all_groups, channel_sums
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.families import family_of

_CPU = torch.device("cpu")


def taylor(detector: Detector, groups: ChannelGroups, batches: Iterable[Batch], device: torch.device = _CPU) -> Scores:
    """First-order loss estimate of every unit, in squared loss units.

    Raises ValueError where no picture carries a label.
    """
    network, backward = _differentiable(detector, device)
    add_up = UnitSums(groups, roles=("norm", "out"))
    totals: Scores = {group: np.zeros(len(group.units)) for group in all_groups(groups)}
    count = 0
    for batch in _labelled("taylor", batches):
        backward(batch.to(device))
        for group, slopes in add_up(_slopes(network)).items():
            totals[group] += slopes**2
        count += 1
    return {group: total / max(count, 1) for group, total in totals.items()}


def obd(detector: Detector, groups: ChannelGroups, batches: Iterable[Batch], device: torch.device = _CPU) -> Scores:
    """Second-order loss estimate of every unit, from gradients of single pictures, in units of the loss.

    Raises ValueError where no picture carries a label.
    """
    network, backward = _differentiable(detector, device)
    fisher = {path: torch.zeros_like(item) for path, item in network.named_parameters() if item.requires_grad}
    count = 0
    for picture in (one for batch in _labelled("obd", batches) for one in _pictures(batch)):
        backward(picture.to(device))
        for path, parameter in network.named_parameters():
            if parameter.grad is not None:
                fisher[path] += parameter.grad.square()
        count += 1
    values = {
        path: saliency(network.get_parameter(path).detach(), squares / max(count, 1))
        for path, squares in fisher.items()
    }
    return UnitSums(groups)(channel_sums(network, values))


def saliency(weight: Tensor, curvature: Tensor) -> Tensor:
    """What the loss rises by when a weight goes: h * w^2 / 2, element by element.

    >>> saliency(torch.tensor([2.0, 1.0]), torch.tensor([3.0, 0.5]))
    tensor([6.0000, 0.2500])
    """
    return curvature * weight.square() / 2


FROM_GRADIENTS: Mapping[str, Callable[[Detector, ChannelGroups, Iterable[Batch], torch.device], Scores]] = {
    "taylor": taylor,
    "obd": obd,
}


def _differentiable(detector: Detector, device: torch.device) -> tuple[nn.Module, Callable[[Batch], None]]:
    """A copy of the network, in evaluation mode, and what leaves the gradients of a batch's loss in it."""
    family = family_of(detector)
    network = detector.copy().network.eval().to(device)
    loss_of = family.task_loss(detector.architecture, network, epochs=1)

    def backward(batch: Batch) -> None:
        network.zero_grad(set_to_none=True)
        loss, _ = loss_of(family.training_maps(network, batch.images), batch)
        loss.backward()  # type: ignore[no-untyped-call]

    return network, backward


def _labelled(importance: str, batches: Iterable[Batch]) -> Iterator[Batch]:
    """These batches, and an error in the end if none had a label: the loss would know nothing of objects."""
    count = labels = 0
    for batch in batches:
        count, labels = count + len(batch.images), labels + len(batch.targets)
        yield batch
    if not labels:
        raise ValueError(
            f"prune: importance '{importance}' needs labelled pictures; none of {count} has a label. Choose one that "
            "needs none, such as 'l2'."
        )


def _pictures(batch: Batch) -> Iterator[Batch]:
    """A batch picture by picture."""
    for index in range(len(batch.images)):
        targets = batch.targets[batch.targets[:, 0] == index].clone()
        targets[:, 0] = 0
        yield Batch(batch.images[index : index + 1], targets)


def _slopes(network: nn.Module) -> dict[tuple[str, str], NDArray[np.float64]]:
    """weight * gradient, summed for each channel: of BatchNorms, and of convolutions that no BatchNorm follows."""
    slopes = {}
    for path, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight.grad is not None and module.bias.grad is not None:
            slopes[path, "norm"] = module.weight * module.weight.grad + module.bias * module.bias.grad
        elif isinstance(module, nn.Conv2d) and module.bias is not None and module.weight.grad is not None:
            assert module.bias.grad is not None
            product = (module.weight * module.weight.grad).sum(dim=(1, 2, 3)) + module.bias * module.bias.grad
            slopes[path, "out"] = product
    return {place: item.detach().double().cpu().numpy() for place, item in slopes.items()}
