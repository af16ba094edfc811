"""Local windows at test time (TLC), without copies: overlapping windows cut a map into cells.

A sum over a window is the sum over its cells, so attention statistics are computed once per cell and added up.
Averaging the outputs of all windows that cover a pixel equals applying the average of their attention matrices,
because the output is linear in the matrix. Source: Chu et al., "Improving Image Restoration by Revisiting Global
Information Aggregation" (ECCV 2022), with the window layout of the TAT authors' released model; or with windows that
start every half of one, which cut the map into equal cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Cells", "Window", "cell_matrices", "cut_into_cells", "window_starts"]


_CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Window:
    """Local windows of one level.

    Attributes:
        side: in pixels of that level; a map no larger is one window.
        halves: whether the next window starts half of one further, or only as near as covers the map.
    """

    side: int
    halves: bool = False


def window_starts(length: int, window: int) -> list[int]:
    """First index of every window along an axis.

    Windows of min(window, length) are spread evenly, and the last one is moved back to end with the axis.
    """
    size = min(window, length)
    count = (length - 1) // size + 1
    step = size if count == 1 else math.ceil((length - size) / (count - 1) - 1e-8)
    starts: list[int] = []
    start = 0
    while start + size < length:
        starts.append(start)
        start += step
    return [*starts, length - size]


@dataclass(frozen=True)
class Cells:
    """A map cut by the borders of its windows.

    Attributes:
        rows, columns: bounds (start, stop) of the cells along each axis; cell (i, j) has index i * len(columns) + j.
        members: (windows, cells), 1 where the cell is part of the window.
        average: (cells, windows), the weights of the windows that cover a cell (each row sums to 1).
        equal: whether all cells of an axis have the same length, but for a shorter last one.
    """

    rows: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]
    members: Float[Tensor, "windows cells"]
    average: Float[Tensor, "cells windows"]
    equal: bool = False

    @property
    def count(self) -> int:
        """Number of cells."""
        return len(self.rows) * len(self.columns)

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of the first cell."""
        return self.rows[0][1], self.columns[0][1]


def cut_into_cells(rows: int, columns: int, window: Window, device: torch.device = _CPU) -> Cells:
    """The cells of a (rows, columns) map under these windows (smaller ones where an axis is shorter)."""
    members, average = cell_matrices(rows, columns, window, device)
    return Cells(_cells(rows, window), _cells(columns, window), members, average, equal=window.halves)


def cell_matrices(rows: int, columns: int, window: Window, device: torch.device) -> tuple[Tensor, Tensor]:
    """Members and average; to the compiler a constant, where it is told so."""
    return _kept_matrices(rows, columns, window, device)


@cache
@torch.inference_mode(mode=False)  # kept tensors must be usable with gradients too, whoever asks first
def _kept_matrices(rows: int, columns: int, window: Window, device: torch.device) -> tuple[Tensor, Tensor]:
    """On the device for good.

    A copy to it within every pass would stall it, no CUDA graph could hold it, and a graph reads them where they lay
    when it was recorded.
    """
    members = torch.kron(_members(rows, window), _members(columns, window))
    covering = members.t()
    return members.to(device), (covering / covering.sum(dim=1, keepdim=True)).to(device)


def _cells(length: int, window: Window) -> tuple[tuple[int, int], ...]:
    return tuple(pairwise(sorted({0, length, *(edge for bounds in _windows(length, window) for edge in bounds)})))


def _windows(length: int, window: Window) -> list[tuple[int, int]]:
    """Bounds (start, stop) of the windows along an axis."""
    if not window.halves:
        size = min(window.side, length)
        return [(start, start + size) for start in window_starts(length, size)]
    count = round(2 * length / window.side)
    if length <= window.side or count <= 2:
        return [(0, length)]
    half = -(-length // count)
    return [(start, min(start + 2 * half, length)) for start in range(0, length - half, half)]


def _members(length: int, window: Window) -> Tensor:
    cells = _cells(length, window)
    return torch.tensor(
        [[float(start <= lo and hi <= stop) for lo, hi in cells] for start, stop in _windows(length, window)]
    )
