"""RED-CNN, a residual encoder-decoder for low-dose CT (Chen et al., IEEE TMI 36:2524, 2017), written from the paper."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["RedCnn"]

_LAYERS = 5
_KERNEL = 5


class RedCnn(nn.Module):
    """Five 5x5 convolutions and five transposed ones without padding, 96 filters each (figure 1 of the paper).

    Shortcuts lead from the input, the second and the fourth convolution to the mirrored layers, before their ReLU.
    1,848,865 parameters with 96 filters.

    Args:
        width: filters.
    """

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        channels = [1] + [width] * _LAYERS
        self.encoder = nn.ModuleList(nn.Conv2d(before, after, _KERNEL) for before, after in pairwise(channels))
        channels = [width] * _LAYERS + [1]
        self.decoder = nn.ModuleList(nn.ConvTranspose2d(before, after, _KERNEL) for before, after in pairwise(channels))

    def forward(self, x: Float[Tensor, "batch 1 rows columns"]) -> Float[Tensor, "batch 1 rows columns"]:
        """Restored slices; at least 21 rows and columns, which the convolutions take off."""
        shortcuts = [x]
        y = x
        for index, layer in enumerate(self.encoder):
            y = torch.relu(layer(y))
            if index in (1, 3):
                shortcuts.append(y)
        for index, layer in enumerate(self.decoder):
            y = layer(y)
            if index in (0, 2, 4):
                y = y + shortcuts.pop()
            if index < _LAYERS - 1:
                y = torch.relu(y)
        return y
