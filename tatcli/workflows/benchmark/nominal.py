"""The nominal work of the network: what its definition asks for, however it is computed.

A rate in nominal FLOP/s compares implementations and machines, since tricks that save work (windows without overlap, a
folded projection) raise the rate instead of lowering the work. One multiply-add counts as two; norms, activations,
softmax and sums aren't counted. Every local window of the attention counts in full, overlaps too, and always the
paper's windows: others cost the same, to a few percent.
"""

from __future__ import annotations

from collections.abc import Iterator

from tatcli.model.config import LEVELS, TatConfig
from tatcli.model.tat import MULTIPLE
from tatcli.model.windows import window_starts

__all__ = ["nominal_flop"]

CONV3 = 9
"""Multiply-adds per pixel and channel pair (or channel, depthwise) of a 3x3 convolution."""


def nominal_flop(config: TatConfig, rows: int, columns: int) -> float:
    """FLOP of one slice.

    Args:
        config: the network's sizes.
        rows: of the slice; what it is padded to counts.
        columns: likewise.
    """
    height, width = (length + -length % MULTIPLE for length in (rows, columns))
    return 2.0 * sum(_multiply_adds(config, height, width))


def _multiply_adds(config: TatConfig, rows: int, columns: int) -> Iterator[int]:
    """One number for each part of the U-net, in the order of :class:`~tatcli.model.tat.Tat`."""
    pixels = [(rows >> level) * (columns >> level) for level in range(LEVELS)]
    width, dims = config.width, [config.dim(level) for level in range(LEVELS)]
    yield CONV3 * width * pixels[0]  # patch embedding
    for level, blocks in enumerate(config.encoder_blocks):
        yield blocks * _block(config, level, dims[level], (rows, columns))
        yield CONV3 * dims[level] * (dims[level] // 2) * pixels[level]  # down
    yield _tren(config, pixels[1])
    yield config.latent_blocks * _block(config, 3, dims[3], (rows, columns))
    for level in (2, 1, 0):
        yield CONV3 * dims[level + 1] * 2 * dims[level + 1] * pixels[level + 1]  # up
        if level:
            yield 2 * dims[level] * dims[level] * pixels[level]  # 1x1 after the concatenation
        blocks = config.decoder_blocks[level] + (0 if level else config.refinement_blocks)
        yield blocks * _block(config, level, config.decoder_dim(level), (rows, columns))
    yield (CONV3 * 5 * width * width + width * width) * pixels[0]  # fuse
    yield CONV3 * width * pixels[0]  # output


def _block(config: TatConfig, level: int, dim: int, slice_shape: tuple[int, int]) -> int:
    """Attention and feed-forward of one block at this level."""
    rows, columns = (length >> level for length in slice_shape)
    pixels, hidden = rows * columns, config.hidden(dim)
    attention = 3 * dim * (dim + CONV3) * pixels  # q, k, v
    attention += (
        2 * dim * (dim // config.heads[level]) * _visited(rows, columns, config.paper_window(level))
    )  # q k^T, A v
    attention += dim * dim * pixels  # projection
    feedforward = 2 * hidden * (dim + CONV3) * pixels + hidden * dim * pixels
    return attention + feedforward


def _visited(rows: int, columns: int, window: int) -> int:
    """Pixels of all windows together."""
    along = [min(window, length) * len(window_starts(length, window)) for length in (rows, columns)]
    return along[0] * along[1]


def _tren(config: TatConfig, pixels: int) -> int:
    """TREN at half resolution, with its representation and generators."""
    width = config.tren_width
    representation = 4 * width
    # C/2 -> w, four residual convolutions, w -> w, w -> 2w, 2w -> 4w
    convolutions = CONV3 * (config.width // 2 * width + (4 + 1 + 2 + 8) * width * width) * pixels
    generated = sum(
        CONV3 * (3 * dim + 2 * config.hidden(dim)) for dim in (config.decoder_dim(level) for level in range(LEVELS))
    )
    return convolutions + 2 * representation * representation + representation * generated
