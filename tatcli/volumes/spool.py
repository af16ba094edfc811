"""A scan that is put together out of order: in memory, or on disk where it doesn't fit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spool"]


class Spool:
    """An array (frames, slices, rows, columns) that is written block by block and read plane by plane.

    Args:
        shape: (frames, slices, rows, columns).
        dtype: of the numbers.
        folder: where its nameless file lies; None: in memory. The file vanishes with the process, however it ends.

    Raises:
        OSError: the folder can't be written to; later, the disk is full.
    """

    def __init__(self, shape: tuple[int, int, int, int], dtype: np.dtype[Any], *, folder: Path | None) -> None:
        self.dtype = dtype
        self._shape = shape
        self._array: NDArray[Any] | None = np.empty(shape, dtype=dtype) if folder is None else None
        self._file = None if folder is None else cast("IO[bytes]", tempfile.TemporaryFile(dir=folder))  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._array = None
        if self._file is not None:
            self._file.close()

    def put(self, numbers: NDArray[Any], *, frame: int, axis: int, start: int) -> None:
        """A block of one frame.

        Args:
            numbers: (slices, rows, columns), cut along ``axis``.
            frame: which one.
            axis: 0, 1 or 2.
            start: first index along it.
        """
        cut = (slice(None),) * axis + (slice(start, start + numbers.shape[axis]),)
        if self._array is not None:
            self._array[frame][cut] = numbers
            return
        first = start if axis == 0 else 0
        for index, plane in enumerate(numbers):
            self._put_plane(plane, frame * self._shape[1] + first + index, cut[1:])

    def planes(self) -> Iterator[NDArray[Any]]:
        """All planes (rows, columns) in file order."""
        count = self._shape[0] * self._shape[1]
        if self._array is not None:
            yield from self._array.reshape(count, *self._shape[2:])
            return
        for index in range(count):
            yield self._plane(index)

    def _put_plane(self, part: NDArray[Any], index: int, cut: tuple[slice, ...]) -> None:
        whole = np.ascontiguousarray(part, dtype=self.dtype)
        if cut and part.shape != self._shape[2:]:
            whole = self._plane(index)
            whole[cut] = part
        assert self._file is not None  # noqa: S101  in memory there are no planes to put
        self._file.seek(index * whole.nbytes)
        self._file.write(whole.data)

    def _plane(self, index: int) -> NDArray[Any]:
        """A plane from the file; what was not written yet is zero."""
        plane = np.zeros(self._shape[2:], dtype=self.dtype)
        assert self._file is not None  # noqa: S101
        self._file.seek(index * plane.nbytes)
        self._file.readinto(plane.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
        return plane
