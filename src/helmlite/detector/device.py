"""Where training computes: on the first NVIDIA GPU where there is one, else on the processor.

Only the network that is being trained, its teacher and their batches live there; a `Detector` always stays in the
processor's memory, so that nothing else in helmlite needs to know.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

DEVICES = ("auto", "cpu", "cuda")


def training_device(name: str) -> torch.device:
    """The device that one of `DEVICES` means on this machine.

    Raises ValueError for an unknown name, and for "cuda" where PyTorch has no GPU to compute on.
    """
    if name not in DEVICES:
        raise ValueError(f"Unknown device '{name}'; known are {', '.join(DEVICES)}.")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(
            "--device cuda: PyTorch finds no NVIDIA GPU here (no driver, or a build of PyTorch without CUDA); "
            "leave the option out to train on the processor."
        )
    return torch.device("cuda", 0)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are; a network without weights is at home in the processor's memory."""
    first = next(network.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def has_bf16(device: torch.device) -> bool:
    """Whether this device multiplies in BF16, which makes training about twice as fast (x86: AVX512-BF16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux: train in float32
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
