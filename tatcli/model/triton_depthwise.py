"""Depthwise 3x3 convolutions on a GPU as Triton kernels: per-sample kernels in one launch, and the gate folded in.

cuDNN has no fast channels-last depthwise convolution and none with kernels that differ by sample, and the gate's two
halves would make a round trip through memory. These are bound by memory alone: each map is read and written once (rows
above and below come from the L2 cache). Triton comes with PyTorch's CUDA builds; without it, where it can't build (it
needs a C compiler and Python's headers), or with gradients recorded, PyTorch's operations do the same.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import cache
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

__all__ = ["can_run", "depthwise", "gated_depthwise"]

CHANNEL_BLOCK: Final = 32
"""Channels of a program: one 64-byte piece of a bf16 pixel, and what all widths here are multiples of."""
COLUMN_BLOCK: Final = 32
"""Pixels of a program along a row."""
TOLERANCE: Final = 1e-2
"""Largest difference from PyTorch's convolutions of maps in [-1, 1], which are in TF32 by default."""

Map = Float[Tensor, "batch channels rows columns"]
Kernels = Float[Tensor, "samples channels 3 3"]


@cache
def _is_there() -> bool:
    """Whether there is Triton, and nobody switched it off (TAT_TRITON=0)."""
    if os.environ.get("TAT_TRITON") == "0":
        return False
    try:
        import triton  # type: ignore[import-not-found, unused-ignore]  # noqa: F401 - only there with PyTorch's CUDA builds
    except ImportError:
        return False
    return True


def can_run(x: Tensor) -> bool:
    """Whether the kernels take this map: on a CUDA device, no gradients recorded, Triton there and at work."""
    if not x.is_cuda or torch.is_grad_enabled() or not _is_there():
        return False
    return torch.compiler.is_compiling() or _works_on(x.device)  # (what compiles is Triton itself)


@cache
def _works_on(device: torch.device) -> bool:
    """Whether the kernels can be built for this device, and give there what PyTorch's operations give."""
    x = torch.linspace(-99, 99, 64 * 3 * 37, device=device).sin().view(1, 64, 3, 37)
    kernels = torch.linspace(-9, 9, 64 * 9, device=device).sin().view(1, 64, 3, 3) / 9
    try:
        found = depthwise(x, kernels), gated_depthwise(x, kernels)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # noqa: BLE001 - no compiler, no headers, an old driver: Triton tells each in another way
        return False
    with torch.autocast(device.type, enabled=False):
        convolved = functional.conv2d(x, kernels[0, :, None], padding=1, groups=64)
    opened, gate = convolved.chunk(2, dim=1)
    expected = convolved, functional.gelu(opened) * gate
    return all(float((a - b).abs().max()) <= TOLERANCE for a, b in zip(found, expected, strict=True))


def depthwise(x: Map, kernels: Kernels) -> Map:
    """Each channel convolved 3x3 with its kernel, zeros outside; sums in float32.

    Args:
        x: (batch, channels, rows, columns).
        kernels: one for all samples, or one for each: (1 or batch, channels, 3, 3).

    Returns:
        Like x, channels-last.
    """
    return _launch(x, kernels, gated=False)


def gated_depthwise(x: Map, kernels: Kernels) -> Float[Tensor, "batch half_the_channels rows columns"]:
    """The gate of the feed-forward part: gelu(a) * b with (a, b) = depthwise(x), exact GELU.

    Args:
        x: (batch, 2 hidden, rows, columns).
        kernels: (1 or batch, 2 hidden, 3, 3).

    Returns:
        (batch, hidden, rows, columns), channels-last.
    """
    return _launch(x, kernels, gated=True)


def _launch(x: Tensor, kernels: Tensor, *, gated: bool) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    batch, channels, rows, columns = x.shape
    taps = (
        kernels.float().flatten(2).transpose(1, 2).contiguous()
    )  # (samples, 9, channels): neighbours are read together
    out_channels = channels // 2 if gated else channels
    y = torch.empty(
        (batch, out_channels, rows, columns), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    grid = (batch * rows, -(-columns // COLUMN_BLOCK), -(-out_channels // CHANNEL_BLOCK))
    arguments = (x, taps, y, rows, columns, channels, out_channels, 9 * channels if len(taps) > 1 else 0)
    # Triton launches on the current device, whatever the tensors' is; the compiler sees to it itself.
    with nullcontext() if torch.compiler.is_compiling() else torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        _kernel()[grid](*arguments, GATED=gated, COLUMN_BLOCK=COLUMN_BLOCK, CHANNEL_BLOCK=CHANNEL_BLOCK)
    return y


@cache
def _kernel() -> Any:
    """The Triton function; made at first use, since importing Triton takes a while."""
    from tatcli.model.triton_kernel import depthwise_kernel

    return depthwise_kernel
