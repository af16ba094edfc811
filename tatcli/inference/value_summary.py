"""What is to be known of a scan's values before it is restored, gathered in one pass over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.volumes.volume import ScanHeader, Volume

__all__ = ["Summariser", "ValueSummary", "summarise"]

_SAMPLE: Final = 2**20
"""Fractions and percentiles are taken of about this many evenly spaced voxels."""
_PADDING_FRACTION: Final = 1e-3


@dataclass(frozen=True, eq=False)
class ValueSummary:
    """What the checks need to know of a scan's values.

    Attributes:
        lower, upper: least and greatest finite value; NaN where nothing is finite.
        nonfinite: number of NaN and infinite voxels.
        sample: finite values of evenly spaced voxels, float32.
        integer_bits: where the file holds integers without rescale, their width; else None.
    """

    lower: float
    upper: float
    nonfinite: int
    sample: NDArray[np.float32]
    integer_bits: int | None

    @property
    def padding(self) -> float | None:
        """The least value where it comes so often that it marks what wasn't measured (or was cut off), else None."""
        often = self.sample.size and np.mean(self.sample == np.float32(self.lower)) > _PADDING_FRACTION
        return self.lower if often else None


def summarise(volume: Volume) -> ValueSummary:
    """Summarise a scan's values, slice by slice so that nothing of its size is allocated."""
    found = Summariser(volume.header)
    for plane in volume.array.reshape(-1, *volume.array.shape[-2:]):
        found.add(plane)
    return found.summary()


class Summariser:
    """Summarises a scan's values while it is read.

    Args:
        scan: everything but the voxels.
    """

    def __init__(self, scan: ScanHeader) -> None:
        self._origin = scan.provenance
        self._step = max(1, scan.voxels // _SAMPLE)
        self._lower, self._upper = np.inf, -np.inf
        self._seen = self._nonfinite = 0
        self._sample: list[NDArray[np.float32]] = []

    def add(self, values: NDArray[np.float32]) -> None:
        """The next voxels in file order, any shape."""
        finite = np.isfinite(values)
        good = values if finite.all() else values[finite]
        self._nonfinite += values.size - good.size
        if good.size:
            self._lower = min(self._lower, float(good.min()))
            self._upper = max(self._upper, float(good.max()))
        spaced = values.reshape(-1)[-self._seen % self._step :: self._step]
        self._sample.append(spaced[np.isfinite(spaced)])
        self._seen += values.size

    def summary(self) -> ValueSummary:
        """Of all that was added."""
        known = self._lower <= self._upper
        origin = self._origin
        return ValueSummary(
            lower=self._lower if known else np.nan,
            upper=self._upper if known else np.nan,
            nonfinite=self._nonfinite,
            sample=np.concatenate(self._sample),
            integer_bits=_integer_bits(origin.dtype) if (origin.slope, origin.intercept) == (1.0, 0.0) else None,
        )


def _integer_bits(dtype: np.dtype[Any] | None) -> int | None:
    return 8 * dtype.itemsize if dtype is not None and dtype.kind in "iub" else None
