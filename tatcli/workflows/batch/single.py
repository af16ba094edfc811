"""Whether what was given is one scan, which is restored as ever, or many; where its output goes if a batch does it."""

from __future__ import annotations

import glob
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tatcli.volumes.formats import extension_of, format_of
from tatcli.workflows.batch.bids import is_dataset
from tatcli.workflows.batch.config import check_words
from tatcli.workflows.batch.discovery import IMAGES, Found, Rules, walk
from tatcli.workflows.batch.manifest import is_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tatcli.workflows.batch.config import BatchConfig

__all__ = ["check_one_series", "is_one_scan", "scan_with_output"]


def is_one_scan(inputs: Sequence[str], *, output: Path | None, series: str | None) -> bool:
    """Whether the inputs are one scan: a file, or a folder with a DICOM file (or DICOMDIR) right in it.

    A file that -o names a folder for is a batch of one: it goes in there under its name, as several would (a pattern
    that the shell replaces may match one file or a hundred). Files of DICOM become a folder by themselves.

    A folder with DICOM counts as one scan even if it holds several series: the user is then asked which one. A folder
    of folders is many scans even if it holds one series now: its outputs stay where they are when there are more.

    Args:
        inputs: as given.
        output: where to; a file's name says that one scan is meant.
        series: which series; it says so, too.

    Raises:
        UsageError: an empty word.
    """
    check_words(inputs)
    path = Path(inputs[0] if inputs else "-")
    pattern = not path.exists() and glob.has_magic(str(path))
    if len(inputs) != 1 or inputs[0] == "-" or is_manifest(path) or pattern:
        return False
    if not path.is_dir():
        return output is None or not _is_folder_for(path, output)
    if series is not None or (output is not None and extension_of(output) is not None):
        return True
    if is_dataset(path):
        return False
    folder = Path(os.path.abspath(path))  # noqa: PTH100  keeps symbolic links
    first = next(walk(folder, folder, Rules()), None)  # a folder's own series comes before all else in it
    return first is None or first.path == folder


def _is_folder_for(path: Path, output: Path) -> bool:
    """Whether an output is a folder for outputs of such a file."""
    named = extension_of(output) is None and (output.is_dir() or output.suffix == "")
    return named and format_of(path) in IMAGES


def check_one_series(path: Path) -> None:
    """Refuse DICOM with several series, as restoring it as one scan does: a batch would restore them all.

    Raises:
        UsageError: there are several; the message lists them.
        VolumeReadError: it can't be read.
    """
    from tatcli.volumes.dicom_archives import is_collection
    from tatcli.volumes.dicom_series import choose_series, read_folder

    if path.exists() and format_of(path) is None and is_collection(path):
        choose_series(read_folder(path))


def scan_with_output(config: BatchConfig) -> tuple[Found, Path] | None:
    """The one scan of a batch and the output that -o names: its own, as if it were restored without a batch's options.

    None where -o isn't given or is a folder for outputs, or there may be several.

    Raises:
        UsageError: an empty word.
    """
    asked, scan = config.selection, config.scan
    others = (asked.lists, asked.include, asked.exclude, asked.shard, config.pattern)
    if scan.output is None or any(others) or not is_one_scan(asked.inputs, output=scan.output, series=scan.series):
        return None
    path, output = (Path(os.path.abspath(word)) for word in (asked.inputs[0], scan.output))  # noqa: PTH100  keeps links
    kind = "dicom" if path.is_dir() else format_of(path) or "dicom"
    if not path.exists():
        return None
    return Found(path, PurePosixPath(path.name), kind), output
