"""The gated feed-forward part of a block (Restormer's GDFN), with static or task-adaptive depthwise kernels."""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tatcli.model import fused
from tatcli.model.depthwise import DepthwiseConv, expand_and_convolve, row_strips
from tatcli.model.fused import can_fuse
from tatcli.model.packing import PackedWeights

__all__ = ["GatedFeedForward"]

W_S_DEVIATION: Final = (2 / 9) ** 0.5
"""Of an adaptive block's W_S at the start: Kaiming's for ReLU by fan-out, which is 9 for a depthwise 3x3 kernel.

(PyTorch's ``kaiming_normal_`` takes 9 times the channels for it, as if each of them went into all.)
"""

Map = Float[Tensor, "batch channels rows columns"]


class GatedFeedForward(nn.Module):
    """1x1 dim -> 2 hidden; depthwise 3x3; split in a, b; gelu(a) * b; 1x1 hidden -> dim.

    Args:
        dim: channels in and out.
        hidden: channels of each half.
        adaptive: take kernels from TREN.
    """

    def __init__(self, dim: int, *, hidden: int, adaptive: bool) -> None:
        super().__init__()
        self.expand = nn.Conv2d(dim, 2 * hidden, 1, bias=False)
        self.depthwise = DepthwiseConv(2 * hidden, adaptive=adaptive)
        self.project = nn.Conv2d(hidden, dim, 1, bias=False)
        self.packed = (PackedWeights(), PackedWeights())
        if adaptive:
            nn.init.normal_(self.depthwise.shared, std=W_S_DEVIATION)

    def forward(self, x: Map, norm: nn.LayerNorm, generated: Tensor | None = None) -> Map:
        """The residual sum x + feedforward(norm(x)).

        Args:
            x: (batch, dim, rows, columns).
            norm: the pre-norm, applied strip by strip.
            generated: W_G, (batch, 2 hidden, 3, 3), for an adaptive block.
        """
        kernels = self.depthwise.kernels(generated)
        if can_fuse(x, x.shape[1]):
            return fused.feedforward(x, norm, self.expand.weight, kernels, self.project.weight, self.packed)
        strips = []
        for rows in row_strips(x, self.expand.out_channels):
            hidden = expand_and_convolve(
                x, rows, lambda part: self.expand(norm(part)), lambda part: self.depthwise.gated(part, kernels)
            )
            strips.append(self.project(hidden))
        return x + (strips[0] if len(strips) == 1 else torch.cat(strips, dim=2))
