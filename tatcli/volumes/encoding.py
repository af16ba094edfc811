"""Stored numbers and physical values: value = stored * slope + intercept, and back, sparing what didn't change."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import OutputError
from tatcli.volumes.volume import Provenance, Volume

__all__ = [
    "EXACT_INTEGERS",
    "Encoding",
    "cross_format_type",
    "decode",
    "encode",
    "encoded_slices",
    "fits_float32",
    "integer_type_for",
    "type_by_origin",
]

EXACT_INTEGERS: Final = 2**24
"""float32 holds every integer up to this magnitude."""


def decode(stored: NDArray[Any], *, slope: float = 1.0, intercept: float = 0.0) -> NDArray[np.float32]:
    """Physical values of stored numbers, computed in float64 plane by plane so that no float64 copy of a scan exists.

    Args:
        stored: (..., rows, columns), any real dtype.
        slope: multiplies the stored numbers.
        intercept: is added afterwards.

    Returns:
        float32 array of the same shape; the input itself where it is float32 and there is nothing to do.
    """
    if slope == 1.0 and intercept == 0.0:
        with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32's range becomes inf; it is kept
            return np.ascontiguousarray(stored, dtype=np.float32)
    values = np.empty(stored.shape, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for plane, out in zip(_planes(stored), _planes(values), strict=True):
            out[...] = plane.astype(np.float64) * slope + intercept
    return values


def fits_float32(stored: NDArray[Any]) -> bool:
    """Whether float32 holds every stored number exactly, so that the native array needn't be kept."""
    if stored.dtype in (np.float32, np.float16):
        return True
    if stored.dtype.kind not in "iub":
        return False
    if stored.dtype.itemsize <= 2:
        return True
    return -EXACT_INTEGERS <= int(stored.min()) and int(stored.max()) <= EXACT_INTEGERS


@dataclass(frozen=True)
class Encoding:
    """How values are stored: value = stored * slope + intercept, in the machine's byte order."""

    dtype: np.dtype[Any]
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest value that can be stored."""
        if self.dtype.kind == "f":
            return -math.inf, math.inf
        ends = [end * self.slope + self.intercept for end in (np.iinfo(self.dtype).min, np.iinfo(self.dtype).max)]
        return min(ends), max(ends)

    def is_of(self, provenance: Provenance) -> bool:
        """Whether a source stored its numbers so, too, except for their type."""
        return (provenance.slope, provenance.intercept) == (self.slope, self.intercept)


def encoded_slices(volume: Volume, encoding: Encoding) -> Iterator[NDArray[Any]]:
    """The volume's planes (rows, columns) as numbers to store, one at a time, in the array's order.

    A voxel whose value is still what its stored number decodes to gets that number back bit for bit. A changed
    voxel gets round((value - intercept) / slope), limited to the dtype's range.

    Raises:
        OutputError: a NaN would have to be stored as an integer.
    """
    stored = volume.provenance.stored
    usable = stored is not None and stored.shape == volume.array.shape and encoding.is_of(volume.provenance)
    originals = _planes(stored) if stored is not None and usable else None
    for index, values in enumerate(_planes(volume.array)):
        yield encode(values, None if originals is None else originals[index], encoding=encoding)


def encode(values: NDArray[np.float32], original: NDArray[Any] | None, *, encoding: Encoding) -> NDArray[Any]:
    """Numbers to store, as :func:`encoded_slices` describes.

    Args:
        values: physical ones, any shape.
        original: the stored numbers that they were made of, in the same rescale; used where their type is the same.
        encoding: how to store.

    Raises:
        OutputError: a NaN would have to be stored as an integer.
    """
    dtype, slope, intercept = encoding.dtype, encoding.slope, encoding.intercept
    if dtype == np.float32 and slope == 1.0 and intercept == 0.0:
        return values
    if original is not None and original.dtype == dtype:
        before = decode(original, slope=slope, intercept=intercept)
        unchanged = values == before
        if dtype.kind == "f":
            unchanged |= np.isnan(values) & np.isnan(before)
        if unchanged.all():
            return original
        numbers = encode(values, None, encoding=encoding)
        return np.where(unchanged, original, numbers) if unchanged.any() else numbers
    numbers = values.astype(np.float64)
    if slope != 1.0 or intercept != 0.0:
        numbers -= intercept
        numbers /= slope
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return numbers.astype(dtype)
    codes: NDArray[Any] = np.rint(numbers, out=numbers)
    if numbers.size and np.isnan(numbers.min()):
        msg = f"output: {int(np.isnan(numbers).sum())} NaN voxels in a plane can't be stored as {dtype}; replace them"
        raise OutputError(msg)
    info = np.iinfo(dtype)
    lower, upper = float(info.min), float(info.max)
    np.clip(codes, lower, upper, out=codes)
    if dtype.itemsize < 8:
        return codes.astype(dtype)
    # float64 rounds the largest 64-bit integer up to a power of two, which would wrap around: saturate it by hand.
    too_large = codes >= upper
    return np.where(too_large, dtype.type(info.max), np.where(too_large, 0.0, codes).astype(dtype))


def _planes(array: NDArray[Any]) -> NDArray[Any]:
    """A view (planes, rows, columns) of a C-contiguous array; a copy where strides don't allow a view."""
    return array.reshape(-1, *array.shape[-2:])


def cross_format_type(volume: Volume) -> np.dtype[Any]:
    """The voxel type for a volume that is written to another format than its own, without rescale.

    The source's own type where the source had no rescale; int16 (int32 if it doesn't fit) where stored integers were
    rescaled to integers, as CT is; float32 for everything else.
    """
    return type_by_origin(volume.provenance) or integer_type_for(float(volume.array.min()), float(volume.array.max()))


def type_by_origin(provenance: Provenance) -> np.dtype[Any] | None:
    """What :func:`cross_format_type` is, whatever the values; None where they decide."""
    dtype, slope, intercept = provenance.dtype, provenance.slope, provenance.intercept
    if dtype is None or dtype == np.float16:
        return np.dtype(np.float32)
    if slope == 1.0 and intercept == 0.0:
        return np.dtype(np.float64) if dtype == np.longdouble else dtype.newbyteorder("=")  # all that formats hold
    if dtype.kind == "f" or not (slope.is_integer() and intercept.is_integer()):
        return np.dtype(np.float32)
    return None


def integer_type_for(lower: float, upper: float) -> np.dtype[Any]:
    """int16 where [lower, upper] fits, else int32: what readers everywhere understand; float32 beyond."""
    for dtype in (np.int16, np.int32):
        info = np.iinfo(dtype)
        if info.min <= lower and upper <= info.max:
            return np.dtype(dtype)
    return np.dtype(np.float32)
