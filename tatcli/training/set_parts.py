"""A scan's part of a prepared set's file: appended with its check sum, and compared with it later."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

__all__ = ["append_part", "sum_of_part"]

_AT_ONCE: Final = 2**24
"""Bytes that are read at once."""


def append_part(path: Path, target: Path, dtype: np.dtype[Any]) -> tuple[list[int], int]:
    """Append an array to a file; its shape and CRC-32. No map of it is left: Windows deletes no file that is mapped."""
    array = np.load(path, mmap_mode="r")
    found = 0
    with target.open("ab") as stream:
        for plane in array:
            data = np.ascontiguousarray(plane, dtype=dtype).data
            found = zlib.crc32(data, found)
            stream.write(data)
    return list(array.shape), found


def sum_of_part(path: Path, dtype: np.dtype[Any], *, start: int, shape: Sequence[int]) -> int:
    """The CRC-32 of the elements that lie in a file from ``start`` on; of as many as there are."""
    left, found = math.prod(shape) * dtype.itemsize, 0
    with path.open("rb") as stream:
        stream.seek(start * dtype.itemsize)
        while left and (data := stream.read(min(left, _AT_ONCE))):
            found, left = zlib.crc32(data, found), left - len(data)
    return found
