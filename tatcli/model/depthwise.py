"""Depthwise 3x3 convolutions, static or task-adaptive, and the row strips that keep wide hidden maps in cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tatcli.model import triton_depthwise

__all__ = ["DepthwiseConv", "expand_and_convolve", "row_strips"]

STRIP_BYTES = 6 * 2**20
"""Size of a strip's hidden map; 4-16 MiB were fastest where measured (two cores, 2 MiB L2, 32 MiB L3)."""

Map = Float[Tensor, "batch channels rows columns"]


class DepthwiseConv(nn.Module):
    """Depthwise 3x3 convolution without bias.

    Task-adaptive, in the paper's WATB blocks: W = W_S + lambda * W_G per sample, where W_S is shared by all tasks, W_G
    comes from TREN, and lambda, a scalar per channel, is zero at the start.
    """

    def __init__(self, channels: int, *, adaptive: bool) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.empty(channels, 1, 3, 3))  # W_S
        self.gain = nn.Parameter(torch.zeros(channels, 1, 1, 1)) if adaptive else None  # lambda
        nn.init.kaiming_uniform_(self.shared, a=5**0.5)

    def kernels(self, generated: Float[Tensor, "batch channels 3 3"] | None) -> Float[Tensor, "samples channels 3 3"]:
        """One kernel for all samples, or one for each: constants of the image, formed once."""
        shared = self.shared.squeeze(1)
        if self.gain is None or generated is None:
            return shared[None]
        return torch.addcmul(shared, self.gain.squeeze(1), generated.to(shared.dtype))

    def forward(self, x: Map, kernels: Float[Tensor, "samples channels 3 3"]) -> Map:
        """Convolve every sample with its kernel (zero padding)."""
        if triton_depthwise.can_run(x):
            return triton_depthwise.depthwise(x, kernels)
        if len(kernels) == 1:
            return functional.conv2d(x, kernels[0].unsqueeze(1), padding=1, groups=x.shape[1])
        return torch.cat(
            [
                functional.conv2d(sample, kernel.unsqueeze(1), padding=1, groups=x.shape[1])
                for sample, kernel in zip(
                    torch.split(x, 1), kernels, strict=True
                )  # unlike unbind, its gradient is channels-last
            ]
        )

    def gated(
        self, x: Map, kernels: Float[Tensor, "samples channels 3 3"]
    ) -> Float[Tensor, "batch half_the_channels rows columns"]:
        """Convolve, split the channels in a and b: gelu(a) * b, half as many channels."""
        if triton_depthwise.can_run(x):
            return triton_depthwise.gated_depthwise(x, kernels)
        convolved: Map = self(x, kernels)
        opened, gate = convolved.chunk(2, dim=1)
        return functional.gelu(opened) * gate


def row_strips(x: Map, hidden: int, bounds: tuple[int, int] | None = None) -> Iterator[tuple[int, int]]:
    """Row ranges whose hidden maps (of ``hidden`` channels) fit in a CPU's cache.

    One range while gradients are recorded, and on a GPU, where launches cost more than the traffic of such maps.

    Args:
        x: the map to walk over.
        hidden: channels of the widest intermediate map.
        bounds: rows (start, stop) to cover, all by default.
    """
    start, stop = bounds or (0, x.shape[2])
    if torch.is_grad_enabled() or x.device.type != "cpu":
        yield start, stop
        return
    row_bytes = x.shape[0] * x.shape[3] * hidden * x.element_size()
    step = max(4, STRIP_BYTES // max(row_bytes, 1))
    count = max(1, round((stop - start) / step))
    edges = [start + (stop - start) * i // count for i in range(count + 1)]
    yield from pairwise(edges)


def expand_and_convolve(
    x: Map, rows: tuple[int, int], expand: Callable[[Tensor], Tensor], convolve: Callable[[Tensor], Tensor]
) -> Float[Tensor, "batch hidden strip columns"]:
    """Rows (start, stop) of ``convolve(expand(x))``, where ``convolve`` is 3x3 with zero padding.

    One halo row is recomputed on each side; at the map's own borders the convolution's zeros are right.
    """
    start, stop = rows
    low, high = max(start - 1, 0), min(stop + 1, x.shape[2])
    out = convolve(expand(x[:, :, low:high]))
    return out if (low, high) == rows else out[:, :, start - low : stop - low]
