"""EDSR, the residual network of super-resolution (Lim et al., CVPR Workshops 2017), written from the paper.

The paper's network takes a coarse image and enlarges it at its end. Here coarse and fine images have one matrix (the
scan's k-space is zero-filled), so every 4x4 block of pixels becomes 16 channels of one coarse pixel first
(``pixel_unshuffle``): nothing of an image of any resolution is lost, and all of the network's work is done on a grid of
a sixteenth of the pixels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Edsr"]

Map = Float[Tensor, "batch channels rows columns"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a ReLU between them, their result scaled and added to the input (figure 2c)."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.scale = scale

    def forward(self, x: Map) -> Map:
        """Of the same shape; sums stay in the input's precision."""
        added: Tensor = self.second(functional.relu(self.first(x)))
        return x + self.scale * added


class Edsr(nn.Module):
    """Convolution, residual blocks, convolution, all around them a shortcut; the result is added to the input.

    1,237,136 parameters with the defaults, the sizes of the paper's baseline (whose enlarging end is another); its
    large network has 256 channels and 32 blocks, scaled by 0.1.

    Args:
        width: channels.
        blocks: residual blocks.
        scale: of what each block adds.
    """

    FACTOR = 4

    def __init__(self, width: int = 64, blocks: int = 16, scale: float = 1.0) -> None:
        super().__init__()
        pixels = self.FACTOR**2
        self.head = nn.Conv2d(pixels, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, scale) for _ in range(blocks))
        self.tail = nn.Conv2d(width, width, 3, padding=1)
        self.output = nn.Conv2d(width, pixels, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch 1 rows columns"]) -> Float[Tensor, "batch 1 rows columns"]:
        """Restored slices of any size: they are padded to a multiple of 4 by replication, and cropped back."""
        rows, columns = x.shape[2:]
        padded = functional.pad(x, (0, -columns % self.FACTOR, 0, -rows % self.FACTOR), mode="replicate")
        coarse = functional.pixel_unshuffle(padded, self.FACTOR).contiguous(memory_format=torch.channels_last)
        shallow = self.head(coarse).to(x.dtype)
        y = shallow
        for block in self.blocks:
            y = block(y)
        correction: Tensor = functional.pixel_shuffle(self.output(self.tail(y) + shallow), self.FACTOR)
        return x + correction[:, :, :rows, :columns]
