"""File formats by their extension."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tatcli.errors import UsageError

__all__ = ["EXTENSIONS", "extension_of", "format_of", "format_to_write"]

EXTENSIONS: Final = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".nrrd": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".npy": "npy",
    ".dcm": "dicom",
    ".ima": "dicom",
}
"""Extension -> format, as :class:`~tatcli.volumes.volume.Provenance` names it."""

_WRITABLE: Final = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".npy")


def extension_of(path: Path) -> str | None:
    """The known extension that the name ends with, in lower case, or None."""
    name = path.name.lower()
    # ".nii.gz" before any shorter match; a bare ".nii" is a hidden file without extension
    found = [extension for extension in EXTENSIONS if name.endswith(extension) and len(name) > len(extension)]
    return max(found, key=len, default=None)


def format_of(path: Path) -> str | None:
    """The format that the name promises, or None: DICOM files often have no extension or a UID's digits as one."""
    extension = extension_of(path)
    return None if extension is None else EXTENSIONS[extension]


def format_to_write(path: Path) -> str:
    """The format to write to this path.

    Raises:
        UsageError: an unknown extension, or DICOM, which tat doesn't write yet.
    """
    extension = extension_of(path)
    if extension in _WRITABLE:
        return EXTENSIONS[extension]
    if extension is not None or path.suffix == "":
        msg = f"{path.name}: writing DICOM is not supported yet; name the output with one of {', '.join(_WRITABLE)}"
        raise UsageError(msg)
    msg = f"{path.name}: expected an output ending in {', '.join(_WRITABLE)}, got {path.suffix!r}; change the name"
    raise UsageError(msg)
