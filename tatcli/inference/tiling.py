"""Tiles of a slice and the weights that blend them: Hann windows, divided by their sum so that they add up to one.

The grid is a product of its two axes, so everything here is one-dimensional. Where only one tile lies, its weight is
exactly one, at the image's borders too, where a bare Hann window would fade to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Span", "blended", "tile_spans"]

Slices = Float[Tensor, "batch 1 rows columns"]


@dataclass(frozen=True, eq=False)
class Span:
    """A tile along one axis.

    Attributes:
        start, stop: its pixels.
        weights: (stop - start,), in (0, 1]; those of all spans add up to one at every pixel.
    """

    start: int
    stop: int
    weights: Float[Tensor, " length"]


def tile_spans(length: int, *, tile: int, overlap: int) -> list[Span]:
    """Tiles along an axis of this length.

    Tiles follow one another by ``tile - overlap``; the last one is moved back to end with the axis. An axis that is no
    longer than a tile is one span.

    Raises:
        ValueError: the overlap is not smaller than the tile.
    """
    if not 0 <= overlap < tile:
        msg = f"tile_spans: expected 0 <= overlap < tile, got overlap {overlap} and tile {tile}"
        raise ValueError(msg)
    size = min(tile, length)
    starts = [*range(0, length - size, tile - overlap), length - size]
    hann = torch.sin(torch.pi * (torch.arange(size, dtype=torch.float64) + 0.5) / size).square()
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts:
        total[start : start + size] += hann
    return [Span(start, start + size, (hann / total[start : start + size]).float()) for start in starts]


def blended(correct: Callable[[Slices], Slices], slices: Slices, *, tile: int, overlap: int) -> Slices:
    """Apply ``correct`` to overlapping tiles and blend the results.

    Args:
        correct: slices -> their corrections, same shape, any size.
        slices: whole ones.
        tile: side of the square tiles; a shorter axis isn't cut.
        overlap: pixels that neighbours share.
    """
    result = torch.zeros_like(slices)
    for row, column in _grid(slices.shape[2], slices.shape[3], tile=tile, overlap=overlap):
        part = (..., slice(row.start, row.stop), slice(column.start, column.stop))
        weights = (row.weights[:, None] * column.weights).to(slices.device)
        result[part] += correct(slices[part].contiguous()) * weights
    return result


def _grid(rows: int, columns: int, *, tile: int, overlap: int) -> Iterator[tuple[Span, Span]]:
    across = tile_spans(columns, tile=tile, overlap=overlap)
    for row in tile_spans(rows, tile=tile, overlap=overlap):
        for column in across:
            yield row, column
