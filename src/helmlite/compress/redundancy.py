"""Where a detector's redundancy is: for each convolution what it costs, and what it could do without.

effective rank   exp of the entropy of the normalized singular values of the kernel as a matrix (out, in * area)
                 (Roy and Vetterli 2007, "The effective rank"), as a share of the full rank: low means low-rank
                 factorization has something to take.
near-zero scales share of the BatchNorm's |gamma| below a hundredth of the network's largest (Network Slimming, Liu
                 2017, arXiv 1708.06519): those channels hardly speak.
INT8 noise       10 log10(|w|^2 / |w - q(w)|^2) for symmetric 8-bit weights per output channel, dB.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from helmlite.compress.edits.fold_batchnorm import foldable_pairs
from helmlite.detector.detector import Detector
from helmlite.detector.macs import conv_costs
from helmlite.detector.trace import trace

_NEAR_ZERO = 0.01


@dataclass(frozen=True)
class Layer:
    """One convolution.

    kind:            dense, grouped, depthwise or pointwise;  shape: of its kernel (out, in / groups, height, width)
    size_bytes:      of its float32 weights;  time_ms: measured on this machine, PyTorch, median; None if not measured
    rank_share:      effective rank over full rank, in (0, 1]
    near_zero_share: of its BatchNorm's scales; None without one
    int8_db:         signal over rounding noise of its weights
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    params: int
    size_bytes: int
    macs: int
    time_ms: float | None
    rank_share: float
    near_zero_share: float | None
    int8_db: float


def inspect_layers(detector: Detector, input_size: int, rounds: int = 5) -> tuple[Layer, ...]:
    """Every convolution that one picture of `input_size` pixels runs through, in order.  rounds: timed passes."""
    network = detector.network
    graph = trace(network, input_size)
    macs: dict[str, int] = defaultdict(int)
    for cost in conv_costs(network, graph):
        macs[cost.path] += cost.macs
    times = _times_ms(network, input_size, list(macs), rounds) if rounds else {}
    scales = _near_zero_shares(network, foldable_pairs(network, graph))
    return tuple(
        _layer(network.get_submodule(path), path, macs[path], times.get(path), scales.get(path)) for path in macs
    )


def effective_rank_share(weight: Tensor) -> float:
    """Effective rank of a kernel over its full rank.

    >>> effective_rank_share(torch.eye(4).view(4, 4, 1, 1))
    1.0
    """
    values = torch.linalg.svdvals(weight.detach().double().flatten(1))
    shares = values / values.sum().clamp(min=1e-30)
    entropy = -(shares * shares.clamp(min=1e-30).log()).sum().item()
    return round(math.exp(entropy) / len(values), 6)


def int8_signal_to_noise_db(weight: Tensor) -> float:
    """How far the weights stand above their own rounding to 8 bits, symmetric, one scale for each output channel."""
    flat = weight.detach().double().flatten(1)
    scale = flat.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 127
    noise = (flat - (flat / scale).round() * scale).square().sum().item()
    signal = flat.square().sum().item()
    return math.inf if noise == 0 else 10 * math.log10(signal / noise)


def _layer(conv: nn.Module, path: str, macs: int, time_ms: float | None, near_zero: float | None) -> Layer:
    assert isinstance(conv, nn.Conv2d)
    params = sum(item.numel() for item in conv.parameters())
    return Layer(
        path=path,
        kind=_kind(conv),
        shape=tuple(conv.weight.shape),
        params=params,
        size_bytes=4 * params,
        macs=macs,
        time_ms=time_ms,
        rank_share=effective_rank_share(conv.weight),
        near_zero_share=near_zero,
        int8_db=int8_signal_to_noise_db(conv.weight),
    )


def _kind(conv: nn.Conv2d) -> str:
    if conv.groups == conv.in_channels > 1:
        return "depthwise"
    if conv.groups > 1:
        return "grouped"
    return "pointwise" if conv.kernel_size == (1, 1) else "dense"


def _near_zero_shares(network: nn.Module, pairs: tuple[tuple[str, str], ...]) -> dict[str, float]:
    """Convolution path -> share of its BatchNorm's scales that are near zero."""
    scales = {conv: network.get_submodule(norm).weight.detach().abs() for conv, norm in pairs}  # type: ignore[operator]
    largest = max((float(item.max()) for item in scales.values()), default=0.0)
    return {conv: float((item <= _NEAR_ZERO * largest).float().mean()) for conv, item in scales.items()}


def _times_ms(network: nn.Module, input_size: int, paths: list[str], rounds: int) -> Mapping[str, float]:
    """Median time of each convolution over some passes, after one that does not count."""
    started: dict[str, float] = {}
    samples: dict[str, list[float]] = defaultdict(list)

    def before(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any) -> None:
            started[path] = time.perf_counter()

        return hook

    def after(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            samples[path].append(1000 * (time.perf_counter() - started[path]))

        return hook

    handles = []
    for path in paths:
        conv = network.get_submodule(path)
        handles += [conv.register_forward_pre_hook(before(path)), conv.register_forward_hook(after(path))]
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            for _ in range(rounds + 1):
                network(torch.zeros(1, 3, input_size, input_size))
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return {path: sorted(found[1:])[len(found[1:]) // 2] for path, found in samples.items()}


def draw_layers(layers: tuple[Layer, ...], title: str) -> Any:
    """A matplotlib figure: multiply-accumulates, time and effective rank, layer by layer."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Plots need matplotlib: pip install "helmlite[compress]".') from error
    figure = Figure(figsize=(max(8.0, 0.14 * len(layers)), 8), layout="constrained")
    rows = (
        ("MACs, millions", [layer.macs / 1e6 for layer in layers]),
        ("time, ms (PyTorch, here)", [layer.time_ms or 0.0 for layer in layers]),
        ("effective rank / full rank", [layer.rank_share for layer in layers]),
    )
    axes = figure.subplots(len(rows), 1, sharex=True)
    for axis, (label, values) in zip(axes, rows):
        axis.bar(range(len(values)), values, color="#2a6f97")
        axis.set_ylabel(label)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_title(title)
    axes[-1].set_xticks(range(len(layers)), [layer.path for layer in layers], rotation=90, fontsize=5)
    axes[-1].set_xlabel("convolution, in the order in which they run")
    return figure
