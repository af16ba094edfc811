"""Transformer blocks, static or task-adaptive, and the resampling between the U-net's levels."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tatcli.model.attention import ChannelAttention
from tatcli.model.depthwise import expand_and_convolve, row_strips
from tatcli.model.feedforward import GatedFeedForward
from tatcli.model.windows import Window

__all__ = ["Downsample", "Fusion", "LayerNorm", "Stage", "StageKernels", "TransformerBlock", "Upsample"]

Map = Float[Tensor, "batch channels rows columns"]


class StageKernels(NamedTuple):
    """TREN's kernels W_G for one stage, shared by all its blocks."""

    attention: Float[Tensor, "batch three_dim 3 3"]
    feedforward: Float[Tensor, "batch two_hidden 3 3"]


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel (weight, bias, eps 1e-5, biased variance)."""

    def forward(self, x: Map) -> Map:
        """(batch, channels, rows, columns) in and out; nothing is copied where memory is channels-last."""
        normalised: Tensor = super().forward(x.permute(0, 2, 3, 1))
        back: Tensor = normalised.permute(0, 3, 1, 2)
        return back


class TransformerBlock(nn.Module):
    """x + attention(norm1(x)), then x + ffn(norm2(x)); adaptive: the paper's WATB."""

    def __init__(self, dim: int, *, heads: int, hidden: int, window: Window, adaptive: bool) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attention = ChannelAttention(dim, heads=heads, window=window, adaptive=adaptive)
        self.norm2 = LayerNorm(dim)
        self.feedforward = GatedFeedForward(dim, hidden=hidden, adaptive=adaptive)

    def forward(self, x: Map, kernels: StageKernels | None = None, *, spent: bool = False) -> Map:
        """One block; ``kernels`` for an adaptive one; ``spent``: x is needed no more and may be written over."""
        x = self.attention(x, self.norm1, kernels.attention if kernels else None, spent=spent)
        y: Tensor = self.feedforward(x, self.norm2, kernels.feedforward if kernels else None)
        return y


class Stage(nn.ModuleList):
    """Blocks in a row, with one set of kernels."""

    def forward(self, x: Map, kernels: StageKernels | None = None) -> Map:
        """All blocks."""
        for number, block in enumerate(self):
            x = block(x, kernels, spent=number > 0)
        return x


class Downsample(nn.Module):
    """3x3 dim -> dim/2, then pixel-unshuffle by 2: half the resolution, twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False)

    def forward(self, x: Map) -> Float[Tensor, "batch double half_rows half_columns"]:
        """(batch, dim, rows, columns) -> (batch, 2 dim, rows/2, columns/2)."""
        return functional.pixel_unshuffle(self.conv(x), 2)


class Fusion(nn.Sequential):
    """3x3 over the concatenation of maps -> width, GELU, 1x1."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.GELU(), nn.Conv2d(width, width, 1, bias=False)
        )

    def forward(self, *maps: Float[Tensor, "batch _ rows columns"]) -> Float[Tensor, "batch width rows columns"]:
        """(batch, some of the channels, rows, columns) each; their concatenation, the largest map, is never formed."""
        strips = [self._strip(maps, rows) for rows in row_strips(maps[0], sum(part.shape[1] for part in maps))]
        return strips[0] if len(strips) == 1 else torch.cat(strips, dim=2)

    def _strip(self, maps: tuple[Tensor, ...], rows: tuple[int, int]) -> Tensor:
        """Rows (start, stop) of it, in a cache."""
        over_all, activation, project = self
        weights = torch.split(over_all.get_parameter("weight"), [part.shape[1] for part in maps], dim=1)
        wide = torch.promote_types(weights[0].dtype, torch.float32)
        total: Tensor | None = None
        for part, weight in zip(maps, weights, strict=True):
            convolve = partial(functional.conv2d, weight=weight, padding=1)
            convolved = expand_and_convolve(part, rows, lambda strip: strip, convolve)
            total = convolved.to(wide) if total is None else total.add_(convolved)
        fused: Tensor = project(activation(total).to(weights[0].dtype))
        return fused


class Upsample(nn.Module):
    """3x3 dim -> 2 dim, then pixel-shuffle by 2: twice the resolution, half the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, 2 * dim, 3, padding=1, bias=False)

    def forward(self, x: Map) -> Float[Tensor, "batch half double_rows double_columns"]:
        """(batch, dim, rows, columns) -> (batch, dim/2, 2 rows, 2 columns)."""
        return functional.pixel_shuffle(self.conv(x), 2)
