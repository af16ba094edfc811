"""Write a scan block by block while it is computed; the file appears under its name only when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import UsageError
from tatcli.volumes.encoding import Encoding, encode, integer_type_for
from tatcli.volumes.formats import format_to_write
from tatcli.volumes.planes import Block
from tatcli.volumes.spool import Spool
from tatcli.volumes.volume import ScanHeader
from tatcli.volumes.writing import check_output, temporaries

__all__ = ["BlockWriter", "block_writer", "encoding_for", "takes_planes"]

PlaneWriter = Callable[[NDArray[Any]], None]
BlockWriter = Callable[[Block, NDArray[np.float32]], None]
"""Takes a block of the source and what it was made into, (slices, rows, columns) in physical units."""

_PLANE_FORMATS: Final = ("nifti", "nrrd", "metaimage")


def takes_planes(kind: str) -> bool:
    """Whether this format (a name of ``formats.format_to_write``) can be written plane by plane."""
    return kind in _PLANE_FORMATS


def encoding_for(scan: ScanHeader, path: Path) -> Encoding | None:
    """How a scan's values are stored in this output; None where the values themselves decide.

    Raises:
        UsageError: the format can't be written plane by plane.
    """
    kind = format_to_write(path)
    if kind == "nifti":
        from tatcli.volumes.nifti import nifti_encoding

        return nifti_encoding(scan)
    if kind in _PLANE_FORMATS:
        from tatcli.volumes.itk_writing import itk_encoding

        return itk_encoding(scan, kind=kind)
    msg = f"{path.name}: expected an output that is written plane by plane, got {kind}"
    raise UsageError(msg)


@contextmanager
def block_writer(
    scan: ScanHeader, path: Path, *, axis: int, spool_in_memory: bool = True, overwrite: bool = False
) -> Iterator[BlockWriter]:
    """Write to this path what the block is given, with the bytes that :func:`~tatcli.volumes.write_volume` writes.

    Blocks of whole planes in file order (``axis`` 0) go straight to the file. Others are gathered first, encoded, as
    are values which decide the voxel type themselves.

    Args:
        scan: everything but the voxels.
        path: where to.
        axis: along which the blocks are cut.
        spool_in_memory: where they are gathered; else in a nameless file beside the output.
        overwrite: whether an existing file may be replaced. The input never is.

    Raises:
        OutputError: the output exists, is the input, or can't be written to; a NaN would be stored as an integer.
        UsageError: the format can't be written plane by plane.
    """
    check_output(path, source=scan.provenance.path, overwrite=overwrite)
    encoding = encoding_for(scan, path)
    folder = None if spool_in_memory else path.parent
    with temporaries(scan, path, overwrite=overwrite) as files:
        if encoding is None:
            with _Undecided(scan, folder) as undecided:
                yield undecided.write
                encoding = undecided.encoding()
                with _plane_writer(scan, path, files, encoding=encoding) as write:
                    for plane in undecided.planes():
                        write(encode(plane, None, encoding=encoding))
        elif axis:
            shape = (scan.frames, *scan.geometry.shape)
            with Spool(shape, encoding.dtype, folder=folder) as spool:
                yield lambda block, values: _put(spool, block, values, _encoder(scan, encoding))
                with _plane_writer(scan, path, files, encoding=encoding) as write:
                    for plane in spool.planes():
                        write(plane)
        else:
            with _plane_writer(scan, path, files, encoding=encoding) as write:
                yield lambda block, values: _pass_on(write, block, values, _encoder(scan, encoding))


Encoder = Callable[[NDArray[np.float32], NDArray[Any]], NDArray[Any]]


def _encoder(scan: ScanHeader, encoding: Encoding) -> Encoder:
    """(values, stored numbers of the source) -> numbers to store; the source's own where it stored in the same way."""
    same = encoding.is_of(scan.provenance)
    return lambda values, stored: encode(values, stored if same else None, encoding=encoding)


def _pass_on(write: PlaneWriter, block: Block, values: NDArray[np.float32], encoder: Encoder) -> None:
    for plane, stored in zip(values, block.stored, strict=True):
        write(encoder(plane, stored))


def _put(spool: Spool, block: Block, values: NDArray[np.float32], encoder: Encoder) -> None:
    numbers = np.empty(values.shape, dtype=spool.dtype)
    for target, plane, stored in zip(numbers, values, block.stored, strict=True):
        target[...] = encoder(plane, stored)
    spool.put(numbers, frame=block.frame, axis=block.axis, start=block.start)


class _Undecided(Spool):
    """Values whose range decides how they are stored."""

    def __init__(self, scan: ScanHeader, folder: Path | None) -> None:
        super().__init__((scan.frames, *scan.geometry.shape), np.dtype(np.float32), folder=folder)
        self._lower, self._upper = np.inf, -np.inf

    def write(self, block: Block, values: NDArray[np.float32]) -> None:
        """Keep a block."""
        # np.minimum and not min: a NaN stays one, as in the minimum of a whole volume
        self._lower = float(np.minimum(self._lower, values.min()))
        self._upper = float(np.maximum(self._upper, values.max()))
        self.put(values, frame=block.frame, axis=block.axis, start=block.start)

    def encoding(self) -> Encoding:
        """What all values fit into."""
        return Encoding(integer_type_for(self._lower, self._upper))


def _plane_writer(
    scan: ScanHeader, path: Path, files: tuple[Path, Path | None], *, encoding: Encoding
) -> AbstractContextManager[PlaneWriter]:
    """The format's writer, to temporary files."""
    temporary, voxels = files
    kind = format_to_write(path)
    if kind == "nifti":
        from tatcli.volumes.nifti import nifti_writer

        return nifti_writer(scan, temporary, encoding=encoding)
    from tatcli.volumes.itk_writing import itk_writer

    return itk_writer(scan, temporary, kind=kind, encoding=encoding, voxels=voxels)
