"""Write any volume to any format that tat writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tatcli.errors import GeometryError
from tatcli.volumes.dicom_options import DicomOptions
from tatcli.volumes.formats import extension_of, format_to_write, is_folder_output, voxels_of
from tatcli.volumes.members import members_of
from tatcli.volumes.replacing import checked_folder, checked_output, replaced, replaced_folder
from tatcli.volumes.volume import ScanHeader, Volume, require_volume

__all__ = ["check_output", "temporaries", "write_volume"]


def check_output(
    path: str | os.PathLike[str],
    *,
    source: Path | None = None,
    overwrite: bool = False,
    kind: str | None = None,
    makes_folders: bool = False,
) -> None:
    """Everything that can be wrong with an output name, checked before hours of work rather than after.

    Args:
        path: file or folder.
        source: the input.
        overwrite: whether an existing output may be replaced.
        kind: the format asked for; None: by the name.
        makes_folders: whether the caller makes the folders above the output that don't exist.

    Raises:
        OutputError: it, or the .raw of a .mhd, exists, is the input, or can't be written to.
        UsageError: a format that tat doesn't write.
    """
    target = Path(path)
    if format_to_write(target, kind) == "dicom" and is_folder_output(target):
        checked_folder(target, source=source, overwrite=overwrite, makes_folders=makes_folders)
        return
    checked_output(target, source=source, overwrite=overwrite, makes_folders=makes_folders)
    voxels = voxels_of(target)
    if voxels is not None:
        _check_voxels(voxels, source=source, overwrite=overwrite, makes_folders=makes_folders)


def _check_voxels(voxels: Path, *, source: Path | None, overwrite: bool, makes_folders: bool = False) -> None:
    for file in [None] if source is None or source.is_dir() else members_of(source):
        checked_output(voxels, source=file, overwrite=overwrite, makes_folders=makes_folders)


def write_volume(
    volume: Volume,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    kind: str | None = None,
    dicom: DicomOptions | None = None,
) -> Path:
    """Write a volume; the file appears under its name only when it is complete, and so does a folder.

    The format follows the extension: .nii, .nii.gz, .nrrd, .mha, .mhd (with .raw), and, for a scan that was read from
    DICOM, a name without extension: a folder for the derived series (or .dcm for a single object). Written to its
    source's own format, a volume keeps its voxel type, rescale and header fields, and voxels whose value didn't change
    get their stored number back bit for bit. In another format it keeps its grid exactly and gets the smallest type
    that fits: the source's own, int16 or int32 for integer-valued rescales (CT), else float32. PET read
    from DICOM is written in the volume's units, SUVbw.

    Args:
        volume: what to write.
        path: where to.
        overwrite: whether an existing file may be replaced. The input never is.
        kind: the format asked for, as :class:`Provenance` names it; None: by the name.
        dicom: how DICOM is written.

    Returns:
        The path written.

    Raises:
        OutputError: the output exists, is the input, or can't be written to.
        UsageError: a format that tat doesn't write or can't de-identify, or no volume.
        GeometryError: the format can't hold the grid.
    """
    require_volume(volume)
    target = Path(path)
    check_output(target, source=volume.provenance.path, overwrite=overwrite, kind=kind)
    kind = format_to_write(target, kind)
    if kind == "dicom":
        _write_dicom(volume, target, dicom)
        return target
    if dicom is not None:
        dicom.check_kind(kind, target)
    if volume.provenance.uneven:
        msg = f"{target.name}: expected evenly spaced slices, got uneven ones, whose places only DICOM can hold"
        raise GeometryError(msg + "; name a folder to write DICOM to")
    with temporaries(volume.header, target, overwrite=overwrite) as (temporary, voxels):
        if kind == "nifti":
            from tatcli.volumes.nifti import write_nifti

            write_nifti(volume, temporary)
        elif kind == "npy":
            from tatcli.volumes.npy import write_npy

            write_npy(volume, temporary)
        else:
            from tatcli.volumes.itk_writing import write_itk

            write_itk(volume, temporary, kind=kind, voxels=voxels)
    return target


def _write_dicom(volume: Volume, target: Path, options: DicomOptions | None) -> None:
    from tatcli.volumes.dicom_checks import check_dicom_output, dicom_header
    from tatcli.volumes.dicom_writing import write_dicom_file, write_dicom_folder

    options = options or DicomOptions()
    check_dicom_output(dicom_header(volume.provenance), target, options, geometry=volume.geometry)
    if is_folder_output(target):
        with replaced_folder(target) as folder:
            write_dicom_folder(volume, folder, options)
    else:
        with replaced(target, extension=".dcm") as temporary:
            write_dicom_file(volume, temporary, options)


@contextmanager
def temporaries(scan: ScanHeader, target: Path, *, overwrite: bool) -> Iterator[tuple[Path, Path | None]]:
    """Paths to write to, which take the output's place once the block succeeds: the file, and the .raw of a .mhd.

    The voxels get their final name first, the header that names them last.

    Args:
        scan: what is written.
        target: the output's path, which was checked.
        overwrite: whether an existing .raw may be replaced.

    Raises:
        OutputError: the .raw exists, or is the input's; the system refuses to write.
    """
    voxels = voxels_of(target)
    with replaced(target, extension=extension_of(target) or "") as temporary:
        if voxels is None:
            yield temporary, None
            return
        _check_voxels(voxels, source=scan.provenance.path, overwrite=overwrite)
        with replaced(voxels, extension=".raw") as temporary_voxels:
            yield temporary, temporary_voxels
            header = temporary.read_bytes()
            temporary.write_bytes(header.replace(os.fsencode(temporary_voxels.name), os.fsencode(voxels.name)))
