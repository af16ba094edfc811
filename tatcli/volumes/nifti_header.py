"""NIfTI headers: what tat reads from one, and how one is made or changed for writing.

NIfTI goes through nibabel and not SimpleITK, which the other formats use: ITK merges sform and qform into one matrix
and drops their codes, intent, descrip, xyzt_units, cal_min/cal_max, slice timing, scl_slope and every extension.
The header's own bytes travel along, so that an unchanged grid is written back exactly as it came.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import GeometryError, VolumeReadError
from tatcli.volumes.geometry import RAS_FROM_LPS, Geometry
from tatcli.volumes.volume import FrameStep

__all__ = ["NiftiHeader", "new_header", "read_header"]

_VOXEL_TYPES: Final = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_REFUSED_TYPES: Final = {
    1: "1-bit", 32: "complex64", 128: "RGB", 1536: "float128", 1792: "complex128", 2048: "complex256", 2304: "RGBA",
}  # fmt: skip
_MILLIMETRES: Final = {1: 1000.0, 2: 1.0, 3: 0.001}
"""xyzt_units' spatial codes (metre, millimetre, micron); 0, unknown, is taken as mm like everywhere in the field."""

_FRAME_UNITS: Final = {8: "sec", 16: "msec", 24: "usec", 32: "hz", 40: "ppm", 48: "rads"}
"""xyzt_units' codes of the fourth axis."""


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """A NIfTI header as it lies in the file, with what it says about the voxels.

    Attributes:
        preamble: every byte before the voxels: header, extension flag, extensions, padding. That of a .hdr/.img pair is
            what a single file has.
        fields: the header's fields, through nibabel.
        dtype: the voxels' type with the file's byte order.
        slope, intercept: scl_slope and scl_inter as they act (1 and 0 where the header asks for no scaling), times the
            factor that makes SUV of a PET's values.
        geometry: the grid of one frame.
        frames: length of the fourth axis.
        warnings: what was odd.
        image_offset: of the first voxel in the .img of a pair; None: the voxels follow the preamble.
    """

    preamble: bytes
    fields: Any
    dtype: np.dtype[Any]
    slope: float
    intercept: float
    geometry: Geometry
    frames: int
    warnings: tuple[str, ...] = ()
    image_offset: int | None = None

    @property
    def bytes_of_voxels(self) -> int:
        """Size of the voxel block."""
        return math.prod(self.geometry.shape) * self.frames * self.dtype.itemsize

    @property
    def frame_step(self) -> FrameStep | None:
        """From frame to frame; None where there is one frame, or no usable step is written."""
        length = float(self.fields["pixdim"][4])
        if self.frames == 1 or not (math.isfinite(length) and length > 0):
            return None
        unit = _FRAME_UNITS.get(int(self.fields["xyzt_units"]) & 0x38, "unknown")
        return FrameStep(float(str(self.fields["pixdim"][4])), unit)  # 2.2 s, not float32's 2.2000000477

    def scaled(self, factor: float) -> NiftiHeader:
        """The same header for values in other units: what is written to it again is in the file's own."""
        return replace(self, slope=self.slope * factor, intercept=self.intercept * factor)

    def regridded(self, geometry: Geometry) -> NiftiHeader:
        """The same header for another grid of the same scan: both transforms follow, their codes stay."""
        if _same_grid(geometry, self.geometry):
            return self
        fields = self.fields.copy()
        fields["dim"][1:4] = geometry.shape[::-1]
        fields["dim"][0] = max(int(fields["dim"][0]), 3)
        fields["pixdim"][1:4] = np.array(geometry.spacing[::-1]) / _millimetres(fields)
        # A change of grid is a change of index, so it acts on the index side of both transforms.
        index_change = np.linalg.inv(_header_affine(self.geometry, fields)) @ _header_affine(geometry, fields)
        for name in ("qform", "sform"):
            code = int(fields[f"{name}_code"])
            before = _usable(self.fields, name, self.geometry.shape) if code > 0 else None
            if before is not None:
                getattr(fields, f"set_{name}")(before @ index_change, code=1)
            fields[f"{name}_code"] = 0 if before is None else code  # any code: nibabel knows six
        if not (fields["sform_code"] or fields["qform_code"]):
            fields.set_sform(_header_affine(geometry, fields), code=1)
        return _with_fields(self, fields, geometry)


def read_header(stream: IO[bytes], path: Path) -> NiftiHeader:
    """Read a NIfTI-1 or NIfTI-2 header; the stream is left at the first voxel.

    Raises:
        VolumeReadError: not NIfTI, truncated, or a voxel type that tat doesn't restore.
        GeometryError: zero-sized axes, more than four axes, no usable affine.
    """
    preamble, fields, image_offset = _read_fields(stream, path)
    shape, frames = _read_shape(fields, path)
    dtype = _read_dtype(fields, path)
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        slope, intercept = 1.0, 0.0
    if not math.isfinite(intercept):
        msg = f"{path.name}: expected a finite scl_inter, got {intercept}; repair the header"
        raise VolumeReadError(msg)
    affine, warnings = _read_affine(fields, shape, path)
    geometry = Geometry(affine=affine, shape=shape)
    return NiftiHeader(preamble, fields, dtype, slope, intercept, geometry, frames, tuple(warnings), image_offset)


def new_header(
    geometry: Geometry, *, dtype: np.dtype[Any], frames: int, frame_step: FrameStep | None = None
) -> NiftiHeader:
    """A header for a volume that wasn't NIfTI before: NIfTI-1, mm, scanner coordinates, no scaling.

    Frames whose step isn't known are one apart, as the standard wants it positive, in no unit.
    """
    shape = geometry.shape[::-1] if frames == 1 else (*geometry.shape[::-1], frames)
    nifti1, nifti2 = _header_classes()
    fields = (nifti1 if max(shape) < 2**15 else nifti2)()
    fields.set_data_shape(shape)
    fields.set_data_dtype(dtype)
    fields.set_xyzt_units("mm", frame_step.unit if frames > 1 and frame_step is not None else "unknown")
    affine = RAS_FROM_LPS @ geometry.affine
    fields.set_qform(affine, code="scanner", strip_shears=True)
    fields.set_sform(affine, code="scanner")
    if geometry.is_sheared:
        fields["qform_code"] = 0  # a quaternion can't say it; the sform can
    fields["pixdim"][1:4] = geometry.spacing[::-1]
    if frames > 1 and frame_step is not None:
        fields["pixdim"][4] = frame_step.length
    fields["scl_slope"], fields["scl_inter"] = 1.0, 0.0
    fields["vox_offset"] = fields.single_vox_offset
    preamble = fields.binaryblock + b"\0" * (fields.single_vox_offset - len(fields.binaryblock))
    return NiftiHeader(preamble, fields, dtype, 1.0, 0.0, geometry, frames)


def _header_classes() -> tuple[Any, Any]:
    """Nibabel's classes for NIfTI-1 and NIfTI-2 headers, which have no types of their own."""
    return import_module("nibabel.nifti1").Nifti1Header, import_module("nibabel.nifti2").Nifti2Header


def _with_fields(header: NiftiHeader, fields: Any, geometry: Geometry) -> NiftiHeader:
    block = fields.binaryblock
    preamble = block + header.preamble[len(block) :]
    return NiftiHeader(preamble, fields, header.dtype, header.slope, header.intercept, geometry, header.frames)


def _same_grid(a: Geometry, b: Geometry) -> bool:
    return a.shape == b.shape and np.array_equal(a.affine, b.affine)


def _millimetres(fields: Any) -> float:
    return _MILLIMETRES.get(int(fields["xyzt_units"]) & 7, 1.0)


def _header_affine(geometry: Geometry, fields: Any) -> NDArray[np.float64]:
    """The geometry's affine in NIfTI's RAS and the header's own length unit."""
    affine: NDArray[np.float64] = RAS_FROM_LPS @ geometry.affine
    affine[:3] /= _millimetres(fields)
    return affine


def _read_fields(stream: IO[bytes], path: Path) -> tuple[bytes, Any, int | None]:
    """(every byte before the voxels, fields, where the voxels begin in the .img of a pair)."""
    nifti1, nifti2 = _header_classes()
    start = stream.read(4)
    sizes = {int.from_bytes(start, order) for order in ("little", "big")} if len(start) == 4 else set()
    kind = nifti1 if 348 in sizes else nifti2 if 540 in sizes else None
    if kind is None:
        msg = f"{path.name}: expected a NIfTI header, got something else; is the file named by its true format?"
        raise VolumeReadError(msg)
    block = start + stream.read(kind.template_dtype.itemsize - 4)
    if len(block) < kind.template_dtype.itemsize:
        msg = f"{path.name}: expected a NIfTI header, the file ends inside it; it is truncated, get it again"
        raise VolumeReadError(msg)
    fields = kind(block, check=False)
    fields["pixdim"][0] = -1 if fields["pixdim"][0] < 0 else 1  # the standard's qfac: 0 is written for 1
    fields["pixdim"][1:4] = np.abs(fields["pixdim"][1:4])  # lengths, as nibabel's own reader takes them
    magic = bytes(fields["magic"].tobytes())[:3]
    if magic in (b"ni1", b"ni2"):
        return _as_single(block, fields, stream, path)
    if magic not in (b"n+1", b"n+2"):
        msg = f"{path.name}: expected NIfTI, got an Analyze 7.5 header, which doesn't say how the patient lies, or a"
        raise VolumeReadError(msg + " damaged one; convert it to .nii with the orientation that you know of it")
    offset = _as_offset(fields["vox_offset"], path) or fields.single_vox_offset
    if offset < fields.single_vox_offset:
        msg = f"{path.name}: expected vox_offset {fields.single_vox_offset} or more, got {offset}; repair the header"
        raise VolumeReadError(msg)
    rest = stream.read(offset - len(block))
    if len(block) + len(rest) < offset:
        msg = f"{path.name}: expected voxels at byte {offset}, the file ends before; it is truncated, get it again"
        raise VolumeReadError(msg)
    return block + rest, fields, None


def _as_single(block: bytes, fields: Any, stream: IO[bytes], path: Path) -> tuple[bytes, Any, int]:
    """The header of a .hdr/.img pair as that of a single file, with its extensions."""
    if path.suffix.lower() != ".hdr":
        msg = f"{path.name}: expected single-file NIfTI, got the header of a .hdr/.img pair; name it .hdr"
        raise VolumeReadError(msg)
    image_offset = _as_offset(fields["vox_offset"], path)
    rest = stream.read(2**24)
    rest = rest if rest[:1] > b"\0" else bytes(4)  # the flag of extensions
    preamble = block + rest + bytes(-len(block + rest) % 16)
    fields["magic"] = b"n+1" if len(block) == 348 else b"n+2\0\r\n\x1a\n"
    fields["vox_offset"] = len(preamble)
    return fields.binaryblock + preamble[len(block) :], fields, image_offset


def _as_offset(value: Any, path: Path) -> int:
    number = float(value)
    if not 0 <= number < 2**30:  # extensions of a gigabyte don't exist: the header is damaged
        msg = f"{path.name}: expected a byte offset as vox_offset, got {number}; the header is damaged"
        raise VolumeReadError(msg)
    return int(number)


def _read_shape(fields: Any, path: Path) -> tuple[tuple[int, int, int], int]:
    axes = int(fields["dim"][0])
    if not 1 <= axes <= 7:
        msg = f"{path.name}: expected 2 to 4 axes, got dim[0] = {axes}; the header is damaged"
        raise VolumeReadError(msg)
    dims = [int(n) for n in fields["dim"][1 : axes + 1]]
    if min(dims) < 1:
        msg = f"{path.name}: expected axes of at least one voxel, got {dims}; there is nothing to restore"
        raise GeometryError(msg)
    if any(n > 1 for n in dims[4:]):
        msg = f"{path.name}: expected 2-D, 3-D or 4-D, got {axes}-D {dims}; extract one component first"
        raise GeometryError(msg)
    columns, rows, slices, frames = (*dims, 1, 1, 1)[:4]
    return (slices, rows, columns), frames


def _read_dtype(fields: Any, path: Path) -> np.dtype[Any]:
    code = int(fields["datatype"])
    if code not in _VOXEL_TYPES:
        got = _REFUSED_TYPES.get(code, f"datatype code {code}")
        msg = f"{path.name}: expected one real number per voxel, got {got}; convert it to greyscale integers or floats"
        raise VolumeReadError(msg)
    return np.dtype(_VOXEL_TYPES[code]).newbyteorder(fields.endianness)


def _read_affine(fields: Any, shape: tuple[int, int, int], path: Path) -> tuple[NDArray[np.float64], list[str]]:
    """The LPS affine in mm: the sform if its code is set and it is usable, else the qform, else from pixdim alone."""
    warnings: list[str] = []
    sform, qform = int(fields["sform_code"]) > 0, int(fields["qform_code"]) > 0
    candidates = ["sform"] * sform + ["qform"] * qform
    if not candidates:
        candidates.append("pixdim")
        warnings.append("neither sform nor qform is set: the orientation is assumed")
    for name in candidates:
        affine = _usable(fields, name, shape)
        if affine is not None:
            affine[:3] *= _millimetres(fields)
            return RAS_FROM_LPS @ affine, warnings
        warnings.append(f"the {name} is singular and was passed over")
    names = " and ".join(candidates)
    msg = f"{path.name}: expected an invertible affine, got a singular {names}; repair the header's spacing first"
    raise GeometryError(msg)


def _usable(fields: Any, name: str, shape: tuple[int, int, int]) -> NDArray[np.float64] | None:
    """The transform of this name, completed; None where it is singular, or its quaternion is none."""
    read = {"sform": fields.get_sform, "qform": fields.get_qform, "pixdim": fields.get_base_affine}[name]
    try:
        return _completed(np.array(read(), dtype=np.float64), shape)
    except ValueError:  # nibabel: a quaternion that is none
        return None


def _completed(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64] | None:
    """The affine, with an axis of a single voxel and no spacing (2-D images) set to 1 mm; None if it is unusable."""
    matrix = affine[:3, :3]
    if not np.isfinite(affine).all():
        return None
    empty = [axis for axis in range(3) if not matrix[:, axis].any()]
    if len(empty) == 1 and shape[::-1][empty[0]] == 1:
        first, second = (matrix[:, axis] for axis in range(3) if axis != empty[0])
        normal = np.cross(first, second) * (-1.0 if empty[0] == 1 else 1.0)
        if normal.any():
            matrix[:, empty[0]] = normal / np.linalg.norm(normal)
    lengths = np.linalg.norm(matrix, axis=0)
    usable = lengths.min() > 0 and abs(np.linalg.det(matrix / np.where(lengths > 0, lengths, 1.0))) > 1e-3
    return affine if usable else None
