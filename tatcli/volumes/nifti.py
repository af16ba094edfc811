"""Read and write NIfTI voxels (.nii, .nii.gz); the header's meaning is in :mod:`tatcli.volumes.nifti_header`."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes.encoding import cross_format_type, decode, encoded_slices, fits_float32
from tatcli.volumes.nifti_header import NiftiHeader, new_header, read_header
from tatcli.volumes.volume import Provenance, Volume

__all__ = ["read_nifti", "read_nifti_header", "write_nifti"]

_GZIP_LEVEL: Final = 1
"""Noise hardly compresses: level 6 takes several times as long and saves a few per cent."""
_DEFLATE_LIMIT: Final = 1032
"""No gzip stream expands by more than this factor, so a header that promises more is damaged."""


def read_nifti(path: Path, *, units: Units | None = None) -> Volume:
    """Read a single-file NIfTI-1 or NIfTI-2 image, compressed or not.

    Returns:
        The volume in physical values (scl_slope and scl_inter applied), units as given or unknown.

    Raises:
        VolumeReadError: not NIfTI, truncated, damaged, or a voxel type that tat doesn't restore.
        GeometryError: an unusable grid.
    """
    with _opened(path) as stream:
        header = read_header(stream, path)
        stored = _read_voxels(stream, header, path)
    identity = header.slope == 1.0 and header.intercept == 0.0
    provenance = Provenance(
        path=path,
        format="nifti",
        header=header,
        stored=None if identity and fits_float32(stored) else stored,
        dtype=stored.dtype,
        slope=header.slope,
        intercept=header.intercept,
        warnings=header.warnings,
    )
    array = decode(stored, slope=header.slope, intercept=header.intercept)
    return Volume(array, header.geometry, units or Units.UNKNOWN, provenance)


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read the header alone.

    Raises:
        VolumeReadError: not NIfTI, or a voxel type that tat doesn't restore.
        GeometryError: an unusable grid.
    """
    with _opened(path) as stream:
        return read_header(stream, path)


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume to exactly this path.

    A volume that came from NIfTI keeps its header byte for byte (unless its grid changed), voxel type and scaling.

    Raises:
        OutputError: NaN in a volume of integer type.
        OSError: the disk is full, the folder vanished.
    """
    source = volume.provenance.header
    if isinstance(source, NiftiHeader) and source.frames == volume.frames:
        header = source.regridded(volume.geometry)
    else:
        header = new_header(volume.geometry, dtype=cross_format_type(volume), frames=volume.frames)
    native = header.dtype.newbyteorder("=")
    with path.open("wb") as raw:
        if path.name.lower().endswith(".gz"):
            # No name and no time in the gzip header: the same volume gives the same bytes.
            with gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=raw, mtime=0) as packed:
                _write_body(cast("IO[bytes]", packed), header, volume, native)
        else:
            _write_body(raw, header, volume, native)


def _write_body(stream: IO[bytes], header: NiftiHeader, volume: Volume, native: np.dtype[Any]) -> None:
    stream.write(header.preamble)
    for plane in encoded_slices(volume, native, slope=header.slope, intercept=header.intercept):
        stream.write(np.ascontiguousarray(plane, dtype=header.dtype).data)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked if they are gzip, whatever its name says; damage becomes a VolumeReadError."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield cast("IO[bytes]", unpacked)
            else:
                yield raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        msg = f"{path.name}: expected a complete gzip stream, got a damaged one ({error}); get the file again"
        raise VolumeReadError(msg) from error
    except OSError as error:
        msg = f"{path.name}: expected a readable file, got {error.strerror or error}; check the path and permissions"
        raise VolumeReadError(msg) from error


def _read_voxels(stream: IO[bytes], header: NiftiHeader, path: Path) -> NDArray[Any]:
    """The stored numbers, (frames,) slices, rows, columns, in the machine's byte order."""
    expected, on_disk = header.bytes_of_voxels, path.stat().st_size
    factor = _DEFLATE_LIMIT if isinstance(stream, gzip.GzipFile) else 1
    got = 0
    if expected <= on_disk * factor:  # asked before memory is: a damaged header can promise terabytes
        buffer = np.empty(math.prod(header.geometry.shape) * header.frames, dtype=header.dtype)
        view = memoryview(buffer.view(np.uint8).data)
        while got < expected and (count := stream.readinto(view[got:])):  # type: ignore[attr-defined]
            got += count
    if got < expected:
        msg = f"{path.name}: expected {expected} bytes of voxels, got fewer; the file is truncated, get it again"
        raise VolumeReadError(msg)
    while stream.read(1 << 20):  # gzip checks its CRC at the end only
        pass
    shape = header.geometry.shape if header.frames == 1 else (header.frames, *header.geometry.shape)
    if not buffer.dtype.isnative:
        buffer = buffer.byteswap(inplace=True).view(buffer.dtype.newbyteorder("="))
    return buffer.reshape(shape)
