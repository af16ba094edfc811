"""The files that a scan consists of."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

__all__ = ["image_of", "is_foreign", "is_settled", "members_of"]

_SETTLED: Final = 3 * 10**9
"""ns after a change in which the next one may get the same time: file systems count in up to two seconds."""


def members_of(path: Path) -> list[Path]:
    """The files of a scan's path, in a fixed order: of a folder all in it and below, of a header its voxels' too.

    Args:
        path: a file or a folder; hidden ones in it, and links that lead nowhere, don't count.
    """
    if path.is_dir():
        found = []
        for root, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            found += [Path(root, name) for name in sorted(names) if not name.startswith(".")]
        return [file for file in found if file.is_file()]
    if path.suffix.lower() == ".hdr":
        return [path, *filter(None, [image_of(path)])]
    if path.suffix.lower() in (".mha", ".mhd", ".nrrd", ".nhdr"):
        from tatcli.volumes.itk_fields import data_files_of

        return [path, *(file for file in data_files_of(path) if file.is_file())]
    return [path]


def is_settled(changed: int) -> bool:
    """Whether the time of a change (ns) is so long ago that the next change will have another."""
    return time.time_ns() - changed > _SETTLED


def is_foreign(path: Path) -> bool:
    """Whether a .hdr doesn't begin with the size of a NIfTI or Analyze header: other formats have such names, too."""
    if path.suffix.lower() != ".hdr":
        return False
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError:  # reading it tells what is wrong
        return False
    return all(int.from_bytes(start, order) not in (348, 540) for order in ("little", "big"))


def image_of(header: Path) -> Path | None:
    """The voxels' file of a NIfTI pair, beside its .hdr; None where there is none."""
    names = (header.with_suffix(extension) for extension in (".img", ".IMG", ".img.gz"))
    return next((file for file in names if file.is_file()), None)
