"""A scan as a sequence of planes: read from its file piece by piece, or held in memory as it is stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import repeat
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import VolumeReadError
from tatcli.volumes.encoding import decode
from tatcli.volumes.volume import ScanHeader

__all__ = ["Block", "FilePlanes", "HeldPlanes", "PlaneSource", "Unstreamable"]

_CHUNK: Final = 2**20
_RUN_BYTES: Final = 2**22
"""Planes are read in runs of about so many bytes as values."""


class Unstreamable(Exception):
    """A file that can only be read as a whole; says why, in words that follow "since"."""


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring slices of one frame.

    Attributes:
        frame: which one.
        axis: array axis (0, 1 or 2 of slices, rows, columns) along which the block is cut.
        start: first index along it.
        stored: the numbers as stored, (slices, rows, columns), with ``axis`` cut.
        values: the same in physical units, float32.
    """

    frame: int
    axis: int
    start: int
    stored: NDArray[Any]
    values: NDArray[np.float32]

    @property
    def stop(self) -> int:
        """One past the last index along the axis."""
        return self.start + int(self.stored.shape[self.axis])


class PlaneSource(ABC):
    """The planes (rows, columns) of a scan in file order: those of the first frame, then those of the next.

    Attributes:
        header: everything but the voxels.
        dtype: of the stored numbers.
    """

    header: ScanHeader
    dtype: np.dtype[Any]

    @abstractmethod
    def runs(self, lengths: Iterable[int]) -> Iterator[NDArray[Any]]:
        """Consecutive planes from the first one on, so many at a time, in the machine's byte order.

        Args:
            lengths: adding up to the number of planes.

        Raises:
            VolumeReadError: the file is truncated or damaged.
        """

    @property
    def stored_bytes(self) -> int:
        """Size of all stored numbers."""
        return self.header.voxels * self.dtype.itemsize

    def values(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """All planes in physical units, (frame, (planes, rows, columns)): one pass over the scan."""
        slices = self.header.geometry.shape[0]
        lengths = list(_cut(slices, self._run_length()))
        frames = (frame for frame in range(self.header.frames) for _ in lengths)
        for frame, stored in zip(frames, self.runs(lengths * self.header.frames), strict=True):
            yield frame, self._decoded(stored)

    def blocks(self, axis: int, length: int) -> Generator[Block]:
        """The scan in blocks of at most ``length`` slices along an array axis of its frames.

        Along axis 0 that is one pass over the scan. Along the others every block needs all planes, so it is one pass
        for each.
        """
        if axis == 0:
            yield from self._blocks_of_planes(length)
            return
        for start in range(0, self.header.geometry.shape[axis], length):
            yield from self._blocks_across_planes(axis, start, length)

    def _blocks_of_planes(self, length: int) -> Iterator[Block]:
        lengths = list(_cut(self.header.geometry.shape[0], length))
        runs = self.runs(lengths * self.header.frames)
        for frame in range(self.header.frames):
            start = 0
            for count in lengths:
                stored = next(runs)
                yield Block(frame, 0, start, stored, self._decoded(stored))
                start += count
        for _ in runs:  # lets the source see its end
            pass

    def _blocks_across_planes(self, axis: int, start: int, length: int) -> Iterator[Block]:
        shape = list(self.header.geometry.shape)
        lengths = list(_cut(shape[0], self._run_length()))
        shape[axis] = min(length, shape[axis] - start)
        runs = self.runs(lengths * self.header.frames)
        cut = (slice(None),) * axis + (slice(start, start + length),)
        for frame in range(self.header.frames):
            stored = np.empty(shape, dtype=self.dtype.newbyteorder("="))
            below = 0
            for count in lengths:
                stored[below : below + count] = next(runs)[cut]
                below += count
            yield Block(frame, axis, start, stored, self._decoded(stored))
        for _ in runs:
            pass

    def _decoded(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        provenance = self.header.provenance
        return decode(stored, slope=provenance.slope, intercept=provenance.intercept)

    def _run_length(self) -> int:
        _, rows, columns = self.header.geometry.shape
        return max(1, _RUN_BYTES // (4 * rows * columns))


@dataclass(frozen=True, eq=False)
class FilePlanes(PlaneSource):
    """Planes that are read from a file, each pass from its start.

    Attributes:
        opened: gives the file's bytes, unpacked, from the first voxel on; damage within its block is a VolumeReadError.
    """

    header: ScanHeader
    dtype: np.dtype[Any]
    opened: Callable[[], AbstractContextManager[IO[bytes]]]

    def runs(self, lengths: Iterable[int]) -> Iterator[NDArray[Any]]:
        """Consecutive planes from the first one on."""
        plane = self.header.geometry.shape[1:]
        with self.opened() as stream:
            for length in lengths:
                yield self._read(stream, (length, *plane))
            while stream.read(_CHUNK):  # checksums come last
                pass

    def held(self) -> HeldPlanes:
        """All planes in memory, as they are stored."""
        planes = self.header.voxels // (self.header.geometry.shape[1] * self.header.geometry.shape[2])
        (stored,) = self.runs([planes])
        return HeldPlanes(self.header, stored)

    def _read(self, stream: IO[bytes], shape: tuple[int, ...]) -> NDArray[Any]:
        array = np.empty(shape, dtype=self.dtype)
        view = memoryview(array.reshape(-1).view(np.uint8).data)
        got = 0
        # Asked for everything at once, a GzipFile makes a copy of it first.
        while got < len(view) and (count := stream.readinto(view[got : got + _CHUNK])):  # type: ignore[attr-defined]
            got += count
        if got < len(view):
            path = self.header.provenance.path
            name = "scan" if path is None else path.name
            expected = self.header.voxels * self.dtype.itemsize
            msg = (
                f"{name}: expected a complete image with {expected} bytes of voxels, got fewer; the file is truncated, "
                "get it again"
            )
            raise VolumeReadError(msg)
        if not array.dtype.isnative:
            array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
        return array


class HeldPlanes(PlaneSource):
    """Planes in memory, as they are stored.

    Args:
        header: everything but the voxels.
        stored: (planes, rows, columns).
    """

    def __init__(self, header: ScanHeader, stored: NDArray[Any]) -> None:
        self.header = header
        self.dtype = stored.dtype
        self.stored = stored

    def runs(self, lengths: Iterable[int]) -> Iterator[NDArray[Any]]:
        """Consecutive planes from the first one on, views."""
        start = 0
        for length in lengths:
            yield self.stored[start : start + length]
            start += length

    def blocks(self, axis: int, length: int) -> Generator[Block]:
        """The scan in blocks of at most ``length`` slices along an array axis; a view of each is enough."""
        frames = self.stored.reshape(self.header.frames, *self.header.geometry.shape)
        for frame, whole in enumerate(frames):
            for start in range(0, whole.shape[axis], length):
                stored = whole[(slice(None),) * axis + (slice(start, start + length),)]
                yield Block(frame, axis, start, stored, self._decoded(stored))


def _cut(length: int, part: int) -> Iterator[int]:
    """A length in parts, the last of which may be shorter."""
    yield from repeat(part, length // part)
    if length % part:
        yield length % part
