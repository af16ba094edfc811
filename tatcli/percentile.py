"""Exact percentiles of positive values in two passes over data that need not be in memory."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["PositivePercentile"]

_HALF: Final = 16
_UPPER_BINS: Final = 1 << _HALF - 1
"""Of positive numbers: their sign bit is 0."""
_LOWER_BINS: Final = 1 << _HALF


class PositivePercentile:
    """A percentile of the positive finite values of a scan, interpolated linearly between order statistics.

    Positive floats are ordered like their bits. A first pass counts the upper halves of the bits, which says in which
    bin of 32768 an order statistic lies; a second pass counts the lower halves within that bin. So it is exact, takes
    half a megabyte, and gives the same number whether the scan is read at once or piece by piece.
    """

    def __init__(self) -> None:
        self._upper = np.zeros(_UPPER_BINS, dtype=np.int64)
        self._lower: dict[int, NDArray[np.int64]] = {}
        self._fraction = 0.0
        self._ranks: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many positive finite values the first pass saw."""
        return int(self._upper.sum())

    def add(self, values: NDArray[np.floating[Any]]) -> None:
        """Some of the scan's values, in the first pass."""
        self._upper += np.bincount(_bits(values) >> _HALF, minlength=_UPPER_BINS)

    def choose(self, percentile: float) -> None:
        """End the first pass: the percentile is known, 0 to 100."""
        position = (self.count - 1) * percentile / 100.0
        below = math.floor(position)
        self._fraction = position - below
        self._ranks = (below, min(below + 1, self.count - 1)) if self.count else ()
        self._lower = {self._bin_of(rank): np.zeros(_LOWER_BINS, dtype=np.int64) for rank in self._ranks}

    def refine(self, values: NDArray[np.floating[Any]]) -> None:
        """The same values, in the second pass."""
        bits = _bits(values)
        upper = bits >> _HALF
        for index in self._lower:
            self._lower[index] += np.bincount(bits[upper == index] & (_LOWER_BINS - 1), minlength=_LOWER_BINS)

    def value(self) -> float | None:
        """The percentile, after both passes; None where no value was positive."""
        if not self._ranks:
            return None
        below, above = (self._statistic(rank) for rank in self._ranks)
        return below + (above - below) * self._fraction

    def _bin_of(self, rank: int) -> int:
        return int(np.searchsorted(self._upper.cumsum(), rank, side="right"))

    def _statistic(self, rank: int) -> float:
        """The value of this rank, from 0, in ascending order."""
        upper = self._bin_of(rank)
        within = rank - int(self._upper[:upper].sum())
        lower = int(np.searchsorted(self._lower[upper].cumsum(), within, side="right"))
        return float(np.uint32(upper << _HALF | lower).view(np.float32))


def _bits(values: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The bits of the positive finite values among these, as numbers that ``bincount`` takes as they are."""
    flat = values.astype(np.float32, copy=False).ravel()
    wanted = flat[(flat > 0) & (flat < np.inf)]
    return wanted.view(np.uint32).astype(np.int64)
