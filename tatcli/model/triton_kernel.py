# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202, PLR0913, PLR0917 - Triton's language: tensors of pointers, compile-time constants in capitals
"""The Triton kernel of :mod:`tatcli.model.triton_depthwise`; imported only where Triton is."""

import triton
import triton.language as tl

__all__ = ["depthwise_kernel"]


@triton.jit
def _convolved(x, taps, row, column, channel, rows, columns, channels, inside, sample_offset):
    """One row piece (columns, channels) of the convolution, in float32."""
    total = tl.zeros((column.shape[0], channel.shape[0]), dtype=tl.float32)
    for tap in tl.static_range(9):
        r = tl.zeros_like(column) + (row + tap // 3 - 1)  # not a scalar: the interpreter misplaces scalar masks
        c = column + tap % 3 - 1
        there = ((r >= 0) & (r < rows) & (c >= 0) & (c < columns))[:, None] & inside[None, :]
        pixel = (r * columns + c).to(tl.int64) * channels
        value = tl.load(x + sample_offset + pixel[:, None] + channel[None, :], mask=there, other=0.0)
        weight = tl.load(taps + tap * channels + channel, mask=inside, other=0.0)
        total += value.to(tl.float32) * weight[None, :]
    return total


@triton.jit
def depthwise_kernel(
    x,
    taps,
    y,
    rows,
    columns,
    channels,
    out_channels,
    sample_stride,
    GATED: tl.constexpr,
    COLUMN_BLOCK: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
):
    """One row piece, one block of channels; maps are (batch, rows, columns, channels), taps (samples, 9, channels)."""
    line = tl.program_id(0)
    sample = line // rows
    row = line % rows
    column = tl.program_id(1) * COLUMN_BLOCK + tl.arange(0, COLUMN_BLOCK)
    channel = tl.program_id(2) * CHANNEL_BLOCK + tl.arange(0, CHANNEL_BLOCK)
    inside = channel < out_channels
    sample_offset = sample.to(tl.int64) * rows * columns * channels
    taps += sample * sample_stride
    result = _convolved(x, taps, row, column, channel, rows, columns, channels, inside, sample_offset)
    if GATED:
        gate = _convolved(x, taps, row, column, channel + out_channels, rows, columns, channels, inside, sample_offset)
        result = 0.5 * result * (1.0 + tl.math.erf(result * 0.7071067811865476)) * gate
    target = ((sample * rows + row).to(tl.int64) * columns + column)[:, None] * out_channels + channel[None, :]
    tl.store(y + target, result.to(y.dtype.element_ty), mask=(column < columns)[:, None] & inside[None, :])
