"""Convolutions that share one weight, each with a BatchNorm of its own, in files that store the weight once.

ONNX      PyTorch's exporter folds every BatchNorm into the convolution before it, which would give each use a weight of
          its own again.  A multiplication and an addition for each channel say the same and are left where they are.
OpenVINO  its converter folds these as well; afterwards each such weight becomes  shared weight * scales  again.
INT8      the BatchNorm's scale goes into the scale of the integers, which are the same for every use (a negative one
          turns the sign of its channel's integers, and that weight is stored for itself).

Both runtimes fold what is left when they load the file, so it runs as fast as if it had been stored twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from helmlite.compress.edits.fold_batchnorm import norms_of_shared
from helmlite.compress.edits.module_swap import plain_conv, put_module
from helmlite.compress.rounding.insert_quantizers import QUANTIZERS, Quantizers, quantizers_of, rounded_weight
from helmlite.compress.rounding.quantization_plan import QuantPoint, weight_point
from helmlite.detector.trace import trace

_TRACED_SIZE = 64  # pixels; what follows what does not depend on it
_LEAST_SCALE = 1e-12  # a channel that its BatchNorm silences still has a scale above 0
_TOLERANCE = 1e-6  # relative: a product in float32


class ChannelScale(nn.Module):
    """(B, C, H, W) -> scale * x + shift, one of each for a channel."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        scale, shift = scale_and_shift(norm)
        self.register_buffer("scale", scale.view(1, -1, 1, 1))
        self.register_buffer("shift", shift.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.get_buffer("scale") + self.get_buffer("shift")


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a BatchNorm does in evaluation, (C,) each, computed in float64."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.detach().double() - scale * norm.running_mean.double()
    return scale.float(), shift.float()


def keep_norms_apart(network: nn.Module) -> None:
    """Makes every BatchNorm behind a shared weight a `ChannelScale`, in place; does nothing where there is none."""
    for _, path in norms_of_shared(network, trace(network, _TRACED_SIZE)):
        norm = network.get_submodule(path)
        assert isinstance(norm, nn.BatchNorm2d)
        put_module(network, path, ChannelScale(norm))


def fold_into_integers(network: nn.Module) -> None:
    """Folds every BatchNorm behind a shared weight that is rounded into that weight's scales, in place."""
    plan = quantizers_of(network).current_plan()
    points, carried = dict(plan.points), dict(plan.carried)
    for conv_path, norm_path in norms_of_shared(network, trace(network, _TRACED_SIZE)):
        name = weight_point(conv_path)
        if name not in points:
            continue
        conv, norm = network.get_submodule(conv_path), network.get_submodule(norm_path)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        scale, shift = scale_and_shift(norm)
        weight = rounded_weight(conv.weight.detach(), points[name], *quantizers_of(network).tensors(name))
        bias = shift if conv.bias is None else shift + scale * conv.bias.detach()
        put_module(network, conv_path, plain_conv(conv, weight * scale.view(-1, 1, 1, 1), bias))
        put_module(network, norm_path, nn.Identity())
        points[name] = _scaled(points[name], scale)
        made, given = f"{norm_path}/batch_norm", f"{conv_path}/conv2d"
        points = {given if point == made else point: item for point, item in points.items()}
        carried = {point: given if source == made else source for point, source in carried.items()}
    network.add_module(QUANTIZERS, Quantizers(replace(plan, points=points, carried=carried)))


def _scaled(point: QuantPoint, scale: Tensor) -> QuantPoint:
    """The rounding of a weight whose output channels are multiplied by `scale` (O,)."""
    factors = scale.abs().clamp(min=_LEAST_SCALE).tolist()
    scales = point.scales if point.axis is not None else point.scales * len(factors)
    made = tuple(float(np.float32(step * factor)) for step, factor in zip(scales, factors))
    return replace(point, scales=made, zero_points=(0,) * len(made), axis=0)


def share_folded_weights(model: Any, network: nn.Module) -> int:
    """Turns every constant of an `openvino.Model` that is a shared weight times a scale into that product; how many.

    They are found by their numbers, which names of another program's operators would not tell for long.
    network: the detector's own, with its BatchNorms and its codebooks settled
    """
    from openvino import opset13

    constants: dict[int, list[Any]] = {}
    for operator in model.get_ordered_ops():
        if operator.get_type_name() == "Constant" and operator.get_element_type().get_type_name() == "f32":
            constants.setdefault(operator.data.size, []).append(operator)
    shared: dict[int, Any] = {}
    found = 0
    for number, weight, scale in _folded(network):
        expected = weight * scale
        for constant in constants.get(weight.size, []):
            if _is_equal(constant.data.reshape(expected.shape), expected):
                shape = list(constant.shape)
                kernel = shared.setdefault(number, opset13.constant(weight.reshape(shape)))
                per_output = [*shape[:-3], 1, 1, 1]  # (O, I, h, w), or (groups, O / groups, I / groups, h, w)
                product = opset13.multiply(kernel, opset13.constant(scale.reshape(per_output)))
                for reader in list(constant.output(0).get_target_inputs()):
                    reader.replace_source_output(product.output(0))
                found += 1
    return found


def _folded(network: nn.Module) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """For each BatchNorm behind a shared weight: the weight's identity, the weight, and its scale in the same rank."""
    for conv_path, norm_path in norms_of_shared(network, trace(network, _TRACED_SIZE)):
        conv, norm = network.get_submodule(conv_path), network.get_submodule(norm_path)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        scale = scale_and_shift(norm)[0].view(-1, 1, 1, 1)
        yield id(conv.weight), conv.weight.detach().cpu().contiguous().numpy(), scale.cpu().numpy()


def _is_equal(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    return bool(np.abs(found - expected).max() <= _TOLERANCE * np.abs(expected).max())
