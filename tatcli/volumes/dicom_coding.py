"""How restored values are stored in DICOM: the source's own rescale and bits where they hold them, else wider ones.

PET is stored as scanners do it, each slice with the slope that fills its integers (PS3.3 C.8.9.4); a slice without any
change keeps its stored numbers and its slope.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import OutputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Coding", "as_ds", "coding_of", "encoded", "own_slope", "wider_codings"]

_LONGEST_DS: Final = 16


@dataclass(frozen=True)
class Coding:
    """value = stored * slope + intercept, in the file's units.

    Attributes:
        slope, intercept: of the rescale.
        allocated, stored: bits per pixel.
        signed: whether stored numbers are.
    """

    slope: float
    intercept: float
    allocated: int
    stored: int
    signed: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored numbers."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest number that can be stored."""
        if self.signed:
            return -(2 ** (self.stored - 1)), 2 ** (self.stored - 1) - 1
        return 0, 2**self.stored - 1

    def times(self, factor: float) -> Coding:
        """The same stored numbers for values in other units."""
        if factor == 1.0:
            return self
        return replace(self, slope=float(as_ds(self.slope * factor)), intercept=float(as_ds(self.intercept * factor)))

    def holds(self, lower: float, upper: float) -> bool:
        """Whether values of this range can be stored."""
        ends = [(value - self.intercept) / self.slope for value in (lower, upper)]
        least, greatest = self.limits
        return bool(least <= np.rint(min(ends)) and np.rint(max(ends)) <= greatest)


def coding_of(dataset: Dataset, *, slope: float, intercept: float) -> Coding:
    """The coding of a source object's frame."""
    allocated = int(dataset.BitsAllocated)
    stored = int(dataset.get("BitsStored") or allocated)
    return Coding(slope, intercept, allocated, stored, bool(dataset.get("PixelRepresentation")))


def wider_codings(own: Coding, lower: float, upper: float) -> tuple[Coding, ...]:
    """The source's coding and what may stand in for it, in the order in which they are tried.

    First with all allocated bits, then 16 of them, then signed; the last resort spreads the range of values over
    16 bits, and holds anything.
    """
    full = replace(own, stored=own.allocated)
    sixteen = replace(full, allocated=max(16, own.allocated), stored=max(16, own.allocated))
    spread = float(as_ds(max((upper - lower) / 65534, float(np.finfo(np.float32).tiny))))
    last = Coding(spread, float(as_ds(lower)), 16, 16, signed=False)
    return own, full, sixteen, replace(sixteen, signed=True), last


def own_slope(values: NDArray[np.float64], *, signed: bool) -> Coding:
    """PET: the slope by which the largest magnitude of a slice fills the integers; no intercept."""
    greatest = 2**15 - 1 if signed else 2**16 - 1
    slope = float(np.abs(values).max(initial=0.0)) / greatest
    return Coding(float(as_ds(slope)) if slope > 0 else 1.0, 0.0, 16, 16, signed)


def encoded(values: NDArray[np.float64], coding: Coding, original: NDArray[Any] | None = None) -> NDArray[Any]:
    """Stored numbers of one plane.

    Args:
        values: (rows, columns), in the file's units.
        coding: how to store them.
        original: (rows, columns) numbers that hold where ``values`` is NaN, which is how callers mark what didn't
            change.

    Raises:
        OutputError: a value can't be stored.
    """
    codes = np.rint((values - coding.intercept) / coding.slope)
    if original is not None:
        codes = np.where(np.isnan(values), original, codes)
    if not np.isfinite(codes).all():
        msg = f"output: {int((~np.isfinite(codes)).sum())} NaN or infinite voxels in a slice can't be stored as DICOM"
        raise OutputError(msg)
    lower, upper = coding.limits
    return codes.clip(lower, upper).astype(coding.dtype)


def as_ds(number: float) -> str:
    """A decimal string (VR DS) of at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    text = repr(float(number)).removesuffix(".0")
    return text if len(text) <= _LONGEST_DS else format_number_as_ds(float(number))
