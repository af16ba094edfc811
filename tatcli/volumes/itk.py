"""What SimpleITK, which already speaks LPS, knows of NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import GeometryError, VolumeReadError
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.itk_fields import check_kinds, is_utf8, meta_fields, millimetres, nrrd_fields
from tatcli.volumes.quiet import quiet_stderr
from tatcli.volumes.volume import FrameStep

__all__ = ["IMAGE_IO", "ItkHeader", "read_itk_header", "read_whole", "sitk", "unreadable"]

IMAGE_IO: Final = {"nrrd": "NrrdImageIO", "metaimage": "MetaImageIO"}
"""ITK's classes for the formats."""
_VOXEL_TYPES: Final = {
    "8-bit unsigned integer": "u1", "8-bit signed integer": "i1", "16-bit unsigned integer": "u2",
    "16-bit signed integer": "i2", "32-bit unsigned integer": "u4", "32-bit signed integer": "i4",
    "64-bit unsigned integer": "u8", "64-bit signed integer": "i8", "32-bit float": "f4", "64-bit float": "f8",
}  # fmt: skip
_NO_TEXT: Final = "[UNKNOWN_PRINT_CHARACTERISTICS]"
"""What SimpleITK gives for fields that it has as numbers, and can't take back."""
_TURNED: Final = {
    **dict.fromkeys(("right-anterior-superior", "ras", "rast"), (-1, -1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las", "last"), (1, -1, 1, 1)),
}
"""NRRD's spaces (without "-time") -> the signs that turn their vectors to LPS."""
_ANYWHERE: Final = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
"""NRRD's spaces that say nothing of the patient."""
_META_KEPT: Final = ("Comment", "Name", "ID", "ParentID", "Modality")
"""MetaImage's fields about the image as a whole that ITK doesn't pass on."""


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
        slope, intercept: of MetaImage's ElementToIntensityFunction, which ITK reads over: value = stored * slope +
            intercept.
        lines: of the file's header that ITK doesn't pass on, as they are written again.
        oriented: whether its space is the patient's.
        warnings: what ITK assumed without a word.
    """

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]
    metadata: dict[str, str]
    dtype: np.dtype[Any]
    geometry: Geometry
    frames: int
    listed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    lines: tuple[str, ...] = ()
    oriented: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def frame_step(self) -> FrameStep | None:
        """From frame to frame, in a unit that neither format names; None where the frames are no axis of their own."""
        return FrameStep(self.spacing[3]) if len(self.spacing) == 4 and self.frames > 1 else None


def read_whole(path: Path, *, kind: str) -> tuple[ItkHeader, NDArray[Any]]:
    """Read an NRRD or MetaImage file through ITK: any encoding, at the price of several copies.

    Args:
        path: the file; for .mhd its .raw must lie where the header says.
        kind: ``nrrd`` or ``metaimage``.

    Returns:
        The header, and the stored numbers, ([frames,] slices, rows, columns).

    Raises:
        VolumeReadError: not that format, truncated, or a voxel type that tat doesn't restore.
        GeometryError: more than four axes.
    """
    reader = _reader(path, kind)
    header = _with_own_text(_header(reader, path), path, kind)
    with quiet_stderr():
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise unreadable(path, _reason(error)) from error
    shape = header.geometry.shape if header.frames == 1 else (header.frames, *header.geometry.shape)
    numbers = sitk().GetArrayFromImage(image)
    stored: NDArray[Any] = np.ascontiguousarray(np.moveaxis(numbers, -1, 0) if header.listed else numbers)
    return header, stored.reshape(shape)


def read_itk_header(path: Path, *, kind: str) -> ItkHeader:
    """Read everything but the voxels.

    Raises:
        VolumeReadError: not that format, or a voxel type that tat doesn't restore.
        GeometryError: more than four axes.
    """
    return _with_own_text(_header(_reader(path, kind), path), path, kind)


def sitk() -> Any:
    """SimpleITK, which has no types and takes a third of a second to import."""
    return import_module("SimpleITK")


def _reader(path: Path, kind: str) -> Any:
    reader = sitk().ImageFileReader()
    reader.SetImageIO(IMAGE_IO[kind])
    reader.SetFileName(str(path))
    with quiet_stderr():
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            check_kinds(path)
            raise unreadable(path, _reason(error)) from error
    return reader


def _header(reader: Any, path: Path) -> ItkHeader:
    metadata = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys() if is_utf8(key)}
    metadata = {key: value for key, value in metadata.items() if _can_be_written(key, value)}
    components = reader.GetNumberOfComponents()
    name = sitk().GetPixelIDValueAsString(reader.GetPixelID())
    is_list = metadata.get("NRRD_kinds[pixel]") == "list"
    listed = is_list and components > 1
    dtype = _VOXEL_TYPES.get(name.removeprefix("vector of ") if is_list else name)
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
    space = metadata.get("NRRD_space", "")
    places = np.array(_turned(space if space.endswith("-time") else ""))[:axes]  # ITK turns the spaces without time
    if (places < 0).any():
        metadata["NRRD_space"] = "left-posterior-superior-time"
    signs = np.where(np.array(reader.GetSpacing()) < 0, -1.0, 1.0)  # ITK reads a negative spacing as a turned axis
    spacing = tuple(float(step) for step in reader.GetSpacing() * signs)
    turned = places[:, np.newaxis] * np.reshape(reader.GetDirection(), (axes, axes)) * signs
    direction = tuple(float(part) for part in turned.ravel())
    origin = tuple(float(part) for part in reader.GetOrigin() * places)
    affine = _affine(origin, spacing, direction, path)
    columns, rows, slices, frames = (*size, 1, 1)[:4]
    return ItkHeader(
        origin=origin,
        spacing=spacing,
        direction=direction,
        metadata=metadata,
        dtype=np.dtype(dtype),
        geometry=Geometry(affine=affine, shape=(slices, rows, columns)),
        frames=components if listed else frames,
        listed=listed,
    )


def _can_be_written(key: str, value: str) -> bool:
    """Whether ITK writes a field as it was: no note of its own, no number, no unit of an axis with a direction."""
    return not key.startswith(("ITK_", "NRRD_units[")) and value.strip() != _NO_TEXT


def _with_own_text(header: ItkHeader, path: Path, kind: str) -> ItkHeader:
    """The header with what the file says and ITK doesn't tell, in mm."""
    fields, _ = nrrd_fields(path) if kind == "nrrd" else meta_fields(path)
    unit = millimetres(fields, path)
    header = header if unit == 1.0 else _scaled(header, unit)
    nowhere = kind == "nrrd" and not _space(fields) and len(header.spacing) > 2  # (a single slice lies nowhere anyway)
    header = replace(header, oriented=not nowhere and _space(fields) not in _ANYWHERE)
    header = replace(header, warnings=tuple(_assumptions(fields, header)))
    if kind == "nrrd":
        return replace(header, lines=_nrrd_lines(fields, header, unit))
    names = ("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset")
    slope, intercept = (_number(fields.get(name, "")) for name in names)
    slope = 1.0 if slope is None else slope
    intercept = 0.0 if intercept is None else intercept
    if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
        got = " and ".join(fields.get(name, "none") for name in names)
        msg = f"{path.name}: expected numbers, the slope other than 0, as {names[0]} and {names[1]}, got {got}"
        raise VolumeReadError(msg + "; repair the header")
    lines = tuple(f"{name} = {fields[name]}" for name in _META_KEPT if fields.get(name))
    return replace(header, slope=slope, intercept=intercept, lines=lines)


def _assumptions(fields: dict[str, str], header: ItkHeader) -> Iterator[str]:
    """What the header leaves open, and ITK doesn't."""
    names = ("space directions", "spacings", "ElementSpacing", "ElementSize")
    steps = next((fields[name].lower() for name in names if name in fields), "nan")
    unknown = len(re.findall(r"\([^)]*\bnan\b[^)]*\)|\bnan\b|\bnone\b", steps))  # a vector of an axis counts once
    others = int(fields.get("dimension", "0")) - min(3, len(header.spacing))  # axes of frames have none
    if unknown > max(0, others) or steps == "nan":
        yield "no spacing of some axes in the header: 1 mm is assumed"
    if not header.oriented:
        yield f"the header's space {_space(fields) or '(none)'} isn't the patient's: left-posterior-superior is assumed"


def _space(fields: dict[str, str]) -> str:
    return fields.get("space", "").lower().removesuffix("-time")


def _scaled(header: ItkHeader, unit: float) -> ItkHeader:
    """The header with its lengths times a unit."""
    factors = [unit] * 3 + [1.0]
    affine = header.geometry.affine.copy()
    affine[:3] *= unit
    if len(header.spacing) == 2:  # 1 mm thick, whatever the unit
        affine[:3, 2] /= unit
    return replace(
        header,
        origin=tuple(part * factor for part, factor in zip(header.origin, factors, strict=False)),
        spacing=tuple(part * factor for part, factor in zip(header.spacing, factors, strict=False)),
        geometry=replace(header.geometry, affine=affine),
    )


def _nrrd_lines(fields: dict[str, str], header: ItkHeader, unit: float) -> tuple[str, ...]:
    """Fields that ITK reads as numbers and SimpleITK can't give back, for a file in LPS and mm, as ITK writes it."""
    own = int(fields["dimension"]) == len(header.spacing)  # a list's axis changes places, or goes
    names = ("sample units", "thicknesses") if own else ("sample units",)
    kept = {name: fields[name] for name in names if name in fields}
    if unit != 1.0 and "thicknesses" in kept:
        kept["thicknesses"] = " ".join(f"{float(word) * unit:.9g}" for word in kept["thicknesses"].split())
    if vectors := re.findall(r"\(([^()]*)\)", fields.get("measurement frame", "")):
        turned = _turned(fields.get("space", ""))
        rows = [
            [float(part) * sign + 0.0 for part, sign in zip(row.split(","), turned, strict=False)] for row in vectors
        ]
        kept["measurement frame"] = " ".join(f"({','.join(map(str, row))})" for row in rows)
    return tuple(f"{name}: {value}" for name, value in kept.items())


def _turned(space: str) -> tuple[int, ...]:
    """The signs that turn an NRRD space's vectors, up to four numbers, to LPS."""
    return _TURNED.get(space.lower().removesuffix("-time"), (1, 1, 1, 1))


def _number(text: str) -> float | None:
    """None where nothing is said; NaN for what is no number."""
    try:
        return float(text) if text else None
    except ValueError:
        return math.nan


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
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and lengths.all() and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3):
        msg = f"{path.name}: expected an invertible affine, got a singular one; repair the header's spacing first"
        raise GeometryError(msg)
    return affine


def unreadable(path: Path, reason: str) -> VolumeReadError:
    """The error of a file that is damaged or cut off."""
    msg = f"{path.name}: expected a complete image, got one that doesn't read ({reason}); get the file again"
    return VolumeReadError(msg)


def _reason(error: RuntimeError) -> str:
    """The last telling line of ITK's report."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # MetaIO follows every failure with the C library's errno, which says nothing about it.
    telling = [line for line in lines if not line.startswith("Reason:")]
    # what speaks, with its place in memory, isn't telling, and another one in each run
    return (
        re.sub(r"\w+\(0x[0-9a-f]+\): ", "", telling[-1].removeprefix("ITK ERROR: ")) if telling else "no reason given"
    )
