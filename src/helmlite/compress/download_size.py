"""How large a detector's weights are as a download: as they are, and packed by a general compressor.

Zeros and repeated numbers make nothing smaller but this: every runtime unpacks the file to its full size before it
runs it.  The float32 numbers are packed byte plane by byte plane (all first bytes, then all second bytes, ...):
exponents repeat, mantissas do not.  On helmet-yolo12m (78.7 MB, stored by its makers in half precision) that gives
36.0 MB, the numbers one after the other 46.5 MB, both at zlib's level 6.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

_ZLIB_LEVEL = 1  # level 6 packs 3 % smaller (20 % where most are zero) in six times the time
_LZMA_PRESET = 6

PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "zlib": lambda content: zlib.compress(content, _ZLIB_LEVEL),
    "lzma": lambda content: lzma.compress(content, preset=_LZMA_PRESET),
}


@dataclass(frozen=True)
class DownloadSize:
    """Bytes of all parameters and of BatchNorm's statistics.

    plain_bytes: as a file holds them; packed_bytes: after the compressor; zeros: share of the numbers that are zero
    """

    packer: str
    plain_bytes: int
    packed_bytes: int
    zeros: float

    @property
    def ratio(self) -> float:
        """Packed over plain."""
        return self.packed_bytes / max(self.plain_bytes, 1)


def download_size(network: nn.Module, packer: str = "zlib") -> DownloadSize:
    """What the network's numbers take as a download.  Tied tensors count once; masks and counters do not count.

    packer: zlib (as in a zip file; its fastest level) or lzma (xz: smaller, and many times slower)
    Raises ValueError for another one.
    """
    if packer not in PACKERS:
        raise ValueError(f"Unknown packer '{packer}'; known are {', '.join(PACKERS)}.")
    tensors = [*network.parameters(), *(item for item in network.buffers() if item.is_floating_point())]
    flat = [item.detach().float().cpu().contiguous().flatten() for item in tensors]
    numbers = torch.cat(flat).numpy() if flat else np.zeros(0, np.float32)
    planes = numbers.view(np.uint8).reshape(-1, numbers.itemsize).T.tobytes()
    zeros = float((numbers == 0).mean()) if len(numbers) else 0.0
    return DownloadSize(packer, len(planes), len(PACKERS[packer](planes)), zeros)
