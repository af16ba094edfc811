"""Read and write bare arrays (.npy), as training data come; they have no grid and no units of their own."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import GeometryError, OutputError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes.encoding import Encoding, cross_format_type, decode, encoded_slices, fits_float32
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.volume import Provenance, Volume

__all__ = ["read_npy", "volume_of_array", "write_npy"]


def read_npy(path: Path, *, units: Units | None = None) -> Volume:
    """Read a 2-D (rows, columns) or 3-D (slices, rows, columns) array; its voxels are taken as 1 mm cubes.

    Raises:
        VolumeReadError: not .npy, pickled objects, truncated, not real numbers.
        GeometryError: not 2-D or 3-D, or empty.
    """
    try:
        stored: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError, TokenError) as error:  # the last two of headers that lie
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{path.name}: expected a plain .npy array, got a file that doesn't read ({reason}); save it again"
        raise VolumeReadError(msg) from error
    return volume_of_array(path, stored, kind="npy", units=units)


def volume_of_array(path: Path, stored: NDArray[Any], *, kind: str, units: Units | None) -> Volume:
    """A bare array as a volume of 1 mm cubes.

    Raises:
        VolumeReadError: not real numbers.
        GeometryError: not 2-D (rows, columns) or 3-D (slices, rows, columns), or empty.
    """
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "biuf":
        got = getattr(stored, "dtype", type(stored).__name__)
        msg = f"{path.name}: expected an array of real numbers, got {got}; convert it first"
        raise VolumeReadError(msg)
    if stored.ndim not in (2, 3) or stored.size == 0:
        msg = f"{path.name}: expected a 2-D or 3-D array that isn't empty, got {stored.shape}; reshape it first"
        raise GeometryError(msg)
    planes = np.ascontiguousarray(stored.reshape(-1, *stored.shape[-2:]))
    if not planes.dtype.isnative:
        planes = planes.astype(planes.dtype.newbyteorder("="))
    if planes.dtype.kind == "b":  # a mask: no format but .npy holds it as such, and what is made of it is none
        planes = planes.view(np.uint8)
    slices, rows, columns = planes.shape
    provenance = Provenance(
        path=path,
        format=kind,
        header=stored.ndim,
        stored=None if fits_float32(planes) else planes,
        dtype=planes.dtype,
        oriented=False,
    )
    geometry = Geometry(affine=np.eye(4), shape=(slices, rows, columns))
    return Volume(decode(planes), geometry, units or Units.UNKNOWN, provenance)


def write_npy(volume: Volume, path: Path) -> None:
    """Write the bare array to exactly this path.

    Raises:
        OutputError: the volume has a grid or frames, which a bare array would lose.
    """
    if volume.provenance.format not in ("npy", "tensor", "memory") or volume.frames > 1:
        msg = f"{path.name}: expected a format that keeps the scan's grid, got .npy; name the output .nii.gz"
        raise OutputError(msg)
    encoding = Encoding(volume.provenance.dtype or cross_format_type(volume))
    array = np.stack(list(encoded_slices(volume, encoding)))
    np.save(path, array[0] if volume.provenance.header == 2 else array, allow_pickle=False)
