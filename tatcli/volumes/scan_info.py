"""What a scan is, from its headers: the facts behind ``tat info``."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tatcli.errors import TatError
from tatcli.intensity import Units
from tatcli.tasks import TASKS, Task, find_units
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.reading import kind_of, read_volume

if TYPE_CHECKING:
    from tatcli.volumes.dicom import DicomScan
    from tatcli.volumes.dicom_series import SeriesInfo
    from tatcli.volumes.pet_tags import PetTags

__all__ = ["ScanInfo", "TaskFit", "describe"]


@dataclass(frozen=True)
class TaskFit:
    """Whether a task takes a scan.

    Attributes:
        task: its name.
        fits: True, False, or None where the file doesn't say enough to exclude it.
        reason: why, one line.
    """

    task: str
    fits: bool | None
    reason: str


@dataclass(frozen=True)
class ScanInfo:
    """A scan in words and numbers; every field can go to JSON as it is.

    Attributes:
        path: file or folder.
        format: ``nifti``, ``nrrd``, ``metaimage``, ``dicom``, ``npy`` or ``tensor``.
        modality: DICOM modality, None where the format has none.
        units: of the values as tat reads them.
        units_from: how PET's are known, '' elsewhere.
        shape: (slices, rows, columns); None, as all that follows, for a folder with several series and none chosen.
        frames: time points or echoes.
        frame_dimension: what tells the frames apart, '' where there is one or it isn't known.
        spacing: mm along the array's axes.
        orientation: where each array axis points, such as 'SPL'.
        affine: rows of the LPS matrix, (column, row, slice, 1) -> mm.
        sheared: a tilted gantry.
        dtype: voxel type in the file.
        slope, intercept: rescale, None where it differs between slices.
        value_range: least and greatest finite value, None where not asked for or nothing is finite.
        nonfinite: number of NaN and infinite voxels, None where not asked for.
        series: of a DICOM folder.
        warnings: what was odd.
        tasks: which tasks take the scan, and why not.
    """

    path: str
    format: str
    modality: str | None = None
    units: str = Units.UNKNOWN.value
    units_from: str = ""
    shape: tuple[int, int, int] | None = None
    frames: int | None = None
    frame_dimension: str = ""
    spacing: tuple[float, float, float] | None = None
    orientation: str | None = None
    affine: tuple[tuple[float, ...], ...] | None = None
    sheared: bool = False
    dtype: str | None = None
    slope: float | None = None
    intercept: float | None = None
    value_range: tuple[float, float] | None = None
    nonfinite: int | None = None
    series: tuple[SeriesInfo, ...] = ()
    warnings: tuple[str, ...] = ()
    tasks: tuple[TaskFit, ...] = ()


def describe(
    path: str | os.PathLike[str],
    *,
    series: str | None = None,
    units: Units | str | None = None,
    pet: PetTags | None = None,
    values: bool = False,
    uneven: bool = False,
) -> ScanInfo:
    """Describe a scan from its headers.

    Args:
        path: a file or a DICOM folder.
        series: which series of a DICOM folder. A folder with several and none chosen isn't an error here: they are
            listed, each with what would keep it from being read.
        units: the caller's word on the units.
        pet: the caller's word on what SUV needs.
        values: whether to read the voxels for their range as well.
        uneven: take DICOM slices at uneven distances, with a warning; the grid has their mean distance then.

    Raises:
        VolumeReadError, GeometryError, UnitsError, UsageError: as :func:`tatcli.volumes.read_volume`.
    """
    source = Path(path)
    units = None if units is None else find_units(units)
    kind = kind_of(source, series=series)
    if kind == "dicom":
        info = _describe_dicom(source, series, units=units, pet=pet, uneven=uneven)
    elif kind == "nifti":
        info = _describe_nifti(source, units, pet)
    elif kind in ("nrrd", "metaimage"):
        info = _describe_itk(source, kind, units)
    else:
        info = _describe_array(source, units)
    if values and info.shape is not None:
        array = read_volume(source, series=series, units=units, pet=pet, uneven=uneven).array
        finite = np.isfinite(array)
        count = int(np.count_nonzero(finite))
        bounds = None
        if count:
            lower = float(np.min(array, where=finite, initial=np.inf))
            bounds = (lower, float(np.max(array, where=finite, initial=-np.inf)))
        info = replace(info, value_range=bounds, nonfinite=array.size - count)
    if info.shape is None:
        return info
    return replace(info, tasks=tuple(_fit(task, info) for task in TASKS.values()))


def _fit(task: Task, info: ScanInfo) -> TaskFit:
    if info.modality is not None and info.modality != task.modality:
        return TaskFit(task.name, fits=False, reason=f"takes {task.modality}, the scan is {info.modality}")
    if info.units == task.units:
        return TaskFit(task.name, fits=True, reason=f"{task.summary}; units {task.units}")
    if info.units != Units.UNKNOWN:
        return TaskFit(task.name, fits=False, reason=f"needs {task.units}, the scan is in {info.units}")
    if info.modality is None:
        reason = f"possible: the file names neither modality nor units; its values must be {task.units}"
        return TaskFit(task.name, fits=None, reason=reason)
    return TaskFit(task.name, fits=None, reason=f"possible, if its values are {task.units}: the header doesn't say so")


def _with_grid(info: ScanInfo, geometry: Geometry, frames: int) -> ScanInfo:
    return replace(
        info,
        shape=geometry.shape,
        frames=frames,
        spacing=geometry.spacing,
        orientation=geometry.orientation,
        affine=tuple(tuple(float(value) for value in row) for row in geometry.affine),
        sheared=geometry.is_sheared,
    )


def _describe_nifti(path: Path, units: Units | None, pet: PetTags | None) -> ScanInfo:
    from tatcli.volumes.bids_pet import pet_scale
    from tatcli.volumes.nifti import read_nifti_header

    header = read_nifti_header(path)
    scale = pet_scale(path, header.frames, units=units, pet=pet)
    if scale is not None:
        header = header.scaled(scale.factor)
    info = ScanInfo(
        path=str(path),
        format="nifti",
        modality=None if scale is None else "PT",
        units=(units or Units.UNKNOWN if scale is None else scale.units).value,
        units_from="" if scale is None else scale.source,
        dtype=header.dtype.name,
        slope=header.slope,
        intercept=header.intercept,
        warnings=header.warnings if scale is None else (*header.warnings, *scale.warnings),
    )
    return _with_grid(info, header.geometry, header.frames)


def _describe_itk(path: Path, kind: str, units: Units | None) -> ScanInfo:
    from tatcli.volumes.itk import read_itk_header

    header = read_itk_header(path, kind=kind)
    info = ScanInfo(
        path=str(path),
        format=kind,
        units=(units or Units.UNKNOWN).value,
        dtype=header.dtype.name,
        slope=header.slope,
        intercept=header.intercept,
        warnings=header.warnings,
    )
    return _with_grid(info, header.geometry, header.frames)


def _describe_array(path: Path, units: Units | None) -> ScanInfo:
    volume = read_volume(path, units=units)
    info = ScanInfo(
        path=str(path),
        format=volume.provenance.format,
        units=volume.units.value,
        dtype=None if volume.provenance.dtype is None else volume.provenance.dtype.name,
        slope=1.0,
        intercept=0.0,
        warnings=("a bare array: 1 mm voxels are assumed",),
    )
    return _with_grid(info, volume.geometry, volume.frames)


def _describe_dicom(
    path: Path, wanted: str | None, *, units: Units | None, pet: PetTags | None, uneven: bool
) -> ScanInfo:
    from tatcli.volumes.dicom import find_scan, scan_of
    from tatcli.volumes.dicom_archives import is_collection
    from tatcli.volumes.dicom_series import choose_series, read_folder

    if not is_collection(path):
        return _dicom_info(find_scan(path, series=wanted, units=units, pet=pet, uneven=uneven))
    folder = read_folder(path)
    listed = []
    for series in folder.series:
        problem = ""
        try:
            own = pet if series.info.modality == "PT" else None
            scan_of(series, path, units=units, pet=own, uneven=uneven)
        except TatError as error:
            problem = str(error)
        listed.append(replace(series.info, problem=problem))
    if wanted is None and len(folder.scans) > 1:
        return ScanInfo(path=str(path), format="dicom", series=tuple(listed), warnings=folder.warnings)
    scan = scan_of(choose_series(folder, wanted), path, units=units, pet=pet, uneven=uneven)
    info = _dicom_info(scan)
    return replace(info, series=tuple(listed), warnings=(*folder.warnings, *info.warnings))


def _pet_units(scan: DicomScan) -> str:
    pet = scan.stack.frames[0][0].pet
    return "" if pet is None else f"{pet.units} x {scan.factor:.6g} by the DICOM header"


def _dicom_info(scan: DicomScan) -> ScanInfo:
    from tatcli.volumes.dicom import stored_type

    images = [image for frame in scan.stack.frames for image in frame]
    rescales = {(image.slope, image.intercept) for image in images}
    slope, intercept = next(iter(rescales)) if len(rescales) == 1 else (None, None)
    info = ScanInfo(
        path=str(scan.path),
        format="dicom",
        modality=scan.series.modality or None,
        units=scan.units.value,
        units_from=_pet_units(scan),
        frame_dimension=scan.stack.dimension,
        dtype=stored_type(images[0]).name,
        slope=slope,
        intercept=intercept,
        series=(scan.series,),
        warnings=scan.warnings,
    )
    return _with_grid(info, scan.stack.geometry, len(scan.stack.frames))
