"""Read NIfTI voxels (.nii, .nii.gz, .hdr with .img) and write them (.nii, .nii.gz).

The header's meaning is in :mod:`tatcli.volumes.nifti_header`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes.bids_pet import pet_scale
from tatcli.volumes.encoding import (
    Encoding,
    cross_format_type,
    decode,
    encoded_slices,
    fits_float32,
    type_by_origin,
)
from tatcli.volumes.members import image_of
from tatcli.volumes.nifti_header import NiftiHeader, new_header, read_header
from tatcli.volumes.pet_tags import PetTags
from tatcli.volumes.planes import FilePlanes
from tatcli.volumes.volume import Provenance, ScanHeader, Volume

__all__ = ["nifti_encoding", "nifti_planes", "nifti_writer", "read_nifti", "read_nifti_header", "write_nifti"]

_GZIP_LEVEL: Final = 1
"""Noise hardly compresses: level 6 takes several times as long and saves a few per cent."""
_DEFLATE_LIMIT: Final = 1032
"""No gzip stream expands by more than this factor, so a header that promises more is damaged."""


def read_nifti(path: Path, *, units: Units | None = None, pet: PetTags | None = None) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 image, compressed or not.

    Args:
        path: of the file; for .hdr its .img must lie beside it.
        units: the caller's word on the units.
        pet: the caller's word on what SUV needs of a PET with a BIDS sidecar.

    Returns:
        The volume in physical values (scl_slope and scl_inter applied), units as given or unknown; PET with a BIDS
        sidecar in SUVbw.

    Raises:
        VolumeReadError: not NIfTI, truncated, damaged, or a voxel type that tat doesn't restore.
        GeometryError: an unusable grid.
        UnitsError, UsageError: a PET's sidecar doesn't lead to SUVbw, see :func:`~tatcli.volumes.bids_pet.pet_scale`.
    """
    planes = nifti_planes(path, units=units, pet=pet)
    header, stored = planes.header, planes.held().stored.reshape(planes.header.shape)
    origin = header.provenance
    identity = origin.slope == 1.0 and origin.intercept == 0.0
    provenance = replace(origin, stored=None if identity and fits_float32(stored) else stored)
    array = decode(stored, slope=origin.slope, intercept=origin.intercept)
    return Volume(array, header.geometry, header.units, provenance)


def nifti_planes(path: Path, *, units: Units | None = None, pet: PetTags | None = None) -> FilePlanes:
    """A NIfTI image plane by plane; its header is read now. Arguments as for :func:`read_nifti`.

    Raises:
        VolumeReadError: not NIfTI, truncated, or a voxel type that tat doesn't restore.
        GeometryError: an unusable grid.
        UnitsError, UsageError: as :func:`read_nifti`.
    """
    with _opened(path) as stream:
        header = read_header(stream, path)
    place, offset = _voxels_of(header, path)
    with _opened(place) as stream:
        factor = _DEFLATE_LIMIT if isinstance(stream, gzip.GzipFile) else 1
    if header.bytes_of_voxels > place.stat().st_size * factor:  # a damaged header can promise terabytes
        size = header.bytes_of_voxels
        msg = f"{path.name}: expected {size} bytes of voxels, got fewer; the file is truncated, get it again"
        raise VolumeReadError(msg)
    scale = pet_scale(path, header.frames, units=units, pet=pet)
    if scale is not None:
        header = header.scaled(scale.factor)
    provenance = Provenance(
        path=path,
        format="nifti",
        modality=None if scale is None else "PT",
        header=header,
        dtype=header.dtype.newbyteorder("="),
        slope=header.slope,
        intercept=header.intercept,
        frame_step=header.frame_step,
        oriented=any(header.fields[f"{name}form_code"] > 0 for name in "sq"),
        steps=() if scale is None else (f"{scale.units} from {scale.source}",),
        warnings=header.warnings if scale is None else (*header.warnings, *scale.warnings),
    )
    found = scale.units if scale is not None else units or Units.UNKNOWN
    scan = ScanHeader(header.geometry, header.frames, found, provenance)
    return FilePlanes(scan, header.dtype, lambda: _opened_at(place, offset))


def _voxels_of(header: NiftiHeader, path: Path) -> tuple[Path, int]:
    """The file that holds the voxels, and where they begin in it."""
    if header.image_offset is None:
        return path, len(header.preamble)
    image = image_of(path)
    if image is None:
        msg = f"{path.name}: expected its voxels in {path.with_suffix('.img').name} beside it, got none; get them too"
        raise VolumeReadError(msg)
    return image, header.image_offset


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
    encoding = nifti_encoding(volume.header) or Encoding(cross_format_type(volume))
    with nifti_writer(volume.header, path, encoding=encoding) as write:
        for plane in encoded_slices(volume, encoding):
            write(plane)


def nifti_encoding(scan: ScanHeader) -> Encoding | None:
    """How a scan's values are stored in a NIfTI file; None where the values themselves decide."""
    source = _own_header(scan)
    if source is not None:
        return Encoding(source.dtype.newbyteorder("="), source.slope, source.intercept)
    dtype = type_by_origin(scan.provenance)
    return None if dtype is None else Encoding(dtype)


@contextmanager
def nifti_writer(scan: ScanHeader, path: Path, *, encoding: Encoding) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Write a file plane by plane: the block calls what it gets with encoded planes, in file order.

    Args:
        scan: everything but the voxels.
        path: exactly this one.
        encoding: of the planes.

    Raises:
        OSError: the disk is full, the folder vanished.
    """
    source = _own_header(scan)
    step = scan.provenance.frame_step
    header = source or new_header(scan.geometry, dtype=encoding.dtype, frames=scan.frames, frame_step=step)
    with path.open("wb") as raw, ExitStack() as stack:
        stream: IO[bytes] = raw
        if path.name.lower().endswith(".gz"):
            # No name and no time in the gzip header: the same volume gives the same bytes.
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=raw, mtime=0)
            stream = cast("IO[bytes]", stack.enter_context(packed))
        stream.write(header.preamble)
        yield lambda planes: _put(stream, planes, header.dtype)


def _put(stream: IO[bytes], planes: NDArray[Any], dtype: np.dtype[Any]) -> None:
    stream.write(np.ascontiguousarray(planes, dtype=dtype).data)


def _own_header(scan: ScanHeader) -> NiftiHeader | None:
    """The header that the scan came with, moved to its grid; None where it wasn't NIfTI or its frames changed."""
    source = scan.provenance.header
    return source.regridded(scan.geometry) if isinstance(source, NiftiHeader) and source.frames == scan.frames else None


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


@contextmanager
def _opened_at(path: Path, offset: int) -> Iterator[IO[bytes]]:
    with _opened(path) as stream:
        stream.seek(offset)
        yield stream
