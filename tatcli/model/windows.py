"""Local windows at test time (TLC), without copies: overlapping windows cut a map into cells.

A sum over a window is the sum over its cells, so attention statistics are computed once per cell and added up.
Averaging the outputs of all windows that cover a pixel equals applying the average of their attention matrices,
because the output is linear in the matrix. Source: Chu et al., "Improving Image Restoration by Revisiting Global
Information Aggregation" (ECCV 2022), with the window layout of the TAT authors' released model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Cells", "cut_into_cells", "window_starts"]


_CPU: Final = torch.device("cpu")


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
    """

    rows: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]
    members: Float[Tensor, "windows cells"]
    average: Float[Tensor, "cells windows"]

    @property
    def count(self) -> int:
        """Number of cells."""
        return len(self.rows) * len(self.columns)

    def to(self, device: torch.device) -> Cells:
        """The same with its matrices on this device."""
        return replace(self, members=self.members.to(device), average=self.average.to(device))


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # kept tensors must be usable with gradients too, whoever asks first
def cut_into_cells(rows: int, columns: int, window: int, device: torch.device = _CPU) -> Cells:
    """The cells of a (rows, columns) map under square windows of this side (smaller where an axis is shorter).

    They are kept, on the device too: a copy to it within every pass would stall it, and no CUDA graph could hold it.
    """
    row_cells, row_members = _cut_axis(rows, window)
    column_cells, column_members = _cut_axis(columns, window)
    members = torch.kron(row_members, column_members)
    covering = members.t()
    return Cells(row_cells, column_cells, members, covering / covering.sum(dim=1, keepdim=True)).to(device)


def _cut_axis(length: int, window: int) -> tuple[tuple[tuple[int, int], ...], Tensor]:
    size = min(window, length)
    starts = window_starts(length, window)
    borders = sorted({0, length, *starts, *(start + size for start in starts)})
    cells = tuple(pairwise(borders))
    members = torch.tensor([[float(start <= lo and hi <= start + size) for lo, hi in cells] for start in starts])
    return cells, members
