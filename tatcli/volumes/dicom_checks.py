"""What speaks against writing a scan to DICOM, as far as its source's header tells: said before hours of work."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from tatcli.errors import GeometryError, OutputError, UsageError
from tatcli.volumes.dicom import DicomHeader
from tatcli.volumes.dicom_classic import check_class
from tatcli.volumes.dicom_files import read_dataset, tolerant
from tatcli.volumes.dicom_options import DicomOptions
from tatcli.volumes.formats import is_folder_output
from tatcli.volumes.geometry import Geometry
from tatcli.volumes.slices import plane_across
from tatcli.volumes.volume import Provenance

__all__ = ["check_dicom_output", "dicom_header", "is_same_grid"]

_SAME: Final = 1e-4
"""Of affines: mm and direction cosines times mm."""


def dicom_header(provenance: Provenance) -> DicomHeader:
    """The source of a scan that is to be written as DICOM.

    Raises:
        OutputError: it wasn't read from DICOM.
    """
    header = provenance.header
    if not isinstance(header, DicomHeader):
        msg = f"output: expected a scan read from DICOM to write DICOM from, got {provenance.format}"
        raise OutputError(msg + "; name the output .nii.gz, .nrrd or .mha")
    return header


def check_dicom_output(header: DicomHeader, output: Path, options: DicomOptions, *, geometry: Geometry) -> None:
    """Whether derived objects can be made of a source; the writer goes by this, and who works for long asks before.

    Args:
        header: the source.
        output: a folder, or the one object's file.
        options: how the objects are made.
        geometry: the grid of one frame as it is written.

    Raises:
        OutputError: a file for several objects, or objects that no classic ones can be made of.
        UsageError: what is asked for leaves no readable object, or takes a package that isn't there.
        GeometryError: the source's objects have no place for the grid.
    """
    if options.enhanced == "classic":
        _check_classic(header)
    if not is_folder_output(output):
        _check_count(header, output, options)
    _check_private(header, options)
    _check_grid(header, geometry)


def is_same_grid(one: Geometry, other: Geometry) -> bool:
    """Whether voxels lie in the same places, as precisely as DICOM says them."""
    return one.shape == other.shape and np.allclose(one.affine, other.affine, atol=_SAME)


def _check_classic(header: DicomHeader) -> None:
    path = header.frames[0][0].path
    dataset = read_dataset(path)
    with tolerant(path):
        if "PerFrameFunctionalGroupsSequence" in dataset:
            check_class(str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")), path)


def _check_count(header: DicomHeader, output: Path, options: DicomOptions) -> None:
    images = [image for frame in header.frames for image in frame]
    files = {image.path for image in images}
    count, what = len(files), "objects of a series"
    if count == 1 and options.enhanced == "classic" and images[0].tile is None:
        count, what = len(images), "classic objects"
    if count > 1:
        msg = f"{output}: expected a folder for the {count} {what}, got a file name; leave .dcm out"
        raise OutputError(msg)


def _check_private(header: DicomHeader, options: DicomOptions) -> None:
    if options.anonymise:
        from tatcli.volumes.dicom_privacy import check_package

        check_package()
        _check_annotation(header)
    if (options.anonymise or options.private == "drop") and _has_mosaics(header):
        option = "--anonymise" if options.anonymise else "--private drop"
        msg = f"{option}: expected images that stand without private attributes, got a Siemens mosaic; write .nii.gz"
        raise UsageError(msg)


def _check_annotation(header: DicomHeader) -> None:
    """What is written into the pixels stays in them (PS3.3 C.12.1.1.7)."""
    for path in dict.fromkeys(image.path for frame in header.frames for image in frame):
        dataset = read_dataset(path)
        with tolerant(path):
            if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES":
                msg = f"--anonymise: expected images without names in them, got BurnedInAnnotation YES in {path.name}"
                raise UsageError(msg + "; blank what is written there and say NO, or leave --anonymise out")


def _check_grid(header: DicomHeader, new: Geometry) -> None:
    old = header.geometry
    if is_same_grid(new, old):
        return
    parallel = np.allclose(new.direction[:, :2], old.direction[:, :2], atol=_SAME)
    stacked = new.shape[0] == old.shape[0] and np.allclose(new.affine[:, 2], old.affine[:, 2], atol=_SAME)
    if not (parallel and stacked):
        msg = "output: expected the slices that the scanner acquired, got a volume on other ones, which can't go into"
        msg += f" the source's DICOM objects; write .nii.gz, or take --axis {plane_across(old, 0)}"
        raise GeometryError(msg)
    if _has_mosaics(header):
        msg = "output: expected a Siemens mosaic's own matrix, got a finer one, for which mosaics have no place"
        raise GeometryError(msg + "; write .nii.gz")


def _has_mosaics(header: DicomHeader) -> bool:
    return any(image.tile is not None for frame in header.frames for image in frame)
