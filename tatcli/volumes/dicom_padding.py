"""Padding: stored numbers that fill up the matrix beside the image and stand for no tissue (PS3.3 C.7.5.1.1.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from tatcli.volumes.dicom_coding import Coding

__all__ = ["Padding", "padding_of", "restate_padding"]

_KEYWORDS = ("PixelPaddingValue", "PixelPaddingRangeLimit")


@dataclass(frozen=True)
class Padding:
    """A range of stored numbers.

    Attributes:
        first, last: its ends, both included.
        stray: whether one of them lies outside the stored bits: the scanner wrote its padding with all 16 allocated
            bits, such as -2000 over unsigned 12-bit numbers. The standard forbids it; other readers drop the upper bits
            and show 2096. Such numbers are signed here.
    """

    first: int
    last: int
    stray: bool = False

    def holds(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Which stored numbers are padding."""
        return np.asarray((stored >= self.first) & (stored <= self.last), dtype=np.bool_)

    def strays_in(self, words: NDArray[Any], stored_bits: int) -> NDArray[np.bool_]:
        """Which 16-bit words, read as signed numbers, are padding that takes more than the stored bits."""
        above = words.view(np.uint16) >> stored_bits != 0
        return np.asarray(self.holds(words.view(np.int16)) & above, dtype=np.bool_)


def padding_of(dataset: Dataset) -> Padding | None:
    """What padding is stored as in an image, in numbers of the type that its pixels are read as; None: there is none.

    A value that was read with the wrong sign (63536 is what -2000 looks like) is put right.
    """
    value, limit = (dataset.get(keyword) for keyword in _KEYWORDS)
    if value is None:
        return None
    allocated = int(dataset.get("BitsAllocated") or 16)
    bits, signed = int(dataset.get("BitsStored") or allocated), bool(dataset.get("PixelRepresentation"))
    first = _as_stored(value, allocated, bits, signed=signed)
    if first is None:
        return None
    last = _as_stored(limit, allocated, bits, signed=signed)
    if last is None or (last > first) != (limit > value):
        last = first
    least, greatest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    lower, upper = min(first, last), max(first, last)
    return Padding(lower, upper, stray=allocated == 16 and not (least <= lower and upper <= greatest))


def restate_padding(dataset: Dataset, coding: Coding) -> None:
    """Name the same stored numbers in the type that they are stored as now; nothing where it has no place for them."""
    padding = padding_of(dataset)
    values = [dataset.get(keyword) for keyword in _KEYWORDS]
    for keyword in _KEYWORDS:
        if keyword in dataset:
            del dataset[keyword]
    lower, upper = coding.limits
    if padding is None or padding.first < lower or padding.last > upper:
        return
    ends = (padding.first, padding.last)
    if values[1] is not None and values[1] < values[0]:
        ends = (padding.last, padding.first)
    for keyword, end in zip(_KEYWORDS, ends if values[1] is not None else ends[:1], strict=False):
        dataset.add_new(keyword, "SS" if coding.signed else "US", end)


def _as_stored(value: Any, allocated: int, bits: int, *, signed: bool) -> int | None:
    """A value by its bits: those that are stored, or all that are allocated where it takes more."""
    if not isinstance(value, int) or not -(2 ** (allocated - 1)) <= value < 2**allocated:
        return None
    word = value & ((1 << allocated) - 1)
    used = bits if word < 1 << bits else allocated
    negative = (signed or used > bits) and word >= 1 << (used - 1)
    return word - (1 << used) if negative else word
