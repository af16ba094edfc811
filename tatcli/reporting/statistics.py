"""Statistics of intensities and of their change, gathered while a scan passes by, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChangeGatherer", "ChangeStatistics", "IntensityGatherer", "IntensityStatistics"]


@dataclass(frozen=True)
class IntensityStatistics:
    """Of all finite voxels, in the scan's units; NaN where there is none. ``deviation`` is the standard deviation."""

    minimum: float
    maximum: float
    mean: float
    deviation: float
    nonfinite: int


@dataclass(frozen=True)
class ChangeStatistics:
    """Mean, root mean square and largest magnitude of a difference, and the fraction of voxels that changed."""

    mean: float
    rms: float
    largest: float
    fraction: float


class IntensityGatherer:
    """Gathers the statistics of a scan plane by plane.

    Means and squares of parts are put together as in Chan, Golub, LeVeque, "Algorithms for computing the sample
    variance" (1983), which loses nothing where the mean is far from zero.
    """

    def __init__(self) -> None:
        self._count = self._nonfinite = 0
        self._minimum, self._maximum = math.inf, -math.inf
        self._mean = self._squares = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Some of the scan's voxels, a plane or so."""
        good = values
        with np.errstate(invalid="ignore"):  # infinity less infinity
            total = float(values.sum(dtype=np.float64))
        if not math.isfinite(total):  # a sum of finite float32 never is beyond float64
            good = values[np.isfinite(values)]
            total = float(good.sum(dtype=np.float64))
        self._nonfinite += values.size - good.size
        if not good.size:
            return
        self._minimum = min(self._minimum, float(good.min()))
        self._maximum = max(self._maximum, float(good.max()))
        mean = total / good.size
        deviations = np.subtract(good, mean, dtype=np.float64)
        squares = float(np.square(deviations, out=deviations).sum())
        count = self._count + good.size
        shift = mean - self._mean
        self._squares += squares + shift * shift * self._count * good.size / count
        self._mean += shift * good.size / count
        self._count = count

    def statistics(self) -> IntensityStatistics:
        """Of all that was added."""
        if not self._count:
            return IntensityStatistics(math.nan, math.nan, math.nan, math.nan, self._nonfinite)
        deviation = math.sqrt(self._squares / self._count)
        return IntensityStatistics(self._minimum, self._maximum, self._mean, deviation, self._nonfinite)


class ChangeGatherer:
    """Gathers after - before over voxels that are finite in both, plane by plane."""

    def __init__(self) -> None:
        self._count = self._changed = 0
        self._total = self._square = self._largest = 0.0

    def add(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
        """The same part of the scan before and after."""
        with np.errstate(invalid="ignore"):  # infinity less infinity
            difference = np.subtract(after, before, dtype=np.float64)
            total = float(difference.sum())
        if not math.isfinite(total):
            difference = difference[np.isfinite(difference)]
            total = float(difference.sum())
        self._count += difference.size
        if difference.size:
            self._changed += int(np.count_nonzero(difference))
            self._total += total
            self._largest = max(self._largest, -float(difference.min()), float(difference.max()))
            self._square += float(np.square(difference, out=difference).sum())

    def statistics(self) -> ChangeStatistics:
        """Of all that was added."""
        if not self._count:
            return ChangeStatistics(math.nan, math.nan, math.nan, 0.0)
        count = self._count
        rms = math.sqrt(self._square / count)
        return ChangeStatistics(self._total / count, rms, self._largest, self._changed / count)
