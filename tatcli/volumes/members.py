"""The files that a scan consists of."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["members_of"]


def members_of(path: Path) -> list[Path]:
    """The files of a scan's path, in a fixed order: of a folder all in it and below, of a MetaImage header its voxels'.

    Args:
        path: a file or a folder; hidden ones in it, and links that lead nowhere, don't count.
    """
    if path.is_dir():
        found = []
        for root, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            found += [Path(root, name) for name in sorted(names) if not name.startswith(".")]
        return [file for file in found if file.is_file()]
    if path.suffix.lower() == ".mhd":
        from tatcli.volumes.itk import data_file_of

        voxels = data_file_of(path)
        return [path] if voxels is None or not voxels.is_file() else [path, voxels]
    return [path]
