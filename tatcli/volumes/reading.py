"""Read any scan that tat reads."""

from __future__ import annotations

import os
from pathlib import Path

from tatcli.errors import UsageError, VolumeReadError
from tatcli.intensity import Units
from tatcli.tasks import find_units
from tatcli.volumes.dicom_archives import is_zip
from tatcli.volumes.dicom_files import is_dicom
from tatcli.volumes.formats import EXTENSIONS, format_of
from tatcli.volumes.pet_tags import PetTags
from tatcli.volumes.planes import FilePlanes, Unstreamable
from tatcli.volumes.volume import Volume

__all__ = ["kind_of", "open_planes", "read_volume"]


def read_volume(
    path: str | os.PathLike[str],
    *,
    series: str | None = None,
    units: Units | str | None = None,
    pet: PetTags | None = None,
    uneven: bool = False,
) -> Volume:
    """Read a scan: NIfTI, NRRD, MetaImage, DICOM (folder, zip archive, DICOMDIR, file), or .npy, .bin (training data).

    DICOM says what its units are; NIfTI, NRRD, MetaImage, .npy and .bin don't, so theirs are unknown unless given here,
    but for PET in NIfTI with a BIDS sidecar (``..._pet.nii.gz``, ``..._pet.json``).

    Args:
        path: a file, or a folder with DICOM files in it or below.
        series: which series of a DICOM folder: its UID, number or description, followed by :PART where it has several.
        units: the caller's word on the units, such as ``HU``.
        pet: the caller's word on what SUV needs of a PET's DICOM header or BIDS sidecar.
        uneven: take DICOM slices at uneven distances (missing ones, variable spacing). Such a volume's grid has their
            mean distance, and it can be written to DICOM only, where each slice keeps its own position.

    Returns:
        The scan in physical values: rescale applied, PET in Bq/ml turned into SUVbw.

    Raises:
        VolumeReadError: the input is missing, damaged, or not an image that tat restores.
        GeometryError: its grid is unusable.
        UnitsError: its values can't be brought to the units asked for.
        UsageError: ``series`` is missing or unknown where a folder holds several; unknown units.
    """
    source = Path(path)
    units = None if units is None else find_units(units)
    kind = kind_of(source, series=series)
    _check_pet(source, kind, pet)
    if kind == "nifti":
        from tatcli.volumes.nifti import read_nifti

        return read_nifti(source, units=units, pet=pet)
    if kind in ("nrrd", "metaimage"):
        from tatcli.volumes.itk_planes import read_itk

        return read_itk(source, kind=kind, units=units)
    if kind == "npy":
        from tatcli.volumes.npy import read_npy

        return read_npy(source, units=units)
    if kind == "tensor":
        from tatcli.volumes.tensor_files import read_tensor

        return read_tensor(source, units=units)
    from tatcli.volumes.dicom import read_dicom

    return read_dicom(source, series=series, units=units, pet=pet, uneven=uneven)


def open_planes(
    path: str | os.PathLike[str],
    *,
    series: str | None = None,
    units: Units | str | None = None,
    pet: PetTags | None = None,
) -> FilePlanes:
    """Open a scan whose planes can be read one after the other; its header is read now.

    Args:
        path: a file.
        series: see :func:`read_volume`.
        units: the caller's word on the units.
        pet: the caller's word on what SUV needs.

    Raises:
        Unstreamable: it can only be read as a whole.
        VolumeReadError: the input is missing, damaged, or not an image that tat restores.
        GeometryError: its grid is unusable.
        UnitsError: its values can't be brought to the units asked for.
        UsageError: ``series`` or ``pet`` was given for something that has none; unknown units.
    """
    source = Path(path)
    units = None if units is None else find_units(units)
    kind = kind_of(source, series=series)
    if kind == "nifti":
        from tatcli.volumes.nifti import nifti_planes

        return nifti_planes(source, units=units, pet=pet)
    if kind in ("nrrd", "metaimage"):
        from tatcli.volumes.itk_planes import itk_planes

        _check_pet(source, kind, pet)

        return itk_planes(source, kind=kind, units=units)
    msg = "DICOM is read as a whole" if kind == "dicom" else "a bare array is read as a whole"
    raise Unstreamable(msg)


def _check_pet(source: Path, kind: str, pet: PetTags | None) -> None:
    if pet is not None and kind not in ("dicom", "nifti"):
        msg = f"{source.name}: expected PET in DICOM, or in NIfTI with a BIDS sidecar, together with --pet, got another"
        raise UsageError(msg + " format; leave it out")


def kind_of(source: Path, *, series: str | None = None) -> str:
    """The format of an input: by its extension, and for names that say nothing by whether it begins like DICOM.

    Raises:
        VolumeReadError: there is nothing, it can't be read, or it is none of the formats.
        UsageError: ``series`` was given for something that has none.
    """
    if not source.exists():
        msg = f"{source}: expected an image file or a DICOM folder, got nothing there; check the path"
        raise VolumeReadError(msg)
    if source.is_dir():
        return "dicom"
    if not source.is_file() or not os.access(source, os.R_OK):
        msg = f"{source}: expected a readable file, got one that can't be read; check its permissions"
        raise VolumeReadError(msg)
    if source.stat().st_size == 0:
        msg = f"{source.name}: expected an image, got an empty file; get it again"
        raise VolumeReadError(msg)
    kind = format_of(source)
    if kind is None and (is_dicom(source) or is_zip(source)):
        kind = "dicom"
    if kind is None:
        headers = (source.with_suffix(extension) for extension in (".hdr", ".nhdr", ".mhd"))
        header = next((path.name for path in headers if path.is_file()), None)
        advice = "convert it first" if header is None else f"name its header, {header}"
        msg = f"{source.name}: expected {', '.join(EXTENSIONS)} or a DICOM file, got neither; {advice}"
        raise VolumeReadError(msg)
    if series is not None and kind != "dicom":
        msg = f"{source.name}: expected DICOM together with a series, got a single image file; leave --series out"
        raise UsageError(msg)
    return kind
