"""Whether what was given is one scan, which is restored as ever, or many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tatcli.errors import VolumeReadError
from tatcli.volumes.dicom_files import is_dicom, read_dataset
from tatcli.volumes.formats import extension_of
from tatcli.workflows.batch.bids import is_dataset
from tatcli.workflows.batch.discovery import Rules, walk
from tatcli.workflows.batch.manifest import is_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["is_one_scan"]


def is_one_scan(inputs: Sequence[str], *, output: Path | None, series: str | None) -> bool:
    """Whether the inputs are one scan: a file, or a folder of DICOM files and nothing else that are one series.

    A folder with a DICOM file right in it counts as one scan even if it holds several series: the user is then asked
    which one.

    Args:
        inputs: as given.
        output: where to; a file's name says that one scan is meant.
        series: which series; it says so, too.
    """
    path = Path(inputs[0] if inputs else "-")
    pattern = not path.exists() and any(sign in str(path) for sign in "*?[")
    if len(inputs) != 1 or inputs[0] == "-" or is_manifest(path) or pattern:
        return False
    if not path.is_dir():
        return True
    if series is not None or (output is not None and extension_of(output) is not None):
        return True
    return not is_dataset(path) and _is_one_series(path)


def _is_one_series(path: Path) -> bool:
    folder = Path(os.path.abspath(path))  # noqa: PTH100  keeps symbolic links
    uids: set[str] = set()
    for found in walk(folder, folder, Rules()):
        if found.kind != "dicom" or not found.path.is_dir():
            return False
        if found.path == folder:
            return True
        uids.add(_first_series(found.path))
        if len(uids) > 1:
            return False
    return True


def _first_series(folder: Path) -> str:
    """The series of a folder's first DICOM file; one that can't be read is its own."""
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and path.is_file() and is_dicom(path):
            try:
                return str(read_dataset(path).get("SeriesInstanceUID", path))
            except VolumeReadError:
                return str(path)
    return str(folder)
