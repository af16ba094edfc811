"""The one thing that flows through tat: an immutable scan with its grid, units and provenance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import GeometryError, UsageError, VolumeReadError
from tatcli.intensity import Units
from tatcli.tasks import find_units
from tatcli.volumes.geometry import Geometry

__all__ = ["BARE", "FrameStep", "Provenance", "ScanHeader", "Volume", "require_volume"]

BARE: Final = frozenset({"npy", "tensor"})
"""Formats that are arrays alone, which have no grid."""


@dataclass(frozen=True)
class FrameStep:
    """How far the frames of a dynamic scan lie apart, as its file says it.

    Attributes:
        length: positive.
        unit: NIfTI's, as nibabel names it: ``sec``, ``msec``, ``usec``, ``hz``, ``ppm``, ``rads``; ``unknown`` where
            the file doesn't say, as NRRD and MetaImage don't.
    """

    length: float
    unit: str = "unknown"

    @property
    def plain(self) -> float:
        """The number for formats without units: a time in seconds, else the length as it is."""
        return self.length * {"msec": 1e-3, "usec": 1e-6}.get(self.unit, 1.0)


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where a volume came from and what was done to it: what a writer needs to give the same file back.

    Attributes:
        path: source file or folder; None for volumes made in memory.
        format: ``nifti``, ``nrrd``, ``metaimage``, ``dicom``, ``npy``, ``tensor`` or ``memory``.
        modality: DICOM modality where the source says it (CT, PT, MR), else None.
        kind: DICOM's ImageType or FrameType in upper case, where the source says it.
        header: format-specific state that only the matching reader and writer know.
        stored: the array as stored (native dtype, same axis order as the volume's array), or None.
        dtype: the voxel type in the file, also where ``stored`` is None; None for volumes made in memory.
        slope, intercept: value = stored * slope + intercept.
        frame_step: from frame to frame, where the source says it; None: not known, or not the same for all.
        oriented: whether the source says how the patient lies; where it doesn't, readers assume it.
        padding: least and greatest values that the source's header says stand for no tissue, each pair once.
        steps: what was done since reading, in order.
        warnings: what the reader found odd but could handle, one line each.
    """

    path: Path | None = None
    format: str = "memory"
    modality: str | None = None
    kind: tuple[str, ...] = ()
    header: Any = field(default=None, repr=False)  # it names the patient
    stored: NDArray[Any] | None = field(default=None, repr=False)
    dtype: np.dtype[Any] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    frame_step: FrameStep | None = None
    oriented: bool = True
    padding: tuple[tuple[float, float], ...] = ()
    steps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def uneven(self) -> bool:
        """Whether the slices lie at uneven distances, whose places only DICOM can hold."""
        return bool(getattr(self.header, "uneven", False))


@dataclass(frozen=True, eq=False)
class ScanHeader:
    """Everything about a scan but its voxels.

    Attributes:
        geometry: grid of one frame.
        frames: number of time points or echoes; 1 for an ordinary volume.
        units: what the numbers mean.
        provenance: source and history.
    """

    geometry: Geometry
    frames: int = 1
    units: Units = Units.UNKNOWN
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def shape(self) -> tuple[int, ...]:
        """([frames,] slices, rows, columns)."""
        return self.geometry.shape if self.frames == 1 else (self.frames, *self.geometry.shape)

    @property
    def voxels(self) -> int:
        """Of all frames."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan.

    Attributes:
        array: float32, read-only, (slices, rows, columns), or (frames, slices, rows, columns) for dynamic scans;
            a 2-D image has one slice. Other types of real numbers are converted.
        geometry: grid of one frame.
        units: what the numbers mean; text such as ``HU`` becomes the units of that name.
        provenance: source and history.

    Raises:
        GeometryError: the array's shape isn't the grid's.
        UsageError: no grid, or unknown units.
        VolumeReadError: complex values.
    """

    array: NDArray[np.float32]
    geometry: Geometry
    units: Units = Units.UNKNOWN
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if not isinstance(self.geometry, Geometry):
            msg = f"volume: expected a Geometry, got {type(self.geometry).__name__}; see Geometry.from_spacing"
            raise UsageError(msg)
        array = np.asarray(self.array)
        if np.iscomplexobj(array):
            msg = f"volume: expected real values, got {array.dtype}; take their magnitude"
            raise VolumeReadError(msg)
        array = array.astype(np.float32, copy=False)
        if array.ndim not in (3, 4) or array.shape[-3:] != self.geometry.shape:
            msg = f"volume: expected ([frames,] slices, rows, columns) = {self.geometry.shape}, got {array.shape}"
            raise GeometryError(msg)
        view = array.view()
        view.setflags(write=False)
        object.__setattr__(self, "array", view)
        object.__setattr__(self, "units", find_units(self.units))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.array.setflags(write=False)  # which neither pickles nor copies keep

    def __repr__(self) -> str:
        spacing = " x ".join(f"{step:.4g}" for step in self.geometry.spacing)
        source = self.provenance.path or self.provenance.format
        return f"<Volume {self.array.shape}, {self.units}, {spacing} mm, {self.geometry.orientation}, from {source}>"

    @property
    def frames(self) -> int:
        """Number of time points or echoes; 1 for an ordinary volume."""
        return self.array.shape[0] if self.array.ndim == 4 else 1

    @property
    def header(self) -> ScanHeader:
        """Everything but the voxels."""
        return ScanHeader(self.geometry, self.frames, self.units, self.provenance)

    def iter_frames(self) -> Iterator[NDArray[np.float32]]:
        """Each frame's (slices, rows, columns) array, a view."""
        yield from self.array.reshape(-1, *self.geometry.shape)

    def with_array(self, array: NDArray[Any], *, step: str, units: Units | None = None) -> Self:
        """The same scan with other voxel values; ``step`` is added to its history.

        Raises:
            GeometryError: the shape differs from this volume's.
        """
        if array.shape != self.array.shape:
            msg = f"volume: expected an array of {self.array.shape}, got {array.shape}"
            raise GeometryError(msg)
        provenance = replace(self.provenance, steps=(*self.provenance.steps, step))
        return replace(self, array=array, units=units or self.units, provenance=provenance)


def require_volume(found: object) -> None:
    """Refuse what is no volume: a path, a bare array.

    Raises:
        UsageError: it isn't one; the message says how to make one.
    """
    if not isinstance(found, Volume):
        msg = f"expected a Volume, got {type(found).__name__}; read_volume(path) and Volume(array, geometry) make one"
        raise UsageError(msg)
