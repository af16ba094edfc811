"""Read DICOM: a folder with a series, or a single file, into a volume in physical units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tatcli.errors import UnitsError, UsageError, VolumeReadError
from tatcli.intensity import Units
from tatcli.volumes.dicom_archives import Unpacked, is_collection
from tatcli.volumes.dicom_files import read_dataset, tolerant
from tatcli.volumes.dicom_images import DicomImage, has_pixels, images_of
from tatcli.volumes.dicom_mosaic import tile_of
from tatcli.volumes.dicom_pixels import declared_type, read_stored
from tatcli.volumes.dicom_series import DicomFolder, DicomSeries, SeriesInfo, choose_series, read_folder, series_of
from tatcli.volumes.dicom_stack import DicomStack, stack_images
from tatcli.volumes.encoding import decode
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.pet_header import PetHeader
from tatcli.volumes.pet_tags import PetTags
from tatcli.volumes.suv import suv_factor
from tatcli.volumes.volume import Provenance, Volume

__all__ = ["DicomHeader", "DicomScan", "find_scan", "read_dicom", "scan_of", "stored_type"]


@dataclass(frozen=True)
class DicomHeader:
    """Where each slice came from: what a DICOM writer needs.

    Attributes:
        series: the series.
        frames: for every frame the images in the array's order.
        geometry: the grid as read.
        factor: physical value = (stored * slope + intercept) * factor; 1 but for SUV.
        uneven: the slices don't lie at even distances, so that only the images' own positions tell where they are.
        unpacked: keeps the files of an archive in existence.
    """

    series: SeriesInfo
    frames: tuple[tuple[DicomImage, ...], ...]
    geometry: Geometry
    factor: float = 1.0
    uneven: bool = False
    unpacked: Unpacked | None = None


@dataclass(frozen=True)
class DicomScan:
    """A series that was found, chosen and stacked, before its pixels are read.

    Attributes:
        path: folder, file or archive.
        series: the series.
        stack: its images in order, and the grid.
        units: what the values are once they are multiplied by ``factor``.
        factor: 1 but for SUV.
        warnings: everything odd so far.
        unpacked: keeps the files of an archive in existence.
    """

    path: Path
    series: SeriesInfo
    stack: DicomStack
    units: Units
    factor: float
    warnings: tuple[str, ...]
    unpacked: Unpacked | None = None


def read_dicom(
    path: Path,
    *,
    series: str | None = None,
    units: Units | None = None,
    pet: PetTags | None = None,
    uneven: bool = False,
) -> Volume:
    """Read a series from a folder, a zip archive or a DICOMDIR, or one file alone.

    Args:
        path: folder, archive or file.
        series: which series of the folder, by UID, number or description, with :PART where it has several.
        units: the caller's word on the units; ``BQML`` leaves PET as activity.
        pet: the caller's word on what SUV needs.
        uneven: take slices at uneven distances, which only DICOM can be written from.

    Raises:
        VolumeReadError, GeometryError, UnitsError, UsageError: see :func:`find_scan`; damaged pixel data.
    """
    scan = find_scan(path, series=series, units=units, pet=pet, uneven=uneven)
    stack = scan.stack
    images = [image for frame in stack.frames for image in frame]
    one_frame = stack.geometry.shape
    shape = one_frame if len(stack.frames) == 1 else (len(stack.frames), *one_frame)
    rescales = {(image.slope, image.intercept) for image in images}
    provenance = Provenance(
        path=path,
        format="dicom",
        modality=scan.series.modality or None,
        kind=images[0].kind,
        header=DicomHeader(scan.series, stack.frames, stack.geometry, scan.factor, stack.uneven, scan.unpacked),
        oriented=images[0].oriented,
        padding=_padding(images, scan.factor),
        warnings=scan.warnings,
    )
    if len(rescales) == 1 and scan.factor == 1.0:
        return _with_one_rescale(scan, images, shape, provenance)
    array = np.empty((len(images), *one_frame[1:]), dtype=np.float32)
    for index, pixels in _pixels(images):
        image = images[index]
        array[index] = decode(pixels, slope=image.slope * scan.factor, intercept=image.intercept * scan.factor)
    provenance = replace(provenance, dtype=np.dtype(np.float32))
    return Volume(array.reshape(shape), stack.geometry, scan.units, provenance)


def find_scan(
    path: Path,
    *,
    series: str | None = None,
    units: Units | None = None,
    pet: PetTags | None = None,
    uneven: bool = False,
) -> DicomScan:
    """Everything about a DICOM scan but its pixels; arguments as for :func:`read_dicom`.

    Raises:
        VolumeReadError: no images, a kind of image that isn't supported, a damaged file.
        GeometryError: the images don't form a regular stack.
        UnitsError: PET that can't be brought to SUVbw; units that contradict the caller's.
        UsageError: the series isn't chosen or doesn't exist.
    """
    folder = read_folder(path) if is_collection(path) else _single_file(path, series)
    scan = scan_of(choose_series(folder, series), path, units=units, pet=pet, uneven=uneven)
    return replace(scan, warnings=(*folder.warnings, *scan.warnings), unpacked=folder.unpacked)


def scan_of(
    series: DicomSeries,
    path: Path,
    *,
    units: Units | None = None,
    pet: PetTags | None = None,
    uneven: bool = False,
) -> DicomScan:
    """Stack a series that was chosen, and settle its units.

    Raises:
        VolumeReadError: the series holds a file that can't be used.
        GeometryError: the images don't form a regular stack.
        UnitsError: PET that can't be brought to SUVbw; units that contradict the caller's.
        UsageError: the caller's word on a PET that it isn't.
    """
    if series.problem is not None:
        raise series.problem
    name = path.name or str(path)  # the current folder has none
    stack = stack_images(series.images, name, uneven=uneven)
    found, factor, doubts = _units(series.images, units, pet, name)
    return DicomScan(path, series.info, stack, found, factor, (*series.warnings, *stack.warnings, *doubts))


def _single_file(path: Path, series: str | None) -> DicomFolder:
    dataset = read_dataset(path)
    with tolerant(path):
        is_image = has_pixels(dataset)
        got = getattr(dataset.get("SOPClassUID"), "name", None) or "an object without pixels"
    if not is_image:
        msg = f"{path.name}: expected a DICOM image, got {got}; choose an image of the series"
        raise VolumeReadError(msg)
    found = series_of(images_of(dataset, path))
    if series is not None and not any(part.info.is_named(series) for part in found):
        msg = f"{path.name}: expected a file of series {series!r}, got one of {found[0].info}; choose another file"
        raise UsageError(msg)
    return DicomFolder(path, tuple(found))


def stored_type(image: DicomImage) -> np.dtype[Any]:
    """The type of an image's stored numbers, from its header alone."""
    dataset = read_dataset(image.path)
    with tolerant(image.path):
        return declared_type(dataset)


def _padding(images: Sequence[DicomImage], factor: float) -> tuple[tuple[float, float], ...]:
    """The values that padding has in the volume, each pair of ends once."""
    named = {(image.padding, image.slope, image.intercept) for image in images if image.padding is not None}
    found = set()
    for padding, slope, intercept in named:
        ends = np.array([[padding.first, padding.last]])
        lower, upper = sorted(decode(ends, slope=slope * factor, intercept=intercept * factor)[0].tolist())
        found.add((lower, upper))
    return tuple(sorted(found))


def _with_one_rescale(
    scan: DicomScan, images: Sequence[DicomImage], shape: tuple[int, ...], provenance: Provenance
) -> Volume:
    """The ordinary case: one slope and intercept for all slices, so that the stored numbers can be kept as they are."""
    slope, intercept = images[0].slope, images[0].intercept
    stored: NDArray[Any] | None = None
    for index, pixels in _pixels(images):
        if stored is None:
            stored = np.empty((len(images), *pixels.shape), dtype=pixels.dtype)
        if pixels.dtype != stored.dtype:  # signed and unsigned files in one series
            stored = stored.astype(np.promote_types(pixels.dtype, stored.dtype))
        stored[index] = pixels
    assert stored is not None  # noqa: S101  a stack has at least one image
    stored = stored.reshape(shape)
    array = decode(stored, slope=slope, intercept=intercept)
    identity = slope == 1.0 and intercept == 0.0
    provenance = replace(
        provenance,
        stored=None if identity and stored.dtype.itemsize <= 2 else stored,
        dtype=stored.dtype,
        slope=slope,
        intercept=intercept,
    )
    return Volume(array, scan.stack.geometry, scan.units, provenance)


def _pixels(images: Sequence[DicomImage]) -> Iterable[tuple[int, NDArray[Any]]]:
    """(index, rows x columns) of every image; each file is opened once, whatever order its frames are needed in."""
    by_file: dict[Path, list[int]] = {}
    for index, image in enumerate(images):
        by_file.setdefault(image.path, []).append(index)
    for path, indices in by_file.items():
        frames = read_stored(path)
        for index in indices:
            yield index, tile_of(images[index], frames[images[index].frame])


def _units(
    images: Sequence[DicomImage], wanted: Units | None, pet: PetTags | None, name: str
) -> tuple[Units, float, tuple[str, ...]]:
    """Units of the volume, the factor that leads to them, and doubts."""
    modality = images[0].modality
    if modality == "PT":
        return _pet_units(images, wanted, pet or PetTags(), name)
    if pet is not None:
        msg = f"{name}: expected PET together with --pet, got {modality or 'no modality'}; leave it out"
        raise UsageError(msg)
    if modality == "MR":
        return _agreed(Units.ARBITRARY, wanted, name), 1.0, ()
    if modality == "CT":
        types = {image.rescale_type for image in images}
        if types <= {"", "HU"}:
            return _agreed(Units.HU, wanted, name), 1.0, ()
        got = "no rescale" if None in types else f"RescaleType {', '.join(sorted(str(kind) for kind in types))}"
        return wanted or Units.UNKNOWN, 1.0, (f"the CT has {got}: its values need not be HU",)
    return wanted or Units.UNKNOWN, 1.0, ()


def _pet_units(
    images: Sequence[DicomImage], wanted: Units | None, pet: PetTags, name: str
) -> tuple[Units, float, tuple[str, ...]]:
    found = [image.pet for image in images if image.pet is not None]
    as_activity = wanted is Units.BQML and found[0].units == "BQML"
    if fixed := "values stay Bq/ml" if as_activity else _fixed_factor(found[0]):
        doubts = [f"--pet has no effect: {fixed}"] if pet != PetTags() else []
    else:
        doubts = [f"--pet {key} outweighs the header's" for key in pet.replaced(found[0])]
    if as_activity:
        return Units.BQML, 1.0, tuple(doubts)
    if found[0].corrections is None:
        doubts.append("CorrectedImage is absent: PET is taken as corrected")
    factor = suv_factor([pet.applied_to(header) for header in found], name)
    return _agreed(Units.SUVBW, wanted, name), factor, tuple(doubts)


def _fixed_factor(header: PetHeader) -> str:
    """Why nothing that a caller says changes the factor to SUV, '' where it does."""
    if header.units == "GML":
        return "the header's values are SUV already"
    if header.units == "CNTS" and header.philips_suv is not None:
        return "the header has the vendor's factor to SUV (7053,1000)"
    return ""


def _agreed(found: Units, wanted: Units | None, name: str) -> Units:
    if wanted is not None and wanted is not found:
        msg = f"{name}: expected units {wanted}, got {found} from its header; "
        raise UnitsError(msg + "choose the task that takes it, or leave the units out")
    return found
