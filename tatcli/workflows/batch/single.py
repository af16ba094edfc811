"""Whether what was given is one scan, which is restored as ever, or many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tatcli.volumes.formats import extension_of
from tatcli.workflows.batch.bids import is_dataset
from tatcli.workflows.batch.config import check_words
from tatcli.workflows.batch.discovery import Rules, walk
from tatcli.workflows.batch.manifest import is_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["is_one_scan"]


def is_one_scan(inputs: Sequence[str], *, output: Path | None, series: str | None) -> bool:
    """Whether the inputs are one scan: a file, or a folder with a DICOM file (or DICOMDIR) right in it.

    Such a folder counts as one scan even if it holds several series: the user is then asked which one. A folder of
    folders is many scans even if it holds one series now: its outputs stay where they are when there are more.

    Args:
        inputs: as given.
        output: where to; a file's name says that one scan is meant.
        series: which series; it says so, too.

    Raises:
        UsageError: an empty word.
    """
    check_words(inputs)
    path = Path(inputs[0] if inputs else "-")
    pattern = not path.exists() and any(sign in str(path) for sign in "*?[")
    if len(inputs) != 1 or inputs[0] == "-" or is_manifest(path) or pattern:
        return False
    if not path.is_dir():
        return True
    if series is not None or (output is not None and extension_of(output) is not None):
        return True
    if is_dataset(path):
        return False
    folder = Path(os.path.abspath(path))  # noqa: PTH100  keeps symbolic links
    first = next(walk(folder, folder, Rules()), None)  # a folder's own series comes before all else in it
    return first is None or first.path == folder
