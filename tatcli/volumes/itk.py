"""Read and write NRRD (.nrrd) and MetaImage (.mha, .mhd) with SimpleITK, which already speaks LPS."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import GeometryError, OutputError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes.encoding import cross_format_type, decode, encoded_slices, fits_float32
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.quiet import quiet_stderr
from tatcli.volumes.volume import Provenance, Volume

__all__ = ["ItkHeader", "data_file_of", "read_itk", "read_itk_header", "write_itk"]

_READERS: Final = {"nrrd": "NrrdImageIO", "metaimage": "MetaImageIO"}
_VOXEL_TYPES: Final = {
    "8-bit unsigned integer": "u1", "8-bit signed integer": "i1", "16-bit unsigned integer": "u2",
    "16-bit signed integer": "i2", "32-bit unsigned integer": "u4", "32-bit signed integer": "i4",
    "64-bit unsigned integer": "u8", "64-bit signed integer": "i8", "32-bit float": "f4", "64-bit float": "f8",
}  # fmt: skip
_COMPRESSION_LEVEL: Final = 1
"""Noise hardly compresses: more effort takes several times as long and saves a few per cent."""


@dataclass(frozen=True, eq=False)
class ItkHeader:
    """What ITK knows of an image beyond its voxels.

    Attributes:
        origin, spacing, direction: as ITK has them, of all 2 to 4 axes (columns, rows, slices, frames).
        metadata: key -> value of the file's free fields.
        dtype: voxel type.
        geometry: the grid of one frame.
        frames: length of the fourth axis.
        listed: whether the frames are an NRRD axis of kind "list", as 3D Slicer and dcm2niix write them; ITK takes
            these for the components of a voxel.
    """

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]
    metadata: dict[str, str]
    dtype: np.dtype[Any]
    geometry: Geometry
    frames: int
    listed: bool = False


def read_itk(path: Path, *, kind: str, units: Units | None = None) -> Volume:
    """Read an NRRD or MetaImage file.

    Args:
        path: the file; for .mhd its .raw must lie where the header says.
        kind: ``nrrd`` or ``metaimage``.
        units: the caller's word on the units; the formats have none.

    Raises:
        VolumeReadError: not that format, truncated, or a voxel type that tat doesn't restore.
        GeometryError: more than four axes.
    """
    reader = _reader(path, kind)
    header = _header(reader, path)
    with quiet_stderr():
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise _unreadable(path, error) from error
    shape = header.geometry.shape if header.frames == 1 else (header.frames, *header.geometry.shape)
    numbers = _sitk().GetArrayFromImage(image)
    stored: NDArray[Any] = np.ascontiguousarray(np.moveaxis(numbers, -1, 0) if header.listed else numbers)
    stored = stored.reshape(shape)
    provenance = Provenance(
        path=path,
        format=kind,
        header=header,
        stored=None if fits_float32(stored) else stored,
        dtype=stored.dtype,
    )
    return Volume(decode(stored), header.geometry, units or Units.UNKNOWN, provenance)


def read_itk_header(path: Path, *, kind: str) -> ItkHeader:
    """Read everything but the voxels.

    Raises:
        VolumeReadError: not that format, or a voxel type that tat doesn't restore.
        GeometryError: more than four axes.
    """
    return _header(_reader(path, kind), path)


def write_itk(volume: Volume, path: Path, *, kind: str) -> None:
    """Write a volume to exactly this path (and, for .mhd, to the .raw of the same stem beside it).

    Direction cosines are written as they are: both formats hold sheared grids, and ITK gives them back exactly.

    Raises:
        OutputError: NaN in a volume of integer type, a full disk.
    """
    provenance, geometry = volume.provenance, volume.geometry
    same_format = provenance.format == kind and isinstance(provenance.header, ItkHeader)
    dtype = provenance.dtype if same_format and provenance.dtype is not None else cross_format_type(volume)
    header = provenance.header if same_format and _same_grid(volume, provenance.header) else None
    listed = header is not None and header.listed
    flat = header is not None and len(header.origin) == 2
    image = _sitk().GetImageFromArray(_encoded(volume, dtype, flat=flat, listed=listed), isVector=listed)
    if header is not None and len(header.origin) == image.GetDimension():
        image.SetOrigin(header.origin)
        image.SetSpacing(header.spacing)
        image.SetDirection(header.direction)
    else:
        _place(image, geometry)
    if same_format:
        for key, value in provenance.header.metadata.items():
            image.SetMetaData(key, value)
    writer = _sitk().ImageFileWriter()
    writer.SetImageIO(_READERS[kind])
    writer.SetFileName(str(path))
    writer.SetUseCompression(not path.name.lower().endswith(".mhd"))  # a .raw is what its name says
    writer.SetCompressionLevel(_COMPRESSION_LEVEL)
    try:
        writer.Execute(image)
    except RuntimeError as error:
        msg = f"{path.parent}: expected to write {kind}, got {_reason(error)}; check space and permissions"
        raise OutputError(msg) from error
    if listed:
        _name_kind(path)


def _name_kind(path: Path) -> None:
    """Call the axis of the frames a list again: ITK writes "vector" for whatever it reads as components."""
    with path.open("r+b") as stream:
        start = stream.read(4096)
        offset = start.find(b"kinds: vector ")
        if offset >= 0:
            stream.seek(offset)
            stream.write(b"kinds: list   ")  # fields are separated by any number of blanks


def _encoded(volume: Volume, dtype: np.dtype[Any], *, flat: bool, listed: bool) -> NDArray[Any]:
    """The numbers to store in ITK's order of axes, in an array that nothing else holds on to."""
    array = np.empty(volume.array.shape, dtype=dtype)
    for target, plane in zip(array.reshape(-1, *array.shape[-2:]), encoded_slices(volume, dtype), strict=True):
        target[...] = plane
    if flat:
        array = array[..., 0, :, :] if listed else array[0]
    return np.ascontiguousarray(np.moveaxis(array, 0, -1)) if listed else array


def data_file_of(header: Path) -> Path | None:
    """The file that holds a .mhd header's voxels, or None where the header doesn't say or lists several."""
    try:
        lines = header.read_text(encoding="latin-1").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() == "ElementDataFile" and value.split()[:1] not in ([], ["LOCAL"], ["LIST"]):
            return header.parent / value.strip()
    return None


def _sitk() -> Any:
    """SimpleITK, which has no types and takes a third of a second to import."""
    return import_module("SimpleITK")


def _reader(path: Path, kind: str) -> Any:
    reader = _sitk().ImageFileReader()
    reader.SetImageIO(_READERS[kind])
    reader.SetFileName(str(path))
    with quiet_stderr():
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise _unreadable(path, error) from error
    return reader


def _header(reader: Any, path: Path) -> ItkHeader:
    metadata = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys() if not key.startswith("ITK_")}
    components = reader.GetNumberOfComponents()
    listed = components > 1 and metadata.get("NRRD_kinds[pixel]") == "list"
    name = _sitk().GetPixelIDValueAsString(reader.GetPixelID())
    dtype = _VOXEL_TYPES.get(name.removeprefix("vector of ") if listed else name)
    if dtype is None:
        msg = f"{path.name}: expected one real number per voxel, got {name} with {components} components; split them"
        raise VolumeReadError(msg)
    size, axes = reader.GetSize(), reader.GetDimension()
    if axes not in (2, 3, 4) or (listed and axes == 4):
        msg = f"{path.name}: expected 2-D, 3-D or 4-D, got {axes}-D {list(size)}; extract a part first"
        raise GeometryError(msg)
    if min(size) < 1:
        msg = f"{path.name}: expected axes of at least one voxel, got {list(size)}; there is nothing to restore"
        raise GeometryError(msg)
    affine = _affine(reader.GetOrigin(), reader.GetSpacing(), reader.GetDirection(), path)
    columns, rows, slices, frames = (*size, 1, 1)[:4]
    return ItkHeader(
        origin=tuple(reader.GetOrigin()),
        spacing=tuple(reader.GetSpacing()),
        direction=tuple(reader.GetDirection()),
        metadata=metadata,
        dtype=np.dtype(dtype),
        geometry=Geometry(affine=affine, shape=(slices, rows, columns)),
        frames=components if listed else frames,
        listed=listed,
    )


def _affine(
    origin: tuple[float, ...], spacing: tuple[float, ...], direction: tuple[float, ...], path: Path
) -> NDArray[np.float64]:
    """The 4x4 affine of the first three axes; a 2-D image lies in the plane z = 0 and is 1 mm thick."""
    axes = len(origin)
    cosines = np.array(direction, dtype=np.float64).reshape(axes, axes)
    if axes == 4 and (cosines[:3, 3].any() or cosines[3, :3].any()):
        msg = f"{path.name}: expected a fourth axis apart from space, got a rotation with it; extract the frames first"
        raise GeometryError(msg)
    space = min(axes, 3)
    affine = np.eye(4)
    affine[:space, :space] = cosines[:space, :space] * np.array(spacing)[:space]
    affine[:space, 3] = origin[:space]
    return affine


def _place(image: Any, geometry: Geometry) -> None:
    slice_step, row_step, column_step = geometry.spacing
    direction, spacing, origin = geometry.direction, [column_step, row_step, slice_step], list(geometry.origin)
    if image.GetDimension() == 4:
        whole = np.eye(4)
        whole[:3, :3] = direction
        direction, spacing, origin = whole, [*spacing, 1.0], [*origin, 0.0]
    image.SetDirection([float(value) for value in direction.ravel()])
    image.SetSpacing([float(value) for value in spacing])
    image.SetOrigin([float(value) for value in origin])


def _same_grid(volume: Volume, header: ItkHeader) -> bool:
    ours, theirs = volume.geometry, header.geometry
    return volume.frames == header.frames and ours.shape == theirs.shape and bool((ours.affine == theirs.affine).all())


def _unreadable(path: Path, error: RuntimeError) -> VolumeReadError:
    msg = f"{path.name}: expected a complete image, got one that doesn't read ({_reason(error)}); get the file again"
    return VolumeReadError(msg)


def _reason(error: RuntimeError) -> str:
    """The last telling line of ITK's report."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # MetaIO follows every failure with the C library's errno, which says nothing about it.
    telling = [line for line in lines if not line.startswith("Reason:")]
    return telling[-1].removeprefix("ITK ERROR: ") if telling else "no reason given"
