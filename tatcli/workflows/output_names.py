"""What an output is called, and in which format, where the user doesn't say."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tatcli.errors import UsageError
from tatcli.volumes.formats import DEFAULT_EXTENSIONS, WRITABLE, extension_of, format_of, stem_of

__all__ = ["FORMATS", "asked_format", "default_output", "split_name"]

_SUFFIX: Final = "_restored"
FORMATS: Final = {"dicom": "dicom", "nifti": "nifti", "nrrd": "nrrd", "mha": "metaimage"}
"""What ``format`` may be -> the format as :class:`~tatcli.volumes.volume.Provenance` names it."""


def default_output(path: Path, kind: str) -> Path:
    """Beside the input: ``<name>_restored.<ext>``; for a DICOM folder, archive or medium ``<name>_restored``, a folder.

    Args:
        path: the input.
        kind: the output's format.
    """
    from tatcli.volumes.dicom_archives import is_collection

    if extension_of(path) is not None and DEFAULT_EXTENSIONS.get(kind) is not None and not path.is_dir():
        stem, extension = split_name(path, kind)
        return path.with_name(stem + _SUFFIX + extension)
    place = path.resolve()
    if place.name.upper() == "DICOMDIR":
        place = place.parent
    name = place.stem if path.is_file() and place.suffix.lower() == ".zip" else place.name or "scan"
    folder = kind == "dicom" and is_collection(path)
    return place.with_name(name + _SUFFIX + ("" if folder else DEFAULT_EXTENSIONS[kind]))


def split_name(path: Path, kind: str) -> tuple[str, str]:
    """The stem of a file's name, and the extension that its output gets: its own where that is of the format.

    Args:
        path: the input, no folder.
        kind: the output's format.
    """
    stem = stem_of(path)
    same = format_of(path) == kind != "dicom" and extension_of(path) in WRITABLE
    return stem, path.name[len(stem) :] if same else DEFAULT_EXTENSIONS[kind]


def asked_format(word: str) -> str | None:
    """The format that ``--format`` names, None for ``auto``.

    Raises:
        UsageError: an unknown one.
    """
    if word == "auto":
        return None
    if word not in FORMATS:
        msg = f"--format {word!r}: expected auto, {', '.join(FORMATS)}"
        raise UsageError(msg)
    return FORMATS[word]
