"""U-Net (Ronneberger et al., MICCAI 2015) that learns the residual, as in FBPConvNet (Jin et al., IEEE TIP 2017)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UNet"]

Map = Float[Tensor, "batch channels rows columns"]


class TwoConvolutions(nn.Sequential):
    """3x3 convolution, batch normalisation, ReLU; twice."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Five levels of two 3x3 convolutions, max pooling down, 2x2 transposed convolutions up; the input is added.

    Args:
        width: channels of the first level; they double with each. 64 is the papers', 32 is nearer to TAT's size.
    """

    LEVELS = 5

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        channels = [width << level for level in range(self.LEVELS)]
        self.down = nn.ModuleList(
            TwoConvolutions(before, after) for before, after in zip([1, *channels[:-1]], channels, strict=True)
        )
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(below, here, 2, stride=2) for below, here in pairs)
        self.up = nn.ModuleList(TwoConvolutions(2 * here, here) for _, here in pairs)
        self.output = nn.Conv2d(width, 1, 1)

    def forward(self, x: Float[Tensor, "batch 1 rows columns"]) -> Float[Tensor, "batch 1 rows columns"]:
        """Restored slices of any size: they are padded to a multiple of 16 by replication, and cropped back."""
        rows, columns = x.shape[2:]
        multiple = 2 ** (self.LEVELS - 1)
        y = functional.pad(x, (0, -columns % multiple, 0, -rows % multiple), mode="replicate")
        kept: list[Map] = []
        for level, block in enumerate(self.down):
            y = block(functional.max_pool2d(y, 2) if level else y)
            kept.append(y)
        kept.pop()
        for grow, block in zip(self.grow, self.up, strict=True):
            y = block(torch.cat([kept.pop(), grow(y)], dim=1))
        correction: Tensor = self.output(y)
        return x + correction[:, :, :rows, :columns]
