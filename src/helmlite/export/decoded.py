"""Decoding as part of the exported graph: the arithmetic of runtime/decode.py, in PyTorch operators."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helmlite.runtime.decode import HeadLayout


class DecodedDetector(nn.Module):
    """A network with its decoding, for one input size.

    images (1, 3, S, S) -> boxes (1, N, 4) xyxy in network pixels and scores (1, N, C) in [0, 1], N cells of all scales
    """

    centres: Tensor
    cell_strides: Tensor
    bins: Tensor

    def __init__(self, network: nn.Module, layout: HeadLayout, input_size: int) -> None:
        super().__init__()
        self.network = network
        self._layout = layout
        centres, strides = cell_grid(layout, input_size)
        self.register_buffer("centres", centres)
        self.register_buffer("cell_strides", strides)
        self.register_buffer("bins", torch.arange(layout.reg_max, dtype=torch.float32).view(1, 1, -1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.network(images)
        distances = torch.cat([item.flatten(2) for item in maps[0::2]], 2)  # (1, 4 * reg_max, N)
        logits = torch.cat([item.flatten(2) for item in maps[1::2]], 2)  # (1, C, N)
        if self._layout.reg_max > 1:  # DFL: the mean of a distribution over the bins
            spread = distances.reshape(1, 4, self._layout.reg_max, -1).softmax(2)
            distances = (spread * self.bins).sum(2)
        left_top, right_bottom = distances[:, :2], distances[:, 2:]  # (1, 2, N) each
        corners = torch.cat([self.centres - left_top, self.centres + right_bottom], 1) * self.cell_strides
        return corners.transpose(1, 2), logits.sigmoid().transpose(1, 2)


def cell_grid(layout: HeadLayout, input_size: int) -> tuple[Tensor, Tensor]:
    """Centres of all cells in units of their stride (1, 2, N), x first, and their strides (1, 1, N)."""
    centres, strides = [], []
    for stride in layout.strides:
        side = input_size // stride
        row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        centres.append(torch.stack([column.flatten(), row.flatten()]).float() + 0.5)
        strides.append(torch.full((1, side * side), float(stride)))
    return torch.cat(centres, 1)[None], torch.cat(strides, 1)[None]
