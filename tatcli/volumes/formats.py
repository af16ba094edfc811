"""File formats by their extension."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tatcli.errors import UsageError

__all__ = [
    "DEFAULT_EXTENSIONS",
    "EXTENSIONS",
    "WRITABLE",
    "extension_of",
    "format_of",
    "format_to_write",
    "is_folder_output",
    "stem_of",
    "voxels_of",
    "written_for",
]

EXTENSIONS: Final = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".hdr": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".npy": "npy",
    ".bin": "tensor",
    ".dcm": "dicom",
    ".ima": "dicom",
}
"""Extension -> format, as :class:`~tatcli.volumes.volume.Provenance` names it."""

DEFAULT_EXTENSIONS: Final = {
    "nifti": ".nii.gz",
    "nrrd": ".nrrd",
    "metaimage": ".mha",
    "npy": ".npy",
    "tensor": ".npy",
    "dicom": ".dcm",
}
"""Format -> the extension that outputs without a name of their own get."""

WRITABLE: Final = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".npy", ".dcm")
"""Extensions that outputs may have: headers whose voxels lie apart are read, and written with them."""


def extension_of(path: Path) -> str | None:
    """The known extension that the name ends with, in lower case, or None."""
    name = path.name.lower()
    # ".nii.gz" before any shorter match; a bare ".nii" is a hidden file without extension
    found = [extension for extension in EXTENSIONS if name.endswith(extension) and len(name) > len(extension)]
    return max(found, key=len, default=None)


def stem_of(path: Path) -> str:
    """The name without its known extension."""
    return path.name[: len(path.name) - len(extension_of(path) or "")]


def format_of(path: Path) -> str | None:
    """The format that the name promises, or None: DICOM files often have no extension or a UID's digits as one."""
    extension = extension_of(path)
    return None if extension is None else EXTENSIONS[extension]


def format_to_write(path: Path, kind: str | None = None) -> str:
    """The format to write to this path; a name without extension (or a UID) is a folder for DICOM.

    Args:
        path: file or folder.
        kind: the format asked for; None: by the name alone. Folders for DICOM may have any name then.

    Raises:
        UsageError: an unknown extension, or one of another format than asked for.
    """
    extension = extension_of(path)
    if kind == "dicom" and extension is None:
        return kind
    folder = os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises where a name is too long
    bare = path.suffix == "" or path.suffix[1:].isdigit() or folder  # folders of DICOM are named by UIDs, too
    if extension in WRITABLE or (extension is None and bare):
        found = "dicom" if extension is None else EXTENSIONS[extension]
        if kind in (None, found):
            return found
        msg = f"{path.name}: expected an output in the format {kind} that was asked for, got a name for {found}"
        raise UsageError(msg + "; change one of them")
    msg = f"{path.name}: expected a folder for DICOM, or an output ending in {', '.join(WRITABLE)}, got {path.suffix!r}"
    raise UsageError(msg + "; change the name")


def is_folder_output(path: Path) -> bool:
    """Whether a path that is written in DICOM is a folder for a series, not one file."""
    return EXTENSIONS.get(extension_of(path) or "") != "dicom"


def voxels_of(path: Path) -> Path | None:
    """The second file that tat writes for this name: the .raw of a .mhd, which is but a header; None: there is none."""
    return path.with_suffix(".raw") if extension_of(path) == ".mhd" else None


def written_for(path: Path) -> tuple[Path, ...]:
    """All files that tat writes for this name."""
    voxels = voxels_of(path)
    return (path,) if voxels is None else (path, voxels)
