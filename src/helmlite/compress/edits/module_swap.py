"""Putting another module in a module's place."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def put_module(network: nn.Module, path: str, module: nn.Module) -> None:
    """Puts `module` at `path`, in training or evaluation mode like the one before it.

    Plain attributes that the new one lacks are taken over: a network's own forward code may read some (Ultralytics
    notes on each layer where its input comes from).
    """
    old = network.get_submodule(path)
    for name, value in vars(old).items():
        if not name.startswith("_") and not hasattr(module, name) and not isinstance(value, (Tensor, nn.Module)):
            setattr(module, name, value)
    parent_path, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent_path), name, module.train(old.training))


def plain_conv(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A plain convolution like `conv` with this weight and bias.

    Never by changing a copy of `conv` itself: a parametrized convolution shares its class with its copies.
    """
    settings: dict[str, Any] = {
        name: getattr(conv, name) for name in ("stride", "padding", "dilation", "groups", "padding_mode")
    }
    outputs, inputs, height, width = (int(size) for size in weight.shape)
    made = nn.Conv2d(inputs * conv.groups, outputs, (height, width), bias=bias is not None, device="meta", **settings)
    made.weight = nn.Parameter(weight.detach().clone())
    made.bias = None if bias is None else nn.Parameter(bias.detach().clone())
    return made
